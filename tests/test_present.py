from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from spq.data.open import open_images
from spq.dupes.present import first_of_each, present, read_thumbs


def test_each_file_is_read_once_with_its_hash_size_and_thumb_and_broken_ones_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (90, 70), "red").save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"none")
    (tmp_path / "d.png").symlink_to("a.png")
    images = open_images(tmp_path)
    here = present(None, images)
    assert [facts.path for facts in here.facts] == ["a.png", "b.png", "c.png", "d.png"]
    assert [facts.is_link for facts in here.facts] == [False, False, False, True]
    rows = first_of_each(here.facts)
    assert rows.tolist() == [0, 1, 2]  # the link is the same file as a.png
    counts: list[tuple[int, int]] = []
    read = read_thumbs(images, here.positions, rows, lambda *done: counts.append(done))
    assert read.rows.tolist() == [0, 1]
    assert read.sizes == [(90, 70)] * 2
    assert read.hashes[0] == read.hashes[1]
    assert read.thumbs.shape == (2, 64, 64)
    assert read.thumbs[:, 5, 5].tolist() == [76, 76]  # of red
    assert [row for row, _ in read.failures] == [2]
    assert counts[-1] == (3, 3)


def test_nothing_to_read_is_no_error(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    read = read_thumbs(open_images(tmp_path), np.empty(0, np.int64), np.empty(0, np.int64))
    assert (len(read.rows), len(read.thumbs)) == (0, 0)
