"""Which rows of a gallery use a codeword, and how many do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.pq.sums import add_up, lookup, pack
from spq.pq.tables import between_codes, distance_tables

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def usage(codes: Codes, K: int) -> NDArray[np.int64]:
    """Count how many of the codes (N, M) use each codeword: (M, K).

    >>> usage(np.uint8([[0, 1], [0, 0], [2, 1]]), 3)
    array([[2, 0, 1],
           [1, 2, 0]])
    """
    return np.stack([np.bincount(column, minlength=K)[:K] for column in codes.T]).astype(np.int64)


def members(codes: Codes, m: int, k: int, codebooks: Floats, distance: str) -> NDArray[np.int64]:
    """The rows of codes (N, M) that use codeword k of codebook m, the most typical first, ties by row.

    In codebook m itself all these rows have the same codeword. So the most typical row is the one nearest, over all codebooks,
    to the mean of the decoded rows. The distance is `between_codes`.

    Args:
        codebooks: (M, K, d). distance: of the index.
    """
    rows = np.flatnonzero(codes[:, m] == k)
    if not len(rows):
        return rows
    member_codes = codes[rows]
    shares = usage(member_codes, codebooks.shape[1]) / len(rows)
    centre = np.einsum("mk,mkd->md", shares, codebooks).astype(np.float32)
    table = distance_tables(centre.reshape(1, -1), codebooks, between_codes(distance))[0]
    d = add_up(lookup(table), pack(member_codes, codebooks.shape[1]))
    return rows[d.argsort(kind="stable")]
