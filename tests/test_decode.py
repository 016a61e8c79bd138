from __future__ import annotations

import importlib.util
import io
import os
import struct
import sys
import threading
import types
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from spq.data import decode as images
from spq.data.decode import load_image, load_pixels, to_pixels
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import ImageError

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), np.uint8))


def encode(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 (Pillow's word)
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def test_heic_is_opened_from_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's plugin is registered by the first picture that nothing else opens."""
    data = b"ftypheic" + encode(NOISE, "PNG")

    def opener(file: Any, _: object) -> Image.Image:
        return PngImagePlugin.PngImageFile(io.BytesIO(file.read()[8:]))

    def register() -> None:
        Image.register_open("HEIC-LIKE", opener, lambda prefix: prefix.startswith(b"ftypheic"))

    Image.init()  # all of Pillow's own first: what is registered from here on is forgotten again
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(ImageError, match="not a picture in a known format"):
            load_image(data)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "there")
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(NOISE))


def pixel(image: Image.Image) -> tuple[int, ...]:
    return image.getpixel((0, 0))  # type: ignore[return-value]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_rotated_as_pillow_rotates_it(format_: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encode(NOISE, format_, exif=exif, **({"lossless": True} if format_ == "WEBP" else {}))
    upright = load_image(data)
    oracle = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(oracle.convert("RGB")))
    assert upright.info["full_size"] == upright.size == ((6, 8) if orientation > 4 else (8, 6))
    np.testing.assert_array_equal(np.asarray(load_image(upright)), np.asarray(upright))  # not turned once more


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\x19*\0\0\0\x08\0\x01\x01\x12", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_damaged_exif_is_read(format_: str, exif: bytes) -> None:
    assert load_image(encode(NOISE, format_, exif=exif)).size == (8, 6)


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    data = encode(Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(np.subtract(pixel(load_image(data)), (200, 40, 40))).max() < 12
    assert load_image(data, 2).mode == "RGB"


def test_alpha_is_blended_with_white() -> None:
    half_red = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    assert pixel(load_image(encode(half_red, "PNG"))) == (255, 127, 127)
    assert pixel(load_image(encode(Image.new("RGBA", (2, 2), (9, 9, 9, 0)), "PNG"))) == (255, 255, 255)
    assert pixel(load_image(encode(Image.new("LA", (2, 2), (0, 0)), "PNG"))) == (255, 255, 255)
    assert pixel(load_image(encode(Image.new("LA", (2, 2), (7, 255)), "PNG"))) == (7, 7, 7)


def test_only_the_transparent_colour_of_a_palette_becomes_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    data = encode(palette, "PNG", transparency=0)
    assert np.asarray(load_image(data))[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    assert np.asarray(load_image(encode(palette, "PNG")))[0, 0].tolist() == [10, 20, 30]


def test_a_transparent_rgb_colour_becomes_white() -> None:
    data = encode(Image.new("RGB", (2, 2), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert pixel(load_image(data)) == (255, 255, 255)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped_and_stretched_when_all_are_dark(format_: str) -> None:
    for values, expected in (([0, 257, 25700, 65535], [0, 1, 100, 255]), ([0, 1000, 2000, 4000], [0, 64, 128, 255])):
        data = encode(Image.fromarray(np.array([values], np.uint16)), format_)
        assert np.asarray(load_image(data))[0, :, 0].tolist() == expected


def test_a_float_tiff_is_stretched_and_its_nan_is_black() -> None:
    data = encode(Image.fromarray(np.array([[0, 0.5, 1, np.nan]], np.float32)), "TIFF")
    assert np.asarray(load_image(data))[0, :, 0].tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(format_: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encode(
        frames[0], format_, save_all=True, append_images=frames[1:], **({"lossless": True} if format_ == "WEBP" else {})
    )
    assert pixel(load_image(data)) == (255, 0, 0)
    opened = Image.open(io.BytesIO(data))
    opened.seek(2)
    assert pixel(load_image(opened)) == (255, 0, 0)


@pytest.mark.parametrize("format_", ["JPEG", "MPO"])
def test_a_large_jpeg_is_decoded_small_but_never_too_small(format_: str) -> None:
    picture = Image.new("RGB", (1600, 800), "red")
    data = encode(picture, format_, **({"save_all": True, "append_images": [picture]} if format_ == "MPO" else {}))
    assert Image.open(io.BytesIO(data)).format == format_
    assert load_image(data).size == (1600, 800)
    small = load_image(data, 64)
    assert small.info["full_size"] == (1600, 800)
    assert 128 <= min(small.size) < 400


def test_draft_mode_shows_the_same_picture() -> None:
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    data = encode(Image.fromarray(np.stack([np.tile(ramp, (512, 1))] * 3, 2)), "JPEG", quality=95)
    full, draft = (to_pixels(load_image(data, hint), 32).astype(int) for hint in (None, 32))
    assert np.abs(full - draft).max() <= 3


def test_a_truncated_jpeg_is_an_error_not_half_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "half.jpg"
    whole = encode(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"cannot read .*half\.jpg: .*truncated"):
        load_image(file)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("options", [{}, {"exif": Image.Exif().tobytes()}, {"compress_level": 1}])
def test_a_png_with_changed_bytes_is_an_error_not_half_a_picture(options: dict[str, Any]) -> None:
    png = encode(NOISE.resize((200, 150), Image.Resampling.BICUBIC), "PNG", **options)
    for place in range(len(png) // 3, len(png) - 100, len(png) // 20):
        changed = bytearray(png)
        changed[place] ^= 255
        for source in (bytes(changed), Image.open(io.BytesIO(changed))):
            with pytest.raises(ImageError, match="data stream"):
                load_image(source)


def test_alpha_that_is_zero_everywhere_counts_only_where_a_format_means_it() -> None:
    clear = NOISE.convert("RGBA")
    clear.putalpha(0)
    body = np.asarray(clear)[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, 8, 6, 1, 32, 3, len(body), 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    bmp = b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + header + body
    icon = encode(clear, "ICO", sizes=[(8, 6)])
    for data in (bmp, bmp[14:], encode(clear, "TGA"), encode(clear, "TIFF"), icon):
        assert load_image(data).tobytes() == NOISE.tobytes()
        assert load_image(data, keep_alpha=True).getextrema()[3] == (255, 255)
    assert load_image(encode(clear, "PNG")).getextrema() == ((255, 255),) * 3


def test_what_pillow_logs_is_not_printed_beside_the_error(tmp_path: Path) -> None:
    import subprocess

    for bands in (5, 7):
        plain = encode(Image.new("RGB", (8, 8)), "TIFF")
        (tmp_path / f"{bands}.tif").write_bytes(
            plain.replace(struct.pack("<HHIH", 277, 3, 1, 3), struct.pack("<HHIH", 277, 3, 1, bands))
        )
    code = "import sys; from spq.data.decode import load_image\ntry: load_image(sys.argv[1])\nexcept Exception: pass"
    for bands in (5, 7):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / f"{bands}.tif"], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""


def test_a_decompression_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (14_000, 60_000):  # just above our limit; far above
        with pytest.raises(ImageError, match="over the limit of 178,956,970; scale it down first, or raise"):
            load_image(png_of(side, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some programs do: our own limit holds
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="14000 x 14000 pixels are over the limit"):
        load_image(png_of(14_000, 14_000))


def test_a_file_that_is_not_a_picture_gives_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "dir.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "two\nlines.jpg").write_bytes(b"")
    reasons = {
        "empty.jpg": "the file is empty",
        "text.jpg": "not a picture in a known format",
        "dir.jpg": "Is a directory",
        "missing.jpg": "No such file",
        "loop.jpg": "symbolic links",
        "two\nlines.jpg": "two lines.jpg: the file is empty",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason) as raised:
            load_image(tmp_path / name)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(ImageError, match="the given bytes: the file is empty"):
        load_image(b"")


def test_arrays_and_tensors_of_every_layout_give_the_same_picture() -> None:
    array = np.asarray(NOISE)
    same: list[Any] = [NOISE, array, array / 255, array.astype(np.uint16) * 257, (array / 255).astype(np.float32)]
    same += [torch.from_numpy(array.copy()).permute(2, 0, 1), array.transpose(2, 0, 1), encode(NOISE, "PNG")]
    for source in same:
        np.testing.assert_array_equal(np.asarray(load_image(source)), array)
    grey = array[:, :, 0]
    for source in (grey, grey[:, :, None], grey[None], torch.from_numpy(grey.copy())):
        np.testing.assert_array_equal(np.asarray(load_image(source)), np.stack([grey] * 3, 2))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4), np.int64), "pixels of type int64 are ambiguous"),
        (np.full((4, 4), 2.0), "must lie in 0..1"),
        (np.full((4, 4), np.nan), "must lie in 0..1"),
        (np.zeros((0, 4), np.uint8), "is not a picture"),
        (np.zeros(4, np.uint8), "is not a picture"),
        (np.zeros((2, 4, 4, 3), np.uint8), "is not a picture"),
    ],
)
def test_an_array_that_is_not_a_picture_is_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        load_image(array)


def test_the_callers_picture_does_not_change() -> None:
    mine = NOISE.copy()
    given_back = load_image(mine)
    given_back.paste("black", (0, 0, 8, 6))
    assert mine.tobytes() == NOISE.tobytes()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.integers(0, 400))
def test_arbitrary_bytes_raise_nothing_but_image_error(junk: bytes, format_: str, start: int) -> None:
    whole = encode(NOISE, format_)
    for data in (junk, whole[:start] + junk + whole[start + len(junk) :]):  # junk alone, and in the midst of a picture
        message = ""
        try:
            mode = load_image(data, 4).mode
        except ImageError as error:
            mode, message = "RGB", str(error)
        assert mode == "RGB"
        assert len(message.splitlines()) <= 1


class Broken(ImageSet):
    """Every third picture is junk."""

    def __init__(self) -> None:
        super().__init__("broken", [str(i) for i in range(30)])

    def read(self, position: int) -> bytes:
        return b"junk" if position % 3 == 0 else encode(Image.new("RGB", (9, 7), (position, 0, 0)), "PNG")


def test_load_pixels_skips_and_lists_unreadable_pictures() -> None:
    seen: list[int] = []
    pixels = load_pixels(Broken(), 5, workers=4, progress=seen.append)
    assert pixels.array.shape == (20, 3, 5, 5)
    assert pixels.kept.tolist() == [i for i in range(30) if i % 3]
    assert pixels.array[:, 0, 0, 0].tolist() == pixels.kept.tolist()
    assert pixels.full_sizes.tolist() == [[9, 7]] * 20
    assert [position for position, _ in pixels.failures] == list(range(0, 30, 3))
    assert "not a picture" in pixels.failures[0][1]
    assert seen == [30]


def test_load_pixels_keeps_the_order_of_the_positions() -> None:
    pixels = load_pixels(Broken(), 4, positions=[7, 3, 2])
    assert pixels.kept.tolist() == [7, 2]
    assert pixels.failures[0][0] == 3
    assert load_pixels(Broken(), 4, positions=[]).array.shape == (0, 3, 4, 4)


def test_to_pixels_equals_pillows_resize() -> None:
    image = open_images("sample:test").image(0)
    expected = np.asarray(image.resize((11, 11), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(to_pixels(image, 11), expected)
    np.testing.assert_array_equal(to_pixels(image, 28), np.asarray(image).transpose(2, 0, 1))


def test_threads_restore_the_warning_filters() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with images.quiet():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(5)
    second = images.quiet()
    second.__enter__()  # in after the other thread and out after it: catch_warnings would restore what that one set
    leave.set()
    thread.join()
    second.__exit__(None, None, None)
    assert warnings.filters == before


def test_no_warning_of_pillow_leaks_out() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x05\0\0\0\x02\0\0\0\x26"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(encode(NOISE, "JPEG", exif=exif))
        with pytest.raises(ImageError):
            load_image(png_of(10_000, 10_000))  # Pillow's DecompressionBombWarning is due from 89 million pixels on
    assert caught == []


def test_alpha_is_kept_on_request():
    rgba = Image.new("RGBA", (4, 3), (255, 255, 255, 0))
    rgba.putpixel((1, 1), (255, 255, 255, 128))
    buffer = io.BytesIO()
    rgba.save(buffer, "PNG")
    kept = load_image(buffer.getvalue(), keep_alpha=True)
    assert kept.mode == "RGBA"
    assert (kept.getpixel((1, 1)), kept.getpixel((0, 0))) == ((255, 255, 255, 128), (255, 255, 255, 0))
    assert load_image(Image.new("RGB", (2, 2), "red"), keep_alpha=True).getpixel((0, 0)) == (255, 0, 0, 255)


def test_a_jpeg_above_the_limit_of_pixels_is_decoded_at_a_fraction() -> None:
    gradient = Image.linear_gradient("L").resize((1600, 800)).convert("RGB")
    data = encode(gradient, "JPEG", quality=95)
    for limit, size in ((1600 * 800, (1600, 800)), (1_000_000, (800, 400)), (200_000, (400, 200))):
        read = load_image(data, max_pixels=limit)
        assert (read.size, read.info["full_size"]) == (size, (1600, 800))
        shrunk = np.asarray(gradient.resize(size, Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(read).astype(int) - shrunk).mean() < 3
    assert load_image(data, 50, max_pixels=200_000).size == (200, 100)
    assert load_image(data, 150, max_pixels=200_000).size == (400, 200)  # the size alone would allow 1/2
    for hint in (300, 500, 2000):  # the size alone would need all of it
        assert load_image(data, hint, max_pixels=200_000).size == (400, 200)
    exif = Image.Exif()
    exif[0x112] = 6
    turned = load_image(encode(gradient, "JPEG", exif=exif), max_pixels=200_000)
    assert (turned.size, turned.info["full_size"]) == ((200, 400), (800, 1600))
    progressive, png = encode(gradient, "JPEG", progressive=True), encode(gradient, "PNG")
    assert load_image(progressive, max_pixels=1_000_000).size == (800, 400)
    for refused, limit in ((data, 100_000), (progressive, 100_000), (png, 1_000_000)):
        with pytest.raises(
            ImageError, match=r"1600 x 800 pixels are over the limit of .*; scale it down first, or raise"
        ):
            load_image(refused, max_pixels=limit)


def test_the_limit_of_the_process_is_above_and_below_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_max_pixels", images.MAX_PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    picture = Image.new("RGB", (60, 50), "red")
    for data in (encode(picture, "PNG"), encode(picture, "JPEG")):
        with pytest.raises(
            ImageError, match=r"over the limit of (2,000|1,500); scale it down first, or raise `max_pixels`"
        ):
            load_image(encode(picture, "PNG"))
        images.set_max_pixels(3000)
        assert load_image(data).size == (60, 50)
        images.set_max_pixels(1500)
    assert load_image(encode(picture, "JPEG")).size == (30, 25)


def test_an_ordinary_picture_is_what_pillow_decodes() -> None:
    """Codes of old indexes stay right."""
    exif = Image.Exif()
    exif[0x112] = 8
    noise = Image.fromarray(RNG.integers(0, 256, (120, 90, 3), np.uint8))
    for mode, format_ in (
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("RGB", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
    ):
        data = encode(noise.convert(mode), format_, **({"exif": exif} if format_ == "JPEG" else {}))
        for hint in (None, 16):
            plain = Image.open(io.BytesIO(data))
            if hint:
                plain.draft("RGB", (2 * hint, 2 * hint))
            expected = ImageOps.exif_transpose(plain).convert("RGB")
            assert load_image(data, hint).tobytes() == expected.tobytes()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_what_is_loaded_does_not_depend_on_its_file_and_can_be_loaded_again(format_: str) -> None:
    black, picture = Image.new("RGB", (40, 30)), Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    moving = {} if format_ == "JPEG" else {"save_all": True, "append_images": [picture]}
    read = load_image(encode(black if moving else picture, format_, **moving))
    assert type(read) is Image.Image
    assert load_image(read).tobytes() == read.tobytes()
    assert len(set(read.tobytes())) > 20  # the picture, not the black frame


def test_a_pipe_and_a_device_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero"), "/dev/random"):
        with pytest.raises(ImageError, match=r"cannot read .*: not a regular file"):
            load_image(path)
