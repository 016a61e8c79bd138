"""Pixels of more than 8 bits, scaled so that they are seen, and what Pillow leaves out of them."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from spq.data.strips import Box, boxes, by_parts, part
from spq.errors import ImageError

TOPS = (1, 255, 65535)  # largest values that files use by convention
SHARES = (0.1, 99.9)  # percentiles between which a picture is stretched
SAMPLE = 1_000_000  # values that the percentiles are measured on
BITS, PHOTOMETRIC, SAMPLE_FORMAT, NO_DATA = 0x102, 0x106, 0x153, 0xA481  # tags of TIFF; the last one is of maps
FILL = 0.99  # floats beyond this share of the largest one stand for "no value"
COPIES_OF_LOW = 13  # bytes for each pixel of RGB in 16 bits whose low bytes are read, too
_UNSIGNED = (32,), {1}
_PLANES = ("R", "G", "B", "A")
_NATIVE = "L" if sys.byteorder == "little" else "B"


def is_deep(image: Image.Image) -> bool:
    """Whether a picture of one channel has more than 8 bits in Pillow, too."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_8_bits(image: Image.Image, shrink: int = 1) -> Image.Image:
    """Scale pixels of 16 bits, 32 bits or floats to 8 bits, where Pillow's convert would clip at 255.

    - If the picture spans at least half of 0..1 (floats), 0..255 or 0..65535, and nothing outside, that range becomes 0..255. So
      a photo in 16 bits looks as its copy in 8 bits.
    - Else it is stretched: the percentiles 0.1 and 99.9 become 0 and 255. So 12 bits in a file of 16 are not almost black, and
      single hot pixels do not make the rest dark.
    - A picture of one value keeps its value, in the first of these ranges that has it.

    NaN counts as the lowest value, and infinity as the lowest or highest one. So do the largest floats, with which maps and
    measurements fill what they do not know.
    """
    return _scaled(image.size, lambda box: np.asarray(part(image, box)), shrink)


def _scaled(size: tuple[int, int], values_of: Callable[[Box], NDArray[Any]], shrink: int = 1) -> Image.Image:
    """Scale values to 8 bits. They are asked for part by part, because all of them as 64-bit floats would take much memory.

    Args:
        values_of: (rows, columns) or (rows, columns, 3) values of a part of the picture.
    """
    low, high = _span(_sample(size, values_of))

    def levels(values: NDArray[Any]) -> NDArray[np.uint8]:
        values = _with_infinities(values).astype(np.float64)
        scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low)
        rounded: NDArray[np.uint8] = np.round(scaled.clip(0, 1) * 255).astype(np.uint8)
        return rounded

    table = levels(np.arange(2**16))  # quicker than arithmetic with each pixel

    def eight_bits(box: Box) -> Image.Image:
        values = values_of(box)
        return Image.fromarray(table[values] if values.dtype in (np.uint8, np.uint16) else levels(values))

    return by_parts(size, eight_bits, shrink)


def _with_infinities(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values
    top = np.finfo(values.dtype).max * FILL
    is_fill = np.isfinite(values) & (np.abs(values) > top)
    return np.where(is_fill, np.copysign(np.inf, values), values).astype(values.dtype) if is_fill.any() else values


def _span(values: NDArray[Any]) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    values = _with_infinities(values)
    sample = values[np.isfinite(values)].astype(np.float64)
    if not len(sample):
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, SHARES))
    if high <= low:  # one value, or a few pixels of others
        low, high = float(sample.min()), float(sample.max())
    tops = [float(top) for top in TOPS[values.dtype.kind != "f" :] if high <= top]
    if low >= 0 and tops and (high <= low or high - low >= tops[0] / 2):
        return 0.0, tops[0]
    return (low, high) if high > low else (low - 1.0, low)


def _sample(size: tuple[int, int], values_of: Callable[[Box], NDArray[Any]]) -> NDArray[Any]:
    """Return about `SAMPLE` values of pixels that are evenly spaced."""
    width, height = size
    step = math.ceil(math.sqrt(max(1, width * height / SAMPLE)))
    if step == 1:
        return values_of((0, 0, width, height))
    columns = SAMPLE * step  # more in one row are not asked for at once
    starts = ((top, left) for top in range(0, height, step) for left in range(0, width, columns))
    lines = (values_of((left, top, min(left + columns, width), top + 1))[0, ::step] for top, left in starts)
    return np.concatenate(list(lines))


def with_whole_planes(image: Image.Image) -> Image.Image:
    """Let Pillow read a TIFF whose colours lie one after the other, in 16 bits: it takes their bytes for pixels of 8 bits.

    Raises:
        ImageError: Pillow cannot read its colours so.
    """
    tags = getattr(image, "tag_v2", None)
    if not tags or set(tags.get(BITS, ())) != {16}:
        return image
    order = "L" if tags.prefix == b"II" else "B"
    tiles = image.tile  # type: ignore[attr-defined]
    if any(tile.codec_name == "raw" and tile.args[0] in ("C", "M", "Y", "K") for tile in tiles):
        raise ImageError("CMYK in 16 bits, one colour after the other, is not read; save it as PNG or JPEG")
    image.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
        if tile.codec_name == "raw" and tile.args[0] in _PLANES
        else tile
        for tile in tiles
    ]
    return image


def with_low_bytes(image: Image.Image, data: bytes, room: float = math.inf) -> Image.Image:
    """Return a picture of `data` in 16 bits, in RGB or in grey with alpha, scaled as `to_8_bits` does.

    Only where that is not what Pillow shows; else the picture as it is.

    Pillow keeps the high byte of each value. That is right for a photo that uses the range; 12 bits in 16 would be almost black.
    Reading the file in the other order of bytes gives the low bytes.

    Args:
        room: bytes that pixels may take.
    Raises:
        ImageError: the low bytes are needed, and there is no room for them.
    """
    other = [_swapped(tile) for tile in image.tile] if image.mode in ("RGB", "RGBA") else []  # type: ignore[attr-defined]
    if not other or None in other or getattr(image, "is_animated", False):
        return image
    image.load()
    high = _sample(image.size, lambda box: np.asarray(part(image, box))[..., :3])
    if np.ptp(np.percentile(high, SHARES)) >= 128:  # it uses the range
        return image
    if COPIES_OF_LOW * image.width * image.height > room:
        raise ImageError(
            f"{image.width} x {image.height} dark pixels of 16 bits need too much memory; save it with 8 bits"
        )
    with Image.open(io.BytesIO(data)) as again:
        again.tile = other
        again.load()
        scaled = _scaled(
            image.size, lambda box: _both_bytes(part(image, box), part(again, box), other[0].args == "RGBA")
        )
    scaled = scaled.convert("RGB") if scaled.mode == "L" else scaled
    if image.mode == "RGBA":
        scaled.putalpha(image.getchannel("A"))
    scaled.info = image.info
    return scaled


def _both_bytes(image: Image.Image, swapped: Image.Image, is_grey: bool) -> NDArray[np.uint16]:
    """Return values of 16 bits: their high bytes are in one picture, their low bytes in the other."""
    parts = np.asarray(swapped)
    high, low = (parts[..., 0], parts[..., 1]) if is_grey else (np.asarray(image)[..., :3], parts[..., :3])
    values: NDArray[np.uint16] = high.astype(np.uint16) * np.uint16(256) + low
    return values


def _swapped(tile: Any) -> Any:
    """The part of a file that Pillow decodes at once, with the other order of bytes; None if it has not 16 bits a channel.

    Grey with alpha has no other order in Pillow. Its four bytes are read as if they were four channels.
    """
    if tile.args == "LA;16B":
        return tile._replace(args="RGBA")
    first, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode, _, order = str(first).partition(";16")
    if mode not in ("RGB", "RGBX", "RGBA", *_PLANES) or order not in ("L", "B", "N"):
        return None
    order = "B" if order.replace("N", _NATIVE) == "L" else "L"
    return tile._replace(args=(f"{mode};16{order}", *rest) if isinstance(tile.args, tuple) else f"{mode};16{order}")


def stored_in_8_bits(image: Image.Image, shrink: int = 1) -> Image.Image:
    """Return a picture in 8 bits; of a TIFF with the signs and the direction that its tags give, which Pillow ignores at times.

    Args:
        shrink: a picture of more than 8 bits is divided by it, in width and height.
    """
    tags = getattr(image, "tag_v2", None) or {}
    if image.mode == "L" and set(tags.get(SAMPLE_FORMAT, ())) == {2}:
        stored = image.point([value ^ 128 for value in range(256)])  # -128..127
    elif is_deep(image):
        stored = _scaled(image.size, _stored_values(image, tags), shrink)
        stored = ImageChops.invert(stored) if tags.get(PHOTOMETRIC) == 0 else stored
    else:
        return image
    stored.info = image.info
    return stored


def _stored_values(image: Image.Image, tags: Any) -> Callable[[Box], NDArray[Any]]:
    """Return what gives the values of a part of a picture: unsigned, and NaN where a map says that it has none."""
    is_unsigned = image.mode == "I" and (tags.get(BITS), set(tags.get(SAMPLE_FORMAT, (1,)))) == _UNSIGNED

    def values_of(box: Box) -> NDArray[Any]:
        values = np.asarray(part(image, box))
        return values.view(np.uint32) if is_unsigned else values

    try:
        fill = float(str(tags.get(NO_DATA)).strip("\0 "))
    except ValueError:
        return values_of
    count = sum(int(np.count_nonzero(values_of(box) == fill)) for box in boxes(image.size))
    if not 0 < count < image.width * image.height:
        return values_of

    def known_values_of(box: Box) -> NDArray[Any]:
        values = values_of(box)
        return np.where(values == fill, np.nan, values.astype(np.float64))

    return known_values_of


def has_contrast(image: Image.Image) -> bool:
    """Whether a picture of more than 8 bits has more than one value; not if one of them is NaN."""
    ranges = [(values.min(), values.max()) for values in (np.asarray(part(image, box)) for box in boxes(image.size))]
    lows, highs = zip(*ranges, strict=True)
    return bool(np.max(highs) > np.min(lows))
