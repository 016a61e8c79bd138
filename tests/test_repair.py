"""What is whole but for the file around it is read; what lacks pixels is not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, PngImagePlugin

from spq.data.decode import load_image
from spq.data.repair import first_webp_frame, only_chunks, with_end, without_notes
from spq.errors import ImageError

RNG = np.random.default_rng(1)
PICTURE = Image.fromarray(RNG.integers(0, 256, (90, 130, 3), np.uint8)).filter(ImageFilter.GaussianBlur(2))
LIMIT = 10**6
JPEGS: list[dict[str, Any]] = [
    {}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"quality": 10}, {"restart_marker_blocks": 2},
]  # fmt: skip


def encode(format_: str, image: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_read_in_full_or_in_part(options: dict[str, Any], mode: str) -> None:
    data = encode("JPEG", PICTURE.convert(mode), **options)
    whole = load_image(data).tobytes()
    for cut in (1, 2):
        assert load_image(data[:-cut]).tobytes() == whole
        assert load_image(data[:-cut], 16).tobytes() == load_image(data, 16).tobytes()
        assert load_image(data[:-cut] + bytes(4096)).tobytes() == whole  # a sector of a disk


@pytest.mark.parametrize("options", JPEGS)
def test_a_jpeg_that_lacks_more_is_an_error(options: dict[str, Any]) -> None:
    data = encode("JPEG", **options)
    for cut in (4, 5, 8, 20, 100, len(data) // 2, len(data) - 700):
        for end in (b"", b"\0" * 100, b"\0" * len(data)):
            with pytest.raises(ImageError, match=r"(?i)truncated"):
                load_image(data[:-cut] + end)


def test_a_progressive_jpeg_without_its_last_scans_is_an_error() -> None:
    data = encode("JPEG", progressive=True)
    scans = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for scan in scans[1:]:
        assert with_end(data[:scan], LIMIT) is None
        with pytest.raises(ImageError, match=r"(?i)truncated"):
            load_image(data[:scan])
    assert with_end(data[:-2], LIMIT) == data
    assert with_end(data[:-2], 100) is None  # above the limit of pixels, nothing is decoded


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_text_of_a_png_does_not_matter() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("prompt", "y" * 5_000_000, zip=True)
    many = PngImagePlugin.PngInfo()
    for number in range(80):
        many.add_text(f"note {number}", "z" * 900_000, zip=True)
    for notes in (info, many):
        assert load_image(encode("PNG", pnginfo=notes)).tobytes() == PICTURE.tobytes()


def test_defects_of_other_chunks_of_a_png_do_not_matter() -> None:
    png = encode("PNG")
    broken = [
        chunk(b"tEXt", b"a\0b")[:-1] + b"?", chunk(b"iCCP", b"name\0\7junk"), chunk(b"eXIf", b"junk"), chunk(b"pHYs", b"?"),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(20_000_000))), chunk(b"acTL", b"?"),
        chunk(b"gAMA", b""), chunk(b"cHRM", b"1"),
        chunk(b"zTXt", b"a\0\0junk"), chunk(b"iTXt", b"\xff"), chunk(b"fcTL", bytes(26)), chunk(b"sRGB", b""),
    ]  # fmt: skip
    for part in broken:
        assert load_image(png[:33] + part + png[33:]).tobytes() == PICTURE.tobytes(), part[:12]
        assert load_image(png[:-12] + part + png[-12:]).tobytes() == PICTURE.tobytes(), part[:12]
    for end in (png[:-12], png[:-3], png + b"more" * 1000):
        assert load_image(end).tobytes() == PICTURE.tobytes()


def test_a_png_that_lacks_pixels_is_an_error() -> None:
    png = encode("PNG")
    for cut in (40, 100, len(png) // 2, len(png) - 60):
        with pytest.raises(ImageError):
            load_image(png[:-cut])
    assert only_chunks(png, {b"IHDR"}) == png[:33]


def test_notes_of_a_jpeg_do_not_matter() -> None:
    jpeg = encode("JPEG")
    whole = load_image(jpeg).tobytes()
    for kind, note in (
        (0xE1, b"Exif\0\0junk"),
        (0xE2, b"MPF\0junk"),
        (0xED, b"Photoshop 3.0\0" + b"8BIM\xff"),
        (0xFE, b""),
    ):
        noted = jpeg[:2] + bytes([0xFF, kind]) + struct.pack(">H", len(note) + 2) + note + jpeg[2:]
        assert load_image(noted).tobytes() == whole
        assert without_notes(noted) == jpeg
        assert load_image(noted[:-2] + bytes(0)).tobytes() == whole
    for first in (b"JFIF\0", b"JFIF\0\1"):  # cut short
        short = jpeg[:2] + b"\xff\xe0" + struct.pack(">H", len(first) + 2) + first + jpeg[20:]
        assert load_image(short).tobytes() == whole


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_is_read_whatever_size_it_says(lossless: bool) -> None:
    data = encode("WEBP", lossless=lossless)
    for size in (b"\0\0\0\0", b"\xff\xff\xff\x7f", (len(data) + 100).to_bytes(4, "little")):
        assert load_image(data[:4] + size + data[8:]).tobytes() == load_image(data).tobytes()
        with pytest.raises(ImageError):
            load_image((data[:4] + size + data[8:])[:-50])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_animation_that_lacks_later_frames_is_read(mode: str, lossless: bool) -> None:
    picture = PICTURE.convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    others = [picture.rotate(90 * n) for n in (1, 2)]
    data = encode("WEBP", picture, save_all=True, append_images=others, lossless=lossless)
    whole = load_image(data, keep_alpha=True)
    read = load_image(data[:-200], keep_alpha=True)
    assert np.abs(np.asarray(read).astype(int) - np.asarray(whole)).max() <= 2
    assert first_webp_frame(data[: len(data) // 10]) is None
    with pytest.raises(ImageError):
        load_image(data[: len(data) // 10])
