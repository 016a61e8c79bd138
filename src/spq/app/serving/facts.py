"""An index and its items as the API tells them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from spq.index.store import Item, Store

Facts = dict[str, Any]


def facts_of_codes(store: Store) -> Facts:
    """What does not change while an index is open."""
    manifest = store.manifest
    return {
        "name": store.folder.absolute().name,
        "bits": manifest.bits,
        "bytes_per_image": -(-manifest.bits // 8),
        "distance": manifest.distance,
        "model": manifest.model,
        "codebooks": manifest.num_codebooks,
        "codewords": manifest.codebook_size,
    }


def facts(item: Item) -> Facts:
    """An item as the API tells it."""
    return {
        "id": item.id,
        "path": printable(item.path),
        "label": label(item),
        "width": item.width,
        "height": item.height,
        "size": item.size,
        "time": iso(item.mtime_ns),
        "metadata": {key: value for key, value in item.metadata.items() if key != "label"},
        "code": [] if item.code is None else item.code.tolist(),
    }


def label(item: Item) -> str | None:
    """The class of an item; several in one text."""
    value = item.metadata.get("label")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return None if value in (None, "") else str(value)


def iso(time_ns: int) -> str:
    """
    >>> iso(1_700_000_000_000_000_000)
    '2023-11-14T22:13:20Z'
    """
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return ""


def printable(path: str) -> str:
    """An old index may hold names that are not UTF-8, which JSON refuses."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
