from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spq.training.view_file import ViewFile

SHAPE = (30, 2, 4)
ROWS = np.random.default_rng(0).random(SHAPE, np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of three parts, in which picture 3 is unreadable."""
    views = ViewFile.open(tmp_path / "v.npy", SHAPE)
    array = views.reserve()
    for end in (10, 20, 30):
        array[end - 10 : end] = ROWS[end - 10 : end]
        views.add(array, end, [(3, "no picture")] if end == 10 else [])
    return tmp_path / "v.npy"


def flip(path: Path, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[byte] ^= 1
    path.write_bytes(data)


def test_a_whole_file_is_used_whole(file: Path) -> None:
    views = ViewFile.open(file, SHAPE)
    assert (views.done, views.failures, views.damage) == (30, [(3, "no picture")], "")
    np.testing.assert_array_equal(views.array, ROWS)


@pytest.mark.parametrize(("row", "done"), [(0, 0), (9, 0), (10, 10), (25, 20)])
def test_a_flipped_bit_leaves_the_parts_before_it(file: Path, row: int, done: int) -> None:
    flip(file, file.stat().st_size - 32 * (30 - row))
    views = ViewFile.open(file, SHAPE)
    assert (views.done, len(views.failures)) == (done, int(done > 0))
    assert views.damage == f"the features of pictures {done:,} to {done + 10:,} have another checksum"
    array = views.reserve()
    array[done:] = ROWS[done:]
    views.add(array, 30, [])
    again = ViewFile.open(file, SHAPE)
    assert (again.done, again.damage) == (30, "")
    np.testing.assert_array_equal(again.array, ROWS)


def test_a_changed_list_of_unreadable_pictures_is_noticed(file: Path) -> None:
    state = file.with_suffix(".json")
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "failures": []}))
    views = ViewFile.open(file, SHAPE)
    assert (views.done, views.damage) == (0, "its list of parts is damaged")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def other_order(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"'fortran_order': False", b"'fortran_order': True "))


def pickled(path: Path) -> None:
    np.save(path, np.array([{}]), allow_pickle=True)


@pytest.mark.parametrize("damage", [empty, cut, other_order, pickled, Path.unlink])
def test_a_damaged_array_counts_as_nothing(file: Path, damage: Callable[[Path], object]) -> None:
    damage(file)
    views = ViewFile.open(file, SHAPE)
    assert views.done == 0
    assert views.damage
    views.reserve()
    assert views.array.shape == SHAPE


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_link_or_a_pipe_is_replaced_and_not_followed(file: Path, suffix: str, tmp_path: Path) -> None:
    place, other = file.with_suffix(suffix), tmp_path / "other"
    other.write_text("of somebody else")
    for put in (lambda: place.symlink_to(other), lambda: os.mkfifo(place)):
        place.unlink()
        put()
        views = ViewFile.open(file, SHAPE)
        array = views.reserve()
        views.add(array, 30, [])
        assert place.is_file()
        assert not place.is_symlink()
    assert other.read_text() == "of somebody else"
