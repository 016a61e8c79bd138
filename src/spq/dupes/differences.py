"""Where two pictures that lie over each other differ, in windows of 8 x 8 pixels.

A codec and a change of size leave errors too. So the error of a window counts relative to the contrast around it, where such
errors are large, and relative to what the other windows of the same pair show: a part differs if it stands out.
Different filters are first made equal: one picture is sharpened or smoothed to look like the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spq.dupes.canvas import luminance

Floats = NDArray[np.float32]

WINDOW, STRIDE = 8, 4  # pixels
FLOOR, SHARE = (
    8.0,
    0.25,
)  # grey levels, and share of the contrast, of the error of a poor codec (JPEG at quality 30): ratio 1
COLOUR_FLOOR, COLOUR_SHARE = 14.0, 0.6  # of the colour, which codecs keep less of
MEAN_FLOOR, MEAN_SHARE = 4.5, 0.25  # of the mean of 16 x 16 pixels, which codecs keep well
LEAST_LIMIT, TYPICAL, STANDS_OUT = (
    0.45,
    0.75,
    3.5,
)  # the limit is 3.5 times the ratio of the upper quarter, in these bounds
MOST_LIMIT = 1.0
BORDER_CONTRAST = 90.0
MIN_GRAIN, LEAST_GRAIN = 0.35, 1.2  # correlation; grey levels of a sensor's noise
QUIET, QUIET_SHARE = 10.0, 0.03  # contrast of windows that show noise, and the least share of them
INFORMATIVE = 6.0  # contrast of a window that shows something
_KERNEL = [(0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]  # a symmetric 5 x 5 kernel has these values beside its centre
SAMPLE = 150_000  # pixels that it is fitted on


@dataclass(frozen=True)
class Differences:
    """The error of each window (h, w), as a ratio to a poor codec's.

    Attributes:
        ratio: (h, w). informative: (h, w), whether the window has contrast in either picture. limit: of a copy's ratio.
        size: (width, height) of the compared pictures. grain: how much of the finest detail they share, where both have some;
            1 for copies, near 0 for two exposures of one view, each with the noise of its own.
    """

    ratio: Floats
    informative: NDArray[np.bool_]
    limit: float
    size: tuple[int, int]
    grain: float = 1.0

    @property
    def worst(self) -> float:
        return float(self.ratio.max())

    @property
    def agrees(self) -> bool:
        """Whether no part differs."""
        return self.worst <= self.limit and self.grain >= MIN_GRAIN

    @property
    def differs(self) -> NDArray[np.bool_]:
        bad: NDArray[np.bool_] = self.ratio > self.limit
        return bad

    @property
    def evidence(self) -> int:
        """How many windows show something and agree."""
        return int((self.informative & ~self.differs).sum())

    @property
    def share(self) -> float:
        """Share of the windows with something to see that differ."""
        differs = self.differs
        return float(differs.sum() / max(1, (self.informative | differs).sum()))

    def region(self) -> tuple[float, float, float, float]:
        """x, y, width and height, as shares, of the connected part around the most different window."""
        top, left, bottom, right = _connected(
            self.differs, np.unravel_index(int(self.ratio.argmax()), self.ratio.shape)
        )
        width, height = self.size
        x, y = left * STRIDE / width, top * STRIDE / height
        return (
            x,
            y,
            min(1 - x, ((right - left) * STRIDE + WINDOW) / width),
            min(1 - y, ((bottom - top) * STRIDE + WINDOW) / height),
        )


def differences(x: Floats, y: Floats, inner: tuple[bool, bool, bool, bool] = (False,) * 4) -> Differences:
    """Compare two pictures (3 or 6, h, w) of one size, as they are, in luminance and colour.

    Args:
        inner: which edges (left, top, right, bottom) lie inside one of the pictures, beside a border or more of the picture. The
            codec has spread its contrast across these edges.
    """
    pairs = [(_smooth(a), _smooth(b)) for a, b in zip(luminance(x), luminance(y), strict=True)]
    colours = [(_smooth(a), _smooth(b)) for a, b in zip(_colours(x), _colours(y), strict=True)]
    found = _rated(pairs, colours, inner)
    if found.worst > LEAST_LIMIT:
        found = _rated([_same_filter(*pair) for pair in pairs], colours, inner)
    grain = min(_shared_grain(a, b) for a, b in zip(luminance(x), luminance(y), strict=True))
    return replace(found, grain=grain, size=(x.shape[2], x.shape[1]))


def _rated(
    pairs: list[tuple[Floats, Floats]], colours: list[tuple[Floats, Floats]], inner: tuple[bool, ...]
) -> Differences:
    ratios, contrasts = [], []
    for a, b in pairs:
        error, contrast = _window_errors(a, b, WINDOW, STRIDE)
        allowed = _beside_edges(contrast, inner)
        ratios.append(error / (FLOOR + SHARE * allowed))
        ratios.append(_mean_shifts(a - b, error.shape) / (MEAN_FLOOR + MEAN_SHARE * allowed))
        contrasts.append(contrast)
    for a, b in colours:
        error, contrast = _window_errors(a, b, WINDOW // 2, STRIDE // 2)
        ratios.append(error / (COLOUR_FLOOR + COLOUR_SHARE * _beside_edges(contrast, inner)))
        contrasts.append(contrast)
    height, width = (min(r.shape[axis] for r in ratios) for axis in (0, 1))
    ratio = np.max([r[:height, :width] for r in ratios], axis=0)
    informative = np.max([c[:height, :width] for c in contrasts], axis=0) > INFORMATIVE
    typical = float(np.quantile(ratio[informative], TYPICAL)) if informative.any() else 0.0
    limit = float(np.clip(STANDS_OUT * typical, LEAST_LIMIT, MOST_LIMIT))
    return Differences(ratio, informative, limit, (width, height))


def _beside_edges(contrast: Floats, inner: tuple[bool, ...]) -> Floats:
    """The contrast (h, w), with that of a border beside the edges that had one."""
    if not any(inner):
        return contrast
    contrast = contrast.copy()
    parts = (contrast[:, :3], contrast[:3], contrast[:, -3:], contrast[-3:])
    for is_inner, part in zip(inner, parts, strict=True):
        if is_inner:
            part += BORDER_CONTRAST
    return contrast


def _shared_grain(x: Floats, y: Floats) -> float:
    """The part of the finest detail that two pictures (h, w) share in quiet places; 1 if one of them has none."""
    fine = [values - _smooth(values) for values in (x, y)]
    means = [
        _box_means(values, WINDOW, WINDOW) for values in (np.square(fine[0]), np.square(fine[1]), fine[0] * fine[1])
    ]
    contrast = _window_errors(_smooth(x), _smooth(x), WINDOW, WINDOW)[1]
    quiet = (contrast < QUIET) & (np.minimum(means[0], means[1]) > LEAST_GRAIN**2)
    if quiet.sum() < QUIET_SHARE * quiet.size:
        return 1.0
    return float(np.median(means[2][quiet] / np.minimum(means[0], means[1])[quiet]))


def _window_errors(x: Floats, y: Floats, window: int, stride: int) -> tuple[Floats, Floats]:
    """Root mean square difference in windows, and the contrast in and around them: (h, w) each."""
    x, y = (_at_least(v, window) for v in (x, y))
    error = np.sqrt(_box_means(np.square(x - y), window, stride).clip(0))
    contrasts = []
    for values in (x, y):
        padded = np.pad(values - values.mean(), window // 2, mode="edge")
        mean = _box_means(padded, 2 * window, stride)
        contrasts.append(_box_means(np.square(padded), 2 * window, stride) - np.square(mean))
    contrast = np.sqrt(np.maximum(*contrasts).clip(0))
    return error, contrast[: error.shape[0], : error.shape[1]]


def _mean_shifts(difference: Floats, shape: tuple[int, ...]) -> Floats:
    """Size of the mean difference in and around each window of a grid of `shape`."""
    padded = np.pad(_at_least(difference, WINDOW), WINDOW // 2, mode="edge")
    return np.abs(_box_means(padded, 2 * WINDOW, STRIDE))[: shape[0], : shape[1]]


def _at_least(values: Floats, side: int) -> Floats:
    """Pad (h, w) at its end to `side`."""
    missing = [(0, max(0, side - length)) for length in values.shape]
    return np.pad(values, missing, mode="edge") if any(after for _, after in missing) else values


def _box_means(values: Floats, window: int, stride: int) -> Floats:
    """Means of windows of (h, w), whose side is a multiple of `stride`; the last ones reach over the repeated end."""
    values = np.pad(values, [(0, -n % stride) for n in values.shape], mode="edge")
    rows: Floats = np.add.reduce([values[k::stride] for k in range(stride)])
    blocks = np.add.reduce([rows[:, k::stride] for k in range(stride)])
    count = window // stride
    down = np.add.reduce([blocks[k : len(blocks) - count + 1 + k] for k in range(count)])
    total = np.add.reduce([down[:, k : down.shape[1] - count + 1 + k] for k in range(count)])
    means: Floats = np.asarray(total, np.float32) / np.float32(window**2)
    return means


def _smooth(values: Floats) -> Floats:
    """(h, w) without its finest detail, which differs between codecs and filters."""
    padded = np.pad(values, 1, mode="edge")
    down = padded[:-2] + np.float32(2) * padded[1:-1] + padded[2:]
    smooth: Floats = (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) / 16
    return smooth


def _colours(planes: Floats) -> list[Floats]:
    """Red and blue minus luminance, at half the size."""
    found = []
    for rgb, grey in zip(planes.reshape(-1, 3, *planes.shape[1:]), luminance(planes), strict=True):
        found += [_half(rgb[0] - grey), _half(rgb[2] - grey)]
    return found


def _half(values: Floats) -> Floats:
    even = np.pad(values, [(0, n % 2) for n in values.shape], mode="edge")
    half: Floats = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return half


def _same_filter(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Both pictures (h, w), one of them filtered to look like the other, whichever leaves less."""
    ways = [(_filtered(x, y), y), (x, _filtered(y, x))]
    return min(ways, key=lambda way: float(np.minimum(np.abs(way[0] - way[1]), 30).mean()))


def _filtered(x: Floats, y: Floats) -> Floats:
    """`x` convolved with the symmetric 5 x 5 kernel that makes it most like `y`, by least squares; its values sum to 1."""
    parts = _kernel_parts(x)
    step = max(1, x.size // SAMPLE)
    A = np.stack([(part - x).ravel()[::step] for part in parts])
    difference = (y - x).ravel()[::step]
    weight = 1 / (1 + np.square(difference / 30))  # a change in one place has little weight
    gram = (A * weight) @ A.T + 1e-3 * A.shape[1] * np.eye(len(A), dtype=np.float32)
    values = np.linalg.solve(gram, (A * weight) @ difference).tolist()
    filtered: Floats = x * np.float32(1 - sum(values))
    for value, part in zip(values, parts, strict=True):
        filtered += np.float32(value) * part
    return filtered


def _kernel_parts(x: Floats) -> list[Floats]:
    """Means of `x` over the places of the kernel that share a value."""
    padded = np.pad(x, 2, mode="edge")
    height, width = x.shape
    parts = []
    for a, b in _KERNEL:
        places = sorted({(s * i, t * j) for i, j in ((a, b), (b, a)) for s in (1, -1) for t in (1, -1)})
        total = np.zeros_like(x)
        for i, j in places:
            total += padded[2 + i : 2 + i + height, 2 + j : 2 + j + width]
        parts.append(total / np.float32(len(places)))
    return parts


def _connected(mask: NDArray[np.bool_], start: tuple[np.intp, ...]) -> tuple[int, int, int, int]:
    """Box of the places of a mask that are joined to `start`, across gaps of up to two: top, left, bottom, right, inclusive."""
    seen = np.zeros_like(mask)
    row, column = (int(place) for place in start)
    box = [row, column, row, column]
    queue = deque([(row, column)])
    seen[row, column] = True
    while queue:
        row, column = queue.popleft()
        box = [min(box[0], row), min(box[1], column), max(box[2], row), max(box[3], column)]
        top, left = max(0, row - 3), max(0, column - 3)
        near = mask[top : row + 4, left : column + 4] & ~seen[top : row + 4, left : column + 4]
        for i, j in np.argwhere(near).tolist():
            seen[top + i, left + j] = True
            queue.append((top + i, left + j))
    return box[0], box[1], box[2], box[3]
