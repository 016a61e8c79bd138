"""Is what differs between two photos a text or watermark: one colour, blended over one of them, on thin strokes?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.dupes.canvas import luminance
from spq.dupes.differences import WINDOW, Differences
from spq.dupes.edits import grey_versions

Floats = NDArray[np.float32]

CHANGED = 14.0  # grey levels, of a pixel that belongs to a stroke
MOST_AREA = 0.3  # of the picture, of all strokes
LEAST_FILL = 0.12  # of the box around all strokes
STROKES = 4  # gaps between letters
MOST_SOLID = 0.3  # of the strokes, that is more than twice as thick as the others
LEAST_LENGTH = 15  # length of a text, in widths of its strokes
EXPLAINED, EXPLAINED_IF_NEW = 0.38, 0.45  # share of the change that one colour may leave; that a new one may leave
NEW_INK, FEW = 48.0, 0.28  # grey levels; area of a new ink in the picture without the text, as a share of the text's
LEAST_SHARE, MOST_THICKNESS = 0.12, 0.06  # length of a text and thickness of its strokes, of the picture's longer side
PRESENT, MOST_PRESENT = 0.4, 0.65  # share of a text's strokes that the picture without it may seem to have
FLAT = 0.93  # share of a label's ground that has one colour
SHADED, GOES_ON = 40.0, 0.75  # grey levels of the shading of a wall; share of it beside a text that is on it
INK_LEFT, LEAST_INK = 0.25, 0.3  # share of a change that ink may leave; share of the ink's opacity
STRONG = 0.5  # of the strongest change
NEAR_INK, MOST_FAR = 6, 4  # pixels: codecs spread a text by a block
ONE_INK = 30.0  # grey levels by which half of the strongest pixels of a text differ from its ink
SAME_AREA = 1.5  # of a text's ink, if it was there in another one; more is a ground that the text lies on
SAME_INK, OTHER_STROKES = 24.0, 0.05  # grey levels; area of strokes on a text's line, of the text
CLEAR_LINE = 3.0  # how much more of them there is on the line than above and below
SMALLEST_PHOTO = 48  # pixels of a side
MANY_SHADES, SOME_SHADES, LEAST_SHADES, MUCH_REST, MAIN_COLOURS = 70, 36, 12, 0.055, 6
SOFT, EMPTY = (2.0, 25.0), 1.5  # contrast of a block in grey levels
SOFT_SHARE, FEW_EMPTY = 0.42, 0.3
MIXED_SHADES, MIXED_SOFT, MIXED_EMPTY = 40, 0.25, 0.52  # of an object on a white ground


def is_photo(planes: Floats) -> bool:
    """Whether (3, h, w) has the many shades of a photo; drawings, pages and screens consist of a few colours and edges."""
    if len(planes) != 3 or min(planes.shape[1:]) < SMALLEST_PHOTO:
        return False
    shades, rest = colour_spread(planes)
    soft, empty = block_shares(planes)
    is_soft = soft >= SOFT_SHARE and (shades >= SOME_SHADES or empty <= FEW_EMPTY) and shades >= LEAST_SHADES
    is_mixed = shades >= MIXED_SHADES and soft >= MIXED_SOFT and empty <= MIXED_EMPTY
    return shades >= MANY_SHADES or rest >= MUCH_REST or is_soft or is_mixed


def colour_spread(planes: Floats) -> tuple[int, float]:
    """How many colours cover at least 1 of 2,000 pixels of (3, h, w), in steps of 16 levels; the share of the pixels that have
    none of the six main colours, nor one beside them."""
    step = max(1, planes[0].size // 100_000)
    keys = (planes[:3].reshape(3, -1)[:, ::step].clip(0, 255).astype(np.uint8) >> 4).astype(np.int32) + 1
    counts = np.bincount(keys[0] * 324 + keys[1] * 18 + keys[2], minlength=18**3).reshape(
        18, 18, 18
    )  # an empty cell at each side
    total, shades = counts.sum(), int((counts > counts.sum() / 2000).sum())
    for _ in range(MAIN_COLOURS):
        r, g, b = np.unravel_index(int(counts.argmax()), counts.shape)
        if not counts[r, g, b]:
            break
        counts[r - 1 : r + 2, g - 1 : g + 2, b - 1 : b + 2] = 0
    return shades, float(counts.sum() / total)


def block_shares(planes: Floats) -> tuple[float, float]:
    """Shares of the 8 x 8 blocks with a soft contrast, neither empty nor an edge of a drawing, and of the empty ones."""
    grey = luminance(planes[:3])[0]
    height, width = (n // WINDOW for n in grey.shape)
    contrast = grey[: height * WINDOW, : width * WINDOW].reshape(height, WINDOW, width, WINDOW).std((1, 3))
    return float(((contrast > SOFT[0]) & (contrast < SOFT[1])).mean()), float((contrast < EMPTY).mean())


def lettering(x: Floats, y: Floats, found: Differences) -> str:
    """ "text added" if `y` is the photo `x` (3, h, w) with a text over it, "text removed" if `x` is `y` with one; else empty.

    In doubt it is empty: a changed figure of a timestamp, a plate or a scoreboard is no text over a photo.
    """
    place = found.place(x.shape[1:])
    change = np.abs(y - x).max(0) * place
    most = float(np.quantile(change[place], 0.95))
    strokes, strong = change > max(CHANGED, 0.3 * most), change > max(CHANGED, STRONG * most)
    if not _are_letters(strokes):
        return ""
    are_photos = is_photo(x), is_photo(y)
    if not any(are_photos) and _is_colour_alone(x, y, strokes):
        return ""
    new = [_has_new_ink(p, q, strokes) for p, q in ((x, y), (y, x))]
    part = _around(place)
    x, y, place, strokes, strong = x[:, *part], y[:, *part], place[part], strokes[part], strong[part]
    ways = [_explained(p, q, place, strokes) for p, q in ((x, y), (y, x))]
    if new[0] != new[1]:
        plain, written, (left, ink) = (x, y, ways[0]) if new[0] else (y, x, ways[1])
        is_plain = not _is_on_label(plain, strokes) and not _are_recoloured(plain, written, strokes)
        if left <= EXPLAINED_IF_NEW and is_plain and _are_near(ink, strong):
            return "text added" if new[0] else "text removed"
    if not any(are_photos):
        return ""
    shown = _shown_before(x, y, strokes)
    fits, is_added = [left <= EXPLAINED and _are_near(ink, strong) for left, ink in ways], shown < 0.5
    if not all(fits):  # one way at most
        is_added = fits[0]
    plain, written = (x, y) if is_added else (y, x)
    if not any(fits) or abs(shown - (not is_added)) > (PRESENT if all(fits) else MOST_PRESENT):
        return ""
    if not are_photos[0 if is_added else 1] or _has_such_strokes(plain, written, strokes):
        return ""
    return "text added" if is_added else "text removed"


def _is_colour_alone(x: Floats, y: Floats, strokes: NDArray[np.bool_]) -> bool:
    """Whether the strokes of one picture are those of the other one in grey, as on a screen in a few colours."""
    a, b = x[:, strokes][:, None], y[:, strokes][:, None]
    left = [np.median(np.abs(grey - q).max(0)) for p, q in ((a, b), (b, a)) for grey in grey_versions(p)]
    return bool(min(left) < CHANGED)


def _around(place: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Where to look for what a text is: the box of the `place`, widened by four times its lesser side."""
    rows, columns = np.flatnonzero(place.any(1)), np.flatnonzero(place.any(0))
    far = 4 * (min(int(np.ptp(rows)), int(np.ptp(columns))) + 1) + WINDOW
    return slice(max(0, rows[0] - far), rows[-1] + far + 1), slice(max(0, columns[0] - far), columns[-1] + far + 1)


def _shown_before(x: Floats, y: Floats, strokes: NDArray[np.bool_]) -> float:
    """How much of the strokes by which `y` differs from `x` is cut out of `x`: about 0 if `y` has them, 1 if `x` has."""
    width = 4 * int(np.ceil(_thickness(strokes))) + 3
    change, detail = (values - _blurred(values, width) for values in (y - x, x))
    return -float((change * detail)[:, strokes].sum() / np.square(change)[:, strokes].sum())


def _ink(pixels: Floats) -> tuple[Floats, float]:
    """The median colour of pixels (3, n), and how far half of them are from it at least."""
    ink: Floats = np.median(pixels, axis=1)
    return ink, float(np.median(np.abs(pixels - ink[:, None]).max(0)))


def _are_recoloured(plain: Floats, written: Floats, strokes: NDArray[np.bool_]) -> bool:
    """Whether the picture without the text has the same strokes, in another ink: a signature in blue, not in black."""
    before = plain[:, strokes]
    ink, spread = _ink(before)
    area = int((np.abs(plain - ink[:, None, None]).max(0) <= ONE_INK).sum())
    return spread <= ONE_INK and area < SAME_AREA * strokes.sum() and _shown_before(plain, written, strokes) > PRESENT


def _has_new_ink(plain: Floats, written: Floats, strokes: NDArray[np.bool_]) -> bool:
    """Whether the strokes have one colour that the whole picture without them does not have. No other text was there then."""
    change = np.abs(written - plain).max(0)
    core = written[:, strokes & (change >= np.quantile(change[strokes], 0.5))]
    ink, spread = _ink(core)
    if spread > ONE_INK:
        return False
    before, after = (int((np.abs(planes - ink[:, None, None]).max(0) < NEW_INK).sum()) for planes in (plain, written))
    return before < FEW * min(after, int(strokes.sum()))


def _has_such_strokes(plain: Floats, written: Floats, strokes: NDArray[np.bool_]) -> bool:
    """Whether the picture without the text has strokes of its ink beside the place, or a label made for a text there."""
    if _is_on_label(plain, strokes):
        return True
    if _runs_down(strokes):
        plain, written, strokes = plain.swapaxes(1, 2), written.swapaxes(1, 2), strokes.T
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    height, rows = int(np.ptp(rows)) + 1, np.arange(rows[0], rows[-1] + 1)
    rest = slice(max(0, rows[0] - 2 * height), rows[-1] + 2 * height + 1)
    wide = rest, slice(max(0, columns[0] - 4 * height), columns[-1] + 4 * height + 1)
    thin = _thin_ink(plain[:, *wide], written[:, *wide], strokes[wide])
    top = int(rows[0]) - rest.start
    line, near = thin[top : top + height], max(2, height // 3)
    gaps = np.concatenate([thin[max(0, top - near) : top], thin[top + height : top + height + near]])
    is_line = line.mean() > CLEAR_LINE * (gaps.mean() if gaps.size else 0)
    return bool(is_line and line.sum() > OTHER_STROKES * strokes.sum())


def _thin_ink(before: Floats, after: Floats, strokes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where (h, w) there were thin strokes of the text's ink before it was there; nowhere if the text has no one ink."""
    width = 2 * int(np.ceil(_thickness(strokes))) + 1
    change = np.abs(after - before).max(0)
    core = after[:, strokes & (change >= np.quantile(change[strokes], 0.5))]
    colour, spread = _ink(core)
    if spread > SAME_INK:
        return np.zeros_like(strokes)
    ink = colour[:, None, None]
    stands_out = np.abs(_blurred(before, 4 * width + 1) - ink).max(0) > 0.5 * np.median(change[strokes])
    is_ink = (np.abs(before - ink).max(0) < SAME_INK) & stands_out
    thin: NDArray[np.bool_] = is_ink & ~_opened(is_ink, width)
    return thin


def _opened(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The parts of a mask (h, w) that squares of an odd width fit in."""
    opened: NDArray[np.bool_] = (_blurred(_blurred(mask[None].astype(np.float32), width) > 0.999, width) > 0)[0]
    return opened


def _runs_down(strokes: NDArray[np.bool_]) -> bool:
    """Whether a text runs from top to bottom."""
    return bool(np.ptp(np.flatnonzero(strokes.any(1))) > np.ptp(np.flatnonzero(strokes.any(0))))


def _is_on_label(plain: Floats, strokes: NDArray[np.bool_]) -> bool:
    """Whether a ground of one colour around the box of a text ends near it at three sides, as that of a plate or a tag does."""
    if _runs_down(strokes):
        plain, strokes = plain.swapaxes(1, 2), strokes.T
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    height = int(np.ptp(rows)) + 1
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    inside = plain[:, max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2]
    colour = np.median(inside, axis=(1, 2), keepdims=True)
    strips = (
        plain[:, max(0, top - 2 * height) : top, left:right], plain[:, bottom : bottom + 2 * height, left:right],
        plain[:, top:bottom, max(0, left - 4 * height) : left], plain[:, top:bottom, right : right + 4 * height],
    )  # fmt: skip
    goes_on = [_share_of(colour, strip, SHADED) > GOES_ON for strip in strips if strip.size]
    return _share_of(colour, inside, CHANGED) > FLAT and sum(goes_on) <= 1


def _share_of(colour: Floats, planes: Floats, levels: float) -> float:
    """Share of the pixels of (3, h, w) that are within some grey levels of a colour."""
    return float((np.abs(planes - colour).max(0) < levels).mean())


def _blurred(planes: NDArray[Any], side: int) -> Floats:
    """(n, h, w) averaged over squares of an odd number of pixels."""
    half = side // 2
    sums = (
        np.pad(planes, ((0, 0), (half + 1, half), (half + 1, half)), mode="edge").astype(np.float64).cumsum(1).cumsum(2)
    )
    total = sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]
    means: Floats = (total / side**2).round(4).astype(np.float32)
    return means


def _thickness(strokes: NDArray[np.bool_]) -> float:
    outline = int((strokes[1:] ^ strokes[:-1]).sum() + (strokes[:, 1:] ^ strokes[:, :-1]).sum())
    return 2 * int(strokes.sum()) / max(1, outline)


def _are_letters(strokes: NDArray[np.bool_]) -> bool:
    """Whether the pixels (h, w) are many thin strokes with gaps, on one or a few lines."""
    area = int(strokes.sum())
    if not 20 <= area <= MOST_AREA * strokes.size:
        return False
    rows, columns = np.flatnonzero(strokes.any(1)), np.flatnonzero(strokes.any(0))
    if area < LEAST_FILL * (np.ptp(rows) + 1) * (np.ptp(columns) + 1):  # here and there
        return False
    thickness, side = _thickness(strokes), max(strokes.shape)
    length = max(np.ptp(rows), np.ptp(columns)) + 1
    if length < max(LEAST_SHARE * side, LEAST_LENGTH * thickness) or thickness > MOST_THICKNESS * side:
        return False
    if (
        _opened(strokes, 2 * int(np.ceil(thickness)) + 1).sum() > MOST_SOLID * area
    ):  # areas, perhaps with letters cut out
        return False
    return max(_most_crossings(strokes), _most_crossings(strokes.T)) >= STROKES


def _most_crossings(strokes: NDArray[np.bool_]) -> int:
    """How many strokes the line with the most of them crosses."""
    return int((strokes[:, 1:] & ~strokes[:, :-1]).sum(1).max())


def _explained(
    plain: Floats, written: Floats, place: NDArray[np.bool_], strokes: NDArray[np.bool_]
) -> tuple[float, NDArray[np.bool_]]:
    """How well one colour, blended over `plain` wherever the pictures differ, explains `written`.

    Returns:
        The share of the change that it leaves, and where (h, w) it explains the change.
    """
    change = np.abs(written - plain).max(0)
    core = strokes & (change >= np.quantile(change[strokes], 0.6))
    opaque = (0.0, np.median(written[:, core], axis=1))
    a, b = plain[:, place], written[:, place]
    size, ink = np.sqrt(np.square(b - a).sum(0)), np.zeros_like(place)
    share = 1.0
    for kept, colour in (opaque, _one_opacity(plain[:, core], written[:, core])):
        if ((colour > -25) & (colour < 280)).all():
            towards = colour[:, None] - a
            alpha = ((b - a) * towards).sum(0) / np.maximum(np.square(towards).sum(0), 100)
            alpha = alpha.clip(0, 1.1 * (1 - kept))
            left = np.sqrt(np.square(b - a - alpha * towards).sum(0))
            total = float(np.sqrt(np.square(left).sum() / np.square(size).sum()))
            if total < share:
                share = total
                ink[place] = (left <= INK_LEFT * size) & (alpha >= LEAST_INK * (1 - kept)) & (size > CHANGED)
    return share, ink


def _are_near(ink: NDArray[np.bool_], strong: NDArray[np.bool_]) -> bool:
    """Whether all strong changes (h, w) but some pixels are near the ink. If not, something else has changed, too."""
    return int((strong & ~(_blurred(ink[None].astype(np.float32), 2 * NEAR_INK + 1)[0] > 0)).sum()) <= MOST_FAR


def _one_opacity(a: Floats, b: Floats) -> tuple[float, Floats]:
    """The share p and the colour c of b = p a + (1 - p) c, for the pixels (3, n) of strokes."""
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
