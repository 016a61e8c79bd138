"""Find pairs of pictures that may be copies: near by code or by thumb. `confirm.py` compares them on pixels.

With a good model, codes alone would be enough. But hundreds of different pictures can share a code of a few bytes, or of a
model after a short training. So pictures that are near by an 8 x 8 thumb are candidates too, upright and mirrored. Among
clothing photos, the original of a re-encoded, resized, mirrored or brightened copy was nearest by thumb in all of 600 cases.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spq.common.files import scratch_place
from spq.common.parallel import slices
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.dupes.pixels import ALIKE, SIDE, mirrored, signature_distances
from spq.pq.scan import Scan
from spq.pq.tables import between_codes, decode, distance_tables

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Pairs = NDArray[np.int64]  # (P, 2) rows, the lower one first, each pair once

Progress = Callable[[int, int], None]  # done, total

BY_CODE = 50  # nearest pictures that are looked up for each
BY_THUMB, BY_MIRRORED_THUMB = 16, 8
BATCH = 256  # queries at a time


@dataclass(frozen=True)
class Neighbours:
    """The nearest pictures by code of each of N pictures, which include itself: rows and distances (N, n)."""

    rows: Rows
    distances: Floats


def decode_thumbs(
    images: ImageSet, positions: Rows, progress: Progress | None = None
) -> tuple[NDArray[np.uint8], Rows, list[tuple[int, str]]]:
    """Decode thumbs (n, 3, 64, 64) of the readable pictures into a temporary file (12 KB each), which is deleted with the array.

    Returns:
        thumbs, the indices into `positions` of the readable pictures, and (index, reason) of the unreadable ones.
    """
    shape = (max(len(positions), 1), 3, SIDE, SIDE)
    with tempfile.TemporaryFile(prefix="spq-", dir=scratch_place(math.prod(shape))) as file:
        if hasattr(
            os, "posix_fallocate"
        ):  # if the disk is full, this raises; writing to the map would kill the process
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        thumbs = np.memmap(file, np.uint8, "w+", shape=shape)
    kept: list[Rows] = []
    failures: list[tuple[int, str]] = []
    count = 0
    for start in range(0, len(positions), 1024):
        part = positions[start : start + 1024]
        place = {int(position): start + n for n, position in enumerate(part)}
        report = partial(_add, progress, start, len(positions)) if progress else None
        loaded = load_pixels(images, SIDE, positions=part, progress=report)
        thumbs[count : count + len(loaded.kept)] = loaded.array
        count += len(loaded.kept)
        kept.append(np.array([place[int(p)] for p in loaded.kept], np.int64))
        failures += [(place[p], reason) for p, reason in loaded.failures]
    return thumbs[:count], np.concatenate(kept) if kept else np.empty(0, np.int64), failures


def _add(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def code_neighbours(
    codes: NDArray[np.uint8], codebooks: Floats, distance: str, progress: Progress = lambda *_: None
) -> Neighbours:
    """The nearest pictures by code. Two codes are compared, so the distance is `between_codes` of the index's distance."""
    scan, top = Scan(codes, codebooks.shape[1]), min(BY_CODE, len(codes))
    rows, distances = np.empty((len(codes), top), np.int64), np.empty((len(codes), top), np.float32)
    for part in slices(len(codes), BATCH):
        tables = distance_tables(decode(codes[part], codebooks), codebooks, between_codes(distance))
        distances[part], rows[part] = scan.search(tables, top)
        progress(part.stop, len(codes))
    return Neighbours(rows, distances)


def candidate_pairs(signatures: Floats, neighbours: Neighbours, progress: Progress = lambda *_: None) -> Pairs:
    """Pairs that are near by code or by signature (N, 64), and whose signatures are similar enough for a comparison."""
    import faiss

    search = faiss.IndexFlatL2(signatures.shape[1])
    search.add(signatures)
    found = [_as_keys(np.arange(len(signatures)), neighbours.rows, len(signatures))]
    searches = ((signatures, BY_THUMB), (mirrored(signatures), BY_MIRRORED_THUMB))
    for number, (queries, top) in enumerate(searches):
        for part in slices(len(signatures), BATCH):
            rows = search.search(queries[part], min(top, len(signatures)))[1]
            found.append(_as_keys(np.arange(part.start, part.start + len(rows)), rows, len(signatures)))
            progress(number * len(signatures) + part.stop, len(searches) * len(signatures))
    keys = np.unique(np.concatenate(found))
    pairs = np.stack(np.divmod(keys, max(len(signatures), 1)), 1)
    is_alike = [
        np.minimum(*signature_distances(signatures, pairs[part])) <= ALIKE for part in slices(len(pairs), 65_536)
    ]
    return pairs[np.concatenate(is_alike)] if is_alike else pairs


def _as_keys(rows: Rows, others: Rows, count: int) -> Rows:
    """Each of `rows` (n,) with each of its `others` (n, k) except itself, as the number lower * count + higher."""
    a, b = np.repeat(rows, others.shape[1]), others.ravel()
    a, b = a[a != b], b[a != b]
    keys: Rows = np.unique(np.minimum(a, b) * count + np.maximum(a, b))
    return keys
