"""Decide whether two pictures are copies: at full size, after an exact overlay, where the most different part decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.dupes.canvas import Canvas, canvases, laid_together, luminance
from spq.dupes.differences import Differences, differences
from spq.dupes.edits import MIN_COLOURS, colours, fitted_tone, frame_notes, grey_versions, is_grey, turn_note
from spq.dupes.overlay import COARSE, Box, Overlay, overlays, start_scores

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]  # (P, 2) rows, the lower one first, each pair once

BATCH = 256  # pairs of thumbs that are compared at a time
PLAUSIBLE = 0.55  # correlation of thumbs at 16 x 16, under the best of all turns and crops
EVIDENCE = 12  # windows that must show something and agree
ALMOST = 0.5  # share of the windows that may differ in pictures that are almost the same
FLAT = 4.0  # contrast of a picture without content, in grey levels


@dataclass(frozen=True)
class Verdict:
    """What the second picture is to the first.

    Attributes:
        kind: "re-encoded" (the same picture in other bytes or at another size), "edited" (a named edit; all of the rest
            agrees), "almost" (the same but for a part), or "" (no copy).
        note: "resized", "grey", "mirrored", "turned 90", "cropped, brighter", "border added", "differs here" and so on.
        region: x, y, width, height of the most different part, as shares of the first picture.
    """

    kind: str
    note: str
    region: tuple[float, float, float, float] | None = None


NO_COPY = Verdict("", "")


def plausible(thumbs: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.bool_]:
    """Which pairs (P, 2) of thumbs (N, 3, 64, 64) are worth a comparison at full size: (P,). It errs on the side of many."""
    found = np.zeros(len(pairs), bool)
    for part in slices(len(pairs), BATCH):
        x, y = (_coarse(thumbs[pairs[part, side]]) for side in (0, 1))
        found[part] = start_scores(x, y).max((1, 2)) >= PLAUSIBLE
    return found


def _coarse(thumbs: NDArray[np.uint8]) -> Floats:
    """Luminance (P, 16, 16) of thumbs (P, 3, S, S)."""
    block = thumbs.shape[-1] // COARSE
    grey = luminance(thumbs.reshape(-1, *thumbs.shape[2:]).astype(np.float32))
    means: Floats = grey.reshape(-1, COARSE, block, COARSE, block).mean((2, 4))
    return means


def judge(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Verdict:
    """Compare two upright pictures (H, W, 4), RGBA, at the size of the smaller one, of at most 3 megapixels."""
    a, b = canvases(first, second)
    if min(a.grey.std(), b.grey.std()) < FLAT:
        return NO_COPY
    if first.shape == second.shape and np.array_equal(first, second):
        return Verdict("re-encoded", "the same pixels")
    best: Verdict = NO_COPY
    for overlay in _candidates(a, b):
        verdict = _under(a, b.turned(overlay.turn), overlay)
        if verdict.kind in ("re-encoded", "edited"):
            if verdict.kind == "re-encoded" and first.shape != second.shape:
                verdict = replace(verdict, note="resized")
            return verdict
        best = best if best.kind else verdict
    return best


def _candidates(a: Canvas, b: Canvas) -> Iterator[Overlay]:
    """Overlays to try: whole pictures as they are, then those that were found, whole frames before fitted ones."""
    if _same_aspect(a, b, 0):
        yield Overlay(0, _whole(a), _whole(b))
    for overlay in overlays(a.grey, b.grey):
        yield from _snapped(overlay, a, b.turned(overlay.turn))


def _whole(canvas: Canvas) -> Box:
    height, width = canvas.grey.shape
    return 0.0, 0.0, float(width), float(height)


def _same_aspect(a: Canvas, b: Canvas, turn: int) -> bool:
    (h, w), (k, v) = a.grey.shape, b.grey.shape[::-1] if turn % 2 else b.grey.shape
    return abs(w * k - h * v) <= 1.5 * max(w, h, k, v)


def _snapped(overlay: Overlay, a: Canvas, b: Canvas) -> Iterator[Overlay]:
    """The overlay with edges moved onto frames that are near, then as it was fitted."""
    first, second = list(overlay.first), list(overlay.second)
    frames = _whole(a), _whole(b)
    for edge in range(4):
        close = [
            abs(box[edge] - frame[edge]) <= 1.5 + 0.01 * frame[2 + edge % 2]
            for box, frame in zip((first, second), frames, strict=True)
        ]
        if all(close):
            first[edge], second[edge] = frames[0][edge], frames[1][edge]
    snapped = Overlay(overlay.turn, tuple(first), tuple(second))  # type: ignore[arg-type]
    rounded = Overlay(overlay.turn, tuple(map(round, first)), tuple(map(round, second)))  # type: ignore[arg-type]
    yield from dict.fromkeys((snapped, rounded, overlay))


def _under(a: Canvas, b: Canvas, overlay: Overlay) -> Verdict:
    """The verdict under one overlay; `b` is turned."""
    if min(edge for box in (overlay.first, overlay.second) for edge in (box[2] - box[0], box[3] - box[1])) < 8:
        return NO_COPY
    frame = frame_notes(a, b, overlay)
    if frame is None:
        return NO_COPY
    x, y = laid_together(a, b, overlay)
    notes = [note for note in (turn_note(overlay.turn), *frame) if note]
    found, tone = _compared(x, y)
    notes += tone
    if found.worst <= found.limit and found.evidence >= EVIDENCE:
        return Verdict("edited", ", ".join(notes)) if notes else Verdict("re-encoded", "re-encoded")
    if found.share <= ALMOST and found.evidence >= EVIDENCE:
        return Verdict("almost", ", ".join([*notes, "differs here"]), _in_first(found, a, overlay))
    return NO_COPY


def _compared(x: Floats, y: Floats) -> tuple[Differences, list[str]]:
    """Differences as they are, or of grey versions, or after a slight change of colour; and the name of the change."""
    plain = differences(x, y)
    if plain.worst <= plain.limit:
        return plain, []
    greys = is_grey(x), is_grey(y)
    notes = []
    ways = [(x, y)]
    if greys[0] != greys[1]:
        notes = ["coloured" if greys[0] else "grey"]
        ways = [(grey, y) for grey in grey_versions(x)] if greys[1] else [(x, grey) for grey in grey_versions(y)]
    found = min((differences(*way) for way in ways), key=lambda d: d.worst)
    if notes and found.worst <= found.limit:
        return found, notes
    if min(colours(x), colours(y)) < MIN_COLOURS:
        return plain, []
    for p, q in ways:
        for one, other, back in ((p, q, False), (q, p, True)):
            tone = fitted_tone(one, other)
            if tone.is_slight:
                toned = differences(tone(one), other)
                if toned.worst <= toned.limit:
                    name = tone.note if not back else _opposite(tone.note)
                    return toned, [*notes, name]
    return plain, []


def _opposite(note: str) -> str:
    return {"brighter": "darker", "darker": "brighter"}.get(note, note)


def _in_first(found: Differences, a: Canvas, overlay: Overlay) -> tuple[float, float, float, float]:
    """The region of the shared part, as shares of the first picture."""
    height, width = a.grey.shape
    left, top, right, bottom = overlay.first
    x, y, w, h = found.region()
    across, down = (right - left) / width, (bottom - top) / height
    return left / width + x * across, top / height + y * down, w * across, h * down
