"""The codes of a store in memory, for as many searches as wanted: followed by reading what is new, not all anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spq.index.store import Store

Ids = NDArray[np.int64]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Gallery:
    """ids (N,), ascending, and their codes (N, M), as they were at a revision of the store."""

    version: int
    revision: int
    ids: Ids
    codes: Codes


def follow(store: Store, before: Gallery | None = None) -> Gallery:
    """The gallery of today: `before` itself where nothing was written, else with the same arrays where no code changed.

    Each number is read before what it numbers, so that a change in between is read twice rather than missed.
    """
    version = store.version()
    if before and before.version == version:
        return before
    revision = store.revision()
    changes = store.changes(before.revision) if before else None
    if before is None or changes is None:
        return Gallery(version, revision, *store.codes())
    now = replace(before, version=version, revision=revision)
    return _merged(now, *changes) if _differ(now, *changes) else now


def _differ(gallery: Gallery, ids: Ids, codes: Codes, gone: Ids) -> bool:
    if np.isin(gone, gallery.ids).any() or not np.isin(ids, gallery.ids).all():
        return True
    return not np.array_equal(gallery.codes[np.searchsorted(gallery.ids, ids)], codes)


def _merged(gallery: Gallery, ids: Ids, codes: Codes, gone: Ids) -> Gallery:
    stay = ~np.isin(gallery.ids, np.concatenate([ids, gone]))
    all_ids = np.concatenate([gallery.ids[stay], ids])
    all_codes = np.concatenate([gallery.codes[stay], codes])
    order = np.argsort(all_ids, kind="stable")
    return replace(gallery, ids=all_ids[order], codes=all_codes[order])
