"""Lists of similar codes (IVF), for many millions: a search reads only the nearest lists, and so may miss some answers.

`Coarse` says which lists. `Lists` holds the codes of one part of a gallery in them, in FAISS's order.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from spq.pq.coarse import Coarse
from spq.pq.fastscan import K, set_identity
from spq.pq.sums import Codes, Floats, Rows

NPROBE = 64  # lists that a search reads by default
BLOCK = 32  # codes that FAISS stores together
PLAIN = 11  # of the ways that FAISS has to search lists: with a reservoir, without copying tables for each list


class Lists:
    """Packed codes (U, ceil(M/2)) uint8 in lists.

    Args:
        order: (U,) numbers of the codes, by list and then ascending. sizes: (nlist,) codes of each list. Both as `Coarse.order`
            makes them. They may be memory maps.
    """

    def __init__(
        self, packed: Codes, coarse: Coarse, order: NDArray[np.unsignedinteger], sizes: NDArray[np.unsignedinteger]
    ) -> None:
        self.sizes, self._M = sizes.astype(np.int64), coarse.M
        self._index = _filled(packed, coarse, order, self.sizes)

    def probe(self, products: Floats, lists: Rows) -> Probe:
        """The codes of some lists, as `Coarse.nearest` gives them: both (1, n)."""
        return Probe(self._index, lists, products, int(self.sizes[lists[0]].sum()))

    def members(self, number: int) -> Rows:
        """The codes of one list, by their numbers."""
        return _members(self._index, number)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that FAISS holds for the lists, with the numbers."""
        padded = -(-self.sizes // BLOCK) * BLOCK  # FAISS fills the last block of each list
        return int(8 * self.sizes.sum() + padded.sum() * -(-self._M // 2))


def near_lists(coarse: Coarse, sizes: Rows, table: Floats, nprobe: int, fewest: int) -> tuple[Floats, Rows]:
    """The `nprobe` lists nearest to a table (M, 16), and further ones until they hold `fewest` codes.

    Args:
        sizes: (nlist,) codes of each list.
    Returns:
        products and lists, as `Coarse.nearest`.
    """
    while True:
        nprobe = min(nprobe, len(coarse))
        products, lists = coarse.nearest(table, nprobe)
        if nprobe == len(coarse) or sizes[lists[0]].sum() >= fewest:
            return products, lists
        nprobe *= 2


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


def _members(index: Any, number: int) -> Rows:
    """The codes of one list."""
    import faiss

    size = index.invlists.list_size(number)
    if not size:
        return np.empty(0, np.int64)
    return np.array(faiss.rev_swig_ptr(index.invlists.get_ids(number), size), np.int64)


def _filled(packed: Codes, coarse: Coarse, order: NDArray[np.unsignedinteger], sizes: Rows) -> Any:
    """The lists as IndexIVFPQFastScan.

    Its own `add_sa_codes`, `merge_from` and `copy_subset_to` corrupt memory in FAISS 1.15.1, so a plain index is filled and
    converted.
    """
    import faiss

    M, nlist = coarse.M, len(coarse)
    index: Any = faiss.IndexIVFPQ(coarse.index, M * K, nlist, M, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    set_identity(index)
    start = 0
    for number, size in enumerate(sizes.tolist()):
        members = order[start : start + size].astype(np.int64)
        codes, start = packed.take(members, 0), start + size
        if size:
            index.invlists.add_entries(number, size, faiss.swig_ptr(members), faiss.swig_ptr(codes))
    index.ntotal = len(packed)
    fast = cast(Any, faiss).IndexIVFPQFastScan(index)
    fast.implem = PLAIN
    fast.referenced_objects = [coarse]  # without the plain index
    return fast
