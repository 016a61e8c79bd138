"""The coarse quantizer of lists (IVF): which list a code belongs to, and which lists are near to a query.

It is trained on a sample of codes, once for all parts of a gallery. A code becomes a point; the distances of points are those of
decoded codes, for any additive distance. The points are clustered in two levels: groups, and lists inside each. For each list
the share of its members that have each codeword is kept: (lists, M * 16) numbers. The product with a table is the mean distance
to the members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from spq.errors import StoreError
from spq.pq.fastscan import K
from spq.pq.sums import Codes, Floats, Rows, unpack

LISTS = 0.5  # times the square root of the number of codes
FEWEST_LISTS = 64
SAMPLE = 60  # codes for k-means per list; FAISS recommends 39
STEPS = 10  # of k-means
DIMENSIONS = 32  # of points; 64 found hardly more (0.962 instead of 0.958)
GROUPS_READ = (
    2  # groups in which the list of a code is looked for: 96 % get the nearest; with 4, 99 % in 1.6 times the time
)
CHUNK = 65_536  # codes at a time
NAMES = ("axes", "groups", "centroids", "shares", "ranks")

TablesOf = Callable[[Codes], Floats]  # codes (n, M) -> tables (n, M, 16) of the decoded codes


class Coarse:
    """Lists of similar codes.

    Args:
        axes: (M * 16, d): the point of a code is the sum of M of its rows.
        groups: (G, d) centres of groups of lists. centroids: (nlist, d) centres of lists.
        shares: (nlist, M * 16) float32.
        ranks: of lists with near codes, ascending, as `tuned` makes them; empty before.
    """

    def __init__(
        self, axes: Floats, groups: Floats, centroids: Floats, shares: Floats, ranks: NDArray[np.int32] | None = None
    ) -> None:
        import faiss

        self.axes, self.groups, self.centroids, self.shares = axes, groups, centroids, shares
        self.ranks = np.empty(0, np.int32) if ranks is None else ranks
        self.M = len(axes) // K
        self.index = faiss.IndexFlatIP(len(axes))
        self.index.add(np.ascontiguousarray(shares))

    def __len__(self) -> int:
        return len(self.centroids)

    @classmethod
    def train(
        cls,
        sample: Codes,
        M: int,
        nlist: int,
        tables_of: TablesOf | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> Coarse:
        """Find about `nlist` lists.

        Args:
            sample: packed codes (n, ceil(M/2)), some `SAMPLE` for each list.
            tables_of: gives the distances of codewords. Without it, all codewords of a codebook are equally far.
            seed: the same sample, seed and number of threads give the same lists.
        """
        with faiss_threads(threads):
            axes = _principal_axes(sample[:CHUNK], M, _places(M, tables_of))
            x = _project(sample, axes, M)
            groups, centroids = _clusters(x, min(nlist, len(sample)), seed)
            coarse = cls(axes, groups, centroids, np.zeros((len(centroids), M * K), np.float32))
            assigned = coarse.assign(sample)
        used = np.bincount(assigned, minlength=len(centroids)) > 0
        renumbered = (used.cumsum() - 1)[assigned]
        return cls(axes, groups, centroids[used], _shares(sample, M, renumbered))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, for saving."""
        return {name: getattr(self, name) for name in NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Coarse:
        """Undo `to_arrays`.

        Raises:
            StoreError: arrays that do not belong together.
        """
        axes, groups, centroids, shares, ranks = (arrays[name] for name in NAMES)
        fits = len(axes) % K == 0 and axes.shape[1:] == groups.shape[1:] == centroids.shape[1:]
        if not fits or shares.shape != (len(centroids), len(axes)) or not len(groups):
            shapes = {name: arrays[name].shape for name in NAMES}
            raise StoreError(f"the arrays of a coarse quantizer do not belong together: {shapes}; make the lists again")
        return cls(axes, groups, centroids, shares, ranks)

    def tuned(self, ranks: Rows) -> Coarse:
        """The same lists, which know for many near codes of queries how many lists come before theirs."""
        return Coarse(self.axes, self.groups, self.centroids, self.shares, np.sort(ranks.ravel()).astype(np.int32))

    def nprobe_for(self, recall: float) -> int:
        """The smallest number of lists that reaches a recall on average over the queries it was tuned on."""
        return int(self.ranks[math.ceil(recall * len(self.ranks)) - 1]) + 1

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds."""
        return (
            self.shares.nbytes * 2 + self.axes.nbytes + self.groups.nbytes + self.centroids.nbytes + self.ranks.nbytes
        )

    def assign(self, packed: Codes) -> NDArray[np.int32]:
        """The list (n,) of each packed code."""
        assigned = np.empty(len(packed), np.int32)
        for start in range(0, len(packed), CHUNK):
            x = _project(packed[start : start + CHUNK], self.axes, self.M)
            assigned[start : start + CHUNK] = self._finder.search(x, 1)[1][:, 0]
        return assigned

    def order(self, packed: Codes, threads: int | None = None) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The rows (n,) of packed codes, by list and then ascending, and the number of rows of each list (nlist,)."""
        with faiss_threads(threads):
            assigned = self.assign(packed)
        sizes = np.bincount(assigned, minlength=len(self)).astype(np.uint32)
        return assigned.argsort(kind="stable").astype(np.uint32), sizes

    def nearest(self, table: Floats, count: int) -> tuple[Floats, Rows]:
        """Mean distances, negated, and numbers of the `count` nearest lists of a table, both (1, count); count is cut to all."""
        products, lists = self.index.search(
            -table.reshape(1, -1), min(count, len(self))
        )  # a batch would be summed differently
        return products, lists

    def mean_distances(self, table: Floats) -> Floats:
        """The mean distance (nlist,) of a table (M, 16) to the members of each list."""
        products, lists = self.nearest(table, len(self))
        means = np.empty(len(self), np.float32)
        means[lists[0]] = -products[0]
        return means

    def ranks_of(self, tables: Floats, packed: Codes) -> Rows:
        """How many lists are nearer to each table than the list of each code: packed (Q, n, P) -> (Q, n)."""
        ranks = np.empty(packed.shape[:2], np.int64)
        for query, table in enumerate(tables):
            ranks[query] = self.nearest(table, len(self))[1][0].argsort()[self.assign(packed[query])]
        return ranks

    @cached_property
    def _finder(self) -> Any:
        """Centroids in their groups."""
        import faiss

        d = self.groups.shape[1]
        top = faiss.IndexFlatL2(d)
        top.add(self.groups)
        finder: Any = faiss.IndexIVFFlat(top, d, len(self.groups))
        finder.referenced_objects = [top]
        finder.add(np.ascontiguousarray(self.centroids))
        finder.nprobe = GROUPS_READ
        return finder


def default_nlist(size: int) -> int:
    """Lists for a number of codes."""
    return max(1, min(size, FEWEST_LISTS), round(LISTS * math.sqrt(size)))


@contextmanager
def faiss_threads(threads: int | None) -> Iterator[None]:
    """Set FAISS's number of threads, and restore it. The number belongs to the calling thread."""
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(threads or before)
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _places(M: int, tables_of: TablesOf | None) -> Floats:
    """Places of the codewords of each codebook (M, 16, 16), whose squared distances are those of the tables.

    This is classical scaling. It takes l2, its square and inner products alike.
    """
    centred = np.eye(K) - 1 / K
    if tables_of is None:
        return np.repeat(centred[None], M, 0).astype(np.float32)
    tables = tables_of(np.repeat(np.arange(K, dtype=np.uint8)[:, None], M, 1)).astype(np.float64)  # (16, M, 16)
    products = -0.5 * centred @ tables.transpose(1, 0, 2) @ centred
    values, vectors = np.linalg.eigh((products + products.transpose(0, 2, 1)) / 2)
    places: Floats = (vectors * np.sqrt(np.maximum(values, 0))[:, None]).astype(np.float32)
    return places


def _principal_axes(packed: Codes, M: int, places: Floats) -> Floats:
    """The principal axes of codes whose codewords have these places (M, 16, 16): (M * 16, d)."""
    codes = unpack(packed, M, K)
    x = places[np.arange(M), codes].reshape(len(codes), M * K)
    mean = x.mean(0)
    directions = np.linalg.eigh((x - mean).T @ (x - mean))[1][:, : -DIMENSIONS - 1 : -1]
    axes = np.einsum("mkp,mpd->mkd", places, directions.reshape(M, K, -1))
    return np.ascontiguousarray(axes.reshape(M * K, -1), np.float32)


def _project(packed: Codes, axes: Floats, M: int) -> Floats:
    """One-hot codes times axes: (n, d), by look-ups of packed pairs."""
    parts = np.zeros((M + M % 2, K, axes.shape[1]), np.float32)
    parts[:M] = axes.reshape(M, K, -1)
    pairs = (parts[1::2, :, None] + parts[0::2, None]).reshape(-1, K * K, axes.shape[1])
    x: Floats = pairs[0].take(packed[:, 0], 0)
    for p in range(1, len(pairs)):
        x += pairs[p].take(packed[:, p], 0)
    return x


def _clusters(x: Floats, nlist: int, seed: int) -> tuple[Floats, Floats]:
    """Centres of groups and of lists, by k-means of all points, and of those of each group."""
    groups = _kmeans(x, max(1, round(math.sqrt(nlist))), seed)
    group = _nearest_of(groups, x)
    centroids = []
    for number in range(len(groups)):
        members = x[group == number]
        if len(members):
            centroids.append(_kmeans(members, min(len(members), max(1, round(nlist * len(members) / len(x)))), seed))
    return groups, np.concatenate(centroids)


def _kmeans(x: Floats, k: int, seed: int) -> Floats:
    import faiss

    bounds = {"min_points_per_centroid": 1, "max_points_per_centroid": max(1, -(-len(x) // k))}
    kmeans = faiss.Kmeans(x.shape[1], k, niter=STEPS, seed=seed, **bounds)
    kmeans.train(x)
    return cast(Floats, kmeans.centroids)


def _nearest_of(centres: Floats, x: Floats) -> Rows:
    import faiss

    index = faiss.IndexFlatL2(centres.shape[1])
    index.add(centres)
    nearest: Rows = index.search(x, 1)[1][:, 0]
    return nearest


def _shares(packed: Codes, M: int, assigned: Rows) -> Floats:
    """For each list, the share of its members that have each codeword: (nlist, M * 16)."""
    sizes = np.bincount(assigned)
    shares = np.empty((len(sizes), M, K), np.float32)
    for m in range(M):
        codes = packed[:, m // 2] >> 4 if m % 2 else packed[:, m // 2] & 15
        shares[:, m] = np.bincount(assigned * K + codes, minlength=len(sizes) * K).reshape(-1, K) / sizes[:, None]
    return shares.reshape(-1, M * K)
