"""More than 8 bits: scaled so that they are seen, and read as their file says."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spq.data.decode import load_image
from spq.data.deep import to_8_bits

RNG = np.random.default_rng(0)
SCENE = np.asarray(
    Image.fromarray(RNG.integers(10, 250, (6, 8, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
)
GREY = np.asarray(Image.fromarray(SCENE).convert("L"))


def scaled(values: Any, kind: Any = np.uint16) -> list[int]:
    return np.asarray(to_8_bits(Image.fromarray(np.asarray(values, kind)))).ravel().tolist()


def test_twelve_bits_of_sixteen_are_not_almost_black() -> None:
    scene = RNG.integers(0, 4096, (300, 300))
    assert np.mean(scaled(scene)) == pytest.approx(127.5, abs=3)
    hot = scene.copy()
    hot[0, :5] = 65535  # some hot pixels
    assert np.abs(np.subtract(scaled(hot), scaled(scene))[5:]).max() <= 1
    assert np.mean(scaled(scene + 32768)) == pytest.approx(127.5, abs=3)  # signed values, stored with an offset


def test_a_photo_that_uses_the_range_is_scaled_as_its_copy_in_8_bits() -> None:
    photo = RNG.integers(20, 230, (100, 100))
    assert scaled(photo * 257) == photo.ravel().tolist()
    assert scaled(photo, np.int32) == photo.ravel().tolist()
    assert scaled(photo / 255, np.float32) == photo.ravel().tolist()
    assert scaled(photo, np.float32) == photo.ravel().tolist()


def test_constant_pictures_nan_and_infinity_do_not_fail() -> None:
    assert scaled(np.full((3, 3), 25700)) == [100] * 9
    assert scaled(np.full((3, 3), 0.5), np.float32) == [128] * 9
    assert scaled(np.full((3, 3), -7.0), np.float32) == scaled(np.full((3, 3), np.nan), np.float32)[:0] + [255] * 9
    assert scaled(np.full((3, 3), np.nan), np.float32) == [0] * 9
    assert scaled([[0, 0.25, 1, np.nan, np.inf, -np.inf]], np.float32) == [0, 64, 255, 0, 255, 0]
    assert scaled([[-1e30, 1e30]], np.float32) == [0, 255]
    assert scaled(np.arange(4)[None] * 1000 - 500, np.int32)[::3] == [0, 255]


def tiff(values: np.ndarray, order: str = "<", kind: int = 1, negative: bool = False) -> bytes:
    """An uncompressed TIFF. `kind` is its sample format: 1 unsigned, 2 signed, 3 floats."""
    height, width, *channels = values.shape
    count, bits = (channels or [1])[0], 8 * values.dtype.itemsize
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    shorts = [bits] * count if count > 1 else []
    photometric = 2 if count > 1 else int(not negative)
    tags = [(0x100, 4, 1, width), (0x101, 4, 1, height), (0x102, 3, count, 8 if shorts else bits), (0x103, 3, 1, 1)]
    tags += [(0x106, 3, 1, photometric), (0x111, 4, 1, 8 + 2 * len(shorts)), (0x115, 3, 1, count)]
    tags += [(0x116, 4, 1, height), (0x117, 4, 1, len(body)), (0x153, 3, 1, kind)]
    if count == 4:
        tags.insert(-1, (0x152, 3, 1, 2))
    at = 8 + 2 * len(shorts) + len(body)
    entries = b"".join(
        struct.pack(order + "HHI", tag, form, many)
        + struct.pack(order + ("I" if form == 4 or many > 1 else "Hxx"), value)
        for tag, form, many, value in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return (
        head
        + struct.pack(f"{order}{len(shorts)}H", *shorts)
        + body
        + struct.pack(order + "H", len(tags))
        + entries
        + bytes(4)
    )


def png16(values: np.ndarray) -> bytes:
    """A PNG of (H, W, 3|4) in 16 bits, which Pillow cannot write; its rows are filtered by "up"."""
    rows = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(len(values), -1)
    filtered = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    data = zlib.compress(b"".join(b"\2" + row.tobytes() for row in filtered))
    header = struct.pack(">IIBBBBB", values.shape[1], len(values), 16, {3: 2, 4: 6}[values.shape[2]], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def read(data: bytes) -> np.ndarray:
    return np.asarray(load_image(data)).astype(int)


@pytest.mark.parametrize("write", [png16, tiff, lambda values: tiff(values, ">")], ids=["PNG", "TIFF", "TIFF MM"])
def test_colours_in_twelve_bits_of_sixteen_are_not_almost_black(write: Any) -> None:
    dim = SCENE.astype(np.uint16) * 16 + 7
    low, high = np.percentile(dim, (0.1, 99.9))
    expected = ((dim - low) / (high - low)).clip(0, 1) * 255
    assert np.abs(read(write(dim)) - expected).max() <= 1
    assert np.abs(read(write(SCENE.astype(np.uint16) * 257)) - SCENE).max() == 0
    for least in (0, 3840):  # 8 bits, and the low bytes alone
        assert np.abs(read(write(SCENE.astype(np.uint16) + least))[..., :3].std() - SCENE.std()) < 12
    opaque = np.dstack([dim, np.full(dim.shape[:2], 65535, np.uint16)])
    assert np.abs(read(write(opaque)) - expected).max() <= 1


KINDS = {
    "uint16": (GREY.astype(np.uint16) * 257, 1),
    "uint32": (GREY.astype(np.uint32) * 16_843_009, 1),
    "int16": (GREY.astype(np.int16) * 250 - 32000, 2),
    "int8": ((GREY ^ 128).view(np.int8), 2),
    "float32": (GREY.astype(np.float32) / 255, 3),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_tiff_of_any_kind_of_numbers_shows_its_picture(name: str) -> None:
    values, kind = KINDS[name]
    for order in "<>"[: 1 + (name != "uint32")]:  # Pillow does not read it in the other order
        shown = read(tiff(values, order, kind))[..., 0]
        assert np.corrcoef(shown.ravel(), GREY.ravel())[0, 1] > 0.999
        assert shown.min() < 40
        assert shown.max() > 215


def test_a_tiff_whose_zero_is_white_is_no_negative() -> None:
    for values in (255 - GREY, 65535 - GREY.astype(np.uint16) * 257):
        assert np.abs(read(tiff(values, negative=True))[..., 0] - GREY).max() <= 1


def planar(values: np.ndarray, order: str = "<", strip: int = 0) -> bytes:
    """An uncompressed TIFF of (H, W, 3|4) in 16 bits whose channels lie one after the other."""
    height, width, count = values.shape
    strip = strip or height
    parts = [
        values[y : y + strip, :, c].astype(f"{order}u2").tobytes()
        for c in range(count)
        for y in range(0, height, strip)
    ]
    starts = np.cumsum([8, *map(len, parts)]).tolist()
    lists = {0x102: [16] * count, 0x111: starts[:-1], 0x117: list(map(len, parts))}
    tags = {
        0x100: [width],
        0x101: [height],
        0x103: [1],
        0x106: [2],
        0x115: [count],
        0x116: [strip],
        0x11C: [2],
        **lists,
    }
    tags |= {0x152: [2]} if count == 4 else {}
    at, entries, more = starts[-1], b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        form, letter = (3, "H") if tag == 0x102 else (4, "I")
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            packed, more = struct.pack(f"{order}I", behind + len(more)), more + packed
        entries += struct.pack(f"{order}HHI", tag, form, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + b"".join(parts) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more


@pytest.mark.parametrize(("order", "strip"), [("<", 0), (">", 0), ("<", 7), (">", 20)])
def test_colours_of_sixteen_bits_may_lie_one_after_the_other(order: str, strip: int) -> None:
    """Pillow takes such channels for 8 bits and shows stripes."""
    full = SCENE.astype(np.uint16) * 257
    assert np.abs(read(planar(full, order, strip)) - SCENE).max() == 0
    opaque = np.dstack([full, np.full(full.shape[:2], 65535, np.uint16)])
    assert np.abs(read(planar(opaque, order, strip)) - SCENE).max() == 0
    dim = SCENE.astype(np.uint16) * 16
    assert np.abs(read(planar(dim, order, strip)) - read(png16(dim))).max() <= 1


def test_grey_with_alpha_in_twelve_bits_of_sixteen_is_not_almost_black() -> None:
    alpha = np.full(GREY.shape, 65535, np.uint16)
    for times, most in ((16, 18), (257, 0)):  # 12 bits are stretched
        rows = np.stack([GREY.astype(np.uint16) * times, alpha], -1).astype(">u2")
        packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        header = struct.pack(">IIBBBBB", GREY.shape[1], len(GREY), 16, 4, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
        data = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
        assert np.abs(read(data) - GREY[..., None]).mean() <= most


def with_tags(values: np.ndarray, tags: dict[int, str]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo=tags)
    return buffer.getvalue()


@pytest.mark.parametrize("fill", [-9999.0, float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)])
def test_what_a_map_does_not_know_does_not_make_the_rest_one_grey(fill: float) -> None:
    heights = GREY.astype(np.float32) * 3 + 200
    heights[:, : len(heights[0]) // 3] = fill
    known = np.s_[:, len(heights[0]) // 3 + 1 :]
    told = {0xA481: str(int(fill))} if fill == -9999 else {}  # the largest floats need no tag
    shown = read(with_tags(heights, told))[..., 0]
    assert np.corrcoef(shown[known].ravel(), GREY[known].ravel())[0, 1] > 0.99
    assert shown[known].std() > 0.7 * GREY[known].std()


def test_a_map_of_whole_numbers_may_tell_what_it_does_not_know() -> None:
    heights = GREY.astype(np.uint16) + 100
    heights[:10] = 65535
    shown = read(with_tags(heights, {0xA481: "65535"}))[..., 0]
    assert shown[10:].std() > 0.9 * GREY[10:].std()
