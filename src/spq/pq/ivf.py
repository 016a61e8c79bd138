"""Lists of similar codes (IVF), for many millions: a search reads only the nearest lists, and so may miss some answers.

The lists are made from codes only. The coarse quantizer keeps, for each list, the share of its members that have each codeword:
(nlist, M * 16) numbers. The product with a table is the mean distance to the members. It is exact for any additive distance,
and needs no centroid of descriptors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from spq.pq.fastscan import K, set_identity
from spq.pq.sums import Codes, Floats, Rows, unpack

NPROBE = 64  # lists that a search reads by default
LISTS = 1.3  # times the square root of the number of codes
SAMPLE = 40  # codes for k-means per list; FAISS recommends 39
STEPS = 10  # of k-means
DIMENSIONS = 32  # of k-means and assignment, whose time is proportional to it; 64 gave no better recall
CHUNK = 65_536  # codes that are assigned at a time
BLOCK = 32  # codes that FAISS stores together


class Lists:
    """Packed codes (U, ceil(M/2)) uint8 in lists.

    Args:
        nlist: by default about 1.3 sqrt(U). Empty lists are removed.
        seed: the same codes, seed and number of threads give the same lists.
    """

    def __init__(
        self, packed: Codes, M: int, nlist: int | None = None, seed: int = 0, threads: int | None = None
    ) -> None:
        nlist = min(nlist or default_nlist(len(packed)), len(packed))
        with _faiss_threads(threads):
            assigned = _assign(packed, M, nlist, np.random.default_rng(seed))
        self.sizes, self._M = np.bincount(assigned), M
        self._coarse, self._index = _filled(packed, M, assigned)

    def __len__(self) -> int:
        return len(self.sizes)

    def probe(self, table: Floats, nprobe: int, fewest: int) -> Probe:
        """The `nprobe` lists nearest to a table (M, 16), and further ones until they hold `fewest` codes."""
        while True:
            nprobe = min(nprobe, len(self))
            products, lists = self._nearest_lists(table, nprobe)
            size = int(self.sizes[lists[0]].sum())
            if size >= fewest or nprobe == len(self):
                return Probe(self._index, lists, products, size)
            nprobe *= 2

    def members(self, number: int) -> Rows:
        """The codes of one list, by their numbers."""
        return _members(self._index, number)

    def mean_distances(self, table: Floats) -> Floats:
        """The mean distance (nlist,) of a table (M, 16) to the members of each list."""
        products, lists = self._nearest_lists(table, len(self))
        means = np.empty(len(self), np.float32)
        means[lists[0]] = -products[0]
        return means

    @property
    def nbytes(self) -> int:
        """Bytes of memory that FAISS holds for the lists, with the numbers and shares."""
        numbers, shares = 8 * int(self.sizes.sum()), 4 * self._coarse.ntotal * self._coarse.d
        padded = -(-self.sizes // BLOCK) * BLOCK  # FAISS fills the last block of each list
        return int(numbers + shares + padded.sum() * -(-self._M // 2))

    def _nearest_lists(self, table: Floats, count: int) -> tuple[Floats, Rows]:
        """Products with the negated table, and lists, both (1, count). A batch of queries would be summed differently."""
        products, lists = self._coarse.search(-table.reshape(1, -1), count)
        return products, lists

    def ranks(self, tables: Floats, codes: Rows) -> Rows:
        """How many lists are nearer to each table than the list of each code: (Q, n). A larger `nprobe` finds the code."""
        list_of = np.empty(self._index.ntotal, np.int32)
        for number in range(len(self)):
            list_of[self.members(number)] = number
        ranks = np.empty(codes.shape, np.int64)
        for query, table in enumerate(tables):
            lists = self._nearest_lists(table, len(self))[1][0]
            ranks[query] = lists.argsort()[list_of[codes[query]]]
        return ranks


class Probe:
    """A `Finder` among the codes of some lists."""

    def __init__(self, index: Any, lists: Rows, products: Floats, size: int) -> None:
        import faiss

        self._index, self._lists, self._products, self.size = index, lists, products, size
        self._parameters = cast(Any, faiss).SearchParametersIVF(nprobe=lists.shape[1])

    def find(self, x: Floats, k: int) -> tuple[Floats, Rows]:
        import faiss

        products, codes = np.empty(k, np.float32), np.empty(k, np.int64)
        # the Python wrapper takes the number of lists from the index, which other threads may use
        self._index.search_preassigned_c(
            1, faiss.swig_ptr(x), k, faiss.swig_ptr(self._lists), faiss.swig_ptr(self._products),
            faiss.swig_ptr(products), faiss.swig_ptr(codes), False, self._parameters,
        )  # fmt: skip
        return products, codes

    def all(self) -> Rows:
        return np.sort(np.concatenate([_members(self._index, number) for number in self._lists[0].tolist()]))


def default_nlist(size: int) -> int:
    return max(1, round(LISTS * math.sqrt(size)))


@contextmanager
def _faiss_threads(threads: int | None) -> Iterator[None]:
    """Set FAISS's number of threads, and restore it. The number belongs to the calling thread."""
    import faiss

    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(threads or before)
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _members(index: Any, number: int) -> Rows:
    """The codes of one list."""
    import faiss

    size = index.invlists.list_size(number)
    return np.array(faiss.rev_swig_ptr(index.invlists.get_ids(number), size), np.int64)


def _assign(packed: Codes, M: int, nlist: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """The list (U,) of each code, by k-means on a sample.

    A code becomes M one-hot vectors. Their squared distance counts the sub-codes that differ, and a centroid is the share of
    members with each codeword. Decoded codes would need the codebooks, and would suit only one distance. Projecting the one-hot
    vectors to their principal axes takes a fraction of the time.
    """
    import faiss

    sample = packed[np.sort(rng.choice(len(packed), min(len(packed), SAMPLE * nlist), replace=False))]
    axes = _principal_axes(sample[:CHUNK], M)
    bounds = {"min_points_per_centroid": 1, "max_points_per_centroid": SAMPLE}
    kmeans = faiss.Kmeans(axes.shape[1], nlist, niter=STEPS, seed=int(rng.integers(2**30)), **bounds)
    kmeans.train(_project(sample, axes, M))
    assigned = np.empty(len(packed), np.int32)
    for start in range(0, len(packed), CHUNK):
        chunk = _project(packed[start : start + CHUNK], axes, M)
        assigned[start : start + CHUNK] = cast(Any, kmeans.index).search(chunk, 1)[1][:, 0]
    used = np.bincount(assigned, minlength=nlist) > 0
    return (used.cumsum(dtype=np.int32) - 1)[assigned]


def _principal_axes(packed: Codes, M: int) -> Floats:
    """The principal axes of one-hot codes: (M * 16, d)."""
    codes = unpack(packed, M, K)
    one_hot = np.zeros((len(codes), M, K), np.float32)
    np.put_along_axis(one_hot, codes[:, :, None].astype(np.int64), 1, 2)
    x = one_hot.reshape(len(codes), M * K)
    x -= x.mean(0)
    return np.ascontiguousarray(np.linalg.eigh(x.T @ x)[1][:, : -DIMENSIONS - 1 : -1], np.float32)


def _project(packed: Codes, axes: Floats, M: int) -> Floats:
    """One-hot codes times axes: (n, d), by look-ups of packed pairs."""
    parts = np.zeros((M + M % 2, K, axes.shape[1]), np.float32)
    parts[:M] = axes.reshape(M, K, -1)
    pairs = (parts[1::2, :, None] + parts[0::2, None]).reshape(-1, K * K, axes.shape[1])
    x: Floats = pairs[0].take(packed[:, 0], 0)
    for p in range(1, len(pairs)):
        x += pairs[p].take(packed[:, p], 0)
    return x


def _shares(packed: Codes, M: int, assigned: NDArray[np.int32]) -> Floats:
    """For each list, the share of its members that have each codeword: (nlist, M * 16)."""
    sizes = np.bincount(assigned)
    shares = np.empty((len(sizes), M, K), np.float32)
    for m in range(M):
        codes = packed[:, m // 2] >> 4 if m % 2 else packed[:, m // 2] & 15
        shares[:, m] = np.bincount(assigned * K + codes, minlength=len(sizes) * K).reshape(-1, K) / sizes[:, None]
    return shares.reshape(-1, M * K)


def _filled(packed: Codes, M: int, assigned: NDArray[np.int32]) -> tuple[Any, Any]:
    """The coarse quantizer, and the lists as IndexIVFPQFastScan.

    Its own `add_sa_codes`, `merge_from` and `copy_subset_to` corrupt memory in FAISS 1.15.1, so a plain index is filled and
    converted.
    """
    import faiss

    coarse = faiss.IndexFlatIP(M * K)
    coarse.add(_shares(packed, M, assigned))
    index: Any = faiss.IndexIVFPQ(coarse, M * K, coarse.ntotal, M, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    set_identity(index)
    order, ends = assigned.argsort(kind="stable"), np.bincount(assigned).cumsum()
    for number, members in enumerate(np.split(order, ends[:-1])):
        codes = packed.take(members, 0)
        index.invlists.add_entries(number, len(members), faiss.swig_ptr(members), faiss.swig_ptr(codes))
    index.ntotal = len(packed)
    fast = cast(Any, faiss).IndexIVFPQFastScan(index)
    fast.referenced_objects = [coarse]  # without the plain index
    return coarse, fast
