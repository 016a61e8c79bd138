from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from spq import ImageIndex
from spq.index.checksums import TRIGGERS, add_functions
from spq.index.verify import faults
from spq.model.model import Model


@pytest.fixture
def index(photos: Path, tiny_model: Model, tmp_path: Path) -> Path:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    return tmp_path / "i"


def test_pictures_that_are_what_was_encoded_are_no_fault(index: Path) -> None:
    assert list(faults(index, pictures=True)) == []


def test_each_picture_that_is_not_what_was_encoded_is_named(index: Path, photos: Path) -> None:
    rotten, gone, newer = sorted(photos.rglob("*.png"))[:3]
    status, data = rotten.stat(), bytearray(rotten.read_bytes())
    data[-20] ^= 1
    rotten.write_bytes(data)
    os.utime(rotten, ns=(status.st_atime_ns, status.st_mtime_ns))
    gone.unlink()
    newer.write_bytes(newer.read_bytes() + b"more")
    assert list(faults(index)) == []
    found = {line.partition("): ")[2] for line in faults(index, pictures=True)}
    assert found == {
        "its picture has other bytes than it had, though size and time are the same; restore the file",
        "it is missing; update the index",
        "it has changed since it was indexed; update the index",
    }


def test_a_code_that_is_not_the_models_is_named_although_its_checksum_is_right(index: Path) -> None:
    database = sqlite3.connect(index / "items.sqlite", isolation_level=None)
    add_functions(database)
    for statement in TRIGGERS:  # as a program with a fault of its own would write
        database.execute(statement)
    database.execute("UPDATE items SET code = (SELECT code FROM items WHERE id = 8) WHERE id = 7")
    database.close()
    assert list(faults(index)) == []
    (line,) = faults(index, pictures=True)
    assert line.startswith("item 7 (")
    assert "numbers of its code are not the model's" in line
