from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spq.index.items import COLUMNS, Item, as_json, from_row, text_bytes, to_row

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"))) | st.just("caf\udce9.jpg")


@given(
    path=TEXT,
    size=st.integers(0, 2**62),
    code=st.none() | st.lists(st.integers(0, 255), min_size=1, max_size=8),
    metadata=st.dictionaries(TEXT, st.integers(-9, 9) | TEXT | st.lists(TEXT), max_size=3),
)
def test_an_item_comes_back_from_its_row(
    path: str, size: int, code: list[int] | None, metadata: dict[str, object]
) -> None:
    item = Item(path, size, 7, b"h" * 16, 30, 20, None if code is None else np.uint8(code), "" if code else "broken")
    values = to_row(Item(**{**vars(item), "metadata": metadata, "ctime_ns": 9}))
    with closing(sqlite3.connect(":memory:")) as database:
        database.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        selected = "SELECT CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?"
        path_, digest, size_, mtime_ns, width, height, status, reason, code_, text, ctime_ns = database.execute(
            selected, values
        ).fetchone()
    row = {"path": path_, "size": size_, "mtime_ns": mtime_ns, "hash": digest, "width": width, "height": height}
    row |= {"code": code_, "reason": reason, "id": 5}
    found = from_row((*(row[column] for column in COLUMNS), ctime_ns, text, True))
    assert status == (1 if code is None else 0)
    assert (found.path, found.size, found.mtime_ns, found.hash, found.id) == (path, size, 7, b"h" * 16, 5)
    assert (None if found.code is None else found.code.tolist()) == code
    assert (found.metadata, found.ctime_ns) == (metadata, 9)


def test_an_item_without_metadata_has_no_json() -> None:
    assert as_json({}) is None
    assert as_json({"label": ["a", "b"]}) == '{"label":["a","b"]}'


def test_a_file_name_that_is_not_utf8_keeps_its_bytes() -> None:
    assert text_bytes("caf\udce9.jpg") == b"caf\xe9.jpg"
