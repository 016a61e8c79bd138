"""The codes of an index in memory. They follow the store: only what changed is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spq.errors import StoreError
from spq.index.filter_sql import matching
from spq.index.shards.holding import Of
from spq.index.shards.lists import Lists, add_lists, read_lists
from spq.index.shards.live import Live
from spq.index.shards.placement import Placement
from spq.index.shards.shard_writer import Kind
from spq.index.shards.sharded_store import ShardedStore
from spq.index.store import Store
from spq.pq.parts import Part, PartedScan
from spq.pq.scan import Scan
from spq.pq.spread import SpreadScan

Ids: TypeAlias = NDArray[np.int64] | NDArray[np.uint32]
Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]
MakeScan = Callable[[Codes, Ids], Scan]
TRIES = 20  # of reading an index whose list of shards changes again and again


class Matched(NamedTuple):
    """Rows, ascending, that a filter matches. is_exact: whether it read the items as they were when the codes were read."""

    rows: Rows
    is_exact: bool


@dataclass(frozen=True, eq=False)
class Gallery:
    """ids (N,), ascending, and the scan of their codes, as they were at one revision of the store.

    The scan holds the only copy of the codes.
    """

    version: int
    revision: int
    ids: Ids
    scan: Scan | PartedScan

    def __len__(self) -> int:
        return len(self.ids)

    def ids_of(self, rows: Rows) -> Ids:
        """The ids (n,) of rows of the scan."""
        return self.ids[rows]

    def rows_of(self, ids: Ids) -> Rows:
        """The rows, ascending, of those ids that this gallery has."""
        wanted = np.unique(np.asarray(ids, np.int64))
        rows = self.ids.searchsorted(wanted)
        is_inside = rows < len(self.ids)
        wanted, rows = wanted[is_inside], rows[is_inside]
        found: Rows = rows[self.ids[rows] == wanted]
        return found

    def all_ids(self) -> Ids:
        """The ids of all pictures."""
        return self.ids

    def all_codes(self) -> Codes:
        """The codes (N, M), in the order of `all_ids`."""
        return self.scan.codes

    def row_of(self, item: int) -> int | None:
        """The row of the item with this id."""
        row = int(np.searchsorted(self.ids, item))
        return None if row == len(self.ids) or self.ids[row] != item else row

    def code_of(self, item: int) -> Codes:
        """The code (M,) of the item with this id.

        Raises:
            StoreError: there is none.
        """
        if (row := self.row_of(item)) is None:
            raise no_item(item)
        return self.scan.code(row)

    def rows_where(self, store: Store, where: str) -> Matched:
        """Rows that a filter matches.

        Raises:
            ConfigError: as `matching`.
        """
        with store.snapshot():
            return Matched(self.rows_of(matching(store, where)), store.revision() == self.revision)


@dataclass(frozen=True, eq=False)
class ShardedGallery(Gallery):
    """The codes of an index with shards. `ids` are those of the database alone; a row is one of all parts, also of dead ones.

    Attributes:
        newer: the gallery of the database. shards: the parts of the other codes, by the names of shards.
    """

    scan: PartedScan
    newer: Gallery
    shards: dict[str, Part]
    lists: Lists | None = None

    def __len__(self) -> int:
        return len(self.scan)

    def ids_of(self, rows: Rows) -> Ids:
        return self.scan.ids_of(rows)

    def rows_of(self, ids: Ids) -> Rows:
        return self.scan.rows_of(np.asarray(ids, np.int64))

    def row_of(self, item: int) -> int | None:
        return self.scan.row_of(item)

    def all_ids(self) -> Ids:
        return self.scan.ids_of(self.scan.live_rows())

    def all_codes(self) -> Codes:
        return self.scan.codes_of(self.scan.live_rows())


class GallerySource(Protocol):
    """Gives an `ImageIndex` its codes."""

    def latest(self, stale: Gallery | None = None) -> Gallery:
        """The codes in memory. They are newer than `stale`, if that is given."""

    def rows(self, store: Store, gallery: Gallery, where: str) -> Matched:
        """`Gallery.rows_where`, possibly remembered."""


class OwnGallery:
    """The codes of one index for one thread, read again whenever the store has changed."""

    def __init__(self, store: Store, make_scan: MakeScan) -> None:
        self._store, self._make_scan = store, make_scan
        self._gallery: Gallery | None = None

    def latest(self, stale: Gallery | None = None) -> Gallery:
        self._gallery = follow(self._store, self._make_scan, self._gallery)
        return self._gallery

    def rows(self, store: Store, gallery: Gallery, where: str) -> Matched:
        return gallery.rows_where(store, where)


def follow(
    store: Store, make_scan: MakeScan, before: Gallery | None = None, placement: Placement | None = None
) -> Gallery:
    """The gallery as the store is now.

    It is `before` itself if nothing was written, and has the scan of `before` if no code changed.

    Args:
        placement: of holders, which search the shards; by default they are searched here. New shards are ready there when this
            returns, unless a holder is down.
    Raises:
        StoreError: the index was divided into shards since it was opened; or it has none, and there are holders.
    """
    version = store.version()  # before the rest is read: a change in between is then read twice rather than missed
    if before and before.version == version:
        return before
    store.check_kind()
    if isinstance(store, ShardedStore):
        return _follow_shards(store, make_scan, before if isinstance(before, ShardedGallery) else None, placement)
    if placement:
        raise StoreError(f"index {store.folder} has no shards that holders could search; give it some with `to_shards`")
    with store.snapshot():  # the revision and the codes of one moment
        return _followed(store, make_scan, before, version)


def _follow_shards(
    store: ShardedStore, make_scan: MakeScan, before: ShardedGallery | None, placement: Placement | None
) -> ShardedGallery:
    """Codes of the database and the list of shards of one moment. The parts of unchanged shards are used again."""
    known = before.shards if before else {}
    for left in reversed(range(TRIES)):
        version = store.version()
        try:
            with store.snapshot():
                live = store.live()
                newer = _followed(store, make_scan, before.newer if before else None, version)
            shards = {
                part.shard.facts.name: known.get(part.shard.facts.name) or _part(part, placement) for part in live
            }
            break
        except StoreError:
            if store.version() == version or not left:
                raise  # else a shard was dropped meanwhile
    if before and newer.scan is before.newer.scan and _are_same(live, before, shards):
        return replace(before, version=version, revision=newer.revision, newer=newer)
    lists = (before.lists if before else None) or read_lists(store.folder)
    if lists and not placement:
        add_lists(lists, store.folder, list(shards.values()), list(shards))
    scan = _parted(list(shards.values()), live, newer, lists, placement)
    if placement:
        placement.prepare(_facts_of(store, lists), live)
    return ShardedGallery(version, newer.revision, newer.ids, scan, newer, shards, lists)


def _parted(
    shards: list[Part], live: tuple[Live, ...], newer: Gallery, lists: Lists | None, placement: Placement | None
) -> PartedScan:
    """The scan of all shards and of the database."""
    assert isinstance(newer.scan, Scan)
    parts = [*shards, Part(newer.scan)]
    dead = [*(part.dead for part in live), np.empty(0, np.int64)]
    coarse, tables_of = lists.coarse if lists else None, newer.scan.tables_of
    if placement:
        return SpreadScan(parts, dead, placement, coarse, lists.hash if lists else "", tables_of)
    return PartedScan(parts, dead, coarse, tables_of)


def _part(live: Live, placement: Placement | None) -> Part:
    return live.shard.held_part() if placement else live.shard.part()


def _facts_of(store: ShardedStore, lists: Lists | None) -> Of:
    """What holders of this index must agree with."""
    manifest = store.manifest
    kind = Kind(manifest.num_codebooks, manifest.codebook_size)
    return Of(store.folder.absolute(), manifest.key, manifest.model, kind, lists.hash if lists else "")


def _are_same(live: tuple[Live, ...], before: ShardedGallery, shards: dict[str, Part]) -> bool:
    """Whether the shards and their dead rows are those of an earlier gallery."""
    return shards == before.shards and all(
        np.array_equal(part.dead, dead) for part, dead in zip(live, before.scan.dead[:-1], strict=True)
    )


def _followed(store: Store, make_scan: MakeScan, before: Gallery | None, version: int) -> Gallery:
    """The codes of the database."""
    revision = store.revision()
    changes = store.changes(before.revision) if before else None
    if before is None or changes is None:
        stored, codes = store.newer()
        ids = _short(stored)
        return Gallery(version, revision, ids, make_scan(codes, ids))
    now = replace(before, version=version, revision=revision)
    return _merged(now, make_scan, *changes) if _differ(now, *changes) else now


def _differ(gallery: Gallery, ids: Ids, codes: Codes, removed: Ids) -> bool:
    if np.isin(removed, gallery.ids).any() or not np.isin(ids, gallery.ids).all():
        return True
    return not np.array_equal(gallery.scan.codes_of(np.searchsorted(gallery.ids, ids)), codes)


def _merged(gallery: Gallery, make_scan: MakeScan, ids: Ids, codes: Codes, removed: Ids) -> Gallery:
    is_kept = ~np.isin(gallery.ids, np.concatenate([ids, removed]))
    all_ids = np.concatenate([gallery.ids[is_kept], ids])
    all_codes = np.concatenate([gallery.scan.codes[is_kept], codes])
    order = np.argsort(all_ids, kind="stable")
    ids = _short(all_ids[order])
    return replace(gallery, ids=ids, scan=make_scan(all_codes[order], ids))


def no_item(id_: int) -> StoreError:
    """The error of an id that no item has."""
    return StoreError(f"no picture with id {id_} in this index; hits and items have the ids")


def _short(ids: Ids) -> Ids:
    """With 4 bytes for each id, if they fit."""
    return ids.astype(np.uint32) if not len(ids) or int(ids[-1]) < 2**32 else ids
