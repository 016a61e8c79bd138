"""A query's distance tables, and descriptors put together from codes, with NumPy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.config import check_distance

Floats = NDArray[np.float32]


def distance_tables(x: Floats, codebooks: Floats, distance: str) -> Floats:
    """T (Q, M, K) of descriptors (Q, D) and codebooks (M, K, d), as `Model.tables` makes them.

    `l2`: norms of the differences of sub-vector and codeword; `sqeuclidean`: their squares; `dot`: their negative inner
    products.

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
    """The distance by which two pictures of an index are compared with each other, not ranked for a query.

    By `dot` a picture need not be the nearest to itself, and what has a long descriptor is near to everything: no threshold on it
    says how alike two pictures are. What the two codes stand for is then compared by `sqeuclidean`.
    """
    return "sqeuclidean" if distance == "dot" else distance


def decode(codes: NDArray[np.uint8], codebooks: Floats) -> Floats:
    """Codes (N, M) -> descriptors (N, D) put together from codewords."""
    M, _, d = codebooks.shape
    descriptors = np.empty((len(codes), M, d), np.float32)
    descriptors[:] = codebooks[np.arange(M), codes]
    return descriptors.reshape(len(codes), M * d)
