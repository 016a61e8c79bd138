"""A map of a collection: decoded codes, projected on their two directions of largest variance (PCA).

A decoded code is one codeword of each codebook, so a projection is M look-ups in a table (M, K), like a distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.pq.sums import Codes, Floats
from spq.pq.tables import Decoder

CHUNK = 8192
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplicative hashing: it moves neighbouring ids far apart


def sample(ids: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Rows, ascending, of at most `most` ids. A hash of the id decides, so a sample changes little when the index does."""
    if len(ids) <= most:
        return np.arange(len(ids))
    order = ids.astype(np.uint64) * _SPREAD
    return np.sort(np.argpartition(order, most)[:most])


def shuffled(ids: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """Ids in an order that their hashes with a seed decide: new pictures come somewhere, and the others stay in order."""
    mixed = (ids.astype(np.uint64) + np.uint64(seed)) * _SPREAD
    mixed = (mixed ^ (mixed >> np.uint64(31))) * _SPREAD
    return np.asarray(ids, np.int64)[np.argsort(mixed ^ (mixed >> np.uint64(29)), kind="stable")]


def project(codes: Codes, decoder: Decoder) -> Floats:
    """Codes (N, M) -> (N, 2) float32: centred, the first column of the larger variance.

    The largest component of each direction is positive, so the same codes always give the same map.
    """
    if not len(codes):
        return np.empty((0, 2), np.float32)
    mean, covariance = _moments(codes, decoder)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :2]  # (D, 2); eigh sorts ascending
    if directions.shape[1] < 2:
        directions = np.pad(directions, ((0, 0), (0, 1)))
    directions = directions * np.where(directions[np.abs(directions).argmax(0), [0, 1]] < 0, -1.0, 1.0)
    points = [decoder.decode(codes[some]).astype(np.float64) @ directions for some in slices(len(codes), CHUNK)]
    centred: Floats = (np.concatenate(points) - mean @ directions).astype(np.float32)
    return centred


def _moments(codes: Codes, decoder: Decoder) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and covariance (D, D) of the decoded descriptors."""
    total, products = np.zeros(decoder.dim), np.zeros((decoder.dim, decoder.dim))
    for some in slices(len(codes), CHUNK):
        x = decoder.decode(codes[some]).astype(np.float64)
        total += x.sum(0)
        products += x.T @ x
    mean = total / len(codes)
    return mean, products / len(codes) - np.outer(mean, mean)
