"""Candidates for any number of codewords: FAISS sums the tables in one pass over the packed codes, exact sums decide.

FAISS has a fast loop over product codes, but makes the table of a query itself: products of query and codewords. With codewords
of one number, which are our table, and a query of -1 everywhere, its table is minus ours. Two bytes of a code are looked up
together in a table of 65,536 sums, so codes of 8 bytes need four look-ups. FAISS adds float32 in another order than `sums`. So it
proposes a few more codes than needed. These are summed again, and a bound on rounding proves that no other code is as near.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from spq.pq.distinct import Distinct
from spq.pq.fastscan import within
from spq.pq.sums import Codes, Floats, Rows, add_up, lookup

BYTE = 256  # entries of a table for one byte; shorter tables are filled up with zeros
MORE = 32  # candidates beyond the answers, so that the last one is farther than the last answer
MOST_ANSWERS = 1 / 100  # of the codes: above, summing all codes is as fast


class PairScan:
    """All packed codes (U, P) uint8, which FAISS reads where they lie, without a copy."""

    def __init__(self, packed: Codes) -> None:
        self._packed = np.ascontiguousarray(packed)
        self._idle: list[_Tables] = []  # one for each search at the same time

    @property
    def nbytes(self) -> int:
        """Bytes of memory for tables. The codes belong to the gallery."""
        return sum(tables.values.nbytes for tables in self._idle)

    def find(self, entries: Floats, k: int) -> tuple[Floats, Rows]:
        """The k codes with the smallest sums by FAISS, of a table (P, entries): sums, ascending, and codes. k is at most U."""
        try:
            tables = self._idle.pop()
        except IndexError:
            tables = _Tables(self._packed.shape[1])
        tables.fill(entries)
        found = tables.smallest(self._packed, k)
        self._idle.append(tables)
        return found


class _Tables:
    """FAISS's quantizer for codes of P bytes, whose codewords are the entries of tables.

    Attributes:
        values: (P / 2, 65536) sums for pairs of bytes; (P, 256) if P is odd.
    """

    def __init__(self, P: int) -> None:
        import faiss

        self._bytes = 2 if P % 2 == 0 and sys.byteorder == "little" else 1
        parts = P // self._bytes
        self._quantizer: Any = faiss.ProductQuantizer(parts, parts, 8 * self._bytes)
        self._x = -np.ones(parts, np.float32)
        centroids = self._quantizer.centroids
        self.values: Floats = faiss.rev_swig_ptr(centroids.data(), centroids.size()).reshape(parts, -1)

    def fill(self, entries: Floats) -> None:
        """Take over a table (P, entries)."""
        size = entries.shape[1]
        if self._bytes == 1:
            self.values[:, :size] = entries
        else:  # the first byte is the low one, as in a little-endian number
            pairs = self.values.reshape(-1, BYTE, BYTE)[:, :size, :size]
            np.add(entries[1::2, :, None], entries[0::2, None, :], out=pairs)

    def smallest(self, packed: Codes, k: int) -> tuple[Floats, Rows]:
        import faiss

        products, codes = np.empty(k, np.float32), np.empty(k, np.int64)
        heap: Any = faiss.float_minheap_array_t()
        heap.nh, heap.k, heap.val, heap.ids = 1, k, faiss.swig_ptr(products), faiss.swig_ptr(codes)
        self._quantizer.search_ip(faiss.swig_ptr(self._x), 1, faiss.swig_ptr(packed), len(packed), heap, True)
        return -products, codes


def suits(size: int, top: int) -> bool:
    """Whether candidates are faster than summing all `size` codes, for `top` answers."""
    return top + MORE <= size * MOST_ANSWERS


def nearest(finder: PairScan, gallery: Distinct, table: Floats, top: int, limit: float = np.inf) -> tuple[Floats, Rows]:
    """The exact `top` nearest rows, sorted by distance, ties as in `Distinct.nearest`.

    Args:
        table: (M, K), finite. top: from 1 to the number of rows.
        limit: rows that are farther may be left out.
    """
    entries, k = lookup(table), top + MORE
    if k <= len(gallery):
        sums, codes = finder.find(entries, k)
        codes.sort()
        distances, rows = gallery.nearest(add_up(entries, gallery.packed.take(codes, 0)), top, codes)
        if min(distances[-1], limit) < sums[-1] - _error_bound(entries):
            return within(limit, distances, rows)
    return gallery.nearest(add_up(entries, gallery.packed), top)  # many codes are as far as the last answer


def _error_bound(entries: Floats) -> float:
    """How much our sum and FAISS's sum of the same entries can differ by rounding.

    A sum of P float32 numbers is off by at most (P - 1) / 2**24 of the sum of their sizes, and there are two sums. The last term
    covers numbers that are too small to divide.
    """
    return float(np.abs(entries).max(1).sum(dtype=np.float64)) * len(entries) * 1.3e-7 + 1e-30
