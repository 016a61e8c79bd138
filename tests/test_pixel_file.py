"""Rows of an array in a file are those of the array."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import numpy as np
import pytest

from spq.training.pixel_file import FileRows, PixelFile


@pytest.fixture
def stored(tmp_path: Path) -> tuple[np.ndarray, FileRows]:
    array = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), np.uint8)
    (tmp_path / "file").write_bytes(bytes(480 + 7))
    file = PixelFile(tmp_path / "file")
    (tmp_path / "file").unlink()  # an open file needs no name
    file.write(7, array[:6])
    file.write(7 + 6 * 48, array[::2][3:].repeat(2, 0)[:4])
    file.write(7 + 6 * 48, array[6:])
    return array, FileRows(file, 7, array.shape)


def test_slices_and_row_numbers_read_the_same_rows_as_in_an_array(stored: tuple[np.ndarray, FileRows]) -> None:
    array, rows = stored
    assert (len(rows), rows.shape, rows.nbytes) == (10, (10, 3, 4, 4), 480)
    for some in (slice(None), slice(2, 5), slice(8, 99), slice(None, None, 3), slice(4, 4), np.array([7, 0, 7, 9])):
        np.testing.assert_array_equal(rows[some], array[some])


def test_a_row_outside_of_the_array_and_a_file_that_is_cut_off_are_errors(stored: tuple[np.ndarray, FileRows]) -> None:
    _, rows = stored
    with pytest.raises(IndexError, match="row 10 of 10"):
        rows[np.array([10])]
    with pytest.raises(OSError, match="ends at 487 bytes"):
        FileRows(rows.file, 8, rows.shape)[:]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list the open files of a process")
def test_the_file_is_closed_when_nobody_uses_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    rows = FileRows(PixelFile(tmp_path / "file"), 0, (3, 1))
    assert rows[1:].tolist() == [[98], [99]]
    assert tmp_path / "file" in open_files()
    del rows
    gc.collect()
    assert tmp_path / "file" not in open_files()


def open_files() -> set[Path]:
    """The names of the files that this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            found.add(descriptor.readlink())
    return found
