"""Short descriptions of thumbs, by which copies are near each other, also after a turn, a crop or a new border.

coarse  luminance at 8 x 8 without its mean, at unit length. It ignores brightness and keeps the layout.
fine    local contrast at 32 x 32, as few numbers. It tells pages of one template apart, and ignores what is drawn over a part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SIDE = 64  # pixels of a thumb
COARSE, FINE = 8, 32  # pixels of a side
FINE_NUMBERS = 96
WINDOWS = tuple((side, y, x) for side in (58, 52) for y in (0.0, 0.5, 1.0) for x in (0.0, 0.5, 1.0))
BORDER_LEVELS = 14.0  # a row of pixels belongs to a border if its pixels differ no more than this
BATCH = 1024


def coarse(grey: Floats) -> Floats:
    """(N, S, S) -> (N, 64). An empty picture is near zero."""
    values = resized(grey, COARSE).reshape(len(grey), -1)
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
    """Which thumbs (N, S, S) have a border of one colour, and these without it, (n, S, S)."""
    rows, found = [], []
    for n, (down, across) in enumerate(zip(_inside(grey, 2), _inside(grey, 1), strict=True)):
        if (down, across) != ((0, SIDE), (0, SIDE)):
            rows.append(n)
            found.append(resized(grey[n : n + 1, slice(*down), slice(*across)], SIDE)[0])
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


def _inside(grey: Floats, axis: int) -> list[tuple[int, int]]:
    """First and last + 1 row (axis 2) or column (axis 1) of each thumb that is no border; all of it if little would be left."""
    flat = grey.max(axis) - grey.min(axis) <= BORDER_LEVELS
    places = []
    for line in flat:
        busy = np.flatnonzero(~line)
        is_empty = len(busy) == 0 or busy[-1] - busy[0] < SIDE // 4
        places.append((0, SIDE) if is_empty else (int(busy[0]), int(busy[-1]) + 1))
    return places


def _projection() -> Floats:
    """Random directions (1024, 96), always the same ones."""
    rng = np.random.default_rng(0)
    directions: Floats = (rng.normal(size=(FINE * FINE, FINE_NUMBERS)) / np.sqrt(FINE_NUMBERS)).astype(np.float32)
    return directions


_PROJECTION = _projection()
