from __future__ import annotations

from pathlib import Path

import pytest

from spq.dupes.ignored import Ignored, damaged_lines, read_ignored, write_ignored
from spq.errors import DataError

PAIRS = [Ignored(("00ff", "01"), ("a b.jpg", "é.png")), Ignored(("02", "02"), ("x", "caf\udce9.jpg"))]


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "pairs.jsonl"
    assert read_ignored(file) == read_ignored(None) == []
    write_ignored(file, PAIRS)
    assert read_ignored(file) == PAIRS
    assert PAIRS[0].key == frozenset({"01", "00ff"})
    write_ignored(file, PAIRS[1:])
    assert read_ignored(file) == PAIRS[1:]
    assert [path.name for path in file.parent.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b'{"hashes": ["0g", "1"]}',
        b'{"hashes": ["00"], "paths": ["a", "b"]}',
        b'{"hashes": ["00", "01"], "paths": [1, 2]}',
        b"[]",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_damaged_line_is_counted_and_passed_over(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "p.jsonl"
    write_ignored(file, PAIRS)
    file.write_bytes(line + b"\n" + file.read_bytes())
    assert read_ignored(file) == PAIRS
    assert damaged_lines(file) == 1


def test_a_file_that_cannot_be_read_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").mkdir()
    with pytest.raises(DataError, match="to forget its pairs"):
        read_ignored(tmp_path / "p.jsonl")
