"""Read what a search needs from an index's copy of its model, without loading torch, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import has_plain_name, why_shut
from spq.errors import ModelMismatchError, StoreError
from spq.index.format import Manifest

Floats = NDArray[np.float32]


def read_codebooks(folder: Path, manifest: Manifest) -> Floats:
    """(M, K, d) from the copy of the model in an index folder.

    Raises:
        ModelMismatchError: the copy is another model. StoreError: it is damaged or missing.
    """
    from safetensors import SafetensorError

    try:
        check_model(folder, manifest.model, str(_config(folder)["hash"]))
        codebooks = np.array(_tensor(folder / "model" / "model.safetensors", "quantizer.codebooks"), np.float32)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise _unreadable(folder, error) from None
    if codebooks.ndim != 3 or codebooks.shape[:2] != (manifest.num_codebooks, manifest.codebook_size):
        raise StoreError(f"index {folder}: the codebooks of its model do not match its manifest; build the index again")
    return codebooks


def read_input_size(folder: Path) -> int:
    """The side of the pictures that the model of an index folder sees, in pixels.

    Raises:
        StoreError: the copy of the model is damaged or missing.
    """
    try:
        return int(_config(folder)["recipe"]["input"]["size"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(folder, error) from None


def _tensor(file: Path, name: str) -> NDArray[Any]:
    from safetensors import safe_open
    from safetensors.numpy import load

    if not has_plain_name(file):
        return np.asarray(load(file.read_bytes())[name])
    with safe_open(file, framework="numpy") as tensors:
        return np.asarray(tensors.get_tensor(name))


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "model" / "config.json").read_text("utf-8"))
    return config


def _unreadable(folder: Path, error: Exception) -> StoreError:
    if shut := why_shut(error):
        return StoreError(f"index {folder}: its copy of the model {shut}")
    return StoreError(f"index {folder}: its copy of the model does not load ({error}); build the index again")


def check_model(folder: Path, index_hash: str, model_hash: str) -> None:
    """Refuse a model that did not make the codes of an index.

    Raises:
        ModelMismatchError: names both hashes.
    """
    if index_hash != model_hash:
        raise ModelMismatchError(
            f"index {folder} holds codes of model {index_hash}, not of {model_hash}; "
            "codes of two models do not mix: use that model, or a new index folder"
        )
