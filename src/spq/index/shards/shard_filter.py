"""Filters on the items of a shard: groups of rows go through a database in memory, so the same SQL decides as elsewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from spq.index.format import memory_database
from spq.index.shards.shard import Rows, Shard

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "width", "height", "size", "mtime_ns", "metadata")  # that a filter may need
_TABLE = "CREATE TABLE items (id INTEGER PRIMARY KEY, status INTEGER, path, width, height, size, mtime_ns, metadata)"


def rows_where(shard: Shard, needed: Collection[str], table: str, condition: str, values: Sequence[object]) -> Rows:
    """The rows, ascending, that a condition is true for.

    Args:
        needed: of COLUMNS, those that the condition reads; the others are empty.
        table: an SQL expression that has the columns of `items`. values: for the `?` of the condition.
    """
    names = tuple(name for name in COLUMNS if name in needed) or COLUMNS[:1]
    found = [np.empty(0, np.int64)]
    places = ", ".join("CAST(? AS TEXT)" if name == "path" else "?" for name in names)
    insert = f"INSERT INTO items (id, status, {', '.join(names)}) VALUES (?, 0, {places})"
    with closing(memory_database()) as database:
        database.execute(_TABLE)
        for first, part in shard.tables(names):
            found.append(first + _matching(database, insert, part, f"SELECT id FROM {table} WHERE {condition}", values))
    return np.concatenate(found)


def _matching(database: sqlite3.Connection, insert: str, part: pa.Table, select: str, values: Sequence[object]) -> Rows:
    """The numbers, ascending, of the rows of a table that a statement selects."""
    columns = (column.to_pylist() for column in part.columns)
    database.execute("BEGIN")
    database.executemany(insert, zip(range(len(part)), *columns, strict=True))
    numbers = [number for (number,) in database.execute(select, values)]
    database.execute("ROLLBACK")
    return np.sort(np.array(numbers, np.int64))
