"""What it costs to decode a picture, told from its header: bytes of memory, and steps. These are the limits of all pictures."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from spq.errors import ImageError

MAX_PIXELS = 178_956_970  # Pillow's own limit; a lower limit set in Pillow also counts
BYTES = 4.5  # of memory for each pixel of the limit
MORE = 50_000_000  # bytes of memory on top, mostly for the file
MAX_SIDE = 250_000  # pixels of a side; each row has a cost of its own, and resizing takes the square of a side
READS = 90  # the parts of a file may be read in as many steps as the limit has pixels, divided by this
PIXEL_READS = 12  # the same for pixels that are decoded in Python
LEAST_READS = 2**16
SHORT = 2**20  # bytes of a file that cannot have too many parts
TILE = 4300  # bytes for each component of a tile of a JPEG 2000, whatever its size
MAX_SCANS = 4_000_000_000  # pixels of a JPEG times its scans
MAX_PACKED = 4_000_000  # pixels of a FITS picture that is packed
MAX_NUMBERS = 2**20  # in the tags of a page of a TIFF
MAX_PAGES = 256
_DEPTHS = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes in Pillow; of other modes 4
_DECODERS = {"WEBP": 16, "AVIF": 20, "HEIF": 14}  # bytes for each pixel at the peak of a decoder, measured
_IN_PYTHON = 9  # the same for decoders that are written in Python
_SOF = re.compile(rb"\xff[\xc0-\xc2]..\x08(..)(..)", re.DOTALL)
_INSIDE = re.compile(rb"IHDR(....)(....)|ihdr(....)(....)", re.DOTALL)
_TYPES = {3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 16, 17, 18}  # of TIFF, whose values become numbers of Python


def memory_limit(max_pixels: int) -> int:
    """Return the bytes that a picture may take while it is decoded, its file included."""
    return int(BYTES * max_pixels) + MORE


def stream(data: bytes, max_pixels: int) -> io.BytesIO:
    """Return the bytes of a file to read from. Only of a long one are the steps counted, which takes time itself."""
    return Steps(data, max_pixels) if len(data) > SHORT else io.BytesIO(data)


class Steps(io.BytesIO):
    """The bytes of a file. Reading it in more steps than `limit` is an error.

    Formats have parts that are read one by one: chunks, tags, notes, runs of pixels. Millions of them would take minutes.
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        super().__init__(data)
        self._left, self._max_pixels = max(LEAST_READS, max_pixels // READS), max_pixels

    def expect(self, image: Image.Image) -> None:
        """Allow more steps for a picture whose format is decoded in Python, pixel by pixel; they end with the file."""
        if _codecs(image) & set(Image.DECODERS):
            self._left = max(LEAST_READS, self._max_pixels // PIXEL_READS)

    def read(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().readline(size)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ImageError("it consists of too many parts; save it again as PNG or JPEG, or raise `max_pixels`")


def check_tags(data: bytes) -> None:
    """Refuse a TIFF whose tags have so many numbers that they would fill the memory.

    Raises:
        ImageError: it is one.
    """
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return
    order, is_big = "<" if data[:2] == b"II" else ">", b"+" in data[:4]
    where, count = ("Q", "Q") if is_big else ("I", "H")
    kinds = [("tag", "u2"), ("type", "u2"), ("count", "u8" if is_big else "u4"), ("value", "u8" if is_big else "u4")]
    dtype = np.dtype([(name, order + kind) for name, kind in kinds])
    pointer, seen = (8 if is_big else 4), set[int]()
    while pointer + struct.calcsize(where) <= len(data) and len(seen) < MAX_PAGES:
        at = struct.unpack_from(order + where, data, pointer)[0]
        if at in seen or not 8 <= at <= len(data) - 8:
            return
        seen.add(at)
        start = at + struct.calcsize(count)
        entries = struct.unpack_from(order + count, data, at)[0]
        entries = min(entries, (len(data) - start) // dtype.itemsize)
        tags = np.frombuffer(data, dtype, entries, start)
        numbers = tags["count"][np.isin(tags["type"], list(_TYPES))]
        if numbers.astype(np.float64).sum() > MAX_NUMBERS:
            raise ImageError(f"its tags have more than {MAX_NUMBERS:,} numbers; save it again as PNG or JPEG")
        pointer = start + entries * dtype.itemsize


def decoding_bytes(image: Image.Image, data: bytes, size: tuple[int, int]) -> int:
    """Return the bytes that it takes to decode an opened picture, without those of its file.

    Args:
        size: width and height as stored; the picture may be decoded at a fraction of them.
    Raises:
        ImageError: it would take minutes.
    """
    pixels = image.width * image.height * pixel_bytes(image)
    if image.format in ("JPEG", "MPO"):
        return pixels + _coefficients(image, data, size)
    if image.format == "JPEG2000":
        return pixels + _components(data)
    if image.format in ("ICO", "CUR", "ICNS", "BLP"):
        return max(pixels, 16 * hidden_pixels(data))
    if image.format == "TIFF":
        _check_covered(image)
        return pixels + _strip_bytes(image)
    codecs = _codecs(image)
    if "fits_gzip" in codecs and image.width * image.height > MAX_PACKED:
        raise ImageError(f"{image.width} x {image.height} packed pixels of FITS take too long; save it as PNG or JPEG")
    per_pixel = _IN_PYTHON if codecs & set(Image.DECODERS) else _DECODERS.get(image.format or "", 0)
    return max(pixels, image.width * image.height * per_pixel)


def _codecs(image: Image.Image) -> set[str]:
    return {tile[0] for tile in getattr(image, "tile", ())}


def pixel_bytes(image: Image.Image) -> int:
    """Return the bytes of a pixel of a picture in Pillow."""
    return _DEPTHS.get(image.mode, 4)


def hidden_pixels(data: bytes) -> int:
    """Return the pixels of the largest PNG, JPEG, JPEG 2000 or bitmap inside an icon; its header may say less."""
    sizes = [(int.from_bytes(a or c, "big"), int.from_bytes(b or d, "big")) for a, b, c, d in _INSIDE.findall(data)]
    sizes += [(int.from_bytes(a, "big"), int.from_bytes(b, "big")) for a, b in _SOF.findall(data)]
    if data[:4] in (b"\0\0\1\0", b"\0\0\2\0"):
        for entry in range(6, min(6 + 16 * int.from_bytes(data[4:6], "little"), len(data) - 15), 16):
            at = int.from_bytes(data[entry + 12 : entry + 16], "little")
            if data[at : at + 4] == b"\x28\0\0\0" and len(data) >= at + 12:
                width, height = struct.unpack_from("<ii", data, at + 4)
                sizes.append((abs(width), abs(height)))
    return max((width * height for width, height in sizes), default=0)


def _coefficients(image: Image.Image, data: bytes, size: tuple[int, int]) -> int:
    """Return the bytes of the coefficients of a JPEG with several scans; all of them are in memory before the first pixel."""
    scans, area = data.count(b"\xff\xda"), size[0] * size[1]
    if scans <= 1 and "progressive" not in image.info:
        return 0
    if scans * area > MAX_SCANS:
        raise ImageError(f"{scans:,} scans of {size[0]} x {size[1]} pixels take too long; save it again as PNG or JPEG")
    layers = image.layer  # type: ignore[attr-defined]
    across, down = (max((layer[n] for layer in layers), default=1) or 1 for n in (1, 2))
    samples = sum(layer[1] * layer[2] for layer in layers) / (across * down)
    return int(2 * samples * area)


def _components(data: bytes) -> int:
    """Return the bytes of the numbers of a JPEG 2000: those of one tile at a time, and what it knows of all tiles."""
    at = data.find(b"\xff\x51")
    if at < 0 or at + 40 > len(data):
        return 0
    numbers: tuple[int, ...] = struct.unpack_from(">IIIIII", data, at + 6)
    width, height, left, top, across, down = numbers
    count = int.from_bytes(data[at + 38 : at + 40], "big")
    tiles = -(-width // max(1, across)) * -(-height // max(1, down))
    return count * (6 * max(0, min(width - left, across)) * max(0, min(height - top, down)) + TILE * tiles)


def _check_covered(image: Image.Image) -> None:
    """Refuse a TIFF whose strips are fewer than its height; what lacks would be black.

    Raises:
        ImageError: it is one.
    """
    extents = [tile[1] for tile in image.tile]  # type: ignore[attr-defined]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in extents)
    if covered < image.width * image.height:
        raise ImageError("image file is truncated: it has fewer strips than its height needs")


def _strip_bytes(image: Image.Image) -> int:
    """Return the bytes of the largest strip or tile of a TIFF, and of its turned copy."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    area = image.width * image.height

    def number(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        value = value[0] if isinstance(value, tuple) and value else value
        return value if isinstance(value, int) else default

    rows = min(number(278, image.height), image.height)
    pixels = number(322, 0) * number(323, 0) or rows * image.width
    is_whole = number(259, 1) == 1  # not compressed: read piece by piece
    turned = area * pixel_bytes(image) if number(274, 1) > 1 else 0
    return (0 if is_whole else pixels * number(277, 1) * (-(-number(258, 8) // 8))) + turned


class _Room:
    """Memory that pictures share which are decoded at the same time, in several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._used = 0

    @contextmanager
    def take(self, count: int, total: int) -> Iterator[None]:
        """Wait until there is room for `count` bytes beside those of others; one alone always has room."""
        with self._changed:
            while self._used and self._used + count > total:
                self._changed.wait()
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()


room = _Room()


def shared_memory(max_pixels: int) -> int:
    """Return the bytes that all pictures may take which are decoded at the same time: an eighth of the machine's memory.

    Under a lower limit than the default, as for uploads, they share what one may take.
    """
    least = memory_limit(max_pixels)
    return least if max_pixels < MAX_PIXELS else max(least, MACHINE // 8)


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


MACHINE = _machine_memory()
