"""The distinct codes of a gallery: each is summed once, for all rows that share it.

Codes of many pictures repeat: only 65,536 codes of 16 bits exist, and learned codes use only a part of all possible codes.
Searching the distinct codes is faster, and a code that thousands of rows share takes only one place among the candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spq.pq.mapped import mapping
from spq.pq.sums import Codes, Floats, KeysOf, Rows, smallest
from spq.pq.ties import Ids, ids_at, tie_keys

MOST_DISTINCT = 0.75  # of the rows: above, the table of shared codes takes more memory than it saves


class Distinct:
    """Packed codes (N, P), each kept once and numbered in the order of the first row that has it.

    Attributes:
        packed: (U, P) uint8, the distinct codes; the codes of all rows, if grouping them would save no memory.
        ids: (N,) of the rows, for the order of ties; None for the order of rows.
    """

    def __init__(self, packed: Codes, distinct: int | None = None, ids: Ids | None = None) -> None:
        """Group equal codes.

        Args:
            packed: it may be a memory map; without groups it is used where it lies.
            distinct: how many different codes there are, if that is known. Then nothing is sorted in vain.
        """
        self.packed, self.ids = packed.view(np.ndarray), ids
        self.read: Callable[[Rows], Codes] | None = None  # another way to `take`, which loads no pages of a memory map
        self._rows: NDArray[np.uint32] | None = (
            None  # (N,), the rows of code 0, then of 1, ..., each in the order of ties
        )
        self._starts = np.empty(0, np.uint32)  # (U + 1,), where the rows of a code begin in `_rows`
        if len(packed) < 2**32 and (distinct is None or distinct < MOST_DISTINCT * len(packed)):
            order, starts = _grouped(packed)
            if len(starts) < MOST_DISTINCT * len(packed):
                self._group(order, starts)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds, without a memory map."""
        packed = 0 if mapping(self.packed) else self.packed.nbytes
        return packed + self._starts.nbytes + (0 if self._rows is None else self._rows.nbytes)

    def nearest(self, d: Floats, top: int, codes: Rows | None = None) -> tuple[Floats, Rows]:
        """The `top` nearest rows of some codes, sorted by distance, and then in the order of ties.

        Args:
            d: (n,) distances of `codes`. codes: (n,) numbers of codes, ascending; by default all.
        Returns:
            distances and rows; fewer than `top` if the codes have fewer rows.
        """
        if self._rows is None:
            best = smallest(d, min(top, len(d)), self._keys_among(codes))
            return d[best], best if codes is None else codes[best]
        best = smallest(d, min(top, len(d)))
        if not len(best):
            return d[best], best
        counts = self._counts(best if codes is None else codes[best])
        enough = min(int(counts.cumsum().searchsorted(top)), len(best) - 1)
        used = np.flatnonzero(d <= d[best[enough]])  # any code at the distance of the last answer may have one, too
        numbers = used if codes is None else codes[used]
        counts = np.minimum(self._counts(numbers), top)
        rows = self._rows[_ranges(self._starts[numbers].astype(np.int64), counts)].astype(np.int64)
        distances = d[used].repeat(counts)
        order = smallest(distances, min(top, len(rows)), self._keys_among(rows) or (lambda places: rows[places]))
        return distances[order], rows[order]

    def _counts(self, codes: Rows) -> Rows:
        """The number of rows (n,) of some codes."""
        counts: Rows = self._starts[codes + 1].astype(np.int64) - self._starts[codes]
        return counts

    def _keys_among(self, rows: Rows | None) -> KeysOf | None:
        """Keys of ties for places in `rows`, by default for rows; None if ties go by row."""
        ids = self.ids
        return None if ids is None else lambda places: tie_keys(ids_at(ids, places if rows is None else rows[places]))

    def numbers(self) -> NDArray[np.uint32]:
        """The number of each row's code (N,)."""
        if self._rows is None:
            return np.arange(len(self), dtype=np.uint32)
        numbers = np.empty(len(self._rows), np.uint32)
        numbers[self._rows] = np.arange(len(self), dtype=np.uint32).repeat(np.diff(self._starts))
        return numbers

    def take(self, codes: Rows) -> Codes:
        """Packed codes (n, P) by their numbers."""
        return self.read(codes) if self.read else self.packed.take(codes, 0)

    def packed_of(self, rows: Rows) -> Codes:
        """The packed codes (n, P) of some rows."""
        return self.take(rows if self._rows is None else self.numbers()[rows].astype(np.int64))

    def number(self, row: int) -> int:
        """The number of one row's code."""
        if self._rows is None:
            return row
        position = int((self._rows == row).argmax())
        return int(self._starts.searchsorted(position, "right")) - 1

    def _group(self, order: Rows, starts: Rows) -> None:
        counts = np.diff(starts, append=len(order))
        by_first_row = order[starts].argsort()
        starts, counts = starts[by_first_row], counts[by_first_row]
        self.packed = self.packed.take(order[starts], 0)
        self._rows = order[_ranges(starts, counts)].astype(np.uint32)
        if self.ids is not None:
            keys = np.arange(len(counts), dtype=np.uint64).repeat(counts) << np.uint64(32)
            keys |= tie_keys(ids_at(self.ids, self._rows)) >> np.uint64(32)
            self._rows = self._rows[keys.argsort(kind="stable")]
        self._starts = np.concatenate([[0], counts.cumsum()]).astype(np.uint32)


def count_distinct(packed: Codes) -> int:
    """How many different codes there are among packed codes (N, P).

    >>> count_distinct(np.uint8([[1, 2], [1, 2], [2, 1]]))
    2
    """
    return len(_grouped(packed)[1])


def _grouped(packed: Codes) -> tuple[Rows, Rows]:
    """Rows (N,) ordered by (code, row), and the positions (U,) at which a new code begins."""
    N, P = packed.shape
    width = P if P in (1, 2, 4) else -(-P // 8) * 8
    padded = packed if width == P else np.pad(packed, ((0, 0), (0, width - P)))
    words = padded.view(f"u{min(width, 8)}")  # few columns to compare
    order = words[:, 0].argsort(kind="stable") if words.shape[1] == 1 else np.lexsort(words.T)
    new = np.ones(N, bool)
    sorted_words = words[order]
    new[1:] = (sorted_words[1:] != sorted_words[:-1]).any(1)
    return order, np.flatnonzero(new)


def _ranges(starts: Rows, counts: Rows) -> Rows:
    """starts[0], starts[0] + 1, ... (counts[0] numbers), starts[1], ...

    >>> _ranges(np.array([7, 3]), np.array([2, 1]))
    array([7, 8, 3])
    """
    ends = counts.cumsum()
    numbers: Rows = (starts - ends + counts).repeat(counts) + np.arange(ends[-1] if len(ends) else 0)
    return numbers
