"""The order of answers at the same distance: by a fixed hash of their ids.

With short codes, dozens of answers are at the same distance. In the order of ids, which is that of paths, a collection sorted by
class would always show its first class. The hash mixes them, and is the same for every query, method, number of parts and run.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64] | NDArray[np.uint32] | range
Rows = NDArray[np.int64]
Keys = NDArray[np.uint64]


def tie_keys(ids: NDArray[np.integer]) -> Keys:
    """Keys (n,) of ids (n,); of two answers at the same distance, the one with the lower key comes first.

    The upper half is a hash of 32 bits (lowbias32 by Wellons), which maps different ids below 2**32 to different keys. The lower
    half is the id itself, which decides between larger ones. The static site computes the same in JavaScript.

    >>> [hex(key) for key in tie_keys(np.array([0, 1, 2])).tolist()]
    ['0x0', '0x688990c000000001', '0xd113218100000002']
    """
    whole = np.asarray(ids).astype(np.uint64)
    x = whole.astype(np.uint32) ^ ((whole >> np.uint64(32)).astype(np.uint32) * np.uint32(0x9E3779B1))
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    keys: Keys = (x.astype(np.uint64) << np.uint64(32)) | (whole & np.uint64(0xFFFFFFFF))
    return keys


def ids_at(ids: Ids, rows: NDArray[np.integer]) -> Rows:
    """The ids (n,) of some rows (n,)."""
    if isinstance(ids, range):
        return ids.start + rows.astype(np.int64) * ids.step
    found: Rows = ids[rows].astype(np.int64)
    return found
