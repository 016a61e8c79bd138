"""Candidates at SIMD speed: FAISS proposes codes, exact sums decide, and a bound proves that no code was missed.

FAISS gets identity matrices as codebooks and the negated table as query, so its inner product is minus our distance, for any
table. FAISS rounds a table to 8 bits, in steps set by the codebook with the widest span. So entries that no near code can have
are lowered first. That does not change the near codes, and makes the steps and the error bound several times smaller.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np

from spq.pq.distinct import Distinct
from spq.pq.sums import Codes, Floats, Rows, add_up, lookup

K = 16  # codewords per codebook that FastScan supports
BLOCK = 64  # codes that FAISS looks up together; its default of 32 takes up to a tenth more time
_PLACES = np.arange(16) % 8 * 2 + np.arange(16) // 8  # of the bytes of 16 codes in a block
FACTOR, FEWEST = 2, 100  # candidates: for each answer, and at least
MOST_CANDIDATES = 1 / 8  # of the codes: above, summing all codes is as fast


class Finder(Protocol):
    """Proposes codes of a gallery by their numbers. size: how many codes it searches."""

    size: int

    def find(self, x: Floats, k: int) -> tuple[Floats, Rows]:
        """The k largest products with the negated table x (1, M * 16), descending, and their codes; -1 if there are fewer."""

    def all(self) -> Rows | None:
        """The codes that it searches, ascending; None means all codes of the gallery."""


class FastScan:
    """A finder that searches all packed codes (U, ceil(M/2)) uint8."""

    def __init__(self, packed: Codes, M: int) -> None:
        import faiss

        index = faiss.IndexPQ(M * K, M, 4, faiss.METRIC_INNER_PRODUCT)
        set_identity(index)
        index.add_sa_codes(packed)  # FastScan accepts no ready codes, so a plain index is filled and converted
        self.size, self._pairs, self._pointer = len(packed), -(-M // 2), faiss.swig_ptr
        self._index = cast(Any, faiss).IndexPQFastScan(index, BLOCK)  # its annotations list one of the two constructors

    @property
    def nbytes(self) -> int:
        """Bytes of memory that FAISS holds for the codes."""
        return int(self._index.codes.size())

    def packed_of(self, codes: Rows) -> Codes:
        """The packed codes (n, P) of some codes, read from FAISS's blocks.

        A block holds a byte of two codes for each codebook: of a code and of that 16 places later.
        """
        import faiss

        blocks = faiss.rev_swig_ptr(self._index.codes.get(), self._index.codes.size())
        block, place = np.divmod(codes, BLOCK)
        group, place = np.divmod(place, 32)
        half, place = np.divmod(place, 16)
        first = block * (self._pairs * BLOCK) + group * 32 + _PLACES[place]
        pair = first[:, None] + np.arange(self._pairs) * BLOCK  # (n, P), of the even codebooks
        shift = (half * 4).astype(np.uint8)[:, None]
        low, high = blocks[pair] >> shift & 15, blocks[pair + 16] >> shift & 15
        packed: Codes = low | high << 4
        return packed

    def find(self, x: Floats, k: int) -> tuple[Floats, Rows]:
        products, codes = np.empty(k, np.float32), np.empty(k, np.int64)
        self._index.search_c(1, self._pointer(x), k, self._pointer(products), self._pointer(codes))  # in this thread
        return products, codes

    def all(self) -> None:
        return None


def set_identity(index: Any) -> None:
    """Give a FAISS PQ index the unit vectors as codewords."""
    import faiss

    identity = np.tile(np.eye(index.pq.ksub, dtype=np.float32), (index.pq.M, 1, 1))
    faiss.copy_array_to_vector(identity.ravel(), index.pq.centroids)
    index.is_trained = True


def suits(size: int, top: int) -> bool:
    """Whether candidates are faster than summing all `size` codes, for `top` answers."""
    return 0 < max(FACTOR * top, FEWEST) <= size * MOST_CANDIDATES


def nearest(finder: Finder, gallery: Distinct, table: Floats, top: int, limit: float = np.inf) -> tuple[Floats, Rows]:
    """The exact `top` nearest rows among the codes of `finder`, sorted by distance, ties as in `Distinct.nearest`.

    Args:
        table: (M, 16), finite. top: from 1 to the number of rows of these codes.
        limit: rows that are farther may be left out.
    """
    entries, floor = lookup(table), np.minimum.reduce(table, 1, keepdims=True)  # `min` takes longer
    ceiling, k = _usual_ceiling(table - floor), max(FACTOR * top, FEWEST)
    while ceiling > 0 and k <= finder.size * MOST_CANDIDATES:
        lowered = np.minimum(table, floor + ceiling)
        products, codes = finder.find(-lowered.reshape(1, -1), k)
        if codes[-1] < 0:
            break  # FAISS finds too little in tables of tiny numbers
        codes.sort()
        distances, rows = gallery.nearest(add_up(entries, gallery.take(codes)), top, codes)
        if min(distances[-1], limit) < -products[-1] - _error_bound(lowered, ceiling):
            return within(limit, distances, rows)
        above_floor = min(float(distances[-1]), limit) - float(floor.sum())  # no entry of an answer is higher
        ceiling, k = max(1.25 * above_floor, ceiling / 32), 4 * k
    known = finder.all()
    packed = gallery.packed if known is None else gallery.take(known)
    return gallery.nearest(add_up(entries, packed), top, known)


def within(limit: float, distances: Floats, rows: Rows) -> tuple[Floats, Rows]:
    """The rows up to a distance, of rows sorted by distance."""
    if limit == np.inf:
        return distances, rows
    count = int(distances.searchsorted(np.float32(limit), "right"))
    return distances[:count], rows[:count]


def _usual_ceiling(table: Floats) -> float:
    """A first limit for entries above the smallest one of their codebook: 85 % of them are lower.

    Near codes rarely have higher entries. A lower limit lets more codes of scattered galleries look near, a higher one makes the
    steps too coarse for dense galleries. Either way a second pass follows more often.
    """
    place, values = table.size * 17 // 20, table.flatten()
    values.partition(place)
    return float(values[place]) or float(values[place:].max())


def _error_bound(table: Floats, span: float) -> float:
    """How much smaller than minus the last candidate's product the distance of an omitted code can be.

    FastScan rounds each entry by up to half a step, and a step is 1/255 of the widest span. Lowered entries can only make a code
    look nearer. The rest covers float32 sums, and spans that are too small to divide by.
    """
    M = len(table)
    return M * (span / 510 * 1.001 + float(np.maximum.reduce(np.abs(table), None)) * M * 2e-7) + 1e-30
