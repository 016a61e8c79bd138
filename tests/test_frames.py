"""Which frame of an animation is shown."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.GifImagePlugin import GifImageFile

from spq.data import frames
from spq.data.decode import load_image

SIZE = (120, 90)


def shape(kind: str, colour: str, ground: str = "black") -> Image.Image:
    image = Image.new("RGB", SIZE, ground)
    getattr(ImageDraw.Draw(image), kind)((20, 20, 90, 70), fill=colour)
    return image


def animation(format_: str, *pictures: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if format_ in ("WEBP",):
        options |= {"lossless": True}
    pictures[0].save(buffer, format_, save_all=True, append_images=pictures[1:], **options)
    return buffer.getvalue()


def close(data: bytes, expected: Image.Image) -> bool:
    return bool(np.abs(np.asarray(load_image(data)).astype(int) - np.asarray(expected)).mean() < 3)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
@pytest.mark.parametrize("ground", ["black", "white"])
def test_an_animation_that_begins_empty_is_shown_by_its_first_frame_that_is_not(format_: str, ground: str) -> None:
    blank = Image.new("RGB", SIZE, ground)
    nearly = Image.new("RGB", SIZE, ground)
    nearly.putpixel((5, 5), (128, 128, 128))  # noise
    shown, later = shape("ellipse", "red", ground), shape("rectangle", "blue", ground)
    assert close(animation(format_, blank, nearly, shown, later), shown)
    assert close(animation(format_, later, blank, shown), later)


def test_the_first_frame_is_shown_where_all_are_empty_or_the_rest_is_damaged() -> None:
    blank = Image.new("RGB", SIZE, "black")
    assert load_image(animation("GIF", blank, Image.new("RGB", SIZE, "white"), blank)).getpixel((0, 0)) == (0, 0, 0)
    whole = animation("GIF", blank, shape("ellipse", "red"))
    assert load_image(whole[:-60]).tobytes() == blank.tobytes()


def test_the_second_picture_of_an_mpo_is_not_a_frame() -> None:
    blank = Image.new("RGB", SIZE, "black")
    assert load_image(animation("MPO", blank, shape("ellipse", "red"))).tobytes() == blank.tobytes()


def test_few_frames_are_looked_at_in_a_gif_of_a_hundred_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[int] = []
    seek = GifImageFile.seek
    monkeypatch.setattr(GifImageFile, "seek", lambda image, number: (sought.append(number), seek(image, number))[1])
    frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    data = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(3) + b"\xff\xff\xff" + frame * 100_000 + b";"
    assert load_image(data).size == (1, 1)
    assert max(sought) < frames.MAX_FRAMES


def test_work_on_further_frames_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    blank, shown = Image.new("RGB", SIZE, "black"), shape("ellipse", "red")
    data = animation("TIFF", *[blank] * 4, shown)
    assert close(data, shown)
    monkeypatch.setattr(frames, "MAX_WORK", 3 * SIZE[0] * SIZE[1])
    assert load_image(data).tobytes() == blank.tobytes()
    monkeypatch.undo()
    monkeypatch.setattr(frames, "MAX_FRAMES", 4)
    assert load_image(data).tobytes() == blank.tobytes()


def test_a_later_page_above_the_limit_of_pixels_is_not_opened() -> None:
    blank, large = Image.new("RGB", SIZE, "black"), shape("ellipse", "red").resize((1200, 900))
    data = animation("TIFF", blank, large)
    assert load_image(data).size == (1200, 900)
    assert load_image(data).info["full_size"] == (1200, 900)
    assert load_image(data, max_pixels=100_000).size == SIZE
