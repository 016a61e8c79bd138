"""Make pictures fit into the limits of pixels and memory, before they are decoded and after."""

from __future__ import annotations

from PIL import Image

from spq.data.deep import is_deep
from spq.data.frames import ANIMATED
from spq.data.work import MAX_SIDE, decoding_bytes, memory_limit, pixel_bytes
from spq.errors import ImageError

MAX_SHRINK = 8  # a picture whose copies would take too much memory is divided by at most this, in width and height
MOST_COPIES = 9  # bytes for each pixel: turned, and in 8 bits before that
LARGE_JPEG = 8  # a JPEG may have this many times the limit, because it is decoded at a fraction of its size


def fit(image: Image.Image, data: bytes, size_hint: int | None, limit: int, memory: int) -> int:
    """Let a JPEG be decoded at a fraction of its size, for the size that is needed and for the limits; return the bytes it takes.

    Raises:
        ImageError: the picture is over a limit, and cannot be decoded so that it is not.
    """
    full_size = width, height = image.size
    is_jpeg = image.format in ("JPEG", "MPO")  # MPO: many phones write it
    if width * height > limit and not (is_jpeg and width * height <= LARGE_JPEG * limit):
        raise ImageError(f"{width} x {height} pixels are {over(limit)}")
    if max(full_size) > MAX_SIDE:
        raise ImageError(f"{width} x {height} pixels: a side is over the limit of {MAX_SIDE:,}; crop it first")
    needed = decoding_bytes(image, data, full_size)
    if is_jpeg:
        side = 2 * (size_hint or max(width, height))  # at least twice the needed size
        for_size = next((n for n in (8, 4, 2) if min(width, height) >= n * side), 1)
        for_limit = next((n for n in (1, 2, 4) if _fits(image, needed, n, limit, memory)), 8)
        divisor = max(for_size, for_limit)
        if divisor > 1:  # only once: a second call has no effect
            before = width * height * pixel_bytes(image)
            image.draft("RGB", (max(1, width // divisor), max(1, height // divisor)))
            needed += image.width * image.height * pixel_bytes(image) - before
    elif image.format == "JPEG2000" and needed > memory:
        image.reduce = next((n for n in (1, 2, 3) if needed >> 2 * n <= memory), 3)  # type: ignore[assignment]
        needed >>= 2 * image.reduce  # type: ignore[operator]
    if image.width * image.height > limit:
        raise ImageError(f"{width} x {height} pixels are {over(limit)}")
    if needed > memory:
        raise ImageError(f"{width} x {height} pixels of this kind need {_megabytes(needed, data, limit)}")
    return needed


def _fits(image: Image.Image, needed: int, fraction: int, limit: int, memory: int) -> bool:
    """Whether a JPEG is within the limits when it is decoded at a fraction of its size."""
    pixels = -(-image.width // fraction) * -(-image.height // fraction)
    return pixels <= limit and needed - (image.width * image.height - pixels) * pixel_bytes(image) <= memory


def with_copies(image: Image.Image, needed: int) -> int:
    """Return about how many bytes a picture takes with its copies in other colours, turned, or of other frames."""
    copies = 16 if image.format in ANIMATED - {"PNG"} else 4 + pixel_bytes(image)
    return max(needed, copies * image.width * image.height)


def _megabytes(needed: int, data: bytes, limit: int) -> str:
    million = (needed + len(data)) // 10**6
    return (
        f"{million:,} MB of memory, over the limit of {memory_limit(limit) // 10**6:,} MB; save it in a simpler format, "
        "scale it down first, or raise `max_pixels`"
    )


def over(limit: int) -> str:
    if Image.MAX_IMAGE_PIXELS is not None:
        limit = min(limit, 2 * Image.MAX_IMAGE_PIXELS)
    return f"over the limit of {limit:,}; scale it down first, or raise `max_pixels`"


def fraction(image: Image.Image, is_turned: bool, memory: int) -> int:
    """Return the smallest number by which to divide width and height so that a picture and its copies fit into the memory."""
    area, own = image.width * image.height, pixel_bytes(image)
    if (own + MOST_COPIES) * area <= memory:
        return 1
    is_ready = image.mode == "RGB" and not {"icc_profile", "gamma", "transparency"} & set(image.info)
    for shrink in range(1, MAX_SHRINK + 1):
        is_same = is_ready and shrink == 1
        copies = 4 * (not is_same) + 4 * is_turned + is_deep(image)
        if (own + copies / shrink**2) * area <= memory:
            return shrink
    raise ImageError(
        f"{image.width} x {image.height} pixels need too much memory; scale it down first, or raise `max_pixels`"
    )
