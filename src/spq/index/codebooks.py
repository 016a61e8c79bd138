"""Read what a search needs from an index's copy of its model, without loading torch, which takes seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from spq.common.files import check_regular, has_plain_name, why_shut
from spq.common.json_file import read_json
from spq.common.parallel import slices
from spq.config import Distance, QuantizerConfig, from_dict
from spq.data.decode import first_line
from spq.errors import ConfigError, ModelMismatchError, StoreError
from spq.index.manifest import Manifest
from spq.pq.tables import AT_ONCE, Codebooks, Decoder

if TYPE_CHECKING:
    from spq.model.model import Model

Floats = NDArray[np.float32]
MODEL_FILES = ("config.json", "model.safetensors")  # whose checksum a manifest records
GIVE_MODEL = "and its code is not in the folder; search it in Python: ImageIndex.open(folder, model)"
MEND = "repair the index with its model, or build it again"
OTHER_MODEL = "codes of two models do not mix: use that model, or a new index folder"


class ModelDecoder:
    """The decoder of a model with the caller's own quantizer, which runs in torch.

    Raises:
        ConfigError: its tables do not add up to distances to its decoded codes.
    """

    def __init__(self, model: Model) -> None:
        from spq.model.given_quantizer import GivenQuantizer, check_outputs  # torch takes seconds to load

        q, quantizer = model.config.quantizer, model.network.quantizer
        self.model, self.codebook_size, self.dim = model, q.codebook_size, q.dim
        assert isinstance(quantizer, GivenQuantizer)
        check_outputs(quantizer)  # with the weights that it has learned
        self.distances: tuple[str, ...] = quantizer.distances
        self.parts = q.num_codebooks if "l2" in self.distances else 1

    def decode(self, codes: NDArray[np.uint8]) -> Floats:
        return self.model.decode(codes)

    def mean(self, codes: NDArray[np.uint8]) -> Floats:
        total = sum(self.decode(codes[some]).sum(0, dtype=np.float64) for some in slices(len(codes), AT_ONCE))
        return np.asarray(total / len(codes), np.float32)

    def tables(self, x: Floats, distance: str) -> Floats:
        return self.model.tables(x, cast(Distance, distance))


def decoder_of(model: Model) -> Decoder:
    """The decoder of a loaded model."""
    q = model.config.quantizer
    return ModelDecoder(model) if q.is_given else Codebooks(model.codebooks, q.sharing)


def check_copy(folder: Path, manifest: Manifest) -> None:
    """Refuse a copy of the model in an index folder that is another one, or whose codebooks do not fit the codes.

    Raises:
        ModelMismatchError, StoreError: as `read_codebooks`; but the caller's own quantizer is no fault.
    """
    if not _checked_config(folder, manifest).is_given:
        read_codebooks(folder, manifest)


def read_codebooks(folder: Path, manifest: Manifest) -> Codebooks:
    """The codebooks from the copy of the model in an index folder.

    Raises:
        ModelMismatchError: the copy is another model. StoreError: it is damaged or missing, or has the caller's own quantizer.
    """
    from safetensors import SafetensorError

    q = _checked_config(folder, manifest)
    if q.is_given:
        raise StoreError(f"index {folder} has codes of your own quantizer {q.name}, {GIVE_MODEL}")
    try:
        codebooks = np.array(_tensor(folder / "model" / "model.safetensors", "quantizer.codebooks"), np.float32)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError, SafetensorError) as error:
        raise _unreadable(folder, error) from None
    if codebooks.ndim != 3 or codebooks.shape[:2] != (manifest.num_codebooks, manifest.codebook_size):
        raise StoreError(f"index {folder}: the codebooks of its model do not match its manifest; {MEND}")
    if manifest.codebooks and manifest.codebooks != codebooks_check(Codebooks(codebooks)):
        raise StoreError(f"index {folder}: the codebooks of its model are not those that made its codes; {MEND}")
    if not np.isfinite(codebooks).all() or not codebooks.any():
        raise StoreError(f"index {folder}: the codebooks of its model hold NaN, infinity or zeros alone; {MEND}")
    return Codebooks(codebooks, q.sharing)


def codebooks_check(decoder: Decoder) -> str:
    """The checksum of codebooks (M, K, d) that a manifest records; empty if there are none."""
    if not isinstance(decoder, Codebooks):
        return ""
    return hashlib.sha256(np.ascontiguousarray(decoder.words, "<f4").tobytes()).hexdigest()[:16]


def files_check(folder: Path) -> str:
    """The checksum of the files of the copy of the model in an index folder; empty if it has no copy.

    Raises:
        StoreError: the system does not open them.
    """
    digest = hashlib.sha256()
    for name in MODEL_FILES:
        try:
            check_regular(folder / "model" / name)
            with (folder / "model" / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, ValueError) as error:
            raise _unreadable(folder, error) from None
    return digest.hexdigest()[:16]


def read_input_size(folder: Path) -> int:
    """The side of the pictures that the model of an index folder sees, in pixels.

    Raises:
        StoreError: the copy of the model is damaged or missing.
    """
    try:
        return int(_config(folder)["recipe"]["input"]["size"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise _unreadable(folder, error) from None


def _tensor(file: Path, name: str) -> NDArray[Any]:
    from safetensors import safe_open
    from safetensors.numpy import load

    check_regular(file)
    file.open("rb").close()  # safetensors would say that there is no such file, also if permission is missing
    if not has_plain_name(file):
        return np.asarray(load(file.read_bytes())[name])
    with safe_open(file, framework="numpy") as tensors:
        return np.asarray(tensors.get_tensor(name))


def _checked_config(folder: Path, manifest: Manifest) -> QuantizerConfig:
    """The section `quantizer` in the copy of the model, which is that of the index."""
    try:
        config = _config(folder)
        check_model(folder, manifest.model, str(config["hash"]), is_copy=True)
        return from_dict(QuantizerConfig, config["recipe"]["quantizer"], "quantizer")
    except (OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError, ConfigError) as error:
        raise _unreadable(folder, error) from None


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(folder / "model" / "config.json")
    return config


def _unreadable(folder: Path, error: Exception) -> StoreError:
    if shut := why_shut(error):
        return StoreError(f"index {folder}: its copy of the model {shut}")
    return StoreError(f"index {folder}: its copy of the model does not load ({first_line(error)}); {MEND}")


def check_model(folder: Path, index_hash: str, model_hash: str, is_copy: bool = False) -> None:
    """Refuse a model that did not make the codes of an index.

    Args:
        is_copy: it is the copy that the index has.
    Raises:
        ModelMismatchError: names both hashes.
    """
    if index_hash != model_hash:
        raise ModelMismatchError(
            f"index {folder} holds codes of model {index_hash}, not of {model_hash}; "
            + (f"its copy of the model is another one; {MEND}" if is_copy else OTHER_MODEL)
        )
