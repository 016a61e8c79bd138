"""Tests whether two pictures are the same, on small thumbs, pixel by pixel.

There are two tests. Their limits were set between copies and the most similar different photos of one collection
(`benchmarks/dupes.py`; docs/log.md has the numbers):

- `same_picture`: the same picture, re-encoded or resized. Upright RGB at 32 x 32 differs only by the error of a codec.
- `edited_copy`: the same picture, cropped by up to about a tenth, brighter or darker. One thumb is laid over the other: each axis
  is scaled and shifted, and the brightness is fitted. Then both must agree about as closely.

A small, faint change (a figure in a table, a pointer on a screen) is not visible at that size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Thumbs = NDArray[np.uint8]

SIDE = 64  # pixels of a thumb
COARSE = 8  # pixels of a signature's side

# Grey levels of 0..255. Among clothing photos, copies at JPEG 30 reached 1.8 and 3.4, copies of a quarter of the size 5.5 and
# 9.8, and the most alike different photos began at 10.8 and 21.7.
SAME_RMS, SAME_WORST = 6.0, 12.0  # of the whole picture at 32 x 32, and of its worst 64th, for a change in one place
SAME_SHARE, SAME_FLOOR = 0.2, 1.0  # also at most a fifth of the contrast, plus a codec's error on an empty picture
EDITED_SHARE, EDITED_WORST = 0.18, 18.0  # after the overlay, at 64 x 64; different photos began at 0.22 and 25
MIN_OVERLAP, MIN_USABLE = 0.7, 0.3  # shares of the picture: in both thumbs, and neither black nor overexposed
HOPELESS_SHARE = 0.35  # at 16 x 16: above, a finer overlay is not tried

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow
_DARK, _BRIGHT = 5, 250  # beyond, a brightness change clips
_BOUNDS = np.array([[0.7, -0.3, 0.7, -0.3, 0.4, -80], [1.4, 0.3, 1.4, 0.3, 2.5, 80]], np.float32)
ALIKE = 0.6  # squared distance of signatures: a correlation of 0.7, which a crop by a tenth still reaches


def signatures(thumbs: Thumbs) -> Floats:
    """Luminance at 8 x 8 without its mean, at unit length: (N, 64). It ignores brightness. An empty picture is near zero."""
    grey = np.empty((len(thumbs), COARSE * COARSE), np.float32)
    for start in range(0, len(thumbs), 256):  # thumbs may be on disk
        part = thumbs[start : start + 256].astype(np.float32)
        grey[start : start + 256] = _luminance(_pooled(part, COARSE)).reshape(len(part), -1)
    grey -= grey.mean(1, keepdims=True)
    unit: Floats = grey / np.sqrt(np.square(grey).sum(1, keepdims=True) + COARSE**2)
    return unit


def mirrored(found: Floats) -> Floats:
    """Signatures of the mirrored pictures."""
    return np.ascontiguousarray(found.reshape(-1, COARSE, COARSE)[:, :, ::-1]).reshape(found.shape)


def signature_distances(values: Floats, pairs: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Squared distances (P,) of signatures (N, 64), for pairs (P, 2): as they are, and with one mirrored."""
    a, b = values[pairs[:, 0]], values[pairs[:, 1]]
    return np.square(a - b).sum(1), np.square(a - mirrored(b)).sum(1)


def same_picture(a: Thumbs, b: Thumbs) -> NDArray[np.bool_]:
    """Whether the pictures of each pair (P, 3, 64, 64) are the same, re-encoded or resized: (P,)."""
    x, y = (_pooled(thumbs.astype(np.float32), 32) for thumbs in (a, b))
    error = np.square(x - y).mean(1)  # (P, 32, 32)
    rms = np.sqrt(error.mean((1, 2)))
    worst = np.sqrt(_pooled(error, 8).max((1, 2)))
    contrast = np.sqrt((x.var((2, 3)) + y.var((2, 3))).mean(1) / 2)
    same: NDArray[np.bool_] = (rms <= SAME_RMS) & (worst <= SAME_WORST) & (rms <= SAME_SHARE * contrast + SAME_FLOOR)
    return same


def edited_copy(a: Thumbs, b: Thumbs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether one picture of each pair is an edited copy of the other, (P,), and whether it is cropped, (P,)."""
    x, y = (_pooled(thumbs.astype(np.float32), 16) for thumbs in (a, b))
    fit = np.tile(np.array([1, 0, 1, 0, 1, 0], np.float32), (len(x), 1))
    fit = _aligned(x, y, fit, 8)
    share, _, usable = _disagreement(x, y, fit)
    hopeful = np.flatnonzero((share <= HOPELESS_SHARE) & usable)
    x, y, fit = a[hopeful].astype(np.float32), b[hopeful].astype(np.float32), fit[hopeful]
    for side, steps in ((32, 4), (SIDE, 3)):
        fit = _aligned(_pooled(x, side), _pooled(y, side), fit, steps)
    share, worst, usable = _disagreement(x, y, fit)
    edited, cropped = np.zeros(len(a), bool), np.zeros(len(a), bool)
    edited[hopeful] = (share <= EDITED_SHARE) & (worst <= EDITED_WORST) & usable
    cropped[hopeful] = (np.abs(fit[:, :4] - np.array([1, 0, 1, 0])) > 0.01).any(1)
    return edited, edited & cropped


def _aligned(a: Floats, b: Floats, fit: Floats, steps: int) -> Floats:
    """Gauss-Newton on a(u) = gain * b(scale * u + shift) + offset, in luminance, for P pairs (P, 3, S, S) at once.

    Args:
        fit: (P, 6) scale and shift down, scale and shift across (in halves of the picture), gain, offset.
    """
    x, y, side = _luminance(a), _luminance(b), a.shape[-1]
    u = _places(side)
    down, across = np.gradient(y, axis=1) * side / 2, np.gradient(y, axis=2) * side / 2
    damping = 50 * np.diag([1, 1, 1, 1, 0.01, 0.001])
    for _ in range(steps):
        (overlaid, inside), (dy, _), (dx, _) = (_overlaid(picture, fit) for picture in (y, down, across))
        gain, offset = fit[:, 4, None, None], fit[:, 5, None, None]
        slopes = (gain * dy * u[:, None], gain * dy, gain * dx * u, gain * dx, overlaid, np.ones_like(overlaid))
        J = np.stack(slopes, 1).reshape(len(x), 6, side * side)
        usable = (inside & _unclipped(x) & _unclipped(overlaid)).reshape(len(x), 1, side * side)
        weighted = J * usable
        residual = (x - gain * overlaid - offset).reshape(len(x), side * side, 1)
        step = np.linalg.solve(weighted @ J.transpose(0, 2, 1) + damping, weighted @ residual)[:, :, 0]
        fit = np.clip(fit + step.astype(np.float32), *_BOUNDS)
    return fit


def _disagreement(a: Floats, b: Floats, fit: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """What differs after the overlay of (P, 3, S, S): share of the contrast, grey levels in the worst 64th, and whether enough
    of the pictures could be compared."""
    overlaid, inside = _overlaid(b, fit)
    usable = inside[:, 0] & _unclipped(a).all(1) & _unclipped(overlaid).all(1)  # (P, S, S)
    mask, count = usable[:, None], usable.sum((1, 2), dtype=np.float32) + np.float32(1e-6)
    gain, offset = fit[:, 4, None, None, None], fit[:, 5, None, None, None]
    error = np.square((a - gain * overlaid - offset) * mask).mean(1)
    mean = (a * mask).sum((2, 3)) / count[:, None]
    variance = np.square((a - mean[:, :, None, None]) * mask).mean(1).sum((1, 2)) / count
    share: Floats = np.sqrt(error.sum((1, 2)) / count / (variance + 16))  # 16: a codec's error on an empty picture
    worst = np.sqrt(_pooled(error, 8).max((1, 2)))
    area = a.shape[-1] ** 2
    return share, worst, (inside[:, 0].mean((1, 2)) >= MIN_OVERLAP) & (count >= MIN_USABLE * area)


def _overlaid(pictures: Floats, fit: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Pictures (P, ..., S, S) transformed by `fit`, bilinear, and which pixels lie inside the picture."""
    side, extra = pictures.shape[-1], (None,) * (pictures.ndim - 3)
    (rows, in_rows), (columns, in_columns) = (_axis(fit[:, i], fit[:, i + 1], side) for i in (0, 2))
    overlaid = np.asarray(rows[:, *extra] @ pictures @ columns[:, *extra].swapaxes(-1, -2), np.float32)
    return overlaid, (in_rows[:, :, None] & in_columns[:, None, :])[:, *extra]


def _axis(scale: Floats, shift: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Interpolation matrices (P, S, S) of one axis, and which of their rows lie inside, (P, S)."""
    place = (scale[:, None] * _places(side) + shift[:, None] + 1) / 2 * side - 0.5
    weights = np.maximum(0, 1 - np.abs(place.clip(0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights, (place >= -0.5) & (place <= side - 0.5)


def _places(side: int) -> Floats:
    """Pixel centres from -1 to 1."""
    return ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)


def _unclipped(values: Floats) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values > _DARK) & (values < _BRIGHT)
    return inside


def _luminance(rgb: Floats) -> Floats:
    """(P, 3, S, S) -> (P, S, S)."""
    red, green, blue = (weight * rgb[:, channel] for channel, weight in enumerate(_LUMA))
    grey: Floats = red + green + blue
    return grey


def _pooled(values: Floats, side: int) -> Floats:
    """(..., S, S) -> (..., side, side), by means."""
    block = values.shape[-1] // side
    if block == 1:
        return values
    means = np.repeat(
        np.eye(side, dtype=np.float32) / block, block, 1
    )  # two matrix products are much faster than .mean()
    pooled: Floats = means @ values @ means.T
    return pooled
