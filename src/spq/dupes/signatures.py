"""Grey thumbs, and short descriptions of them, by which copies are near each other, also after a turn, a crop or a new border.

coarse  luminance at 8 x 8 without its mean, at unit length. It ignores brightness and keeps the layout.
fine    local contrast at 32 x 32, as few numbers. It tells pages of one template apart, and ignores what is drawn over a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.decode import to_pixels
from spq.dupes.canvas import luminance
from spq.dupes.overlay import picture_box

Floats = NDArray[np.float32]

SIDE = 64  # pixels of a thumb
COARSE, FINE = 8, 32  # pixels of a side
FINE_NUMBERS = 96
WINDOWS = tuple((side, y, x) for side in (58, 52) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0))
BORDER_LEVELS = 14.0  # a row of pixels belongs to a border if its pixels differ no more than this
BATCH = 1024


def grey_thumb(image: Image.Image) -> NDArray[np.uint8]:
    """Luminance of a picture at (64, 64)."""
    grey: NDArray[np.uint8] = np.rint(luminance(to_pixels(image, SIDE).astype(np.float32))[0]).astype(np.uint8)
    return grey


def coarse(grey: Floats) -> Floats:
    """(N, S, S) -> (N, 64). An empty picture is near zero."""
    values = resized(grey, COARSE).reshape(len(grey), COARSE**2)
    values -= values.mean(1, keepdims=True)
    unit: Floats = values / np.sqrt(np.square(values).sum(1, keepdims=True) + COARSE**2)
    return unit


def fine(grey: Floats) -> Floats:
    """(N, 64, 64) -> (N, 96): the difference of each place to its surroundings, as a share of the usual difference there."""
    small = resized(grey, FINE)
    local = small - resized(resized(small, COARSE), FINE)
    spread = resized(resized(np.abs(local), COARSE), FINE)
    values = (local / (spread + 2)).reshape(len(grey), -1) @ _PROJECTION  # 2: the error of a codec
    unit: Floats = values / np.sqrt(np.square(values).sum(1, keepdims=True) + 1)
    return unit


def trimmed(grey: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Which thumbs (N, S, S) have borders of one colour, and these without them, (n, S, S)."""
    rows, found = [], []
    for n in np.flatnonzero(_has_flat_edge(grey)).tolist():
        inside = _inside(_inside(grey[n]))  # a border can have a border
        if inside.shape != grey[n].shape:
            rows.append(n)
            found.append(resized(inside[None], SIDE)[0])
    return np.array(rows, np.int64), np.array(found, np.float32).reshape(-1, SIDE, SIDE)


def framed(grey: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Which thumbs (N, S, S) programs put something around, as a caption or blurred bars; what is inside, (n, S, S)."""
    rows, found = [], []
    for n, thumb in enumerate(grey):
        left, top, right, bottom = picture_box(thumb)
        if right - left < SIDE or bottom - top < SIDE:
            rows.append(n)
            found.append(resized(thumb[None, top:bottom, left:right], SIDE)[0])
    return np.array(rows, np.int64), np.array(found, np.float32).reshape(-1, SIDE, SIDE)


def windows(grey: Floats) -> Iterator[Floats]:
    """Parts of thumbs (N, 64, 64), as crops by about a tenth or a fifth leave them: in the middle, at edges and corners."""
    for side, y, x in WINDOWS:
        top, left = round(y * (SIDE - side)), round(x * (SIDE - side))
        yield grey[:, top : top + side, left : left + side]


def resized(grey: Floats, side: int) -> Floats:
    """(N, h, w) -> (N, side, side): means over areas if it becomes smaller, else the nearest value."""
    down, across = (_areas(length, side) for length in grey.shape[1:])
    values: Floats = np.asarray(down @ grey @ across.T, np.float32)
    return values


def _areas(length: int, side: int) -> Floats:
    """How much of each of `length` pixels lies in each of `side` equal parts: (side, length), rows sum to 1."""
    edges = np.arange(side + 1) * length / side
    pixels = np.arange(length)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    areas: Floats = (np.maximum(shares, 0) * side / length).astype(np.float32)
    return areas


def _has_flat_edge(grey: Floats) -> NDArray[np.bool_]:
    """Whether the first or last line of thumbs (N, S, S), down or across, has one colour: (N,)."""
    edges = np.stack([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], 1)
    flat: NDArray[np.bool_] = (np.ptp(edges, axis=2) <= BORDER_LEVELS).any(1)
    return flat


def _inside(grey: Floats) -> Floats:
    """A picture (h, w) without the border, and without the line beside it, a mixture; all of it if little would be left."""
    cuts = []
    for axis, length in ((1, len(grey)), (0, grey.shape[1])):
        busy = np.flatnonzero(np.ptp(grey, axis=axis) > BORDER_LEVELS)
        if len(busy) == 0 or busy[-1] - busy[0] < SIDE // 4:
            cuts.append(slice(None))
        else:
            first, end = int(busy[0]), int(busy[-1]) + 1
            cuts.append(slice(first + (first > 0), end - (end < length)))
    return grey[*cuts]


def _projection() -> Floats:
    """Random directions (1024, 96), always the same ones."""
    rng = np.random.default_rng(0)
    directions: Floats = (rng.normal(size=(FINE * FINE, FINE_NUMBERS)) / np.sqrt(FINE_NUMBERS)).astype(np.float32)
    return directions


_PROJECTION = _projection()
