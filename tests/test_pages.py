"""Parquet files block by block. `tests/faults/tables.py` has mutations by the thousand."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spq.data import pages
from spq.data.open import open_images
from spq.data.pages import Blocks, Kept, RowGroups, page_sizes
from spq.errors import DataError, ImageError

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import tables
from measured import run


def numbered(file: Path, rows: int, **options: object) -> Path:
    pq.write_table(pa.table({"image": [b"%04d" % n * 50 for n in range(rows)]}), file, **options)
    return file


@pytest.mark.parametrize("options", [{"row_group_size": 70}, {"compression": "zstd", "use_dictionary": False}])
def test_rows_are_the_same_in_any_order_and_few_blocks_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setattr(pages, "MAX_ROWS", 16)
    monkeypatch.setattr(pages, "CACHE", 10_000)
    kept = Kept()
    files = [numbered(tmp_path / f"{n}.parquet", 300, **options) for n in range(6)]
    several = [Blocks(RowGroups(file, ["image"]), lambda block: block.column(0), kept) for file in files]
    rng = random.Random(0)
    for order in (range(300), rng.sample(range(300), 300)):
        for row in order:
            block, inside = rng.choice(several[: 6 if row % 10 == 0 else 1]).row(row)
            assert block[inside].as_py() == b"%04d" % row * 50
    assert several[0].table.groups[0].step == 16
    assert kept.bytes == sum(block.nbytes for block in kept.blocks.values()) <= 10_000
    assert len(kept.readers) == pages.READERS


def test_pages_are_measured_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page_sizes(bytes([0x15, 0, 0x15, 200, 1, 0x15, 20, 0])) == (100, 10, 8)
    monkeypatch.setattr(pages, "MAX_PAGE", 1000)
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [bytes(100_000)]}), file, compression="zstd")
    with pytest.raises(DataError, match=r"a page of 100,\d+ bytes is over the limit of 1,000; save it with smaller"):
        open_images(file)


def test_a_footer_whose_numbers_do_not_fit_together_does_not_end_the_program(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"  # Arrow's own functions for the chunks of such a file end the process
    pq.write_table(pa.table({"image": [tables.jpeg(1)] * 3, "n": [[1], [2, 3], []]}), file)
    data = file.read_bytes()

    def open_changed(number: int) -> str:
        changed = bytearray(data)
        changed[len(data) - 9 - number] ^= 1 << number % 8
        return tables.answer("a.parquet", bytes(changed))

    outcomes = list(run(open_changed, range(0, 400, 2), 1))
    assert len(outcomes) == 200
    assert [outcome for outcome in outcomes if outcome.fault] == []


def test_a_footer_that_tells_other_numbers_of_rows_is_refused_or_its_rows_are_unreadable(tmp_path: Path) -> None:
    data = tables.parquet({"image": [tables.jpeg(1)] * 1009})
    file = tmp_path / "a.parquet"
    file.write_bytes(tables.wrong_footer(data, 1009, 2**40))
    with pytest.raises(DataError, match=r"its footer tells 1,099,511,627,776 rows"):
        open_images(file)
    file.write_bytes(tables.wrong_footer(data, 1009, 2009))
    images = open_images(file)
    assert images.image(1008).size == (8, 8)
    with pytest.raises(ImageError, match=r"fewer rows than its footer tells"):
        images.read(1500)
    with pytest.raises(ImageError, match=r"fewer rows than its footer tells"):
        images.stat(1500)


def test_a_file_of_few_bytes_whose_rows_share_a_large_value_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [bytes(4_000_000)] * 30}), file, compression="zstd")
    assert file.stat().st_size < 10_000
    monkeypatch.setattr(pages, "MAX_BLOCK", 4_000_000)
    monkeypatch.setattr(pages, "CACHE", 8_000_000)
    (outcome,) = run(lambda _: str(sum(len(open_images(file).read(row)) for row in range(4))), [0], 1)
    assert outcome.answer == "16000000"
    assert outcome.peak < 80_000_000  # all rows are 120 MB


def test_a_broken_cell_is_one_broken_cell(tmp_path: Path) -> None:
    times = pa.array([0, 2**60, None], pa.timestamp("ms"))
    words = pa.array([b"a", b"\xff\xfe", b"c"]).cast(pa.binary()).view(pa.string())
    pictures = [tables.jpeg(n) for n in range(3)]
    pq.write_table(pa.table({"image": pictures, "when": times, "word": words}), tmp_path / "a.parquet")
    facts = open_images(tmp_path / "a.parquet").metadata
    assert facts["when"] == ["1970-01-01T00:00:00", "", ""]
    assert facts["word"] == ["a", "", "c"]


def test_damaged_containers_and_tables_give_one_line() -> None:
    outcomes = [outcome for _, outcome in tables.check(70, 5, 1)]
    quick = [
        "note a.parquet",
        "deep a.parquet",
        "deep metadata.jsonl",
        "types metadata.jsonl",
        "integer metadata.jsonl",
    ]
    outcomes += [outcome for _, outcome in tables.check_bombs(quick)]
    assert len(outcomes) == 75
    assert [outcome for outcome in outcomes if outcome.fault] == []
