"""Confirm pairs that may be copies: compare their pictures on pixels, as they are, overlaid and mirrored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.dupes.pixels import ALIKE, edited_copy, same_picture, signature_distances

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]  # (P, 2) rows, the lower one first, each pair once

BATCH = 256  # pairs that are compared at a time


@dataclass(frozen=True)
class Confirmed:
    """The result for P pairs: whether they are the same picture (P,), and the edit (P,); empty if there is none."""

    is_same: NDArray[np.bool_]
    notes: list[str]


def confirm(
    thumbs: NDArray[np.uint8], signatures: Floats, pairs: Pairs, progress: Callable[[int, int], None] = lambda *_: None
) -> Confirmed:
    """Compare the pictures of each pair on pixels: as they are, then overlaid, then mirrored.

    Args:
        thumbs: (N, 3, 64, 64). signatures: of them (N, 64). pairs: (P, 2). progress: called with (done, total).
    """
    is_same, notes = np.zeros(len(pairs), bool), np.array([""] * len(pairs), "<U40")
    for part in slices(len(pairs), BATCH):
        progress(part.start, len(pairs))
        some = pairs[part]
        is_same[part] = same_picture(thumbs[some[:, 0]], thumbs[some[:, 1]])
        for is_mirrored, distance in zip((False, True), signature_distances(signatures, some), strict=True):
            open_pairs = np.flatnonzero(~is_same[part] & (notes[part] == "") & (distance <= ALIKE))
            notes[part.start + open_pairs] = _edits(thumbs, some[open_pairs], is_mirrored)
    return Confirmed(is_same, notes.tolist())


def _edits(thumbs: NDArray[np.uint8], pairs: Pairs, is_mirrored: bool) -> NDArray[np.str_]:
    """The edit (P,) that makes one picture of a pair from the other; empty if there is none."""
    a, b = thumbs[pairs[:, 0]], thumbs[pairs[:, 1]]
    b = b[..., ::-1] if is_mirrored else b
    same = same_picture(a, b)  # mirrored; the upright pair was compared before
    is_edited, is_cropped = edited_copy(a, b)
    change = np.where(is_cropped & ~same, "cropped", np.where(is_mirrored, "", "brightness changed"))
    if is_mirrored:
        change = np.where(change == "", "mirrored", np.char.add("mirrored and ", change))
    return np.where(same | is_edited, change, "")
