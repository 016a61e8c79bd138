"""What views are cut from: rows of pixels on the device, or read when they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spq.training.pixel_file import FileRows, PixelFile
from spq.training.pixel_memory import Pictures
from spq.training.view_source import view_source

CPU = torch.device("cpu")
WHOLE = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
LARGE = np.random.default_rng(1).integers(0, 256, (6, 3, 12, 12), np.uint8)
SIZES = np.array([[20, 10]] * 3 + [[7, 30]] * 3)  # width, height
ROWS = torch.tensor([4, 1])


def test_views_of_pictures_like_the_input_are_cut_from_whole_pictures() -> None:
    source = view_source(Pictures(WHOLE, np.arange(6), SIZES, []), CPU)
    pixels, frame = source.cut(ROWS)
    np.testing.assert_array_equal(pixels, WHOLE[[4, 1]])
    assert frame is None
    assert source.is_on(CPU)


def test_views_of_larger_pictures_are_cut_from_larger_ones_in_memory_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE.tobytes())
    for large in (LARGE, FileRows(PixelFile(tmp_path / "file"), 0, LARGE.shape)):
        pictures = Pictures(WHOLE, np.arange(6), SIZES, [], large)
        pixels, frame = view_source(pictures, CPU).cut(ROWS)
        np.testing.assert_array_equal(pixels, LARGE[[4, 1]])
        assert frame is not None
        assert frame.tolist() == [[30, 7], [10, 20]]  # height, width
        some = view_source(pictures, CPU, np.array([5, 4, 1]))
        pixels, frame = some.cut(torch.tensor([2, 0]))
        np.testing.assert_array_equal(pixels, LARGE[[1, 5]])
        assert frame is not None
        assert frame.tolist() == [[10, 20], [30, 7]]
        assert some.is_on(CPU) is False or isinstance(some.pixels, torch.Tensor)
