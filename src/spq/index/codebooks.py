"""The codebooks of an index, from its copy of the model, without the seconds that loading torch takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spq.errors import ModelMismatchError, StoreError
from spq.index.store import Manifest

Floats = NDArray[np.float32]


def read_codebooks(folder: Path, manifest: Manifest) -> Floats:
    """(M, K, d) from the copy of the model in an index folder.

    Raises:
        ModelMismatchError: the copy says that it is another model. StoreError: it is damaged or missing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
        check_model(folder, manifest.model, str(config["hash"]))
        with safe_open(folder / "model" / "model.safetensors", framework="numpy") as tensors:
            codebooks = np.array(tensors.get_tensor("quantizer.codebooks"), np.float32)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise StoreError(f"index {folder}: its copy of the model does not load ({error}); index anew") from None
    if codebooks.ndim != 3 or codebooks.shape[:2] != (manifest.num_codebooks, manifest.codebook_size):
        raise StoreError(f"index {folder}: the codebooks of its model are not those of its manifest; index anew")
    return codebooks


def check_model(folder: Path, ours: str, theirs: str) -> None:
    """Refuse a model whose codes cannot stand beside those of the index.

    Raises:
        ModelMismatchError: names both hashes.
    """
    if ours != theirs:
        raise ModelMismatchError(
            f"index {folder} holds codes of model {ours}, not of {theirs}; "
            "codes of two models do not mix: give that model, or a new --out"
        )
