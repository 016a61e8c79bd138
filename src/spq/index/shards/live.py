"""A shard of an index as it is now: without the rows of items that were changed or removed since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spq.index.items import Item
from spq.index.shards.shard import ABSENT, Rows, Shard

AT_ONCE = 65_536  # rows in an array


@dataclass(frozen=True, eq=False)
class Live:
    """A shard, and its rows (n,), ascending, that have a tombstone."""

    shard: Shard
    dead: Rows

    def __len__(self) -> int:
        return len(self.shard) - len(self.dead)

    def are_live(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether each row has no tombstone. ABSENT is not live."""
        is_live: NDArray[np.bool_] = rows != ABSENT
        if len(self.dead):
            places = np.minimum(np.searchsorted(self.dead, rows), len(self.dead) - 1)
            is_live &= self.dead[places] != rows
        return is_live


def live_rows(part: Live) -> Iterator[Rows]:
    """The rows of a shard that have no tombstone, ascending, in arrays of at most AT_ONCE."""
    for start in range(0, len(part.shard), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(part.shard)))
        if len(rows := rows[part.are_live(rows)]):
            yield rows


def items_of(part: Live) -> Iterator[Item]:
    """The items of a shard that have no tombstone, by id."""
    for rows in live_rows(part):
        yield from part.shard.items(rows)
