"""Is a picture the blown-up copy of a smaller one? Then its additional pixels hold nothing that the smaller one lacks.

A real picture has more detail than the smaller one can hold: in photos, shrunk to 0.8 and 0.5 of their size, 2.8 to 50 times as
much as an enlargement of the smaller one. A blown-up copy has 0.5 to 1.8 times as much.

If it was sharpened, too, its detail is stronger by about the same factor on both sides of what the smaller picture can hold. The
same is true of a soft original that was sharpened: so this is a doubt, and nothing is suggested.

A soft picture has little detail in any case. It only counts as blown up if it is nearer to the enlargement than its own reduction
is to the smaller one. In doubt the answer is no: then the larger picture is kept, which lacks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

BLOWN_UP = (0.4, 2.3)  # detail beyond the smaller picture's, as a multiple of that of its enlargements
SOFT = 3e-4  # share of the energy of an enlargement that is such detail, below which a picture is soft
SOFT_BLOWN_UP, NEARER = (1.0, 1.45), 0.9
POORER = (
    0.4  # a picture with less of the smaller one's own finest detail than this share was made from a still smaller one
)
SHARPENED, SHARPENED_BEYOND = (
    1.4,
    2.6,
)  # gain of its finest detail that is real, and its detail beyond, as a multiple of that
BAND = (0.5, 0.9)  # of the finest detail that the smaller picture can hold, where that gain is measured
SIDE = 1024  # pixels of the larger picture that are looked at, in the middle
MARGIN = 1.05
LEAST = 100  # pixels of the smaller picture's shorter side: icons are drawn anew for each size, and are never blown up
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Enlargement:
    """Whether the larger of two copies has no more detail than the smaller one.

    Attributes:
        is_certain: it has none. is_likely: it may be an enlargement that was sharpened, or a soft picture that was sharpened.
    """

    is_certain: bool = False
    is_likely: bool = False


def enlargement(large: Image.Image, small: Image.Image) -> Enlargement:
    """Compare the detail of two copies of one picture."""
    large, small = _middle(large, small)
    share = small.height / large.height * MARGIN, small.width / large.width * MARGIN
    if max(share) >= 1 or min(small.size) < LEAST:
        return Enlargement()
    enlarged = [small.resize(large.size, how) for how in FILTERS]
    found, details = _details(large, share), [_details(each, share) for each in enlarged]
    expected = max(beyond for beyond, _ in details)
    ratio = found[0] / max(expected, 1e-12)
    shrunk = large.resize(small.size, Image.Resampling.LANCZOS)
    if expected < SOFT:
        nearer = min(_apart(each, large) for each in enlarged) < NEARER * _apart(shrunk, small)
        return Enlargement(nearer and SOFT_BLOWN_UP[0] <= ratio <= SOFT_BLOWN_UP[1])
    if BLOWN_UP[0] <= ratio <= BLOWN_UP[1] or _poorer(shrunk, small):
        return Enlargement(is_certain=True)
    gain = found[1] / max(max(within for _, within in details), 1e-12)
    return Enlargement(is_likely=gain >= SHARPENED and BLOWN_UP[0] <= ratio / gain <= SHARPENED_BEYOND)


def _poorer(shrunk: Image.Image, small: Image.Image) -> bool:
    """Whether a reduced picture lacks the finest detail of one of its size."""
    finest = [_details(image, (0.5, 0.5))[0] for image in (shrunk, small)]
    return finest[0] < POORER * finest[1]


def _middle(large: Image.Image, small: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The middle of both as grey pictures, the same part of each."""
    shares = [min(1.0, SIDE / side) for side in large.size]
    parts = []
    for image in (large, small):
        sizes = [max(1, round(side * share)) for side, share in zip(image.size, shares, strict=True)]
        left, top = ((side - size) // 2 for side, size in zip(image.size, sizes, strict=True))
        parts.append(image.crop((left, top, left + sizes[0], top + sizes[1])).convert("L"))
    return parts[0], parts[1]


def _apart(a: Image.Image, b: Image.Image) -> float:
    """Root of the mean squared difference of two pictures of one size."""
    return float(np.sqrt(np.square(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean()))


def _details(image: Image.Image, share: tuple[float, float]) -> tuple[float, float]:
    """Shares of a picture's energy: above a share of the finest detail, down and across, that its pixels can hold; in `BAND`."""
    values = np.asarray(image, np.float32)
    height, width = values.shape
    window = np.hanning(height)[:, None] * np.hanning(width)  # no jump from one edge to the opposite one
    energy = np.abs(np.fft.rfft2((values - values.mean()) * window)) ** 2
    down, across = np.abs(np.fft.fftfreq(height))[:, None] * 2, np.fft.rfftfreq(width) * 2
    (least, most), (tall, wide) = BAND, (each / MARGIN for each in share)
    is_beyond = (down > share[0]) | (across > share[1])
    is_within = (down < most * tall) & (across < most * wide) & ((down > least * tall) | (across > least * wide))
    whole = max(float(energy.sum()), 1e-12)
    return float(energy[is_beyond].sum()) / whole, float(energy[is_within].sum()) / whole
