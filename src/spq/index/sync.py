"""Bring a store in step with a collection. An unchanged picture costs one `stat`; known bytes keep their code."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from spq.common.files import expanded
from spq.data.decode import decoder_version
from spq.data.image_set import NO_LABEL, ImageSet
from spq.data.multilabel import READERS
from spq.data.several import prefixes_of
from spq.data.source import Source
from spq.errors import ConfigError, DataError, ImageError
from spq.index.encode import Encoder
from spq.index.items import Item, as_json
from spq.index.missing import Missing, Moves, check_loss, find_missing, unlisted_paths
from spq.index.model_copy import ModelCopy
from spq.index.store import Store
from spq.index.table_reader import Known

if TYPE_CHECKING:
    from spq.model.model import Model

BATCH = 256  # pictures that are committed together
SEVERAL = 10  # pictures that do not have one code by chance
AT_ONCE = 65_536  # pictures that are compared with the index at a time
Progress = Callable[[int, int, int], None]


@dataclass
class SyncReport:
    """What a sync did, in numbers of pictures.

    Each picture with a code is in one of added, changed, renamed, unchanged and kept.

    Attributes:
        described: of the unchanged pictures, those with new metadata.
        recoded: of the unchanged pictures, those whose code is of another model now, from a cached feature.
        kept: pictures with a code whose files are missing or could not be checked.
        failed: (path, reason) of every unreadable picture of the index, old ones included.
        unseen: folders and pictures that could not be checked, and why.
        unmounted: of these, folders that are empty or on another disk than before; their pictures are kept.
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
    unmounted: list[str] = field(default_factory=list)
    note: str = ""
    remarks: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class SyncOptions:
    """Options of a sync.

    Attributes:
        keep_missing: keep items whose files have vanished.
        remove_missing: remove also items of folders that are empty or not mounted, and any number at once.
        replace: the index shall hold other collections now, so any number may be removed at once.
        rehash: read all pictures, also those of unchanged size and times.
    """

    keep_missing: bool = False
    remove_missing: bool = False
    replace: bool = False
    rehash: bool = False


def sync(
    store: Store,
    copy: ModelCopy,
    source: ImageSet,
    progress: Progress | None = None,
    options: SyncOptions | None = None,
) -> SyncReport:
    """Make the store hold exactly the pictures of a collection. `ImageIndex.sync` has the details."""
    options = options or SyncOptions()
    if options.keep_missing and options.remove_missing:
        raise ConfigError("`keep_missing` and `remove_missing` contradict each other; give one")
    if not len(source):
        raise DataError(f"no pictures in {source.name}; nothing was removed: to remove all, delete {store.folder}")
    with store.writing():
        copy.keep(store)
        before, now = store.manifest.origin, lasting_source(source)
        if set(before.names) < set(now.names):
            store.set_origin(now)  # before its pictures come in: without it, they would count as removed
        count = store.count()
        missing = find_missing(unlisted_paths(store.each_path(), source), source, store.manifest.mounts)
        moves = None if options.keep_missing else Moves(store, missing)
        report = _add_new(Work(store, source, options.rehash, moves), copy, progress)
        missing = missing.without(moves.taken if moves else ())
        gone = _to_remove(missing, options)
        if not (options.remove_missing or options.replace):
            check_loss(gone, count, before, now)
        store.remove(gone)
        if options.remove_missing:
            missing.hidden.clear()
        store.set_origin(
            now, {*source.aside.mounts, *(set(store.manifest.mounts) & set(missing.hidden))}, decoder_version()
        )
        report.unseen += missing.report()
        report.unmounted = list(missing.hidden)
        report.removed = len(gone)
        report.kept = len(store) - report.added - report.changed - report.renamed - report.unchanged
    return _completed(report, store, source)


def add(store: Store, copy: ModelCopy, source: ImageSet) -> SyncReport:
    """Add or refresh the pictures of a collection, and leave all others as they are."""
    with store.writing():
        copy.keep(store)
        report = _add_new(Work(store, source), copy, None)
    return _completed(report, store, source)


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
    source = images.source
    prefixes = source.prefixes or (tuple(prefixes_of(source)) if len(source.names) > 1 else ())
    return replace(source, names=tuple(map(lasting_name, source.names)), prefixes=prefixes)


def lasting_name(name: str) -> str:
    """The name of a collection, with a path made absolute, so that it works from any working directory."""
    kind, colon, rest = name.partition(":")
    if colon and kind in READERS:
        return f"{kind}:{lasting_name(rest)}"
    path = expanded(name)
    return str(path.absolute()) if path.exists() or glob.glob(str(path)) else name  # noqa: PTH207 (as open_images does)


def _to_remove(missing: Missing, options: SyncOptions) -> list[str]:
    if options.keep_missing:
        return []
    return [*missing.gone, *(chain(*missing.hidden.values()) if options.remove_missing else ())]


def _completed(report: SyncReport, store: Store, source: ImageSet) -> SyncReport:
    report.failed = store.unreadable()
    told = {path for path, _ in report.unseen}
    report.unseen = [*source.unlisted, *(each for each in source.unopened if each[0] not in told), *report.unseen]
    report.remarks = source.remarks
    return report


@dataclass(frozen=True)
class Work:
    """rehash: read everything. moves: finds moved files."""

    store: Store
    source: ImageSet
    rehash: bool = False
    moves: Moves | None = None


def _add_new(work: Work, copy: ModelCopy, progress: Progress | None) -> SyncReport:
    """Add new pictures and re-encode changed ones, batch by batch. Nothing is removed."""
    report = SyncReport()
    changed = _changed(work, report)
    if changed:
        encode_into(work, changed, copy.model, report, progress)
    return report


def encode_into(
    work: Work, positions: list[int], model: Model, report: SyncReport, progress: Progress | None = None
) -> None:
    """Encode and commit the pictures, and count them in the report."""
    unreadable = 0
    encoder = Encoder(work.source, model, _twins(work.store))
    if progress:
        progress(0, len(positions), 0)
    with closing(encoder.encode(positions)) as encoded:
        for start in range(0, len(positions), BATCH):
            some = positions[start : start + BATCH]
            seen = zip(some, list(islice(encoded, len(some))), strict=True)
            items = [replace(item, metadata=metadata(work.source, position)) for position, (item, _) in seen]
            unreadable += _commit(work, _without_shut(work.store, items, encoder.shut, report), report)
            if progress:
                progress(start + len(some), len(positions), unreadable)
    report.note = "; ".join(filter(None, (encoder.note, _collapse(work.store))))


def _collapse(store: Store) -> str:
    """A remark if all of several different pictures have one code; empty if they have not."""
    facts = "SELECT count(DISTINCT hash), count(DISTINCT code) FROM (SELECT hash, code FROM items WHERE status = 0 LIMIT 1000)"
    pictures, codes = store.select_newer(facts)[0]
    if codes > 1 or pictures < SEVERAL:
        return ""
    return (
        f"all of {pictures:,} different pictures have the same code, so a search cannot tell them apart: "
        "the model has collapsed; train it again"
    )


def _without_shut(store: Store, items: list[Item], shut: Collection[str], report: SyncReport) -> list[Item]:
    """The items without those of files that the system does not open now. If they have a code, they keep it."""
    known = {
        item.path for item in items if item.path in shut and (old := store.item(item.path)) and old.code is not None
    }
    report.unseen += [(item.path, item.reason) for item in items if item.path in known]
    return [item for item in items if item.path not in known]


def _commit(work: Work, items: Sequence[Item], report: SyncReport) -> int:
    """Write items, and count them in the report. Returns how many are unreadable.

    A file that has another name now is renamed first. If this is interrupted, its item is read again by the next sync.
    """
    known = work.store.stats([item.path for item in items])
    before = {path: work.store.item(path) for path in known}
    new = [item for item in items if item.path not in known and item.hash]
    moved = [(path, item.path) for item in new if work.moves and (path := work.moves.take(item))]
    if moved:
        work.store.rename(moved)
    work.store.put(item for item in items if not _is_same(item, before.get(item.path)))
    renamed, unreadable = {path for _, path in moved}, 0
    for item in items:
        old = before.get(item.path)
        if item.code is None:
            unreadable += 1
        elif old and old.hash and old.hash == item.hash and old.code is not None:
            report.unchanged += 1
        elif item.path in known:
            report.changed += 1
        elif item.path in renamed:
            report.renamed += 1
        else:
            report.added += 1
    return unreadable


def _is_same(item: Item, old: Item | None) -> bool:
    """Whether the store has the item as it is, so that nothing has to be written."""
    if old is None or item.code is None or old.code is None or not np.array_equal(item.code, old.code):
        return False
    return replace(item, code=None, id=old.id) == replace(old, code=None)


def _twins(store: Store) -> Callable[[bytes], Item | None]:
    """A function hash -> the encoded item with these bytes, for several threads at once."""
    lock = Lock()

    def twin_of(digest: bytes) -> Item | None:
        with lock:
            return store.items_by_hash([digest]).get(digest)

    return twin_of


def _changed(work: Work, report: SyncReport) -> list[int]:
    """Positions of pictures to encode, by one `stat` for each picture. New metadata of the others are written.

    If `stat` fails on a known picture (a disk error), the picture keeps its code. Unreadable ones are tried again if another
    version may read them.
    """
    store, source = work.store, work.source
    unreadable = {path for path, _ in store.unreadable()}
    to_retry = unreadable if store.manifest.decoder != decoder_version() else set[str]()
    changed: list[int] = []
    for start in range(0, len(source), AT_ONCE):
        paths = list(source.ids[start : start + AT_ONCE])
        found = _Change(store.known(paths))
        for position, path in enumerate(paths, start):
            try:
                found.note(position, path, source.status(position), work.rehash or path in to_retry)
            except ImageError as error:
                if path in found.known and path not in unreadable:
                    report.unseen.append((path, str(error)))
                else:
                    changed.append(position)  # it will be recorded as unreadable
        changed += found.changed
        if found.dated:
            store.set_ctimes(found.dated)
        report.described += _describe(work, found)
        report.unchanged += sum(source.ids[position] not in unreadable for position in found.unchanged)
    return sorted(changed)


@dataclass
class _Change:
    """Which of some pictures have changed: positions in the collection.

    Attributes:
        known: path -> what the index knows.
        dated: (path, ctime_ns) where the index does not know the ctime, as it is of an older format.
    """

    known: dict[str, Known]
    changed: list[int] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    dated: list[tuple[str, int]] = field(default_factory=list)

    def note(self, position: int, path: str, status: tuple[int, int, int], again: bool) -> None:
        """Sort one picture. again: it is to be read even if it has not changed."""
        before = self.known[path].status if path in self.known else None
        if again or before is None or before[:2] != status[:2] or (before[2] and status[2] and before != status):
            self.changed.append(position)
            return
        self.unchanged.append(position)
        if status[2] and not before[2]:
            self.dated.append((path, status[2]))


def _describe(work: Work, found: _Change) -> int:
    """Write the metadata of unchanged pictures where it differs from the store; returns for how many."""
    ids = work.source.ids
    columns = ((ids[position], metadata(work.source, position)) for position in found.unchanged)
    new = [(path, values) for path, values in columns if as_json(values) != (found.known[path].metadata or None)]
    if new:
        work.store.describe(new)
    return len(new)
