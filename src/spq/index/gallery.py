"""The codes of an index in memory. They follow the store: only what changed is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spq.errors import StoreError
from spq.index.filter_sql import matching
from spq.index.store import Store
from spq.pq.scan import Scan

Ids = NDArray[np.int64] | NDArray[np.uint32]
Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]
MakeScan = Callable[[Codes], Scan]


@dataclass(frozen=True, eq=False)
class Gallery:
    """ids (N,), ascending, and the scan of their codes, as they were at one revision of the store.

    The scan holds the only copy of the codes.
    """

    version: int
    revision: int
    ids: Ids
    scan: Scan

    def code_of(self, item: int) -> Codes:
        """The code (M,) of the item with this id.

        Raises:
            StoreError: there is none.
        """
        row = int(np.searchsorted(self.ids, item))
        if row == len(self.ids) or self.ids[row] != item:
            raise StoreError(f"no picture with id {item} in this index; hits and items have the ids")
        return self.scan.code(row)

    def rows_where(self, store: Store, where: str) -> Rows:
        """Rows, ascending, that a filter matches.

        Raises:
            ConfigError: as `matching`.
        """
        return np.flatnonzero(np.isin(self.ids, matching(store, where)))


class GallerySource(Protocol):
    """Gives an `ImageIndex` its codes."""

    def latest(self, stale: Gallery | None = None) -> Gallery:
        """The codes in memory. They are newer than `stale`, if that is given."""

    def rows(self, store: Store, gallery: Gallery, where: str) -> Rows:
        """`Gallery.rows_where`, possibly remembered."""


class OwnGallery:
    """The codes of one index for one thread, read again whenever the store has changed."""

    def __init__(self, store: Store, make_scan: MakeScan) -> None:
        self._store, self._make_scan = store, make_scan
        self._gallery: Gallery | None = None

    def latest(self, stale: Gallery | None = None) -> Gallery:
        self._gallery = follow(self._store, self._make_scan, self._gallery)
        return self._gallery

    def rows(self, store: Store, gallery: Gallery, where: str) -> Rows:
        return gallery.rows_where(store, where)


def follow(store: Store, make_scan: MakeScan, before: Gallery | None = None) -> Gallery:
    """The gallery as the store is now.

    It is `before` itself if nothing was written, and has the scan of `before` if no code changed.
    """
    version = store.version()  # before the rest is read: a change in between is then read twice rather than missed
    if before and before.version == version:
        return before
    revision = store.revision()
    changes = store.changes(before.revision) if before else None
    if before is None or changes is None:
        ids, codes = store.codes()
        return Gallery(version, revision, _short(ids), make_scan(codes))
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
    return replace(gallery, ids=_short(all_ids[order]), scan=make_scan(all_codes[order]))


def _short(ids: Ids) -> Ids:
    """With 4 bytes for each id, if they fit."""
    return ids.astype(np.uint32) if not len(ids) or int(ids[-1]) < 2**32 else ids
