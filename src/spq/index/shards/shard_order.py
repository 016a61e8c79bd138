"""The ids of all items of an index with shards, sorted by a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.errors import ConfigError
from spq.index.shards.live import Live, live_rows

ORDERS = {"id": ("id", "ascending"), "path": ("path", "ascending"), "mtime_ns DESC, id": ("mtime_ns", "descending")}
MOST_SORTED = 5_000_000  # items: sorting more by path takes gigabytes


def sorted_ids(select: Callable[[str], list[Any]], live: Sequence[Live], order: str) -> NDArray[np.int64]:
    """The ids of all encoded items, sorted by a column and then by id.

    Args:
        select: reads (id, column) of the items of the database. order: a key of ORDERS.
    Raises:
        ConfigError: there are too many items.
    """
    import pyarrow as pa

    column, direction = ORDERS[order]
    newer = select("CAST(path AS BLOB)" if column == "path" else column)
    if len(newer) + sum(map(len, live)) > MOST_SORTED:
        raise ConfigError(
            f"an index with shards is sorted by {column} up to {MOST_SORTED:,} pictures; use another order"
        )
    kind = pa.binary() if column == "path" else pa.int64()
    ids, values = zip(*newer, strict=True) if newer else ((), ())
    tables = [pa.table({"id": pa.array(ids, pa.int64()), column: pa.array(values, kind)})]
    tables += [
        part.shard.columns(rows, ("id", column)).cast(tables[0].schema) for part in live for rows in live_rows(part)
    ]
    whole = pa.concat_tables(tables).sort_by([(column, direction), ("id", "ascending")])
    found: NDArray[np.int64] = whole["id"].to_numpy()
    return found
