"""Candidates at SIMD speed: FAISS proposes codes, exact sums decide, and a bound proves that none was missed.

FAISS's codebooks are identity matrices and its query is the negated table, so that its inner product is minus our distance,
whatever the table holds. It rounds a table to 8 bits, by the widest codebook's span. Entries that no near code can have are
therefore lowered first: that leaves the near codes as they are, and makes the steps, and so the doubt, several times smaller.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np

from spq.pq.distinct import Distinct
from spq.pq.sums import Codes, Floats, Rows, add_up, lookup

K = 16  # the codewords per codebook that FastScan knows
FACTOR, FEWEST = 2, 100  # candidates: so many for each result, and at least so many
MOST_CANDIDATES = 1 / 8  # of the codes: to sum all is then as quick


class Finder(Protocol):
    """Proposes codes of a gallery by their numbers. `size`: how many it knows."""

    size: int

    def find(self, x: Floats, k: int) -> tuple[Floats, Rows]:
        """The k largest products with the negated table x (1, M * 16), descending, and their codes; -1 for missing ones."""

    def all(self) -> Rows | None:
        """The codes that it knows, ascending; None: all of the gallery."""


class FastScan:
    """Finds among all the packed codes (U, ceil(M/2)) uint8."""

    def __init__(self, packed: Codes, M: int) -> None:
        import faiss

        index = faiss.IndexPQ(M * K, M, 4, faiss.METRIC_INNER_PRODUCT)
        set_identity(index)
        index.add_sa_codes(packed)  # FastScan takes no ready codes, so a plain index is filled and converted
        self.size = len(packed)
        self._index = cast(Any, faiss).IndexPQFastScan(index)  # its annotations know one of the two constructors

    def find(self, x: Floats, k: int) -> tuple[Floats, Rows]:
        products, codes = self._index.search(x, k)  # for a single query FAISS stays in the calling thread
        return products[0], codes[0]

    def all(self) -> None:
        return None


def set_identity(index: Any) -> None:
    """Give a FAISS PQ index the unit vectors as codewords."""
    import faiss

    identity = np.tile(np.eye(K, dtype=np.float32), (index.pq.M, 1, 1))
    faiss.copy_array_to_vector(identity.ravel(), index.pq.centroids)
    index.is_trained = True


def suits(size: int, top: int) -> bool:
    """Whether candidates pay for `top` results among so many codes."""
    return 0 < max(FACTOR * top, FEWEST) <= size * MOST_CANDIDATES


def nearest(finder: Finder, gallery: Distinct, table: Floats, top: int) -> tuple[Floats, Rows]:
    """Exactly the `top` nearest rows among the codes that `finder` knows, sorted by (distance, row).

    Args:
        table: (M, 16), finite. top: 1 or more, and no more than those codes have rows.
    """
    entries, floor = lookup(table), table.min(1, keepdims=True)
    ceiling, k = _usual_ceiling(table - floor), max(FACTOR * top, FEWEST)
    while ceiling > 0 and k <= finder.size * MOST_CANDIDATES:
        lowered = np.minimum(table, floor + ceiling)
        products, codes = finder.find(-lowered.reshape(1, -1), k)
        if codes[-1] < 0:
            break  # FAISS loses its way in tables of tiny numbers
        codes.sort()
        distances, rows = gallery.nearest(add_up(entries, gallery.packed.take(codes, 0)), top, codes)
        if distances[-1] < -products[-1] - _doubt(lowered, ceiling):
            return distances, rows
        above_floor = float(distances[-1]) - float(floor.sum())  # no entry of a result is higher
        ceiling, k = max(1.25 * above_floor, ceiling / 32), 4 * k
    known = finder.all()
    packed = gallery.packed if known is None else gallery.packed.take(known, 0)
    return gallery.nearest(add_up(entries, packed), top, known)


def _usual_ceiling(table: Floats) -> float:
    """Above the smallest entry of its codebook a result has hardly an entry: the median, of entries above that smallest one."""
    half = table.size // 2
    return float(np.partition(table, half, axis=None)[half]) or float(table.max())


def _doubt(table: Floats, span: float) -> float:
    """How much nearer than minus the last candidate's product a code can be that FastScan left out.

    FastScan rounds each entry by up to half a step of 1/255 of the widest span. That entries were lowered only brought codes
    nearer. The rest is for float32 sums, and for spans that are too small to be divided by.
    """
    M = len(table)
    return M * (span / 510 * 1.001 + float(np.abs(table).max()) * M * 2e-7) + 1e-30
