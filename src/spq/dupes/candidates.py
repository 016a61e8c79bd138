"""Which pairs of pictures may be the same, and which of them are: near by code or by thumb, then compared on pixels.

Codes alone would do with a good model; but one of a few bytes, or of a young model, is shared by hundreds of different
pictures, among which a copy drowns. So the nearest by an 8 x 8 thumb are asked too, upright and mirrored: among clothing
photos the original of a re-encoded, resized, mirrored or brightened copy was the very first there in all of 600 cases.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.dupes.pixels import SIDE, edited_copy, mirrored, same_picture
from spq.pq.scan import Scan
from spq.pq.tables import between_codes, decode, distance_tables

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Pairs = NDArray[np.int64]  # (P, 2) rows, the lower one first, each pair once

BY_CODE = 50  # nearest of each picture
BY_THUMB, BY_MIRRORED_THUMB = 16, 8
ALIKE = 0.6  # squared distance of signatures, that is a correlation of 0.7: what a crop by a tenth leaves of it
BATCH = 256  # queries or pairs that are worked on at once


@dataclass(frozen=True)
class Neighbours:
    """The nearest by code of each of N pictures, itself among them: rows and distances (N, n)."""

    rows: Rows
    distances: Floats


@dataclass(frozen=True)
class Confirmed:
    """Of P pairs: are they the same picture (P,), and else what was done to it (P,), empty where they are no copies."""

    is_same: NDArray[np.bool_]
    notes: list[str]


def decode_thumbs(
    images: ImageSet, positions: Rows, progress: Callable[[int, int], None] | None = None
) -> tuple[NDArray[np.uint8], Rows, list[tuple[int, str]]]:
    """Thumbs (n, 3, 64, 64) of the readable ones, in a temporary file (12 KB each) that goes with the array.

    Returns:
        the thumbs, which of `positions` they are, and (which, reason) of the unreadable ones.
    """
    with tempfile.TemporaryFile(prefix="spq-") as file:
        shape = (max(len(positions), 1), 3, SIDE, SIDE)
        if hasattr(
            os, "posix_fallocate"
        ):  # said here where there is no room: what is mapped would kill the process for it
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        thumbs = np.memmap(file, np.uint8, "w+", shape=shape)
    kept: list[Rows] = []
    failures: list[tuple[int, str]] = []
    count = 0
    for start in range(0, len(positions), 1024):
        part = positions[start : start + 1024]
        place = {int(position): start + n for n, position in enumerate(part)}
        loaded = load_pixels(images, SIDE, positions=part)
        thumbs[count : count + len(loaded.kept)] = loaded.array
        count += len(loaded.kept)
        kept.append(np.array([place[int(p)] for p in loaded.kept], np.int64))
        failures += [(place[p], reason) for p, reason in loaded.failures]
        if progress:
            progress(start + len(part), len(positions))
    return thumbs[:count], np.concatenate(kept) if kept else np.empty(0, np.int64), failures


def code_neighbours(codes: NDArray[np.uint8], codebooks: Floats, distance: str) -> Neighbours:
    """The nearest by code, for the distance of the index; both sides are codes, so that `between_codes` says by what."""
    scan, top = Scan(codes, codebooks.shape[1]), min(BY_CODE, len(codes))
    rows, distances = np.empty((len(codes), top), np.int64), np.empty((len(codes), top), np.float32)
    for part in _batches(len(codes)):
        tables = distance_tables(decode(codes[part], codebooks), codebooks, between_codes(distance))
        distances[part], rows[part] = scan.search(tables, top)
    return Neighbours(rows, distances)


def candidate_pairs(seen: Floats, near: Neighbours) -> Pairs:
    """Pairs that are near by code or by signature (N, 64), and alike enough to be compared."""
    import faiss

    search = faiss.IndexFlatL2(seen.shape[1])
    search.add(seen)
    found = [_as_keys(np.arange(len(seen)), near.rows, len(seen))]
    for queries, top in ((seen, BY_THUMB), (mirrored(seen), BY_MIRRORED_THUMB)):
        for part in _batches(len(seen)):
            rows = search.search(queries[part], min(top, len(seen)))[1]
            found.append(_as_keys(np.arange(part.start, part.start + len(rows)), rows, len(seen)))
    keys = np.unique(np.concatenate(found))
    pairs = np.stack(np.divmod(keys, max(len(seen), 1)), 1)
    alike = [np.minimum(*_apart(seen, pairs[part])) <= ALIKE for part in _batches(len(pairs), 65_536)]
    return pairs[np.concatenate(alike)] if alike else pairs


def confirm(thumbs: NDArray[np.uint8], seen: Floats, pairs: Pairs) -> Confirmed:
    """Compare the pictures of each pair on pixels: as they are, then overlaid, then mirrored."""
    is_same, notes = np.zeros(len(pairs), bool), np.array([""] * len(pairs), "<U40")
    for part in _batches(len(pairs)):
        some = pairs[part]
        is_same[part] = same_picture(thumbs[some[:, 0]], thumbs[some[:, 1]])
        for is_mirrored, apart in zip((False, True), _apart(seen, some), strict=True):
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


def _apart(seen: Floats, pairs: Pairs) -> tuple[Floats, Floats]:
    """Squared distances (P,) of the signatures of pairs, as they are and with one mirrored."""
    a, b = seen[pairs[:, 0]], seen[pairs[:, 1]]
    return np.square(a - b).sum(1), np.square(a - mirrored(b)).sum(1)


def _as_keys(rows: Rows, others: Rows, count: int) -> Rows:
    """Each of `rows` (n,) with each of its `others` (n, k), as lower * count + higher; itself left out."""
    a, b = np.repeat(rows, others.shape[1]), others.ravel()
    a, b = a[a != b], b[a != b]
    keys: Rows = np.unique(np.minimum(a, b) * count + np.maximum(a, b))
    return keys


def _batches(count: int, size: int = BATCH) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
