"""Distance tables of descriptors, and descriptors decoded from codes, with NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.config import check_distance

Floats = NDArray[np.float32]


def distance_tables(x: Floats, codebooks: Floats, distance: str) -> Floats:
    """Distance tables (Q, M, K) of descriptors (Q, D) and codebooks (M, K, d), as `Model.tables` makes them.

    `l2` is the norm of the difference of sub-vector and codeword, `sqeuclidean` its square, `dot` the negative inner product.

    Raises:
        ConfigError: another distance.

    >>> distance_tables(np.float32([[3, 4]]), np.float32([[[0, 0], [3, 0]]]), "l2")
    array([[[5., 4.]]], dtype=float32)
    >>> distance_tables(np.float32([[3, 4]]), np.float32([[[2, 1], [3, 0]]]), "dot")
    array([[[-10.,  -9.]]], dtype=float32)
    """
    check_distance(distance)
    M, K, d = codebooks.shape
    tables = np.empty((len(x), M, K), np.float32)
    for query, descriptor in enumerate(x):  # one at a time: (Q, M, K, d) would be large
        parts = descriptor.reshape(M, 1, d)
        tables[query] = -(parts * codebooks).sum(-1) if distance == "dot" else np.square(parts - codebooks).sum(-1)
    return np.sqrt(tables, out=tables) if distance == "l2" else tables


def between_codes(distance: str) -> str:
    """The distance for comparing two pictures of an index with each other.

    With `dot`, a picture need not be the nearest to itself, and a long descriptor is near to everything. No threshold on it tells
    how similar two pictures are. The two decoded codes are compared by `sqeuclidean` instead.
    """
    return "sqeuclidean" if distance == "dot" else distance


def decode(codes: NDArray[np.uint8], codebooks: Floats) -> Floats:
    """Decode codes (N, M) to descriptors (N, D): the codewords, one after the other."""
    M, _, d = codebooks.shape
    descriptors = np.empty((len(codes), M, d), np.float32)
    descriptors[:] = codebooks[np.arange(M), codes]
    return descriptors.reshape(len(codes), M * d)
