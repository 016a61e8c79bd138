"""The values of all pictures, column by column in memory: for counts, and for the colours of the map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.common.text import encodable
from spq.index.filter import to_number
from spq.index.filter_tree import Column
from spq.index.items import Item
from spq.index.store import Store

AT_ONCE = 4096  # items that are Python objects at a time
LABEL, FOLDER, MONTH = "label", "folder", "time"
Ids = NDArray[np.int64]


@dataclass
class Texts:
    """Values that are texts. Picture `rows[i]` has `names[codes[i]]`; a picture may have several, or none."""

    column: Column
    names: list[str]
    rows: NDArray[np.int64]
    codes: NDArray[np.int64]


@dataclass
class Numbers:
    """Values (N,) that are numbers, NaN for none."""

    column: Column
    values: NDArray[np.float64]


@dataclass
class Values:
    """ids (N,), ascending, and the columns by the names that the page shows."""

    ids: Ids
    columns: dict[str, Texts | Numbers]


@dataclass
class _Reading:
    """A column while it is read."""

    column: Column
    rows: list[int] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def done(self, count: int) -> Texts | Numbers:
        numbers = [to_number(value) for value in self.values] if self.column.name != MONTH else [None]
        if self.values and all(number is not None for number in numbers):
            values = np.full(count, np.nan)
            values[self.rows] = numbers  # the last one, if a picture has several
            return Numbers(self.column, values)
        names, codes = np.unique(np.array(self.values, object).astype(str), return_inverse=True)
        return Texts(self.column, names.tolist(), np.array(self.rows, np.int64), codes.astype(np.int64).ravel())


def read_values(store: Store, ids: Ids, progress: Callable[[int, int], None] = lambda *_: None) -> Values:
    """Read the values of items with these ids, ascending. Those that are gone or damaged have none."""
    found: dict[str, _Reading] = {}
    for part in slices(len(ids), AT_ONCE):
        progress(part.start, len(ids))
        items = store.items_by_id(ids[part].tolist())
        for row, id_ in enumerate(ids[part].tolist(), part.start):
            if item := items.get(id_):
                for name, column, value in _facts(item):
                    reading = found.setdefault(name, _Reading(column))
                    reading.rows.append(row)
                    reading.values.append(value)
    first = [name for name in (LABEL, FOLDER, MONTH, "size", "width", "height") if name in found]
    return Values(ids, {name: found[name].done(len(ids)) for name in [*first, *sorted(set(found) - set(first))]})


def _facts(item: Item) -> Iterable[tuple[str, Column, str]]:
    yield FOLDER, Column("path", False), encodable(item.path).rpartition("/")[0]
    for name in ("size", "width", "height"):
        yield name, Column(name, False), str(getattr(item, name))
    if item.mtime_ns > 0:
        yield MONTH, Column("time", False), datetime.fromtimestamp(item.mtime_ns // 10**9).strftime("%Y-%m")
    for key, value in item.metadata.items():
        column = Column(key, key != LABEL)
        for one in value if isinstance(value, list) else [value]:
            if one not in (None, ""):
                yield (LABEL if key == LABEL else str(column)), column, _text(one)


def _text(value: Any) -> str:
    return encodable(str(int(value) if isinstance(value, bool) else value))
