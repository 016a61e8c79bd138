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
# The limit is 3.5 times the ratio of the upper quarter, but not more than a poor codec leaves. Where there is hardly any error,
# 2.45 times what all but 2 of 100 windows keep to is let pass: most copies of photos stay below, most changed figures do not.
TYPICAL, STANDS_OUT, MOST_LIMIT = 0.75, 3.5, 1.0
HIGH, ABOVE_HIGH, LEAST_LIMIT, LEAST_OF_CODECS = 0.98, 2.45, 0.18, 0.45
# Codecs keep few details of colours, also where they keep those of luminance. So an error of a colour counts if it is this many
# times what all but 2 of 100 windows keep to, or more than a usual codec leaves.
COLOURS_ABOVE, MOST_OF_COLOURS = 4.0, 0.5
BORDER_CONTRAST = 150.0
MIN_GRAIN, LEAST_GRAIN = 0.35, 1.2  # correlation; grey levels of a sensor's noise
QUIET, QUIET_SHARE = 10.0, 0.03  # contrast of windows that show noise, and the least share of them
MIN_NOISE = 0.22  # correlation of noise that a codec leaves; JPEG at quality 30 makes noise of its own
LEAST_NOISE, QUIET_NOISE = 0.45, 5.0  # grey levels of noise at half the size; contrast of windows that show it
QUIETEST, FEWEST_QUIET = 0.15, 30  # share of these windows that is used; windows that are needed
INFORMATIVE = 6.0  # contrast of a window that shows something
_KERNEL = [(0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]  # a symmetric 5 x 5 kernel has these values beside its centre
SAMPLE = 50_000  # pixels that it is fitted on


@dataclass(frozen=True)
class Differences:
    """The error of each window (h, w), as a ratio to a poor codec's.

    Attributes:
        ratio: (h, w). informative: (h, w), whether the window has contrast in either picture. limit: of a copy's ratio.
        size: (width, height) of the compared pictures. grain: how much of the finest detail they share, where both have some;
            1 for copies, near 0 for two exposures of one view, each with the noise of its own. noise: the same for coarser
            noise, which codecs leave.
    """

    ratio: Floats
    informative: NDArray[np.bool_]
    limit: float
    size: tuple[int, int]
    grain: float = 1.0
    noise: float = 1.0

    @property
    def worst(self) -> float:
        return float(self.ratio.max())

    @property
    def is_one_exposure(self) -> bool:
        """Whether the noise of both pictures, if they have any, is the same."""
        return self.grain >= MIN_GRAIN and self.noise >= MIN_NOISE

    @property
    def agrees(self) -> bool:
        """Whether no part differs."""
        return self.worst <= self.limit and self.is_one_exposure

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

    def place(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The pixels (h, w) of the windows that differ."""
        place = np.zeros(shape, bool)
        for row, column in np.argwhere(self.differs).tolist():
            place[row * STRIDE : row * STRIDE + WINDOW, column * STRIDE : column * STRIDE + WINDOW] = True
        return place

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
    greys = luminance(x), luminance(y)
    pairs = [(_smooth(a), _smooth(b)) for a, b in zip(*greys, strict=True)]
    colour = _rated_colours((x, y), greys, inner)
    found = _rated(pairs, colour, inner)
    if found.worst > LEAST_LIMIT:
        found = _rated([_same_filter(*pair) for pair in pairs], colour, inner)
    grain = min(_shared_grain(a, b, *pair) for a, b, pair in zip(*greys, pairs, strict=True))
    noise = min(_shared_noise(*pair) for pair in pairs)
    return replace(found, grain=grain, noise=noise, size=(x.shape[2], x.shape[1]))


Rated = list[tuple[Floats, Floats]]  # ratio and contrast of each window


def _rated_colours(planes: tuple[Floats, Floats], greys: tuple[Floats, Floats], inner: tuple[bool, ...]) -> Rated:
    """Windows of red and blue minus luminance, at half the size."""
    rated = []
    for channel in (c for c in range(len(planes[0])) if c % 3 != 1):
        a, b = (_smooth(_half(p[channel] - grey[channel // 3])) for p, grey in zip(planes, greys, strict=True))
        error, contrast = _window_errors(a, b, WINDOW // 2, STRIDE // 2)
        rated.append((error / (COLOUR_FLOOR + COLOUR_SHARE * _beside_edges(contrast, inner)), contrast))
    return rated


def _rated(pairs: list[tuple[Floats, Floats]], colours: Rated, inner: tuple[bool, ...]) -> Differences:
    rated = list(colours)
    for a, b in pairs:
        error, contrast = _window_errors(a, b, WINDOW, STRIDE)
        allowed = _beside_edges(contrast, inner)
        rated.append((error / (FLOOR + SHARE * allowed), contrast))
        rated.append((_mean_shifts(a - b, error.shape) / (MEAN_FLOOR + MEAN_SHARE * allowed), contrast))
    height, width = (min(ratio.shape[axis] for ratio, _ in rated) for axis in (0, 1))
    ratios = np.stack([ratio[:height, :width] for ratio, _ in rated])
    ratio = ratios.max(0)
    informative = np.max([contrast[:height, :width] for _, contrast in rated], axis=0) > INFORMATIVE
    typical, high = np.quantile(ratio[informative], (TYPICAL, HIGH)).tolist() if informative.any() else (0.0, 0.0)
    least = float(np.clip(ABOVE_HIGH * high, LEAST_LIMIT, LEAST_OF_CODECS))
    limit = float(np.clip(STANDS_OUT * typical, least, MOST_LIMIT))
    of_colours = ratios[: len(colours)]
    of_colours[of_colours < min(MOST_OF_COLOURS, COLOURS_ABOVE * high)] = 0
    return Differences(ratios.max(0), informative, limit, (width, height))


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


def _shared_grain(x: Floats, y: Floats, smooth_x: Floats, smooth_y: Floats) -> float:
    """The part of the finest detail that two pictures (h, w) share in quiet places; 1 if one of them has none."""
    fine = x - smooth_x, y - smooth_y
    squares = [_box_means(np.square(values), WINDOW, WINDOW) for values in fine]
    least = np.minimum(*squares)
    is_fine = least > LEAST_GRAIN**2
    if is_fine.sum() < QUIET_SHARE * is_fine.size:
        return 1.0
    quiet = is_fine & (_contrast(smooth_x, WINDOW, WINDOW)[: least.shape[0], : least.shape[1]] < QUIET)
    if quiet.sum() < QUIET_SHARE * quiet.size:
        return 1.0
    return float(np.median(_box_means(fine[0] * fine[1], WINDOW, WINDOW)[quiet] / least[quiet]))


def _shared_noise(smooth_x: Floats, smooth_y: Floats) -> float:
    """The part that two pictures (h, w) share of the noise that a codec leaves, in the quietest places; 1 without noise."""
    halves = _half(smooth_x), _half(smooth_y)
    if min(halves[0].shape) < 2 * WINDOW:
        return 1.0
    coarse = [_smooth(_smooth(values)) for values in halves]
    noise = [values - rough for values, rough in zip(halves, coarse, strict=True)]
    squares = [_box_means(np.square(values), WINDOW, STRIDE) for values in noise]
    least, most = np.minimum(*squares), np.maximum(*squares)
    contrast = np.maximum(*(_contrast(rough, WINDOW, STRIDE)[: least.shape[0], : least.shape[1]] for rough in coarse))
    quiet = (least > LEAST_NOISE**2) & (contrast < QUIET_NOISE)
    count = int(quiet.sum())
    if count < FEWEST_QUIET:
        return 1.0
    quietest = quiet & (most <= np.quantile(most[quiet], max(QUIETEST, 0.5 * FEWEST_QUIET / count)))
    return float(_box_means(noise[0] * noise[1], WINDOW, STRIDE)[quietest].sum() / least[quietest].sum())


def _window_errors(x: Floats, y: Floats, window: int, stride: int) -> tuple[Floats, Floats]:
    """Root mean square difference in windows, and the contrast in and around them: (h, w) each."""
    x, y = (_at_least(v, window) for v in (x, y))
    error = np.sqrt(_box_means(np.square(x - y), window, stride).clip(0))
    contrast = np.maximum(_contrast(x, window, stride), _contrast(y, window, stride))
    return error, contrast[: error.shape[0], : error.shape[1]]


def _contrast(values: Floats, window: int, stride: int) -> Floats:
    """Standard deviation in and around each window of (h, w)."""
    padded = np.pad(values - values.mean(), window // 2, mode="edge")
    mean = _box_means(padded, 2 * window, stride)
    contrast: Floats = np.sqrt((_box_means(np.square(padded), 2 * window, stride) - np.square(mean)).clip(0))
    return contrast


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
    if any(n % stride for n in values.shape):
        values = np.pad(values, [(0, -n % stride) for n in values.shape], mode="edge")
    height, width = (n // stride for n in values.shape)
    rows = values.reshape(height, stride, -1).sum(1)
    blocks = np.add.reduce([rows[:, k::stride] for k in range(stride)])
    count = window // stride
    down = np.add.reduce([blocks[k : height - count + 1 + k] for k in range(count)])
    total = np.add.reduce([down[:, k : width - count + 1 + k] for k in range(count)])
    means: Floats = np.asarray(total, np.float32) / np.float32(window**2)
    return means


def _smooth(values: Floats) -> Floats:
    """(h, w) without its finest detail, which differs between codecs and filters."""
    padded = np.pad(values, 1, mode="edge")
    down = padded[:-2] + np.float32(2) * padded[1:-1] + padded[2:]
    return np.asarray((down[:, :-2] + np.float32(2) * down[:, 1:-1] + down[:, 2:]) * np.float32(1 / 16), np.float32)


def _half(values: Floats) -> Floats:
    even = (
        np.pad(values, [(0, n % 2) for n in values.shape], mode="edge") if any(n % 2 for n in values.shape) else values
    )
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return np.asarray(total * np.float32(0.25), np.float32)


def _same_filter(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Both pictures (h, w), one of them filtered to look like the other, whichever leaves less."""
    kernels = _kernel(x, y), _kernel(y, x)
    if kernels[0][1] <= kernels[1][1]:
        return _filtered(x, kernels[0][0]), y
    return x, _filtered(y, kernels[1][0])


def _kernel(x: Floats, y: Floats) -> tuple[list[float], float]:
    """The symmetric 5 x 5 kernel (its parts beside the centre) that makes `x` most like `y`, and the error that it leaves.

    By least squares, on some of the lines; the kernel's values sum to 1.
    """
    step = -(-x.size // SAMPLE)
    centre, target = x[::step], y[::step]
    A = np.stack([(part - centre).ravel() for part in _kernel_parts(x, step)])
    difference = (target - centre).ravel()
    weight = 1 / (1 + np.square(difference / 30))  # a change in one place has little weight
    gram = (A * weight) @ A.T + 1e-3 * A.shape[1] * np.eye(len(A), dtype=np.float32)
    values = np.linalg.solve(gram, (A * weight) @ difference)
    return values.tolist(), float(np.minimum(np.abs(difference - values @ A), 30).mean())


def _filtered(x: Floats, kernel: list[float]) -> Floats:
    filtered: Floats = x * np.float32(1 - sum(kernel))
    for value, part in zip(kernel, _kernel_parts(x), strict=True):
        filtered += np.float32(value) * part
    return filtered


def _kernel_parts(x: Floats, step: int = 1) -> list[Floats]:
    """Means of `x` over the places of the kernel that share a value, on each `step`-th line."""
    padded = np.pad(x, 2, mode="edge")
    height, width = x.shape
    parts = []
    for a, b in _KERNEL:
        places = sorted({(s * i, t * j) for i, j in ((a, b), (b, a)) for s in (1, -1) for t in (1, -1)})
        total = np.zeros_like(x[::step])
        for i, j in places:
            total += padded[2 + i : 2 + i + height : step, 2 + j : 2 + j + width]
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
