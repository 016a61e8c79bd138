"""Bringing a store in step with a collection: what is unchanged costs one `stat`, what is known keeps its code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from spq.data.images import load_pixels
from spq.data.sources import ImageSet
from spq.errors import ImageError
from spq.index.store import Item, Store, as_json

if TYPE_CHECKING:
    from spq.model.artifact import Model

BATCH = 256  # pictures that are encoded, and committed, together
LOOK_UPS = 10  # items that are read from the whole table in the time that one takes to be looked up
Progress = Callable[[int, int], None]


@dataclass
class SyncReport:
    """What a sync did. failed: (path, reason) of every unreadable picture of the index, old ones included."""

    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    described: int = 0  # of the unchanged, those with new metadata
    kept: int = 0  # whose files are missing, or were not looked at
    failed: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[tuple[str, str]] = field(
        default_factory=list
    )  # folders and known pictures that cannot be looked at, why


def refresh(store: Store, source: ImageSet, model: Callable[[], Model], progress: Progress | None) -> SyncReport:
    """Add what is new and re-encode what has changed, batch by batch. Nothing is removed.

    `renamed` counts, among the added, those whose bytes the index knew under a path that the collection no longer has.

    Args:
        model: called when a picture has to be encoded.
        progress: called with (pictures looked at, pictures to look at).
    """
    paths = source.ids if len(source) * LOOK_UPS < len(store) else None
    known, present, report = store.stats(paths), set(source.ids), SyncReport()
    work, unchanged = _look(source, known, report)
    report.described = _describe(store, source, unchanged, store.metadata(paths))
    for start in range(0, len(work), BATCH):
        positions = work[start : start + BATCH]
        items = [_hashed(source, position) for position in positions]
        twins = store.items_by_hash(item.hash for item in items)
        items = [_with_code_of(twins.get(item.hash), item) for item in items]
        _encode(items, positions, source, model)
        store.put(items)
        for item in items:
            if item.code is not None and item.path in known:
                report.changed += 1
            elif item.code is not None:
                report.added += 1
                report.renamed += item.hash in twins and twins[item.hash].path not in present
        if progress:
            progress(min(start + BATCH, len(work)), len(work))
    return report


def metadata(source: ImageSet, position: int) -> dict[str, Any]:
    """What a collection says of a picture: its columns, and `label`: a class name, or a list where there may be several."""
    columns: dict[str, Any] = {key: values[position] for key, values in source.metadata.items()}
    if source.labels is not None:
        label = source.labels[position]
        several = source.labels.ndim == 2
        names = source.class_names
        columns["label"] = [names[n] for n in label.nonzero()[0]] if several else names[int(label)]
    return columns


def _look(source: ImageSet, known: dict[str, tuple[int, int]], report: SyncReport) -> tuple[list[int], list[int]]:
    """Positions to work on, and those that are unchanged. One `stat` a picture.

    A known picture that cannot even be asked for its size (a disk that answers with an error) keeps its code.
    """
    work: list[int] = []
    unchanged: list[int] = []
    for position, path in enumerate(source.ids):
        try:
            (unchanged if source.stat(position) == known.get(path) else work).append(position)
        except ImageError as error:
            if path in known:
                report.unseen.append((path, str(error)))
                report.kept += 1
            else:
                work.append(position)  # to be recorded as unreadable
    report.unchanged = len(unchanged)
    return work, unchanged


def missing(store: Store, source: ImageSet) -> list[str]:
    """Paths in the index that the collection no longer has; without those below folders that could not be listed."""
    below = tuple(f"{folder}/" for folder, _ in source.unlisted)
    gone = sorted(set(store.stats()) - set(source.ids))
    return [] if "./" in below else [path for path in gone if not path.startswith(below)]


def _describe(store: Store, source: ImageSet, positions: list[int], known: dict[str, str]) -> int:
    """Write the metadata of unchanged pictures where they are not what the store has; returns how many were not."""
    facts = ((source.ids[p], metadata(source, p)) for p in positions)
    new = [(path, columns) for path, columns in facts if as_json(columns) != known.get(path)]
    if new:
        store.describe(new)
    return len(new)


def _is_unchanged(source: ImageSet, position: int, known: tuple[int, int]) -> bool:
    try:
        return source.stat(position) == known
    except ImageError:
        return False


def _hashed(source: ImageSet, position: int) -> Item:
    path = source.ids[position]
    try:
        size, mtime_ns = source.stat(position)
        digest = hashlib.blake2b(source.read(position), digest_size=16).digest()
        return Item(path, size, mtime_ns, digest, metadata=metadata(source, position))
    except ImageError as error:
        return _to_be_retried(Item(path, 0, 0, reason=str(error), metadata=metadata(source, position)))


def _with_code_of(twin: Item | None, item: Item) -> Item:
    return replace(item, code=twin.code, width=twin.width, height=twin.height) if twin else item


def _encode(items: list[Item], positions: list[int], source: ImageSet, model: Callable[[], Model]) -> None:
    """Fill in, in place, the code or the reason of the items that have neither."""
    slots = {
        p: n for n, (p, item) in enumerate(zip(positions, items, strict=True)) if item.code is None and not item.reason
    }
    if not slots:
        return
    pixels = load_pixels(source, model().config.input.size, positions=list(slots))
    codes = model().encode(pixels.array)
    for position, code, (width, height) in zip(pixels.kept.tolist(), codes, pixels.full_sizes.tolist(), strict=True):
        items[slots[position]] = replace(items[slots[position]], code=code, width=width, height=height)
    for position, reason in pixels.failures:
        items[slots[position]] = replace(items[slots[position]], reason=reason)
    for position, n in slots.items():
        if not _is_unchanged(source, position, (items[n].size, items[n].mtime_ns)):
            items[n] = _to_be_retried(items[n])  # written to between hash and code: they may be of different bytes


def _to_be_retried(item: Item) -> Item:
    """No file has this size and time, so the next sync looks at it again; no hash, so its code is given to no other."""
    return replace(item, size=-1, mtime_ns=-1, hash=b"")
