"""What a search needs of a quantizer: distance tables of descriptors, and descriptors of codes. With NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spq.config import DISTANCES, check_distance
from spq.config.quantizer_config import CROSS_TERMS
from spq.errors import ConfigError

Floats = NDArray[np.float32]
AT_ONCE = 8192  # pairs of descriptors whose differences are in memory together


class Decoder(Protocol):
    """What an index knows of the quantizer that made its codes, (N, M) of numbers below K; descriptors are (N, dim).

    Attributes:
        codebook_size: K. parts: sub-vectors of a descriptor, which `l2` takes norms of.
        distances: those of which `tables` serves exact sums.
    """

    @property
    def codebook_size(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def parts(self) -> int: ...
    @property
    def distances(self) -> tuple[str, ...]: ...

    def decode(self, codes: NDArray[np.uint8]) -> Floats:
        """Descriptors (N, dim) of codes (N, M)."""

    def mean(self, codes: NDArray[np.uint8]) -> Floats:
        """The mean (dim,) of the descriptors of codes (N, M)."""

    def tables(self, x: Floats, distance: str) -> Floats:
        """Tables (Q, M, K) of descriptors (Q, dim); sums of their entries are distances to decoded codes."""


@dataclass(frozen=True, eq=False)
class Codebooks:
    """The decoder of a product or residual quantizer.

    Attributes:
        words: (M, K, d). sharing: how many codebooks, one after the other, share a sub-vector, which is the sum of their words.
    """

    words: Floats
    sharing: int = 1

    @property
    def codebook_size(self) -> int:
        return int(self.words.shape[1])

    @property
    def dim(self) -> int:
        return self.parts * int(self.words.shape[2])

    @property
    def parts(self) -> int:
        return len(self.words) // self.sharing

    @property
    def distances(self) -> tuple[str, ...]:
        return DISTANCES if self.sharing == 1 else ("dot",)

    def decode(self, codes: NDArray[np.uint8]) -> Floats:
        """Descriptors (N, dim) of codes (N, M): for each sub-vector the sum of its codewords."""
        x = decode(codes, self.words)
        if self.sharing == 1:
            return x
        summed: Floats = x.reshape(len(x), self.parts, self.sharing, -1).sum(2).reshape(len(x), self.dim)
        return summed

    def mean(self, codes: NDArray[np.uint8]) -> Floats:
        """The mean (dim,) of the descriptors of codes (N, M), from the shares of the codewords."""
        counts = np.stack([np.bincount(column, minlength=self.codebook_size) for column in codes.T])  # (M, K)
        means = np.einsum("mk,mkd->md", counts / len(codes), self.words)
        mean: Floats = means.reshape(self.parts, self.sharing, -1).sum(1).ravel().astype(np.float32)
        return mean

    def tables(self, x: Floats, distance: str) -> Floats:
        """Distance tables (Q, M, K) of descriptors (Q, dim).

        Raises:
            ConfigError: a distance that is not in `distances`.
        """
        if self.sharing == 1:
            return distance_tables(x, self.words, distance)
        if distance not in self.distances:
            check_distance(distance)
            raise ConfigError(f"a residual quantizer has no tables of distance {distance}; use dot: {CROSS_TERMS}")
        repeated = x.reshape(len(x), self.parts, -1).repeat(self.sharing, 1)
        return distance_tables(repeated.reshape(len(x), -1), self.words, distance)


def apart(x: Floats, y: Floats, parts: int, distance: str) -> Floats:
    """Distances (N,) of pairs of descriptors, both (N, D), by `l2` of their sub-vectors or by `sqeuclidean`."""
    total = np.empty(len(x), np.float32)
    for start in range(0, len(x), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        difference = x[some] - y[some]
        squared = np.square(difference.reshape(len(difference), parts, -1)).sum(2)
        total[some] = (np.sqrt(squared) if distance == "l2" else squared).sum(1)
    return total


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
