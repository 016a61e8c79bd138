"""Find how one picture lies over another: quarter turns and mirror, uniform borders, crop and scale.

All eight turns are tried at 16 x 16, for whole pictures and for pictures without their borders, from many starting crops.
The best few are refined by Gauss-Newton, coarse to fine. Each axis has a scale and a shift; the brightness is fitted beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

COARSE, MIDDLE, FINE = 16, 32, 64  # pixels of the squares that are compared
FINEST = 160
HOPELESS = {COARSE: 0.3, MIDDLE: 0.7, FINE: 0.7}  # correlation below which a start is dropped
CLEARLY = 15  # grey levels by which squares of 32 pixels differ that are no copies
FEW = 0.1  # share of pixels that a text, a sticker or a change in one place covers
AS_GOOD = 0.05  # less than the best correlation: a second start
ENTRANTS = {COARSE: 5, MIDDLE: 2}  # starts that are kept for the next level
CROPS = (0.82, 0.9, 1 / 0.9, 1 / 0.82)  # scales of the starts
LEAST_SPREAD = 1  # squared grey levels; an empty picture has no correlation
MIN_SCALE = 0.6  # of an axis; crops keep more
UNIFORM = 14  # grey levels by which a line of a border may differ from its colour, a codec's error at the edge
MIN_CONTENT = 0.3  # share of each side that a border must leave
THUMB = 64  # pixels of the squares on which a ground with a text on it, and bars that are no single colour, are seen
ON_GROUND, OFF_GROUND = 0.94, 0.35  # share of a line that has the colour of the ground, beside a picture and in it
FAR = 0.4  # share of each side, within which a ground may end
LEAST_BAR, QUIETER = 0.06, 1.5  # share of a bar; how much more contrast the picture between two bars has
TURNS = 8


@dataclass(frozen=True)
class Overlay:
    """The part that two pictures have in common: `first` of the first picture, and `second` of `turned(second, turn)`."""

    turn: int
    first: Box
    second: Box


def turned(picture: NDArray, turn: int) -> NDArray:  # type: ignore[type-arg]
    """Mirror (..., H, W) if `turn` is 4 or more, then turn it clockwise by `turn % 4` quarter turns."""
    return np.rot90(picture[..., ::-1] if turn >= 4 else picture, -(turn % 4), axes=(-2, -1))


def content_box(grey: NDArray[np.uint8]) -> Box:
    """The box of (H, W) without uniform borders; the whole picture if it has none."""
    top, bottom, left, right = 0, grey.shape[0], 0, grey.shape[1]
    for _ in range(2):  # a border can have a border
        part = grey[top:bottom, left:right]
        above, below = _uniform_lines(part), _uniform_lines(part[::-1])
        before, after = _uniform_lines(part.T), _uniform_lines(part.T[::-1])
        if above + below > (1 - MIN_CONTENT) * len(part) or before + after > (1 - MIN_CONTENT) * part.shape[1]:
            break
        top, bottom, left, right = top + above, bottom - below, left + before, right - after
    return float(left), float(top), float(right), float(bottom)


def _uniform_lines(grey: NDArray[np.uint8]) -> int:
    """How many of the first lines have one colour all over."""
    colour = float(np.median(grey[0]))
    for start in range(0, len(grey), 16):  # most pictures have none: a few lines show it
        differs = np.abs(grey[start : start + 16] - np.float32(colour)) > UNIFORM
        is_uniform = differs.mean(1) <= 0.01
        if not is_uniform.all():
            return start + int(np.argmin(is_uniform))
    return len(grey)


def picture_box(thumb: Floats) -> tuple[int, int, int, int]:
    """The box of a square thumb (S, S) without what programs put around a picture; all of it if there is nothing.

    That is a ground of one colour, also one with a caption or a clock on it; else two equal bars with little contrast.
    """
    side = len(thumb)
    top, bottom = _ground_lines(thumb), side - _ground_lines(thumb[::-1])
    if bottom - top < MIN_CONTENT * side:
        top, bottom = 0, side
    across = thumb[top:bottom].T
    left, right = _ground_lines(across), side - _ground_lines(across[::-1])
    if right - left < MIN_CONTENT * side:
        left, right = 0, side
    if (left, top, right, bottom) == (0, 0, side, side):
        bars = _quiet_bar(thumb), _quiet_bar(thumb.T)
        wider = int(bars[1] > bars[0])
        left, top = (bars[1], 0) if wider else (0, bars[0])
        right, bottom = side - left, side - top
    return left, top, right, bottom


def _ground_lines(grey: Floats) -> int:
    """How many lines lie before the last one of the ground's colour, if the picture begins abruptly after it."""
    share = (np.abs(grey - np.median(grey[0])) <= UNIFORM).mean(1)
    if share[0] < ON_GROUND:
        return 0
    last = int(np.flatnonzero(share[: round(FAR * len(grey))] >= ON_GROUND)[-1]) + 1
    return last if share[last : last + 2].min() < OFF_GROUND else 0


def _quiet_bar(grey: Floats) -> int:
    """The lines of each of two equal bars with little contrast, before and after those of a picture; 0 if there are none."""
    side = len(grey)
    across, down = np.abs(np.diff(grey, axis=1)).mean(1), np.abs(np.diff(grey, axis=0)).mean(1)
    contrast = np.sqrt(across + (np.pad(down, (1, 0)) + np.pad(down, (0, 1))) / 2)
    outside = np.cumsum(contrast + contrast[::-1])[: side // 2]
    bars = np.arange(1, side // 2 + 1) * 2
    inside = contrast.sum() - outside
    usable = (bars >= 2 * LEAST_BAR * side) & (side - bars >= MIN_CONTENT * side)
    means = outside / bars, inside / np.maximum(side - bars, 1)
    between = np.where(usable & (means[1] >= QUIETER * means[0]), bars * (side - bars) * (means[1] - means[0]) ** 2, 0)
    return int(between.argmax()) + 1 if between.any() else 0


def overlays(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Iterator[Overlay]:
    """Yield the most likely overlays of two grey pictures (H, W), best first; none if they have nothing in common."""
    pictures = Image.fromarray(first), Image.fromarray(second)
    boxes = [_boxes(picture) for picture in (first, second)]
    starts = _entrants(pictures, boxes)
    for side, steps in ((MIDDLE, 6), (FINE, 4)):
        starts = _refined(pictures, starts, side, steps)
    for start in starts[:2]:
        if start.score >= starts[0].score - AS_GOOD:
            yield from (_in_pixels(pictures, finest) for finest in _refined(pictures, [start], FINEST, 3))


@dataclass(frozen=True)
class _Start:
    """A hypothesis: content boxes of both pictures, the turn, and the fit (6,) of the squares made of these boxes."""

    first: Box
    second: Box
    turn: int
    fit: Floats
    score: float


def _boxes(grey: NDArray[np.uint8]) -> list[Box]:
    height, width = grey.shape
    whole = (0.0, 0.0, float(width), float(height))
    found = list(dict.fromkeys([whole, content_box(grey)]))
    thumb = square(Image.fromarray(grey), whole, THUMB)
    inner = tuple(edge * size / THUMB for edge, size in zip(picture_box(thumb), (width, height) * 2, strict=True))
    if all(_far_apart(inner, box, (width, height)) for box in found):
        found.append(inner)
    return found


def _far_apart(a: tuple[float, ...], b: tuple[float, ...], size: tuple[int, int]) -> bool:
    """Whether an edge of two boxes differs by more than the alignment mends in any case."""
    return any(abs(p - q) > 2.5 / THUMB * side for p, q, side in zip(a, b, size * 2, strict=True))


def square(picture: Image.Image, box: Box, side: int) -> Floats:
    """The box of a grey picture, resized to (side, side)."""
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0), np.float32)


def _entrants(pictures: tuple[Image.Image, Image.Image], boxes: list[list[Box]]) -> list[_Start]:
    starts = []
    fits = start_fits()
    for a, b in product(*boxes):
        x, y = square(pictures[0], a, COARSE), square(pictures[1], b, COARSE)
        scores = start_scores(x[None], laid_starts(y[None])[0]).reshape(TURNS, len(fits))
        for flat in np.argsort(-scores, axis=None)[: ENTRANTS[COARSE]].tolist():
            turn, number = divmod(flat, len(fits))
            starts.append(_Start(a, b, turn, fits[number], float(scores[turn, number])))
    starts.sort(key=lambda start: -start.score)
    return [start for start in starts if start.score >= HOPELESS[COARSE]][: ENTRANTS[COARSE]]


def start_fits() -> Floats:
    """Fits (F, 6) from which an overlay is sought: none, and crops of either picture by up to a fifth."""
    fits = [(1.0, 0.0, 1.0, 0.0, 1.0, 0.0)]
    for scale in CROPS:
        fits += [(scale, down, scale, across, 1.0, 0.0) for down, across in product(_shifts(scale), repeat=2)]
    return np.array(fits, np.float32)


def _shifts(scale: float) -> tuple[float, ...]:
    return scale - 1, 0.0, 1 - scale


def laid_starts(pictures: Floats) -> Floats:
    """Pictures (N, S, S) in each turn, laid by each fit of `start_fits`, without their means, at unit contrast: (N, 8 F, S S)."""
    N, side = len(pictures), pictures.shape[-1]
    ways = np.stack([turned(pictures, turn) for turn in range(TURNS)], 1).reshape(-1, side, side)
    parts = [ways[:, None]]
    for scale in CROPS:  # one product for all shifts down, and one for all across
        axis = _axis(np.full(3, scale, np.float32), np.array(_shifts(scale), np.float32), side)[0].reshape(
            3 * side, side
        )
        laid = (axis @ ways @ axis.T).reshape(-1, 3, side, 3, side)
        parts.append(laid.transpose(0, 1, 3, 2, 4).reshape(-1, 9, side, side))
    inside = _inside_starts(side)
    laid = np.concatenate(parts, 1).reshape(-1, len(inside), side * side)
    shared = inside.sum(1)
    laid -= (np.einsum("nfk,fk->nf", laid, inside) / shared)[:, :, None]
    laid *= inside
    spread = np.einsum("nfk,nfk->nf", laid, laid) / shared
    laid /= (np.sqrt(np.maximum(spread, LEAST_SPREAD)) * shared)[:, :, None]
    return laid.reshape(N, -1, side * side)


def start_scores(x: Floats, laid: Floats) -> Floats:
    """Correlations (P, 8 F) of pictures (P, S, S) with one of `laid_starts`, (8 F, S S)."""
    inside = _inside_starts(x.shape[-1])
    flat, shared = x.reshape(len(x), inside.shape[1]), inside.sum(1)
    spread = np.square(flat) @ inside.T / shared - np.square(flat @ inside.T / shared)  # (P, F)
    scores: Floats = flat @ laid.T / np.tile(np.sqrt(np.maximum(spread, LEAST_SPREAD)), TURNS)
    return scores


@cache
def _inside_starts(side: int) -> Floats:
    """Which pixels (F, S S) lie inside both pictures, for each fit of `start_fits`: 1 or 0."""
    fits = start_fits()
    down, across = (_axis(fits[:, i], fits[:, i + 1], side)[1] for i in (0, 2))
    return (down[:, :, None] & across[:, None, :]).reshape(len(fits), -1).astype(np.float32)


def _refined(pictures: tuple[Image.Image, Image.Image], starts: list[_Start], side: int, steps: int) -> list[_Start]:
    """The starts refined on squares of `side` pixels, best first, without the hopeless and the double ones."""
    if not starts:
        return []
    x = np.stack([square(pictures[0], start.first, side) for start in starts])
    y = np.stack([turned(square(pictures[1], start.second, side), start.turn) for start in starts])
    fits = aligned(x, y, np.stack([start.fit for start in starts]), steps)
    scores = _scores(x, y, fits)
    found: dict[tuple[object, ...], _Start] = {}
    for n in np.argsort(-scores).tolist():
        start = starts[n]
        if scores[n] >= HOPELESS.get(side, 0):
            key = (start.turn, start.first, start.second, *np.round(fits[n, :4] * 50).tolist())
            found.setdefault(key, _Start(start.first, start.second, start.turn, fits[n], float(scores[n])))
    return list(found.values())[: ENTRANTS.get(side, len(found))]


def aligned(x: Floats, y: Floats, fit: Floats, steps: int) -> Floats:
    """Gauss-Newton on x(u) = gain * y(scale * u + shift) + offset, for P pairs (P, S, S) at once.

    Pixels that disagree much more than most have little weight, so a change in one place does not move the overlay.

    Args:
        fit: (P, 6) scale and shift down, scale and shift across (in halves of the picture), gain, offset.
    """
    side = x.shape[-1]
    u = _places(side)
    pictures = np.stack([y, np.gradient(y, axis=1) * side / 2, np.gradient(y, axis=2) * side / 2], 1)
    damping = 50 * np.diag([1, 1, 1, 1, 0.01, 0.001])
    low = np.array([MIN_SCALE, -0.5, MIN_SCALE, -0.5, 0.2, -150], np.float32)
    high = np.array([1 / MIN_SCALE, 0.5, 1 / MIN_SCALE, 0.5, 4, 150], np.float32)
    for _ in range(steps):
        moved, inside = _laid(pictures, fit)
        laid, dy, dx = moved.transpose(1, 0, 2, 3)
        gain, offset = fit[:, 4, None, None], fit[:, 5, None, None]
        slopes = (gain * dy * u[:, None], gain * dy, gain * dx * u, gain * dx, laid, np.ones_like(laid))
        J = np.stack(slopes, 1).reshape(len(x), 6, side * side)
        residual = (x - gain * laid - offset).reshape(len(x), side * side, 1)
        typical = np.median(np.abs(residual), axis=1, keepdims=True) * 3 + 2
        weight = inside.reshape(len(x), side * side, 1) / (1 + np.square(residual / typical))
        weighted = J * weight.transpose(0, 2, 1)
        step = np.linalg.solve(weighted @ J.transpose(0, 2, 1) + damping, weighted @ residual)[:, :, 0]
        fit = np.clip(fit + step.astype(np.float32), low, high)
    return fit


def scores_aligned(x: Floats, y: Floats, fits: Floats, steps: int) -> tuple[Floats, Floats, Floats]:
    """Align pairs (P, S, S) from `fits` (P, 6). Return the fits, correlations, and shares of pixels that differ clearly.

    Pixels of a copy differ by a codec's error, except where something was added. If these pixels are few, they do not count.
    """
    moves = aligned(x, y, fits, steps)
    before, after = (_correlations(x, *_laid(y, each)) for each in (fits, moves))
    fits = np.where((after >= before)[:, None], moves, fits)  # a few bright points can lead an alignment astray
    moved, inside = _laid(y, fits)
    differ = (np.abs(x - fits[:, 4, None, None] * moved - fits[:, 5, None, None]) > CLEARLY) & inside
    shares = differ.sum((1, 2)) / np.maximum(inside.sum((1, 2)), 1)
    rest = _correlations(x, moved, inside & (~differ | (shares > FEW)[:, None, None]))
    return fits, np.maximum.reduce([before, after, rest]), shares.astype(np.float32)


def _scores(x: Floats, y: Floats, fit: Floats) -> Floats:
    """Correlations (P,) after the overlay."""
    return _correlations(x, *_laid(y, fit))


def _correlations(x: Floats, y: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Correlations (P,) of pixels (P, S, S) inside; -1 where they are too few."""
    count = inside.sum((1, 2)) + 1e-6
    a, b = ((v - (v * inside).sum((1, 2), keepdims=True) / count[:, None, None]) * inside for v in (x, y))
    least = LEAST_SPREAD * count
    spread = np.maximum(np.square(a).sum((1, 2)), least) * np.maximum(np.square(b).sum((1, 2)), least)
    scores: Floats = np.where(count >= 0.3 * inside[0].size, (a * b).sum((1, 2)) / np.sqrt(spread), -1)
    return scores


def _in_pixels(pictures: tuple[Image.Image, Image.Image], start: _Start) -> Overlay:
    """The overlay of the whole pictures, both cut to what they share."""
    first, second = pictures[0].size, pictures[1].size
    second = second[::-1] if start.turn % 2 else second
    box = _turned_box(start.second, pictures[1].size, start.turn)
    shared = [
        _shared_range(size_a, size_b, a, b, scale, shift)
        for size_a, size_b, a, b, scale, shift in (
            (first[0], second[0], start.first[0::2], box[0::2], start.fit[2], start.fit[3]),
            (first[1], second[1], start.first[1::2], box[1::2], start.fit[0], start.fit[1]),
        )
    ]
    (xa, xb), (ya, yb) = shared
    return Overlay(start.turn, (xa[0], ya[0], xa[1], ya[1]), (xb[0], yb[0], xb[1], yb[1]))


def _shared_range(
    size_a: int, size_b: int, a: tuple[float, ...], b: tuple[float, ...], scale: float, shift: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges of one axis that both pictures cover, in pixels of either; `a` and `b` are the ranges that the fit is for."""
    slope = float(scale) * (b[1] - b[0]) / (a[1] - a[0])
    start = b[0] + (1 + float(shift) - float(scale)) / 2 * (b[1] - b[0]) - slope * a[0]
    low, high = max(0.0, -start / slope), min(float(size_a), (size_b - start) / slope)
    return (low, high), (max(0.0, low * slope + start), min(float(size_b), high * slope + start))


def _turned_box(box: Box, size: tuple[int, int], turn: int) -> Box:
    """A box of a picture of `size` (width, height), in the turned picture."""
    left, top, right, bottom = box
    width, height = size
    if turn >= 4:
        left, right = width - right, width - left
    for _ in range(turn % 4):
        left, top, right, bottom = height - bottom, left, height - top, right
        width, height = height, width
    return left, top, right, bottom


def _laid(pictures: Floats, fit: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Pictures (P, ..., S, S) transformed by `fit`, bilinear, and which pixels (P, S, S) lie inside."""
    side = pictures.shape[-1]
    (rows, in_rows), (columns, in_columns) = (_axis(fit[:, i], fit[:, i + 1], side) for i in (0, 2))
    if pictures.ndim == 4:
        rows, columns = rows[:, None], columns[:, None]
    laid = np.asarray(rows @ pictures @ columns.swapaxes(-1, -2), np.float32)
    return laid, in_rows[:, :, None] & in_columns[:, None, :]


def _axis(scale: Floats, shift: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Interpolation matrices (P, S, S) of one axis, and which of their rows lie inside, (P, S)."""
    place = (scale[:, None] * _places(side) + shift[:, None] + 1) / 2 * side - 0.5
    weights = np.maximum(0, 1 - np.abs(place.clip(0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights, (place >= -0.5) & (place <= side - 0.5)


def _places(side: int) -> Floats:
    """Pixel centres from -1 to 1."""
    return ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
