"""Bringing a store in step with a collection: what is unchanged costs one `stat`, what is known keeps its code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any

from spq.data.image_set import ImageSet
from spq.errors import ImageError
from spq.index.encode import Encoder, Seen
from spq.index.store import Item, Store, as_json

if TYPE_CHECKING:
    from spq.model.model import Model

BATCH = 256  # pictures that are committed together
LOOK_UPS = 10  # items that are read from the whole table in the time that one takes to be looked up
Progress = Callable[[int, int, int], None]


@dataclass
class SyncReport:
    """What a sync did.

    failed: (path, reason) of every unreadable picture of the index, old ones included. unseen: folders and pictures that
    could not be looked at, and why. note: what to know of the encoding; mostly empty.
    """

    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    described: int = 0  # of the unchanged, those with new metadata
    kept: int = 0  # whose files are missing, or were not looked at
    failed: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def refresh(store: Store, source: ImageSet, model: Callable[[], Model], progress: Progress | None) -> SyncReport:
    """Add what is new and re-encode what has changed, batch by batch. Nothing is removed.

    `renamed` counts, among the added, those whose bytes the index knew under a path that the collection no longer has.

    Args:
        model: called when there is a picture to look at.
        progress: called with (pictures committed, pictures to look at, unreadable ones among the committed).
    """
    paths = source.ids if len(source) * LOOK_UPS < len(store) else None
    known, report = store.stats(paths), SyncReport()
    work, unchanged = _look(source, known, report)
    report.described = _describe(store, source, unchanged, store.metadata(paths))
    if not work:
        return report
    present, unreadable = set(source.ids), 0
    encoder = Encoder(source, model(), _twins(store))
    with closing(encoder.encode(work)) as encoded:
        for start in range(0, len(work), BATCH):
            positions = work[start : start + BATCH]
            seen = list(islice(encoded, len(positions)))
            touched = _touched(store, known, seen)
            store.put(
                replace(item, metadata=metadata(source, position))
                for position, (item, _) in zip(positions, seen, strict=True)
            )
            for item, twin in seen:
                if item.code is None:
                    unreadable += 1
                elif item.path in touched:
                    report.unchanged += 1
                elif item.path in known:
                    report.changed += 1
                else:
                    report.added += 1
                    report.renamed += twin is not None and twin.path not in present
            if progress:
                progress(start + len(positions), len(work), unreadable)
    report.note = encoder.note
    return report


def _touched(store: Store, known: Collection[str], seen: Iterable[Seen]) -> set[str]:
    """Paths of pictures that have another time of change, and the bytes that they had before."""
    before = ((item, store.item(item.path)) for item, twin in seen if twin and item.path in known)
    return {item.path for item, old in before if old and old.hash == item.hash}


def _twins(store: Store) -> Callable[[bytes], Item | None]:
    """The encoded item of a hash, for several threads at once."""
    lock = Lock()

    def twin_of(digest: bytes) -> Item | None:
        with lock:
            return store.items_by_hash([digest]).get(digest)

    return twin_of


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
    """Paths in the index that the collection no longer has; without what could not be opened, or listed, or lies below that."""
    unlisted = {path for path, _ in [*source.unlisted, *source.unopened]}
    gone = sorted(set(store.stats()) - set(source.ids))
    return [path for path in gone if unlisted.isdisjoint((path, *map(str, PurePosixPath(path).parents)))]


def _describe(store: Store, source: ImageSet, positions: list[int], known: dict[str, str]) -> int:
    """Write the metadata of unchanged pictures where they are not what the store has; returns how many were not."""
    facts = ((source.ids[p], metadata(source, p)) for p in positions)
    new = [(path, columns) for path, columns in facts if as_json(columns) != known.get(path)]
    if new:
        store.describe(new)
    return len(new)
