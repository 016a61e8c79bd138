"""The file of a checkpoint: written in one step, with checksums that are compared before its content is used.

torch reads a damaged file without a word. Its format is a zip archive with a checksum for each tensor, which only other readers
compare. A second checksum in the content covers what the tensors are used for. Checkpoints of before have the first kind only.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spq.common.files import Replacing, check_regular
from spq.errors import ModelError

NAME = "last.pt"
CHECKSUM = "checksum"


def checkpoint_path(out: Path) -> Path:
    """Return the file of the last checkpoint of a training."""
    return Path(out) / "checkpoints" / NAME


def write_checkpoint(out: Path, content: dict[str, Any]) -> None:
    """Replace the last checkpoint of a training; the file is never half written."""
    with Replacing(checkpoint_path(out)) as temporary:
        torch.save({**content, CHECKSUM: _checksum(content)}, temporary)


def read_checkpoint(out: Path) -> dict[str, Any] | None:
    """Read the last checkpoint of a training as it is stored; None if there is none yet.

    Raises:
        ModelError: the file is damaged, or no checkpoint.
    """
    path = checkpoint_path(out)
    try:
        check_regular(path)
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        is_whole = found is None or found == _checksum(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        reason = error.strerror if isinstance(error, OSError) else "it is damaged, or no checkpoint"
        raise ModelError(f"checkpoint {path} cannot be read: {reason}; delete it to start again") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a checkpoint of spq; delete it to start again")
    if not is_whole:
        raise ModelError(f"checkpoint {path} is damaged: its content has another checksum; delete it to start again")
    return content


def _check_archive(path: Path) -> None:
    """Compare the checksums of a zip archive, whose parts are not compressed, so that they take no more memory than the file."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise zipfile.BadZipFile("it is compressed")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise zipfile.BadZipFile("its parts overlap")
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("a checksum differs")


def _checksum(content: Any) -> str:
    """Return a hash over nested tables and lists of tensors and plain values."""
    digest = hashlib.blake2b(digest_size=16)
    _add(content, digest)
    return digest.hexdigest()


def _add(value: Any, digest: hashlib.blake2b) -> None:
    if isinstance(value, dict):
        digest.update(f"table of {len(value)}\n".encode())
        for key, item in value.items():
            _add(key, digest)
            _add(item, digest)
    elif isinstance(value, list | tuple):
        digest.update(f"list of {len(value)}\n".encode())
        for item in value:
            _add(item, digest)
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    else:
        digest.update(f"{type(value).__name__} {value!r}\n".encode(errors="backslashreplace"))
