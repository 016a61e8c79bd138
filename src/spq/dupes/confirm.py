"""Confirm pairs that may be copies: compare their pictures on pixels, as they are, overlaid and mirrored."""

from __future__ import annotations

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
    """Of P pairs: are they the same picture (P,), and else what was done to it (P,), empty where they are no copies."""

    is_same: NDArray[np.bool_]
    notes: list[str]


def confirm(thumbs: NDArray[np.uint8], seen: Floats, pairs: Pairs) -> Confirmed:
    """Compare the pictures of each pair on pixels: as they are, then overlaid, then mirrored."""
    is_same, notes = np.zeros(len(pairs), bool), np.array([""] * len(pairs), "<U40")
    for part in slices(len(pairs), BATCH):
        some = pairs[part]
        is_same[part] = same_picture(thumbs[some[:, 0]], thumbs[some[:, 1]])
        for is_mirrored, apart in zip((False, True), signature_distances(seen, some), strict=True):
            hopeful = np.flatnonzero(~is_same[part] & (notes[part] == "") & (apart <= ALIKE))
            notes[part.start + hopeful] = _edits(thumbs, some[hopeful], is_mirrored)
    return Confirmed(is_same, notes.tolist())


def _edits(thumbs: NDArray[np.uint8], pairs: Pairs, is_mirrored: bool) -> NDArray[np.str_]:
    """(P,) what makes one of a pair from the other, empty where nothing does."""
    a, b = thumbs[pairs[:, 0]], thumbs[pairs[:, 1]]
    b = b[..., ::-1] if is_mirrored else b
    same = same_picture(a, b)  # in the mirror; upright was asked before
    is_edited, is_cropped = edited_copy(a, b)
    change = np.where(is_cropped & ~same, "cropped", np.where(is_mirrored, "", "brightness changed"))
    if is_mirrored:
        change = np.where(change == "", "mirrored", np.char.add("mirrored and ", change))
    return np.where(same | is_edited, change, "")
