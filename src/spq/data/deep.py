"""Pixels of more than 8 bits, scaled so that they are seen, and what Pillow leaves out of them."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from spq.errors import ImageError

TOPS = (1, 255, 65535)  # largest values that files use by convention
SHARES = (0.1, 99.9)  # percentiles between which a picture is stretched
SAMPLE = 1_000_000  # values that the percentiles are measured on
BITS, PHOTOMETRIC, SAMPLE_FORMAT, NO_DATA = 0x102, 0x106, 0x153, 0xA481  # tags of TIFF; the last one is of maps
FILL = 0.99  # floats beyond this share of the largest one stand for "no value"
_UNSIGNED = (32,), {1}
_PLANES = ("R", "G", "B", "A")
_NATIVE = "L" if sys.byteorder == "little" else "B"


def is_deep(image: Image.Image) -> bool:
    """Whether a picture of one channel has more than 8 bits in Pillow, too."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_8_bits(image: Image.Image | NDArray[Any]) -> Image.Image:
    """Scale pixels of 16 bits, 32 bits or floats to 8 bits, where Pillow's convert would clip at 255.

    - If the picture spans at least half of 0..1 (floats), 0..255 or 0..65535, and nothing outside, that range becomes 0..255. So
      a photo in 16 bits looks as its copy in 8 bits.
    - Else it is stretched: the percentiles 0.1 and 99.9 become 0 and 255. So 12 bits in a file of 16 are not almost black, and
      single hot pixels do not make the rest dark.
    - A picture of one value keeps its value, in the first of these ranges that has it.

    NaN counts as the lowest value, and infinity as the lowest or highest one. So do the largest floats, with which maps and
    measurements fill what they do not know.
    """
    values = _with_infinities(np.asarray(image))
    low, high = _span(values)
    out = np.empty(values.shape, np.uint8)
    rows = max(1, SAMPLE // max(1, values.shape[1]))
    for first in range(0, len(values), rows):  # in parts, because 64-bit floats of all would take much memory
        part = values[first : first + rows].astype(np.float64)
        scaled = (np.nan_to_num(part, nan=low, posinf=high, neginf=low) - low) / (high - low)
        out[first : first + rows] = np.round(scaled.clip(0, 1) * 255)
    return Image.fromarray(out)


def _with_infinities(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values
    top = np.finfo(values.dtype).max * FILL
    is_fill = np.isfinite(values) & (np.abs(values) > top)
    return np.where(is_fill, np.copysign(np.inf, values), values).astype(values.dtype) if is_fill.any() else values


def _span(values: NDArray[Any]) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    sample = _sample(values)
    sample = sample[np.isfinite(sample)].astype(np.float64)
    if not len(sample):
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, SHARES))
    if high <= low:  # one value, or a few pixels of others
        low, high = float(sample.min()), float(sample.max())
    tops = [float(top) for top in TOPS[values.dtype.kind != "f" :] if high <= top]
    if low >= 0 and tops and (high <= low or high - low >= tops[0] / 2):
        return 0.0, tops[0]
    return (low, high) if high > low else (low - 1.0, low)


def _sample(values: NDArray[Any]) -> NDArray[Any]:
    step = int(np.ceil(np.sqrt(max(1, values.size / SAMPLE))))
    return values[::step, ::step]


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


def with_low_bytes(image: Image.Image, data: bytes) -> Image.Image:
    """Return a picture of `data` in 16 bits, in RGB or in grey with alpha, scaled as `to_8_bits` does.

    Only where that is not what Pillow shows; else the picture as it is.

    Pillow keeps the high byte of each value. That is right for a photo that uses the range; 12 bits in 16 would be almost black.
    Reading the file in the other order of bytes gives the low bytes.
    """
    other = [_swapped(tile) for tile in image.tile] if image.mode in ("RGB", "RGBA") else []  # type: ignore[attr-defined]
    if not other or None in other or getattr(image, "is_animated", False):
        return image
    image.load()
    high = np.asarray(image)[..., :3]
    if np.ptp(np.percentile(_sample(high), SHARES)) >= 128:  # it uses the range
        return image
    with Image.open(io.BytesIO(data)) as again:
        again.tile = other
        parts = np.asarray(again)
    is_grey = other[0].args == "RGBA"
    high, low = (parts[..., 0], parts[..., 1]) if is_grey else (high, parts[..., :3])
    scaled = to_8_bits(high.astype(np.uint16) * 256 + low)
    scaled = scaled.convert("RGB") if is_grey else scaled
    if image.mode == "RGBA":
        scaled.putalpha(image.getchannel("A"))
    scaled.info = image.info
    return scaled


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


def _without_fill(values: NDArray[Any], told: object) -> NDArray[Any]:
    """Return values as floats with NaN where a map says that it has none; unchanged if it does not say so."""
    try:
        fill = float(str(told).strip("\0 "))
    except ValueError:
        return values
    is_fill = values == fill
    return (
        np.where(is_fill, np.nan, values.astype(np.float64)) if 0 < np.count_nonzero(is_fill) < values.size else values
    )


def as_stored(image: Image.Image) -> Image.Image:
    """Return the page of a TIFF with the signs and the direction that its tags give, which Pillow ignores for some kinds."""
    tags = getattr(image, "tag_v2", None)
    if not tags:
        return image
    kinds = set(tags.get(SAMPLE_FORMAT, (1,)))
    if image.mode == "L" and kinds == {2}:
        stored = Image.fromarray(np.asarray(image) ^ 128)  # -128..127
    elif is_deep(image):
        values = np.asarray(image)
        values = values.view(np.uint32) if image.mode == "I" and (tags.get(BITS), kinds) == _UNSIGNED else values
        stored = to_8_bits(_without_fill(values, tags.get(NO_DATA)))
        stored = ImageChops.invert(stored) if tags.get(PHOTOMETRIC) == 0 else stored
    else:
        return image
    stored.info = image.info
    return stored
