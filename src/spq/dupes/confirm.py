"""Decide whether two pictures are copies: at full size, after an exact overlay, where the most different part decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.dupes.canvas import Canvas, canvases, laid_together, luminance
from spq.dupes.differences import MOST_LIMIT, Differences, differences
from spq.dupes.edits import MIN_COLOURS, colours, fitted_tone, frame_notes, grey_versions, is_grey, turn_note
from spq.dupes.lettering import is_photo, lettering
from spq.dupes.overlay import (
    COARSE,
    TURNS,
    Box,
    Overlay,
    overlays,
    square,
)

Floats = NDArray[np.float32]

EVIDENCE = 12  # windows that must show something and agree
CLEAR = 0.2  # share of the windows that differ, below which the overlay is surely right
ALMOST = 0.5  # share of the windows that may differ in pictures that are almost the same
SMALL = (
    64  # pixels of a side below which only whole pictures are compared: crops and colours of a few pixels fit by chance
)
TONED = 0.96  # correlation that a slight change of colour leaves
MOST_EDITS = 2  # that are believed together; with each more, something fits by chance
ONE_SCALE = 0.02  # change of scale that may be an error of the fit
LEAST_OF_DRAWN = 0.65  # limit in drawings and pages: a codec's errors are large there, and changed figures larger still
REPLACED, REPLACED_CONTRAST = (
    2.0,
    0.6,
)  # times the limit; contrast of the one in places that differ, as a share of the other's
LIKE = 0.97  # correlation of the same small picture
FLAT = 4.0  # contrast of a picture without content, in grey levels


@dataclass(frozen=True)
class Verdict:
    """What the second picture is to the first.

    Attributes:
        kind: "re-encoded" (the same picture in other bytes or at another size), "edited" (a named edit; all of the rest
            agrees), "almost" (the same but for a part), or "" (no copy).
        note: "resized", "grey", "mirrored", "turned 90", "cropped, brighter", "border added", "differs here" and so on.
        region: x, y, width, height of the most different part, as shares of the first picture.
        share: how much of pictures that are almost the same differs. is_clear: whether these pictures would be no copies at a
            larger size either.
    """

    kind: str
    note: str
    region: tuple[float, float, float, float] | None = None
    share: float = 0.0
    is_clear: bool = False


SAME_PIXELS = "the same pixels"  # a note
NO_COPY = Verdict("", "")


def judge(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Verdict:
    """Compare two upright pictures (H, W, 4), RGBA, at the size of the smaller one, of at most 3 megapixels."""
    a, b = canvases(first, second)
    if min(a.grey.std(), b.grey.std()) < FLAT:
        return NO_COPY
    if first.shape == second.shape and np.array_equal(first, second):
        return Verdict("re-encoded", SAME_PIXELS)
    best, best_share = NO_COPY, 1.0
    for overlay in _candidates(a, b):
        verdict, share, is_exact = _under(a, b.turned(overlay.turn), overlay)
        if verdict.kind in ("re-encoded", "edited"):
            is_resized = verdict.kind == "re-encoded" and first.shape != second.shape
            return replace(verdict, note="resized") if is_resized else verdict
        if share < best_share:
            best, best_share = verdict, share
        if best_share < CLEAR and is_exact:  # no other overlay would be better
            break
    return best


def _candidates(a: Canvas, b: Canvas) -> Iterator[Overlay]:
    """Overlays to try: whole pictures as they are, then those that were found."""
    is_small = _is_small(a, b)
    for turn in range(TURNS if is_small else 1):
        if _same_aspect(a, b, turn) and (not is_small or _likeness(a, b.turned(turn)) > LIKE):
            yield Overlay(turn, _whole(a), _whole(b.turned(turn)))
    if is_small:
        return
    for overlay in overlays(a.grey, b.grey):
        yield _snapped(overlay, a, b.turned(overlay.turn))


def _is_small(a: Canvas, b: Canvas) -> bool:
    return bool(min(*a.grey.shape, *b.grey.shape) < SMALL)


def _likeness(a: Canvas, b: Canvas) -> float:
    """Correlation of two pictures at 16 x 16."""
    x, y = (square(Image.fromarray(canvas.grey), _whole(canvas), COARSE) for canvas in (a, b))
    return _correlation(x, y)


def _correlation(x: Floats, y: Floats) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


def _whole(canvas: Canvas) -> Box:
    height, width = canvas.grey.shape
    return 0.0, 0.0, float(width), float(height)


def _same_aspect(a: Canvas, b: Canvas, turn: int) -> bool:
    (h, w), (k, v) = a.grey.shape, b.grey.shape[::-1] if turn % 2 else b.grey.shape
    return bool(abs(w * k - h * v) <= 1.5 * max(w, h, k, v))


def _snapped(overlay: Overlay, a: Canvas, b: Canvas) -> Overlay:
    """The overlay as it was fitted, or with edges moved onto frames that are near, or in whole pixels: what fits best."""
    first, second = list(overlay.first), list(overlay.second)
    frames = _whole(a), _whole(b)
    for edge in range(4):
        close = [
            abs(box[edge] - frame[edge]) <= 1.5 + 0.01 * frame[2 + edge % 2]
            for box, frame in zip((first, second), frames, strict=True)
        ]
        if all(close):
            first[edge], second[edge] = frames[0][edge], frames[1][edge]
    rounded = [[float(round(edge)) for edge in box] for box in (first, second)]
    tries = [Overlay(overlay.turn, tuple(p), tuple(q)) for p, q in ((first, second), rounded)]  # type: ignore[arg-type]
    return min((*tries, *_unscaled(overlay, frames), overlay), key=lambda way: _misfit(a, b, way))


def _unscaled(overlay: Overlay, frames: tuple[Box, Box]) -> list[Overlay]:
    """Overlays of all that pictures of one scale share, moved by whole pixels as the edges of a fitted one say."""
    (left, top, right, bottom), (x0, y0, x1, y1) = overlay.first, overlay.second
    if max(abs((x1 - x0) / (right - left) - 1), abs((y1 - y0) / (bottom - top) - 1)) > ONE_SCALE:
        return []
    across, down = (
        {round(a), round(b), round((a + b) / 2)} for a, b in ((x0 - left, x1 - right), (y0 - top, y1 - bottom))
    )
    moves = set(product(across, down))
    found = []
    for x, y in sorted(moves):
        move = x, y, x, y
        first = [max(frames[0][k], frames[1][k] - move[k]) for k in (0, 1)]
        first += [min(frames[0][k], frames[1][k] - move[k]) for k in (2, 3)]
        second = [edge + step for edge, step in zip(first, move, strict=True)]
        found.append(Overlay(overlay.turn, tuple(first), tuple(second)))  # type: ignore[arg-type]
    return found


def _misfit(a: Canvas, b: Canvas, overlay: Overlay) -> float:
    """Mean difference of an overlay; places that differ much count as any other change."""
    boxes = overlay.first, overlay.second
    width, height = (max(1, round(min(box[2 + k] - box[k] for box in boxes))) for k in (0, 1))
    x, y = (
        np.asarray(Image.fromarray(canvas.grey).resize((width, height), Image.Resampling.BICUBIC, box, 4.0), np.float32)
        for canvas, box in zip((a, b), boxes, strict=True)
    )
    gain = float(np.clip(((x - x.mean()) * (y - y.mean())).mean() / (y.var() + 1), 0.3, 3))
    return float(np.minimum(np.abs(x - x.mean() - gain * (y - y.mean())), 40).mean())


def _under(a: Canvas, b: Canvas, overlay: Overlay) -> tuple[Verdict, float, bool]:
    """The verdict under one overlay, the share that differs, and whether most of the rest fits exactly; `b` is turned."""
    if min(edge for box in (overlay.first, overlay.second) for edge in (box[2] - box[0], box[3] - box[1])) < 8:
        return NO_COPY, 1.0, False
    x, y = laid_together(a, b, overlay)
    frame = frame_notes(a, b, overlay, lambda: is_photo(x) and is_photo(y))
    if frame is None:
        return NO_COPY, 1.0, False
    inner = _inner(a, b, overlay)
    notes = [note for note in (turn_note(overlay.turn), *frame) if note]
    is_small = _is_small(a, b)
    if is_small and _correlation(luminance(x), luminance(y)) < LIKE:
        return NO_COPY, 1.0, False
    compared = _Compared(x, y, differences(x, y, inner), []) if is_small else _compared(x, y, inner)
    found, notes = compared.found, [*notes, *compared.notes]
    if not is_small and not found.agrees and not is_photo(x) and not is_photo(y):
        found = replace(found, limit=max(found.limit, LEAST_OF_DRAWN))
    if found.evidence < EVIDENCE or not found.is_one_exposure:
        return NO_COPY, 1.0, False
    if len(notes) > MOST_EDITS:
        return NO_COPY, 1.0, False
    if found.agrees:
        return (Verdict("edited", ", ".join(notes)) if notes else Verdict("re-encoded", "re-encoded")), 0.0, True
    is_exact = found.limit < MOST_LIMIT
    if found.share > ALMOST:
        return NO_COPY, found.share, is_exact
    region = _in_first(found, a, overlay)
    is_in_colour = len(x) == 3 and not {"grey", "coloured"} & {*compared.notes}  # in grey, one ink explains any change
    text = lettering(compared.x, compared.y, found) if is_in_colour else ""
    if text and len(notes) < MOST_EDITS:
        return Verdict("edited", ", ".join([*notes, text]), region), 0.0, True
    is_clear = (
        not is_photo(x) and not is_photo(y) and (found.share > CLEAR or (not notes and _is_replaced(x, y, found)))
    )
    return Verdict("almost", ", ".join([*notes, "differs here"]), region, found.share, is_clear), found.share, is_exact


def _is_replaced(x: Floats, y: Floats, found: Differences) -> bool:
    """Whether places clearly show something else in both pictures, as another number: it is nothing added to empty ground."""
    if found.worst < REPLACED * found.limit:
        return False
    place = found.place(x.shape[1:])
    least, most = sorted(float(luminance(planes)[0][place].std()) for planes in (x, y))
    return least > REPLACED_CONTRAST * most


def _inner(a: Canvas, b: Canvas, overlay: Overlay) -> tuple[bool, bool, bool, bool]:
    """Which edges of the shared part are not edges of both pictures."""
    pairs = ((overlay.first, _whole(a)), (overlay.second, _whole(b)))
    left, top, right, bottom = (any(abs(box[k] - frame[k]) > 0.5 for box, frame in pairs) for k in range(4))
    return left, top, right, bottom


@dataclass(frozen=True)
class _Compared:
    """Two pictures (3 or 6, h, w) after an edit of one of them, how they differ then, and the names of the edit."""

    x: Floats
    y: Floats
    found: Differences
    notes: list[str]


def _compared(x: Floats, y: Floats, inner: tuple[bool, bool, bool, bool]) -> _Compared:
    """Compare pictures as they are, or in grey, or after a slight change of colour."""
    plain = _Compared(x, y, differences(x, y, inner), [])
    if plain.found.agrees or not plain.found.is_one_exposure:
        return plain
    greys = is_grey(x), is_grey(y)
    if greys[0] != greys[1] and colours(y if greys[0] else x) >= MIN_COLOURS:
        ways = [(grey, y) for grey in grey_versions(x)] if greys[1] else [(x, grey) for grey in grey_versions(y)]
        p, q = min(ways, key=lambda way: float(np.minimum(np.abs(way[0][0] - way[1][0]), 40).mean()))
        grey = _Compared(p, q, differences(p, q, inner), ["coloured" if greys[0] else "grey"])
        if grey.found.agrees:
            return grey
        if grey.found.share < 0.5 * plain.found.share:  # else the colour is in one place, as that of a text
            plain = grey
    if _correlation(luminance(plain.x), luminance(plain.y)) < TONED or not _is_all_over(plain.x, plain.y):
        return plain
    if min(colours(plain.x), colours(plain.y)) < MIN_COLOURS:
        return plain
    return _toned(plain, inner)


def _toned(plain: _Compared, inner: tuple[bool, bool, bool, bool]) -> _Compared:
    """Compare after a slight change of colour, if it explains more than none."""
    x, y = plain.x, plain.y
    there, back = fitted_tone(x, y), fitted_tone(y, x)
    tries = [(there(x), y, there.note(x), there), (x, back(y), _opposite(back.note(y)), back)]
    tries.sort(key=lambda way: float(np.minimum(np.abs(way[0] - way[1]), 40).mean()))
    best = plain
    for p, q, name, tone in tries:
        found = differences(p, q, inner) if tone.is_slight else plain.found
        if found.limit > plain.found.limit:  # with it the rest fits worse, and would hide what differs
            continue
        if found.agrees or found.share < min(best.found.share, 0.5 * plain.found.share):
            best = _Compared(p, q, found, [*plain.notes, *filter(None, [name])])
        if found.agrees:
            break
    return best


def _is_all_over(x: Floats, y: Floats) -> bool:
    """Whether the mean colour changes in a tenth of all blocks of 8 x 8 pixels, as after a change of colour."""
    height, width = (max(1, n // 8 * 8) for n in x.shape[1:])
    difference = np.abs(_block_means(x[:3, :height, :width]) - _block_means(y[:3, :height, :width])).max(0)
    return bool((difference >= 3).mean() > 0.1)


def _block_means(planes: Floats) -> Floats:
    """Means of blocks of 8 x 8 pixels of (3, h, w), or of single pixels of tiny pictures."""
    _, height, width = planes.shape
    if height % 8 or width % 8:
        return planes
    means: Floats = planes.reshape(3, height // 8, 8, width // 8, 8).mean((2, 4))
    return means


def _opposite(note: str) -> str:
    return {"brighter": "darker", "darker": "brighter"}.get(note, note)


def _in_first(found: Differences, a: Canvas, overlay: Overlay) -> tuple[float, float, float, float]:
    """The region of the shared part, as shares of the first picture."""
    height, width = a.grey.shape
    left, top, right, bottom = overlay.first
    x, y, w, h = found.region()
    across, down = (right - left) / width, (bottom - top) / height
    return left / width + x * across, top / height + y * down, w * across, h * down
