"""Limits of pictures: bytes of memory and steps. `tests/faults/pictures.py` has mutations by the thousand, and all bombs."""

from __future__ import annotations

import io
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.data import work
from spq.data.decode import load_image
from spq.data.work import memory_limit, room
from spq.errors import ImageError

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import bombs
import pictures
from measured import run

SIDE = 4000


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jpeg, 10,000 scans", "10,009 scans of 3000 x 3000 pixels take too long"),
        ("jpeg, progressive, 4:4:4", "need 1,084 MB of memory, over the limit of 855 MB"),
        ("tiff, millions of strips", "its tags have more than 1,048,576 numbers"),
        ("tiff, tags that share their numbers", "its tags have more than 1,048,576 numbers"),
        ("webp, a large canvas", "need 2,863 MB of memory"),
        ("dds, pixels in python", "need 1,611 MB of memory"),
        ("gif, comments in parts of one byte", "it consists of too many parts"),
    ],
)
def test_a_bomb_is_refused_from_its_header_with_a_reason(name: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_image(bombs.BOMBS[name]())


def test_the_memory_of_a_palette_with_transparency_is_a_few_bytes_a_pixel() -> None:
    data = bombs.png(SIDE, SIDE, 8, 3, SIDE, bombs.palette())
    (outcome,) = run(lambda _: str(load_image(data).size), [0], 1)
    assert (outcome.answer, outcome.fault) == (f"({SIDE}, {SIDE})", "")
    assert outcome.peak < 8 * SIDE * SIDE  # the pixels, as RGB, and little more


def test_what_does_not_fit_is_made_smaller_with_averages_and_keeps_its_full_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "MORE", 4_000_000)
    grey = Image.linear_gradient("L").resize((SIDE, SIDE))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    opaque = Image.merge("RGBA", [grey] * 3 + [Image.new("L", grey.size, 255)])
    exif = Image.Exif()
    exif[0x112] = 6
    for image, divisor in ((deep, 2), (opaque, 4)):
        read = load_image(encoded(image, "PNG", exif=exif, compress_level=1), max_pixels=SIDE * SIDE)
        assert (read.size, read.info["full_size"]) == ((SIDE // divisor, SIDE // divisor), (SIDE, SIDE))
        expected = grey.transpose(Image.Transpose.ROTATE_270).reduce(divisor)
        assert np.abs(np.asarray(read.getchannel(0)).astype(int) - np.asarray(expected)).max() <= 1


def test_a_larger_limit_of_pixels_gives_more_memory() -> None:
    assert memory_limit(1000) < memory_limit(50_000_000) < memory_limit(178_956_970) < 900_000_000


def test_a_tiff_with_fewer_strips_than_its_height_needs_is_not_shown_black() -> None:
    data = bytearray(encoded(Image.new("L", (96, 72), 200), "TIFF"))
    at = data.find(b"\x01\x01\x04\0\1\0\0\0")  # the tag of the height
    assert data[at + 8] == 72
    data[at + 8 : at + 12] = (7200).to_bytes(4, "little")
    with pytest.raises(ImageError, match=r"image file is truncated"):
        load_image(bytes(data))


def test_pictures_wait_for_memory_that_others_use() -> None:
    order, began = list[str](), threading.Event()

    def large() -> None:
        with room.take(8, 10):
            began.set()
            time.sleep(0.1)
            order.append("first")

    thread = threading.Thread(target=large)
    thread.start()
    began.wait()
    with room.take(2, 10):
        order.append("fits beside it")
    with room.take(100, 10):  # larger than all: alone
        order.append("second")
    thread.join()
    assert order == ["fits beside it", "first", "second"]


def test_damaged_pictures_of_all_formats_are_read_or_refused_in_one_line() -> None:
    outcomes = pictures.check(pictures.mutations(7, []), 116, 1)
    assert len(outcomes) == 116
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert {outcome.answer.partition(":")[0] for outcome in outcomes} == {"read", "refused"}
