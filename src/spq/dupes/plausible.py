"""Which pairs of thumbs are worth a comparison at full size? It errs on the side of many: `confirm.py` decides.

Each pair is laid together at 16 x 16 in all turns and crops, with and without borders; what remains is aligned at 32 x 32.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.common.parallel import cores, map_in_order, slices
from spq.dupes.overlay import (
    COARSE,
    MIDDLE,
    Box,
    content_box,
    laid_starts,
    picture_box,
    scores_aligned,
    square,
    start_fits,
    start_scores,
    turned,
)

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]  # (P, 2) rows
Rows = NDArray[np.int64]

WAYS = 3  # in which each picture is laid: whole, without a border of one colour, without anything put around it
PER_TASK = 1024  # pairs
BATCH = 256  # pairs that are aligned at a time
FIRSTS = 64  # pictures that are laid in all ways at a time: 0.3 MB each
PLAUSIBLE, SURE = 0.55, 0.97  # correlation of thumbs at 16 x 16, under the best of all turns and crops
AS_LIKELY = 0.1  # less than the best score of a pair: with its borders or without may still be right
# Correlation after an alignment at 16 x 16, where copies have 0.90 and more, and at 32 x 32, where they have 0.94 and more.
ALIGNED = {COARSE: 0.86, MIDDLE: 0.93}
MOST_DIFFERENT = (
    0.22  # share of pixels that differ clearly then: 0.18 in 99 of 100 copies, more in things alike on one ground
)


def plausible(
    thumbs: NDArray[np.uint8], pairs: Pairs, progress: Callable[[int, int], None] = lambda *_: None
) -> NDArray[np.bool_]:
    """Which pairs (P, 2) of thumbs (N, 64, 64) may be copies: (P,). `progress` is called with pairs done and P."""
    rows, numbers = np.unique(pairs, return_inverse=True)
    numbers = numbers.reshape(-1, 2)
    squares = _Squares(thumbs, rows)
    found, done = np.zeros(len(pairs), bool), 0
    order = np.argsort(numbers[:, 0], kind="stable")
    parts = [order[part] for part in slices(len(pairs), PER_TASK)]
    with closing(
        map_in_order(lambda some: _laid_together(squares, numbers[some]), parts, cores(), threading.Event())
    ) as results:
        for some, result in zip(parts, results, strict=True):
            found[some] = result
            done += len(some)
            progress(done, len(pairs))
    return found


def _laid_together(squares: _Squares, numbers: Pairs) -> NDArray[np.bool_]:
    """Which pairs of squares may be copies: (P,)."""
    scores, starts = _best_starts(squares, numbers)
    best = scores.max(1)
    found: NDArray[np.bool_] = best >= SURE
    is_open = (scores >= PLAUSIBLE) & (scores >= best[:, None] - AS_LIKELY) & ~found[:, None]
    open_pairs, open_ways = np.nonzero(is_open)
    for part in slices(len(open_pairs), BATCH):
        some, ways = open_pairs[part], open_ways[part]
        turns, fits = np.divmod(starts[some, ways], len(start_fits()))
        found[some[_are_aligned(squares, numbers[some], ways, turns, start_fits()[fits])]] = True
    return found


def _are_aligned(squares: _Squares, numbers: Pairs, ways: Rows, turns: Rows, fits: Floats) -> NDArray[np.bool_]:
    """Which pairs (P, 2) agree after an alignment that begins with these turns (P,) and fits (P, 6): (P,)."""
    rest = np.arange(len(numbers))
    for side, steps in ((COARSE, 2), (MIDDLE, 5)):
        (a, b), (first_way, second_way) = numbers[rest].T, np.divmod(ways[rest], WAYS)
        x, laid = squares.get(second_way, b, side), squares.get(first_way, a, side)
        y = np.stack([turned(square, turn) for square, turn in zip(laid, turns[rest].tolist(), strict=True)])
        fits, score, share = scores_aligned(x, y, fits, steps)
        agree = score >= ALIGNED[side]
        if side == MIDDLE:
            agree &= share <= MOST_DIFFERENT
        rest, fits = rest[agree], fits[agree]
        if not len(rest):
            break
    found = np.zeros(len(numbers), bool)
    found[rest] = True
    return found


class _Squares:
    """Luminance of n thumbs as squares.

    Attributes:
        middle: (3, n, 32, 32) uint8, whole thumbs, what is inside their borders, and inside of anything put around them.
        has: (3, n), which of these there are.
    """

    def __init__(self, thumbs: NDArray[np.uint8], rows: Rows) -> None:
        self.middle = np.empty((WAYS, len(rows), MIDDLE, MIDDLE), np.uint8)
        self.has = np.zeros((WAYS, len(rows)), bool)
        for n, row in enumerate(rows.tolist()):
            image = Image.fromarray(np.ascontiguousarray(thumbs[row]))
            whole = 0.0, 0.0, float(image.width), float(image.height)
            boxes = whole, _inside(content_box(thumbs[row]), image.size), picture_box(thumbs[row].astype(np.float32))
            for way, box in enumerate(boxes):
                if way == 0 or box not in boxes[:way]:
                    self.middle[way, n] = square(image, box, MIDDLE)
                    self.has[way, n] = True

    def get(self, way: Rows | int, numbers: Rows, side: int) -> Floats:
        """(k, side, side) of whole thumbs (way 0) or of their content (way 1 or 2)."""
        step = MIDDLE // side
        means: Floats = self.middle[way, numbers].reshape(-1, side, step, side, step).mean((2, 4), dtype=np.float32)
        return means


def _inside(box: Box, size: tuple[int, int]) -> Box:
    """A box without the lines beside a border, which are a mixture."""
    (left, top, right, bottom), (width, height) = box, size
    return left + (left > 0), top + (top > 0), right - (right < width), bottom - (bottom < height)


def _best_starts(squares: _Squares, numbers: Pairs) -> tuple[Floats, Rows]:
    """The best score of each pair (P, 9) and its start, for pictures with and without their borders: way 3 * first + second."""
    scores = np.full((len(numbers), WAYS**2), -1, np.float32)
    starts = np.zeros(scores.shape, np.int64)
    order = np.argsort(numbers[:, 0], kind="stable")
    firsts, begins = np.unique(numbers[order, 0], return_index=True)
    groups = np.split(order, begins[1:])
    for first_way in range(WAYS):
        wanted = np.flatnonzero(squares.has[first_way, firsts])
        for part in slices(len(wanted), FIRSTS):
            laid = laid_starts(squares.get(first_way, firsts[wanted[part]], COARSE))
            for n, group in enumerate(wanted[part].tolist()):
                _add_scores(squares, numbers, groups[group], (first_way, laid[n]), scores, starts)
    return scores, starts


def _add_scores(
    squares: _Squares,
    numbers: Pairs,
    some: Rows,
    first: tuple[int, Floats],
    scores: Floats,
    starts: Rows,
) -> None:
    """Write the best score and start of some pairs, which have a first picture in common; it is laid in one way."""
    first_way, laid = first
    for second_way in range(WAYS):
        chosen = some[squares.has[second_way, numbers[some, 1]]]
        if not len(chosen):
            continue
        found = start_scores(squares.get(second_way, numbers[chosen, 1], COARSE), laid)
        way = WAYS * first_way + second_way
        starts[chosen, way] = number = found.argmax(1)
        scores[chosen, way] = found[np.arange(len(chosen)), number]
