"""Is a picture the blown-up copy of a smaller one? Then its additional pixels hold nothing that the smaller one lacks.

A real picture has more detail than the smaller one can hold: in photos, shrunk to 0.8 and 0.5 of their size, 2.8 to 50 times as
much as an enlargement of the smaller one. A blown-up copy has 0.5 to 1.8 times as much.

A soft picture has little detail in any case. It only counts as blown up if it is nearer to the enlargement than its own reduction
is to the smaller one. In doubt the answer is no: then the larger picture is kept, which lacks nothing.
"""

from __future__ import annotations

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
SIDE = 1024  # pixels of the larger picture that are looked at, in the middle
MARGIN = 1.05
LEAST = 100  # pixels of the smaller picture's shorter side: icons are drawn anew for each size, and are never blown up
FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def is_blown_up(large: Image.Image, small: Image.Image) -> bool:
    """Whether the larger of two copies of one picture has no more detail than the smaller one."""
    large, small = _middle(large, small)
    share = small.height / large.height * MARGIN, small.width / large.width * MARGIN
    if max(share) >= 1 or min(small.size) < LEAST:
        return False
    enlarged = [small.resize(large.size, how) for how in FILTERS]
    expected = max(_beyond(each, share) for each in enlarged)
    ratio = _beyond(large, share) / max(expected, 1e-12)
    shrunk = large.resize(small.size, Image.Resampling.LANCZOS)
    if expected < SOFT:
        nearer = min(_apart(each, large) for each in enlarged) < NEARER * _apart(shrunk, small)
        return nearer and SOFT_BLOWN_UP[0] <= ratio <= SOFT_BLOWN_UP[1]
    if BLOWN_UP[0] <= ratio <= BLOWN_UP[1]:
        return True
    return _beyond(shrunk, (0.5, 0.5)) < POORER * _beyond(small, (0.5, 0.5))


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


def _beyond(image: Image.Image, share: tuple[float, float]) -> float:
    """The share of a picture's energy above a share of the finest detail, down and across, that its pixels can hold."""
    values = np.asarray(image, np.float32)
    height, width = values.shape
    window = np.hanning(height)[:, None] * np.hanning(width)  # no jump from one edge to the opposite one
    energy = np.abs(np.fft.rfft2((values - values.mean()) * window)) ** 2
    down, across = np.abs(np.fft.fftfreq(height)) * 2, np.fft.rfftfreq(width) * 2
    is_beyond = (down[:, None] > share[0]) | (across > share[1])
    return float(energy[is_beyond].sum() / max(energy.sum(), 1e-12))
