from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.index import item_table
from spq.index.item_table import items_of, schema, to_table
from spq.index.items import Item, to_row

M = 4
TEXT = st.text(st.characters(exclude_categories=("Cs",))) | st.just("caf\udce9.jpg")
LONG = st.integers(-(2**63), 2**63 - 1)
SIDE = st.integers(0, 2**31 - 1)
ITEMS = st.builds(
    Item,
    path=TEXT,
    size=LONG,
    mtime_ns=LONG,
    hash=st.binary(max_size=16),
    width=SIDE,
    height=SIDE,
    code=st.none() | st.binary(min_size=M, max_size=M).map(lambda data: np.frombuffer(data, np.uint8)),
    reason=TEXT,
    id=LONG,
    metadata=st.dictionaries(TEXT, st.integers() | TEXT | st.lists(TEXT), max_size=3),
    ctime_ns=LONG,
)


def same(found: list[Item], items: list[Item]) -> bool:
    return [(i.id, to_row(i)) for i in found] == [(i.id, to_row(i)) for i in items]


@settings(deadline=None)  # the first example loads libraries
@given(st.lists(ITEMS, max_size=5))
def test_items_come_back_from_their_table(items: list[Item]) -> None:
    table = to_table(items, M)
    assert table.schema == schema(M)
    assert same(list(items_of(table)), items)
    assert to_table(items_of(table), M).equals(table)


def test_items_come_back_from_a_parquet_file_in_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_table, "AT_ONCE", 3)
    items = [Item(f"{n}.jpg", n, 7, b"h", 5, 6, np.uint8([n, 1, 2, 3]) if n % 3 else None, id=n) for n in range(10)]
    table = to_table(iter(items), M)
    assert table.column("path").num_chunks == 4
    pq.write_table(table, tmp_path / "items.parquet", compression="zstd", row_group_size=4)
    found = pq.read_table(tmp_path / "items.parquet")
    assert found.schema.equals(schema(M))
    assert same(list(items_of(found)), items)


def test_a_code_of_another_length_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        to_table([Item("a.jpg", 1, 1, code=np.uint8([1, 2]))], M)
