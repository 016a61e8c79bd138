"""`metadata.parquet` beside the pictures; the same as `metadata.csv`, which test_sources.py holds to its word."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spq.data.open import open_images
from spq.errors import DataError


@pytest.fixture
def root(photos: Path) -> Path:
    return photos


def write(root: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), root / "metadata.parquet")


def test_parquet_and_csv_of_the_same_rows_are_the_same(root: Path) -> None:
    ids = open_images(root).ids
    rows = [(name, name[0], str(number), "" if number % 3 else "north") for number, name in enumerate(ids[:50])]
    write(root, **dict(zip(("file_name", "labels", "price", "shop"), map(list, zip(*rows, strict=True)), strict=True)))
    found = open_images(root)
    (root / "metadata.parquet").unlink()
    lines = ["file_name,labels,price,shop", *(",".join(row) for row in rows)]
    (root / "metadata.csv").write_text("\n".join(lines), "utf-8")
    expected = open_images(root)
    assert (found.ids, found.class_names, found.metadata) == (ids, expected.class_names, expected.metadata)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.metadata["price"][:2] == ["0", "1"]


def test_cells_of_plain_types_become_text_and_others_are_skipped(root: Path) -> None:
    ids = open_images(root).ids
    n = len(ids)
    write(
        root,
        file_name=ids,
        label=pa.array(["hat", "shoe"] * (n // 2)).dictionary_encode(),
        price=[None, 2.5] * (n // 2),
        stock=list(range(n)),
        new=[True, False] * (n // 2),
        day=[datetime.date(2024, 5, 1)] * n,
        moment=[datetime.datetime(2024, 5, 1, 12, 30)] * n,
        tags=[["a", "b"]] * n,
        image=[b"bytes"] * n,
        boxes=[{"x": 1}] * n,
    )
    images = open_images(root)
    assert images.class_names == ["hat", "shoe"]
    assert {key: column[1] for key, column in images.metadata.items()} == {
        "price": "2.5", "stock": "1", "new": "false", "day": "2024-05-01", "moment": "2024-05-01T12:30:00", "tags": "a|b"
    }  # fmt: skip
    assert images.metadata["price"][0] == ""


@pytest.mark.parametrize("name", ["label", "labels"])
def test_a_list_of_labels_is_multi_label(root: Path, name: str) -> None:
    ids = open_images(root).ids
    write(root, **{"file_name": ids[:2], name: [["sea", "sky"], ["sky"]]})
    images = open_images(root)
    assert images.class_names == ["sea", "sky"]
    assert images.labels[:3].tolist() == [[True, True], [False, True], [False, False]]


def test_an_invalid_table_is_refused(root: Path) -> None:
    ids = open_images(root).ids
    write(root, name=ids)
    with pytest.raises(DataError, match=r"metadata\.parquet has no column file_name, only name; add it"):
        open_images(root)
    write(root, file_name=ids[1:], label=["x"] * (len(ids) - 1))
    with pytest.raises(DataError, match=f"metadata.parquet gives {ids[0]} no label; add a row"):
        open_images(root)
    (root / "metadata.csv").write_text("file_name\n")
    with pytest.raises(DataError, match=r"has metadata\.csv and metadata\.parquet; keep one"):
        open_images(root)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_file_raises_nothing_but_data_error(root: Path, damage: int, byte: int) -> None:
    if not (root / "metadata.parquet").exists():
        write(root, file_name=["a.jpg"], label=["x"])
        (root / "whole").write_bytes((root / "metadata.parquet").read_bytes())
    content = bytearray((root / "whole").read_bytes())
    content[damage % len(content)] = byte
    (root / "metadata.parquet").write_bytes(content[: damage * 2])
    message = "no label"
    try:
        open_images(root)
    except DataError as error:
        message = str(error)
    told = ("no label", "is not readable as Parquet", "no column file_name", "names no picture of the folder")
    assert any(words in message for words in told)
