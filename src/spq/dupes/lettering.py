"""Is what differs between two photos a text or watermark: one colour, blended over one of them, on thin strokes?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.dupes.canvas import luminance
from spq.dupes.differences import STRIDE, WINDOW, Differences

Floats = NDArray[np.float32]

CHANGED = 14.0  # grey levels, of a pixel that belongs to a stroke
MOST_AREA = 0.3  # of the picture, of all strokes
STROKES = 4  # gaps between letters
LEAST_LENGTH = 6  # length of a text, in widths of its strokes
EXPLAINED = 0.35  # share of the change that one colour may leave
PHOTO_COLOURS, PHOTO_SOFT = 9, 0.2
SOFT = (2.0, 25.0)  # contrast of windows that photos have many of: neither empty nor an edge of a drawing


def is_photo(planes: Floats) -> bool:
    """Whether (3 or 6, h, w) has the soft shades of a photo. Drawings, pages and screens have few colours and hard edges."""
    if len(planes) != 3:
        return False
    return colour_count(planes) >= PHOTO_COLOURS and soft_share(planes) >= PHOTO_SOFT


def colour_count(planes: Floats) -> int:
    """How many colours cover at least 1 in 250 pixels, in steps of 32 levels."""
    keys = (planes[:3].reshape(3, -1) // 32).astype(np.int64)
    counts = np.bincount(keys[0] * 64 + keys[1] * 8 + keys[2], minlength=512)
    return int((counts > 0.004 * counts.sum()).sum())


def soft_share(planes: Floats) -> float:
    """Share of 8 x 8 blocks with a soft contrast."""
    grey = luminance(planes[:3])[0]
    height, width = (n // WINDOW for n in grey.shape)
    blocks = grey[: height * WINDOW, : width * WINDOW].reshape(height, WINDOW, width, WINDOW)
    contrast = blocks.std((1, 3))
    return float(((contrast > SOFT[0]) & (contrast < SOFT[1])).mean()) if contrast.size else 0.0


def lettering(x: Floats, y: Floats, found: Differences) -> str:
    """ "text added" if `y` is the photo `x` (3, h, w) with a text over it, "text removed" if `x` is `y` with one; else empty."""
    place = np.zeros(x.shape[1:], bool)
    for row, column in np.argwhere(found.differs).tolist():
        place[row * STRIDE : row * STRIDE + WINDOW, column * STRIDE : column * STRIDE + WINDOW] = True
    change = np.abs(y - x).max(0) * place
    strokes = change > max(CHANGED, 0.3 * float(np.quantile(change[place], 0.95)))
    if not _are_letters(strokes):
        return ""
    for plain, written, note in ((x, y, "text added"), (y, x, "text removed")):
        if is_photo(plain) and _is_blended(plain, written, place, strokes):
            return note
    return ""


def _are_letters(strokes: NDArray[np.bool_]) -> bool:
    """Whether the pixels (h, w) are many thin strokes with gaps, on one or a few lines."""
    area = int(strokes.sum())
    if not 20 <= area <= MOST_AREA * strokes.size:
        return False
    outline = int((strokes[1:] ^ strokes[:-1]).sum() + (strokes[:, 1:] ^ strokes[:, :-1]).sum())
    thickness = 2 * area / max(1, outline)
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    length = max(np.ptp(rows), np.ptp(columns)) + 1
    crossings = max(_most_crossings(strokes), _most_crossings(strokes.T))
    return bool(length >= LEAST_LENGTH * thickness and crossings >= STROKES and thickness <= 0.06 * max(strokes.shape))


def _most_crossings(strokes: NDArray[np.bool_]) -> int:
    """How many strokes the line with the most of them crosses."""
    return int((strokes[:, 1:] & ~strokes[:, :-1]).sum(1).max())


def _is_blended(plain: Floats, written: Floats, place: NDArray[np.bool_], strokes: NDArray[np.bool_]) -> bool:
    """Whether `written` is `plain` moved towards one colour, pixel by pixel, wherever they differ."""
    a, b = plain[:, strokes], written[:, strokes]
    keep = _one_opacity(a, b)
    if keep is None:
        return False
    share, colour = keep
    if not ((colour > -25) & (colour < 280)).all():
        return False
    a, b = plain[:, place], written[:, place]
    towards = colour[:, None] - a
    alpha = ((b - a) * towards).sum(0) / np.maximum(np.square(towards).sum(0), 100)
    left = b - a - alpha.clip(0, 1.05) * towards
    change = np.square(b - a).sum()
    return bool(np.square(left).sum() <= EXPLAINED**2 * change)


def _one_opacity(a: Floats, b: Floats) -> tuple[float, Floats] | None:
    """The share p and the colour c of b = p a + (1 - p) c, for the pixels (3, n) of strokes, if there are such."""
    p, weight = 0.0, np.ones(a.shape[1], np.float32)
    for _ in range(6):
        total = weight.sum() + 1e-6
        mean_a, mean_b = (a * weight).sum(1) / total, (b * weight).sum(1) / total
        da, db = a - mean_a[:, None], b - mean_b[:, None]
        p = float((da * db * weight).sum() / ((da * da * weight).sum() + 100 * total))
        p = min(max(p, 0.0), 0.9)
        left = np.sqrt(np.square(db - p * da).sum(0))
        weight = 1 / (1 + np.square(left / (2 * np.median(left) + 4)))
    return p, (mean_b - p * mean_a) / (1 - p)
