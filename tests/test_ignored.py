from __future__ import annotations

from pathlib import Path

import pytest

from spq.dupes.ignored import Ignored, read_ignored, write_ignored
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
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "p.jsonl").write_bytes(line + b"\n")
    with pytest.raises(DataError, match="to forget its pairs"):
        read_ignored(tmp_path / "p.jsonl")
