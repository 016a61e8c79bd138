"""The JPEG in raw files, made here: no camera's own file is at hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from formats import drawing, encoded, raw_of
from spq.data.decode import load_image
from spq.data.preview import find_preview
from spq.errors import ImageError

DNG, PHOTOMETRIC, WIDTH, HEIGHT = 0xC612, 0x106, 0x100, 0x101


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_preview_of_a_raw_file_is_read_upright(order: str) -> None:
    picture = drawing()
    for orientation, turn in ((1, None), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)):
        stored = picture.transpose(turn) if turn is not None else picture
        data = raw_of(stored, order, {DNG: (4, 1), 0x112: (3, orientation)}, encoded(stored, "JPEG"))
        read = load_image(data)
        assert np.abs(np.asarray(read).astype(int) - np.asarray(picture)).mean() < 8
        assert read.info["full_size"] == picture.size
        assert load_image(data, 8).info["full_size"] == picture.size


def test_the_largest_preview_wins_over_a_thumbnail() -> None:
    picture = drawing()
    small, large = encoded(picture.resize((24, 16)), "JPEG"), encoded(picture, "JPEG")
    data = raw_of(picture, "<", {0x201: (4, 0), 0x202: (4, len(small))}, large)
    data = data.replace(
        b"\x01\x02\x04\0\x01\0\0\0\0\0\0\0", b"\x01\x02\x04\0\x01\0\0\0" + len(data).to_bytes(4, "little"), 1
    )
    assert load_image(data + small).size == picture.size


def test_other_tiffs_and_broken_raw_files_have_no_preview() -> None:
    picture = drawing()
    for options in ({}, {"compression": "jpeg"}, {"big_tiff": False}):
        buffer = io.BytesIO()
        picture.save(buffer, "TIFF", **options)
        assert find_preview(buffer.getvalue()) is None
    data = raw_of(picture, "<", {DNG: (4, 1)}, encoded(picture, "JPEG"))
    assert find_preview(data)
    for cut in (4, 8, 12, 30, 60, 80):
        assert find_preview(data[:cut]) is None
    loop = data[:8] + data[8:].replace((8 + 30).to_bytes(4, "little"), (8).to_bytes(4, "little"))
    find_preview(loop)  # ends
    for broken in (data[: len(data) // 2], raw_of(picture, "<", {DNG: (4, 1)}, b"\xff\xd8\xff\xc3lossless")):
        with pytest.raises(ImageError):
            load_image(broken)
