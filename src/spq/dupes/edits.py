"""Name the edit that makes one picture from another: grey, brighter, other colours, other frame, turned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spq.dupes.canvas import Canvas, in_grey
from spq.dupes.overlay import UNIFORM, Box, Overlay, content_box

Floats = NDArray[np.float32]

GREY = 10.0  # difference of the channels of nearly all pixels of a grey picture
MIN_COLOURS = (
    7  # colours that a picture needs before a change of colour is believed; a map of few colours explains anything
)
NEAR, AT_EDGE = 8, 3.0  # lines beside an edge; how much larger a change across it is, in multiples of that beside it
SHARP, BLURRED = 2.0, 0.35  # detail at an edge, in grey levels; its share on the other side, if that is blurred
MARK, FEWEST_MARKS = 20, 20  # grey levels and pixels of a writing on a border
COLOUR_SHARE = 0.004  # of the picture, of a colour that counts
SAMPLE = 8_000  # pixels that a change of colour is fitted on
_WEIGHTS = {  # how programs turn colours into grey
    "luminance": (0.299, 0.587, 0.114), "television": (0.2126, 0.7152, 0.0722), "mean": (1 / 3, 1 / 3, 1 / 3)
}  # fmt: skip


def is_grey(planes: Floats) -> bool:
    """Whether (3 or 6, h, w) has no colour, except a codec's error."""
    step = 1 + planes[0].size // 1_000_000
    red, green, blue = planes[:3, ::step]
    return bool(((np.abs(green - red) > GREY) | (np.abs(blue - red) > GREY)).mean() <= 0.005)


def grey_versions(planes: Floats) -> list[Floats]:
    """(3 or 6, h, w) without colour, in the ways that programs do it."""
    parts = planes.reshape(-1, 3, *planes.shape[1:])
    found = [in_grey(planes, np.array(weights, np.float32)) for weights in _WEIGHTS.values()]
    found.append((parts.max(1) + parts.min(1)) / 2)
    return [np.repeat(grey, 3, axis=0).astype(np.float32) for grey in found]


@dataclass(frozen=True)
class Tone:
    """A change of colour: channel = matrix @ (red, green, blue, 1) + square * channel², limited to 0..255, all / 255."""

    matrix: Floats  # (3, 4)
    square: Floats  # (3,)

    def __call__(self, planes: Floats) -> Floats:
        scaled = planes.reshape(-1, 3, planes[0].size) / 255
        mapped = self.matrix[:, :3] @ scaled + self.matrix[:, 3, None] + self.square[:, None] * np.square(scaled)
        changed: Floats = (mapped.clip(0, 1) * 255).reshape(planes.shape).astype(np.float32)
        return changed

    @property
    def is_slight(self) -> bool:
        """Whether it keeps the order of brightness and mixes colours little."""
        mixed = np.abs(self.matrix[:, :3] * (1 - np.eye(3))).sum(1)
        slopes = [self.matrix[:, :3].sum(1) + 2 * self.square * level for level in (0.1, 0.9)]
        return bool((mixed <= 0.7).all() and (np.min(slopes) >= 0.2) and (np.max(slopes) <= 3))

    def note(self, planes: Floats) -> str:
        """What it does to a picture (3 or 6, h, w); empty if hardly anything."""
        sample = planes[:3].reshape(3, 1, -1)[:, :, :: max(1, planes[0].size // 4000)]
        change = self(sample) - sample
        if np.abs(change).mean() < 2.5:
            return ""
        levels = np.clip(
            self.matrix[:, :3].sum(1).mean() * sample / 255
            + self.matrix[:, 3].mean()
            + self.square.mean() * np.square(sample / 255),
            0,
            1,
        )
        if np.abs(self(sample) - levels * 255).mean() > 4:
            return "colours changed"
        if abs(change.mean()) >= 0.5 * np.abs(change).mean():
            return "brighter" if change.mean() > 0 else "darker"
        return "contrast changed"


def fitted_tone(x: Floats, y: Floats) -> Tone:
    """The change of colour that makes `x` most like `y`, by least squares; places that disagree much have little weight."""
    step = max(1, x[0].size // SAMPLE)
    a, b = (planes[:3].reshape(3, -1)[:, ::step].astype(np.float64) / 255 for planes in (x, y))
    matrix, square = np.eye(3, 4), np.zeros(3)
    for channel in range(3):
        A = np.stack([*a, np.ones(a.shape[1]), np.square(a[channel])])
        start = np.array([*np.eye(3)[channel], 0, 0])
        values, target = start.copy(), b[channel]
        usable = (target > 0.02) & (target < 0.98)
        for _ in range(6):
            residual = target - values @ A
            typical = np.median(np.abs(residual[usable])) * 3 + 0.01 if usable.any() else 1
            weighted = A * (usable / (1 + np.square(residual / typical)))
            gram = weighted @ A.T + 1e-4 * a.shape[1] * np.diag([1, 1, 1, 0.1, 3])
            values = values + np.linalg.solve(
                gram, weighted @ residual - 1e-4 * a.shape[1] * np.diag([1, 1, 1, 0.1, 3]) @ (values - start)
            )
        matrix[channel], square[channel] = values[:4], values[4]
    return Tone(matrix.astype(np.float32), square.astype(np.float32))


def colours(planes: Floats) -> int:
    """How many colours cover a noticeable share of (3 or 6, h, w), in steps of 32 levels."""
    keys = (planes[:3].reshape(3, -1).clip(0, 255).astype(np.uint8) >> 5).astype(np.int32)
    counts = np.bincount(keys[0] * 64 + keys[1] * 8 + keys[2], minlength=512)
    return int((counts > COLOUR_SHARE * counts.sum()).sum())


def turn_note(turn: int) -> str:
    """What the second picture is to the first, if the second has to be turned by `turn` to lie over it."""
    if turn >= 4:
        return {4: "mirrored", 5: "mirrored, turned 90", 6: "flipped", 7: "mirrored, turned 270"}[turn]
    return {0: "", 1: "turned 270", 2: "turned 180", 3: "turned 90"}[turn]


def frame_notes(first: Canvas, second: Canvas, overlay: Overlay, is_photo: Callable[[], bool]) -> list[str] | None:
    """How the frame changed, for the turned second picture; None if each shows something that the other one lacks.

    Only of photos it is believed that one is a cropped copy with a border: a list that is moved on by a line looks so too. Its
    border must be on two opposite sides: a view on a plain ground that was moved has one at the side that came in. And only a
    photo is believed to be scaled inside a border: a small disc on an empty ground is not a large disc.
    """
    boxes = overlay.first, overlay.second
    rests = [_rest(canvas, box) for canvas, box in zip((first, second), boxes, strict=True)]
    if not any(rests):
        return []
    is_a_photo = is_photo()
    if all(rests) and (rests[0] == rests[1] or not is_a_photo):
        return None
    if all(rests) and not _is_framed((first, second)[rests.index("border")], boxes[rests.index("border")]):
        return None
    (left, top, right, bottom), (x0, y0, x1, y1) = overlay.first, overlay.second
    scales = (x1 - x0) / (right - left), (y1 - y0) / (bottom - top)
    if max(scales) > 1.2 * min(scales):
        return None
    if "border" in rests and not is_a_photo and not 0.97 < min(scales) <= max(scales) < 1.03:
        return None
    if not all(rests):  # what lies around a single picture has no say in whether the two are copies
        rests = [rest and _around(canvas, box) for rest, canvas, box in zip(rests, (first, second), boxes, strict=True)]
    notes = {
        "content": ("cropped", "less cropped"),
        "border": ("border removed", "border added"),
        "frame": ("frame removed", "frame added"),
    }
    return [notes[rest][place] for place, rest in enumerate(rests) if rest]


def _is_framed(canvas: Canvas, box: Box) -> bool:
    """Whether the box leaves room at two opposite sides."""
    height, width = canvas.grey.shape
    return any(min(box[k], side - box[2 + k]) >= 1 for k, side in enumerate((width, height)))


def _around(canvas: Canvas, box: Box) -> str:
    """What lies around the box: an empty border, a frame that shows something, as a caption or blurred bars, or more content."""
    grey, (height, width) = canvas.grey, canvas.grey.shape
    edges = zip(box, content_box(grey), (0, 0, width, height), (width, height) * 2, strict=True)
    if all(min(abs(a - b), abs(a - end)) <= 2 + 0.01 * side for a, b, end, side in edges):
        return "border"
    if _rest(canvas, box) == "border":
        return "frame" if any(map(_is_written, _strips(grey, box, NEAR))) else "border"
    left, top, right, bottom = (round(edge) for edge in box)
    sides = (
        (grey[: top + NEAR, left:right], top), (grey[::-1][: height - bottom + NEAR, left:right], height - bottom),
        (grey.T[: left + NEAR, top:bottom], left), (grey.T[::-1][: width - right + NEAR, top:bottom], width - right),
    )  # fmt: skip
    return "frame" if all(at >= NEAR and _is_edge(lines, at) for lines, at in sides if at > 2) else "content"


def _is_edge(lines: NDArray[np.uint8], at: int) -> bool:
    """Whether what (n, w) shows ends at the line `at`: it changes much more there, is empty before it, or is blurred."""
    values = lines.astype(np.float32)
    before = np.abs(values[at - 3] - values[at - NEAR]).mean()
    if np.abs(values[at + 2] - values[at - 3]).mean() > AT_EDGE * (before + 1) or _is_uniform(
        lines[at - NEAR : at - 2]
    ):
        return True
    outer, inner = (
        float(np.abs(np.diff(part, 2, axis=1)).mean()) for part in (values[at - NEAR : at - 2], values[at + 2 :])
    )
    return inner > SHARP and outer < BLURRED * inner


def _is_written(strip: NDArray[np.uint8]) -> bool:
    """Whether a strip of one colour has something on it that is no line along it."""
    marks = np.abs(strip - np.float32(np.median(strip))) > MARK
    marks = marks[:, marks.mean(0) < 0.5][marks.mean(1) < 0.5] if marks.size else marks
    return int(marks.sum()) >= FEWEST_MARKS


def _rest(canvas: Canvas, box: Box) -> str:
    """What a picture shows outside the box: nothing, a border, or content."""
    strips = _strips(canvas.grey, box)
    if not strips:
        return ""
    return "border" if all(map(_is_uniform, strips)) else "content"


def _strips(grey: NDArray[np.uint8], box: Box, gap: int = 0) -> list[NDArray[np.uint8]]:
    """What lies above, below, left and right of the box, by more than `gap` pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    left, top, right, bottom = max(0, left - gap), max(0, top - gap), right + gap, bottom + gap
    strips = [grey[:top], grey[bottom:], grey[top:bottom, :left], grey[top:bottom, right:]]
    return [strip for strip in strips if strip.size]


def _is_uniform(strip: NDArray[np.uint8]) -> bool:
    return bool(np.quantile(np.abs(strip - np.float32(np.median(strip))), 0.97) <= UNIFORM)
