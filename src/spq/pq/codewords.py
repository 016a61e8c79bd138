"""Which rows of a gallery use a codeword, and how many do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.pq.sums import add_up, lookup, pack
from spq.pq.tables import Decoder, apart, between_codes

Codes = NDArray[np.uint8]
CHUNK = 8192  # codes that are decoded together


def usage(codes: Codes, K: int) -> NDArray[np.int64]:
    """Count how many of the codes (N, M) use each codeword: (M, K).

    >>> usage(np.uint8([[0, 1], [0, 0], [2, 1]]), 3)
    array([[2, 0, 1],
           [1, 2, 0]])
    """
    return np.stack([np.bincount(column, minlength=K)[:K] for column in codes.T]).astype(np.int64)


def members(codes: Codes, m: int, k: int, decoder: Decoder, distance: str) -> NDArray[np.int64]:
    """The rows of codes (N, M) that use codeword k of codebook m, the most typical first, ties by row.

    In codebook m itself all these rows have the same codeword. So the most typical row is the one nearest, over all codebooks,
    to the mean of the decoded rows. The distance is `between_codes`.

    Args:
        distance: of the index.
    """
    rows = np.flatnonzero(codes[:, m] == k)
    if not len(rows):
        return rows
    member_codes = codes[rows]
    mean, between = decoder.mean(member_codes)[None], between_codes(distance)
    if between in decoder.distances:
        d = add_up(lookup(decoder.tables(mean, between)[0]), pack(member_codes, decoder.codebook_size))
    else:
        some = [decoder.decode(member_codes[part]) for part in slices(len(rows), CHUNK)]
        d = np.concatenate([apart(x, np.broadcast_to(mean, x.shape), decoder.parts, between) for x in some])
    return rows[d.argsort(kind="stable")]
