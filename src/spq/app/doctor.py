"""What this machine offers, and what to install for what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

EXTRAS = {"huggingface_hub": "hub", "pillow_heif": "heif", "tensorboard": "tensorboard"}


def examine() -> dict[str, Any]:
    """Device, threads, codecs, versions and extras, as plain types."""
    import torch
    from PIL import features

    from spq.config import recipe_names
    from spq.learning.train import resolve_device, resolve_precision

    device = resolve_device("auto")
    codecs = {name: features.check(name) for name in ("jpg", "webp", "avif", "jpg_2000", "libtiff")}
    missing = [extra for module, extra in EXTRAS.items() if importlib.util.find_spec(module) is None]
    names = ("spq-retrieval", "torch", "faiss-cpu", "numpy", "pillow", "timm", "accelerate")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device if device != "cuda" else f"cuda ({torch.cuda.get_device_name()})",
        "threads": torch.get_num_threads(),
        "precision": resolve_precision("auto", device),
        "data": os.environ.get("SPQ_DATA", "SPQ_DATA is not set; named sets are fetched"),
        "pictures": ", ".join(name for name, there in codecs.items() if there),
        "recipes": ", ".join(recipe_names()),
        "versions": {name: _version(name) for name in names},
        "missing": {extra: f"pip install 'spq-retrieval[{extra}]'" for extra in missing} or "nothing",
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
