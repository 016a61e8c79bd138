"""An item of the index, and how it is written as a row of `items.sqlite`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENCODED, UNREADABLE = 0, 1  # values of the column `status`
COLUMNS = (
    "path",
    "size",
    "mtime_ns",
    "hash",
    "width",
    "height",
    "code",
    "reason",
    "id",
)  # of `from_row`, without ctime_ns, metadata, and whether the checksum is right


@dataclass(frozen=True)
class Item:
    """A picture of the collection, with its code (M,) uint8, or the reason why it has none."""

    path: str
    size: int
    mtime_ns: int
    hash: bytes = b""
    width: int = 0
    height: int = 0
    code: NDArray[np.uint8] | None = None
    reason: str = ""
    id: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)  # further columns of the collection, and "label"
    ctime_ns: int = 0  # time of last change of the file's entry; 0 if it is unknown


def to_row(item: Item) -> tuple[object, ...]:
    """The values that the store writes for an item, without its revision."""
    status, code = (UNREADABLE, None) if item.code is None else (ENCODED, item.code.tobytes())
    return (
        text_bytes(item.path), item.hash, item.size, item.mtime_ns, item.width, item.height, status,
        text_bytes(item.reason) if item.reason else None, code, as_json(item.metadata),
        item.ctime_ns,
    )  # fmt: skip


class DamagedRowError(ValueError):
    """A row that is not as it was written. The message says what is wrong."""


def from_row(row: tuple[Any, ...]) -> Item:
    """The item of a row of `COLUMNS`, ctime_ns, the metadata, and whether the row's checksum is right.

    Raises:
        DamagedRowError: it is not, or the row is no item.
    """
    path, size, mtime_ns, digest, width, height, code, reason, id_, ctime_ns, metadata, is_sound = row
    numbers = (size, mtime_ns, id_, ctime_ns, *(value for value in (width, height) if value is not None))
    texts = (path, *(value for value in (reason, metadata) if value is not None))
    blobs = [value for value in (digest, code) if value is not None]
    if not (
        all(type(value) is int for value in numbers)
        and all(type(value) is str for value in texts)
        and all(type(value) is bytes for value in blobs)
    ):
        raise DamagedRowError("its row has values of a wrong type")
    if not is_sound:
        raise DamagedRowError("the checksum of its row does not match")
    numbers_of_code = None if code is None else np.frombuffer(code, np.uint8)
    columns = read_metadata(metadata)
    return Item(
        path, size, mtime_ns, digest or b"", width or 0, height or 0, numbers_of_code, reason or "", id_, columns, ctime_ns
    )  # fmt: skip


def read_metadata(text: str | None) -> dict[str, Any]:
    """The metadata that a row holds.

    Raises:
        DamagedRowError: it is no JSON object.
    """
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DamagedRowError("its metadata is no JSON object")
    return found


def as_json(metadata: dict[str, Any]) -> str | None:
    """Metadata as the store keeps it; None if there is none."""
    return json.dumps(metadata, separators=(",", ":")) if metadata else None


def text_bytes(text: str) -> bytes:
    """Text as sqlite3 takes it. A file name may hold bytes that are not UTF-8, which sqlite3 refuses as str."""
    return text.encode("utf-8", "surrogateescape")
