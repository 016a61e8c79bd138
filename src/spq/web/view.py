"""Answers that the server and the static site both give: facts of an index, of its items, and of groups of copies."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from spq.common.text import encodable
from spq.dupes.decisions import group_key
from spq.dupes.find import Member, Report
from spq.index.store import Item, Store
from spq.model.feature_store import hash_of

Facts = dict[str, Any]
ON_MAP = 100_000  # pictures that a map shows at most
ORDERS = {"id": "id", "path": "path", "time": "mtime_ns DESC, id", "new": "revision DESC, id DESC", "last": "id DESC"}


def facts_of_codes(store: Store) -> Facts:
    """Return the facts that do not change while an index is open."""
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
    """Return an item as the API describes it."""
    return {
        "id": item.id,
        "path": encodable(item.path),
        "label": label(item),
        "width": item.width,
        "height": item.height,
        "size": item.size,
        "time": iso(item.mtime_ns),
        "metadata": {key: value for key, value in item.metadata.items() if key != "label"},
        "code": [] if item.code is None else item.code.tolist(),
    }


def label(item: Item) -> str | None:
    """Return the class of an item; several classes are one text."""
    value = item.metadata.get("label")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return None if value in (None, "") else str(value)


def iso(time_ns: int) -> str:
    """Return a time as ISO 8601 in UTC; empty if it is out of range.

    >>> iso(1_700_000_000_000_000_000)
    '2023-11-14T22:13:20Z'
    """
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return ""


def report_json(report: Report, generation: int, items: dict[int, Item]) -> dict[str, Any]:
    """Return a report of duplicates as the API gives it, and the hashes of the pictures of each group."""
    groups = []
    for group in report.groups:
        members = [group.keep, *group.others]
        hashes = [_hash_of(member, items.get(member.id)) for member in members]
        groups.append(
            {
                "key": group_key(hashes),
                "hashes": hashes,
                "kind": group.kind,
                "keep": group.keep.id,
                "why": group.why,
                "ids": [member.id for member in members],
                "confirmed": group.is_confirmed,
                "reasons": [f"keep: {group.why}" * group.is_confirmed, *(member.note for member in group.others)],
                "items": [_member_facts(member, items.get(member.id)) for member in members],
            }
        )
    return {
        "pictures": report.pictures,
        "groups": groups,
        "threshold": asdict(report.threshold) if report.threshold else None,
        "left_out": len(report.left_out),
        "generation": generation,
    }


def _hash_of(member: Member, item: Item | None) -> str:
    """The hash of a picture in hexadecimal digits; of its path, if it was removed meanwhile."""
    return item.hash.hex() if item and item.hash else hash_of(encodable(member.path).encode()).hex()


def _member_facts(member: Member, item: Item | None) -> dict[str, Any]:
    return {
        "id": member.id,
        "path": encodable(member.path),
        "label": label(item) if item else None,
        "width": member.width,
        "height": member.height,
        "size": member.bytes,
        "time": member.modified,
        "note": member.note,
        "distance": member.distance,
        "keep": member.keep,
        "region": member.region,
    }
