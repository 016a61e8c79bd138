"""The codes of a store in memory, for as many searches as wanted: followed by reading what is new, not all anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spq.index.store import Store
from spq.pq.scan import Scan

Ids = NDArray[np.int64] | NDArray[np.uint32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Gallery:
    """ids (N,), ascending, and the scan of their codes, as they were at a revision of the store. The scan holds the only copy."""

    version: int
    revision: int
    ids: Ids
    scan: Scan


def follow(store: Store, make_scan: Callable[[Codes], Scan], before: Gallery | None = None) -> Gallery:
    """The gallery of today: `before` itself where nothing was written, else with the same scan where no code changed.

    Each number is read before what it numbers, so that a change in between is read twice rather than missed.
    """
    version = store.version()
    if before and before.version == version:
        return before
    revision = store.revision()
    changes = store.changes(before.revision) if before else None
    if before is None or changes is None:
        ids, codes = store.codes()
        return Gallery(version, revision, _short(ids), make_scan(codes))
    now = replace(before, version=version, revision=revision)
    return _merged(now, make_scan, *changes) if _differ(now, *changes) else now


def _differ(gallery: Gallery, ids: Ids, codes: Codes, gone: Ids) -> bool:
    if np.isin(gone, gallery.ids).any() or not np.isin(ids, gallery.ids).all():
        return True
    return not np.array_equal(gallery.scan.codes_of(np.searchsorted(gallery.ids, ids)), codes)


def _merged(gallery: Gallery, make_scan: Callable[[Codes], Scan], ids: Ids, codes: Codes, gone: Ids) -> Gallery:
    stay = ~np.isin(gallery.ids, np.concatenate([ids, gone]))
    all_ids = np.concatenate([gallery.ids[stay], ids])
    all_codes = np.concatenate([gallery.scan.codes[stay], codes])
    order = np.argsort(all_ids, kind="stable")
    return replace(gallery, ids=_short(all_ids[order]), scan=make_scan(all_codes[order]))


def _short(ids: Ids) -> Ids:
    """In 4 bytes each, where they fit."""
    return ids.astype(np.uint32) if not len(ids) or int(ids[-1]) < 2**32 else ids
