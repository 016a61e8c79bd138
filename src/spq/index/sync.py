"""Bring a store in step with a collection. An unchanged picture costs one `stat`; known bytes keep their code."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any

from spq.common.files import expanded
from spq.data.image_set import NO_LABEL, ImageSet
from spq.data.multilabel import READERS
from spq.data.source import Source
from spq.errors import DataError, ImageError
from spq.index.encode import Encoder, Seen
from spq.index.items import Item, as_json
from spq.index.model_copy import ModelCopy
from spq.index.store import Store

if TYPE_CHECKING:
    from spq.model.model import Model

BATCH = 256  # pictures that are committed together
LOOK_UPS = 10  # rows that a scan of the whole table reads in the time of one look-up
Progress = Callable[[int, int, int], None]


@dataclass
class SyncReport:
    """What a sync did, in numbers of pictures.

    Attributes:
        described: of the unchanged pictures, those with new metadata.
        recoded: of the unchanged pictures, those whose code is of another model now, from a cached feature.
        kept: pictures whose files are missing or could not be checked.
        failed: (path, reason) of every unreadable picture of the index, old ones included.
        unseen: folders and pictures that could not be checked, and why.
        note: a remark about the encoding; mostly empty.
        remarks: (file, remark) of what the collection found but did not use, such as a broken table.
    """

    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    described: int = 0
    recoded: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""
    remarks: list[tuple[str, str]] = field(default_factory=list)


def sync(
    store: Store, copy: ModelCopy, source: ImageSet, progress: Progress | None = None, keep_missing: bool = False
) -> SyncReport:
    """Make the store hold exactly the pictures of a collection. `ImageIndex.sync` has the details."""
    if not len(source):
        raise DataError(f"no pictures in {source.name}; nothing was removed: to remove all, delete {store.folder}")
    with store.writing():
        copy.write()
        report = _add_new(store, copy, source, progress)
        gone = [] if keep_missing else missing(store, source)
        store.remove(gone)
        store.set_origin(lasting_source(source))
        report.kept += len(store) + len(store.unreadable()) - len(source)
    # a renamed file is one removed path and one added path: count it once
    report.renamed = min(report.renamed, len(gone))
    report.added, report.removed = report.added - report.renamed, len(gone) - report.renamed
    return _completed(report, store, source)


def add(store: Store, copy: ModelCopy, source: ImageSet) -> SyncReport:
    """Add or refresh the pictures of a collection, and leave all others as they are."""
    with store.writing():
        copy.write()
        report = _add_new(store, copy, source, None)
    report.renamed = 0  # nobody checked whether the old paths still exist
    return _completed(report, store, source)


def missing(store: Store, source: ImageSet) -> list[str]:
    """Paths in the index that the collection no longer has.

    Paths that could not be opened, or lie below a folder that could not be listed, are not missing.
    """
    unlisted = {path for path, _ in [*source.unlisted, *source.unopened]}
    gone = sorted(set(store.stats()) - set(source.ids))
    return [path for path in gone if unlisted.isdisjoint((path, *map(str, PurePosixPath(path).parents)))]


def metadata(source: ImageSet, position: int) -> dict[str, Any]:
    """The collection's columns for one picture, and `label`: a class name, or a list for a multi-label collection."""
    columns: dict[str, Any] = {key: values[position] for key, values in source.metadata.items()}
    if source.labels is not None:
        label, names = source.labels[position], source.class_names
        if source.labels.ndim == 2:
            columns["label"] = [names[n] for n in label.nonzero()[0]]
        elif label != NO_LABEL:
            columns["label"] = names[int(label)]
    return columns


def lasting_source(images: ImageSet) -> Source:
    """What opens the collection again, from any working directory."""
    return replace(images.source, names=tuple(map(lasting_name, images.source.names)))


def lasting_name(name: str) -> str:
    """The name of a collection, with a path made absolute, so that it works from any working directory."""
    kind, colon, rest = name.partition(":")
    if colon and kind in READERS:
        return f"{kind}:{lasting_name(rest)}"
    path = expanded(name)
    return str(path.absolute()) if path.exists() or glob.glob(str(path)) else name  # noqa: PTH207 (as open_images does)


def _completed(report: SyncReport, store: Store, source: ImageSet) -> SyncReport:
    report.failed = store.unreadable()
    report.unseen = [*source.unlisted, *source.unopened, *report.unseen]
    report.remarks = source.remarks
    return report


def _add_new(store: Store, copy: ModelCopy, source: ImageSet, progress: Progress | None) -> SyncReport:
    """Add new pictures and re-encode changed ones, batch by batch. Nothing is removed.

    `renamed` counts, among the added, those whose bytes the index knew under a path that the collection no longer has.
    """
    paths = source.ids if len(source) * LOOK_UPS < len(store) else None
    known, report = store.stats(paths), SyncReport()
    work, unchanged = _changed(source, known, report)
    report.described = _describe(store, source, unchanged, store.metadata(paths))
    if work:
        _encode(_Work(store, source, work, known), copy.model, report, progress)
    return report


@dataclass(frozen=True)
class _Work:
    """positions: pictures of `source` to encode. known: path -> (size, mtime_ns) of what the store has."""

    store: Store
    source: ImageSet
    positions: list[int]
    known: dict[str, tuple[int, int]]


def _encode(work: _Work, model: Model, report: SyncReport, progress: Progress | None) -> None:
    """Encode and commit the pictures, and count them in the report."""
    present, unreadable = set(work.source.ids), 0
    encoder = Encoder(work.source, model, _twins(work.store))
    if progress:
        progress(0, len(work.positions), 0)
    with closing(encoder.encode(work.positions)) as encoded:
        for start in range(0, len(work.positions), BATCH):
            positions = work.positions[start : start + BATCH]
            batch = list(islice(encoded, len(positions)))
            touched = _touched(work, batch)
            work.store.put(
                replace(item, metadata=metadata(work.source, position))
                for position, (item, _) in zip(positions, batch, strict=True)
            )
            for item, twin in batch:
                if item.code is None:
                    unreadable += 1
                elif item.path in touched:
                    report.unchanged += 1
                elif item.path in work.known:
                    report.changed += 1
                else:
                    report.added += 1
                    report.renamed += twin is not None and twin.path not in present
            if progress:
                progress(start + len(positions), len(work.positions), unreadable)
    report.note = encoder.note


def _touched(work: _Work, batch: Iterable[Seen]) -> set[str]:
    """Paths of pictures whose time of change differs and whose bytes do not."""
    before = ((item, work.store.item(item.path)) for item, twin in batch if twin and item.path in work.known)
    return {item.path for item, old in before if old and old.hash == item.hash}


def _twins(store: Store) -> Callable[[bytes], Item | None]:
    """A function hash -> the encoded item with these bytes, for several threads at once."""
    lock = Lock()

    def twin_of(digest: bytes) -> Item | None:
        with lock:
            return store.items_by_hash([digest]).get(digest)

    return twin_of


def _changed(source: ImageSet, known: dict[str, tuple[int, int]], report: SyncReport) -> tuple[list[int], list[int]]:
    """Positions of pictures to encode, and of unchanged ones, by one `stat` for each picture.

    If `stat` fails on a known picture (a disk error), the picture keeps its code.
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
                work.append(position)  # it will be recorded as unreadable
    report.unchanged = len(unchanged)
    return work, unchanged


def _describe(store: Store, source: ImageSet, positions: Collection[int], known: dict[str, str]) -> int:
    """Write the metadata of unchanged pictures where it differs from the store; returns for how many."""
    columns = ((source.ids[position], metadata(source, position)) for position in positions)
    new = [(path, values) for path, values in columns if as_json(values) != known.get(path)]
    if new:
        store.describe(new)
    return len(new)
