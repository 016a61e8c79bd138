"""JSON files with a format number and a checksum, so that a damaged one is noticed and never read as something else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from spq.common.files import Replacing
from spq.common.json_file import MOST_BYTES, JsonError, read_json


class NewerFormatError(JsonError):
    """A newer spq has written the file."""


def write_checked(path: Path, content: Any, form: int) -> None:
    """Write a file, which replaces an old one as a whole.

    Args:
        form: number of the format of the content.
    Raises:
        OSError: it cannot be written.
    """
    text = _as_text(content)
    with Replacing(path) as temporary, temporary.open("w", encoding="ascii") as file:
        file.write(f'{{"format":{form},"check":"{_check(text)}","content":{text}}}\n')


def read_checked(path: Path, form: int, most: int = MOST_BYTES) -> Any:
    """Return the content of such a file.

    Args:
        most: bytes that are read at most.
    Raises:
        OSError: the system does not open it. NewerFormatError: its format is newer than `form`. JsonError: it is damaged.
    """
    table = read_json(path, most)
    if not isinstance(table, dict) or not isinstance(number := table.get("format"), int) or "content" not in table:
        raise JsonError("it has no format number or no content")
    if number > form:
        raise NewerFormatError(f"it has format {number}, and this spq reads up to {form}; update spq")
    if table.get("check") != _check(_as_text(table["content"])):
        raise JsonError("its checksum does not match")
    return table["content"]


def _as_text(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _check(text: str) -> str:
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()
