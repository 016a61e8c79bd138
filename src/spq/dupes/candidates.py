"""Find pairs of pictures that may be copies: near by code or by thumb. `confirm.py` compares them.

With a good model, codes alone would be enough. But hundreds of different pictures can share a code of a few bytes, and a folder
without an index has no codes. So pictures are candidates too whose thumbs are near: as they are, in any of the 8 turns, without
their borders, and one as a part of the other. No step compares every picture with every other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.dupes.nearest import EXACT_BELOW, Nearest
from spq.dupes.overlay import TURNS, turned
from spq.dupes.signatures import coarse, fine, framed, trimmed, windows
from spq.dupes.threshold import code_distances
from spq.pq.scan import Scan
from spq.pq.tables import Decoder, between_codes

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Pairs = NDArray[np.int64]  # (P, 2) rows, the lower one first, each pair once
Thumbs = NDArray[np.uint8]

Progress = Callable[[int, int], None]  # done, total

BY_CODE = 50  # nearest pictures that are looked up for each
BATCH = 1024  # pictures at a time

# The nearest by thumb that are looked up, and the squared distance up to which they are candidates. 0.6 is a correlation of 0.7.
ALIKE = 0.6
UPRIGHT, DETAILED, TURNED, TRIMMED, FRAMED, PART = (16, ALIKE), (12, 1.2), (6, 0.3), (8, 0.4), (4, 0.4), (3, 0.2)


@dataclass(frozen=True)
class Neighbours:
    """The nearest pictures by code of each of N pictures, which include itself: rows and distances (N, n)."""

    rows: Rows
    distances: Floats


@dataclass(frozen=True)
class Candidates:
    """Pairs that may be copies.

    Attributes:
        pairs: (P, 2). is_alike: those that look alike as they are (P,), as the pictures of a burst do.
        place: (P,) 0 for the nearest pictures of either, upright and in detail, 1 for the next ones, and so on.
    """

    pairs: Pairs
    is_alike: NDArray[np.bool_]
    place: Rows

    def chosen(self, which: NDArray[np.bool_]) -> Candidates:
        return Candidates(self.pairs[which], self.is_alike[which], self.place[which])


def code_neighbours(
    codes: NDArray[np.uint8], decoder: Decoder, distance: str, progress: Progress = lambda *_: None
) -> Neighbours:
    """The nearest pictures by code. Two codes are compared, so the distance is `between_codes` of the index's distance."""
    N, top, between = len(codes), min(BY_CODE, len(codes)), between_codes(distance)
    if N > EXACT_BELOW or between not in decoder.distances:
        return _neighbours_in_lists(codes, decoder, distance, progress)
    scan = Scan(codes, decoder.codebook_size)
    rows, distances = np.empty((N, top), np.int64), np.empty((N, top), np.float32)
    for part in slices(N, 256):
        distances[part], rows[part] = scan.search(decoder.tables(decoder.decode(codes[part]), between), top)
        progress(part.stop, N)
    return Neighbours(rows, distances)


def _neighbours_in_lists(codes: NDArray[np.uint8], decoder: Decoder, distance: str, progress: Progress) -> Neighbours:
    """As `code_neighbours`, among the decoded codes of the nearest lists. A row that is not found is the picture itself."""
    values = decoder.decode(codes)
    _, rows = Nearest(np.ascontiguousarray(values, np.float32)).search(values, BY_CODE, progress)
    own = np.arange(len(codes))[:, None]
    is_found = (rows >= 0) & (rows != own)
    rows = np.where(is_found, rows, own)
    between = code_distances(codes[np.broadcast_to(own, rows.shape).ravel()], codes[rows.ravel()], decoder, distance)
    distances = np.where(is_found | (np.arange(rows.shape[1]) == 0), between.reshape(rows.shape), np.inf)
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1).astype(np.float32))


def candidate_pairs(
    thumbs: Thumbs, neighbours: Neighbours | None = None, progress: Progress = lambda *_: None
) -> Candidates:
    """Pairs of N thumbs (N, 64, 64) that are near by code or by thumb.

    Args:
        neighbours: by code, if there are codes.
    """
    N = len(thumbs)
    if N < 2:
        return Candidates(np.empty((0, 2), np.int64), np.empty(0, bool), np.empty(0, np.int64))
    whole, content, detail = _described(thumbs)
    by_layout, by_content, by_detail = Nearest(whole), Nearest(content), Nearest(detail)
    keys = _Keys(N)
    for part in slices(N, BATCH):
        progress(part.start, N)
        rows = np.arange(part.start, part.stop)
        grey = thumbs[part].astype(np.float32)
        keys.add(rows, *by_layout.search(whole[part], UPRIGHT[0]), UPRIGHT[1])
        keys.add(rows, *by_detail.search(detail[part], DETAILED[0]), DETAILED[1])
        for turn in range(1, TURNS):
            keys.add(rows, *by_layout.search(coarse(turned(grey, turn)), TURNED[0]), TURNED[1])
        bordered = rows[(content[part] != whole[part]).any(1)]
        if len(bordered):
            for index in (by_layout, by_content):
                keys.add(bordered, *index.search(content[bordered], TRIMMED[0]), TRIMMED[1])
        found, inside = framed(grey)
        if len(found):
            for index in (by_layout, by_content):
                keys.add(rows[found], *index.search(coarse(inside), FRAMED[0]), FRAMED[1])
        for window in windows(grey):
            keys.add(rows, *by_layout.search(coarse(window), PART[0]), PART[1])
    if neighbours is not None:
        keys.add(np.arange(N), neighbours.distances, neighbours.rows, np.inf)
    pairs = keys.pairs()
    apart, apart_in_detail = (_distances(values, pairs) for values in (whole, detail))
    return Candidates(pairs, apart <= ALIKE, _places(pairs, apart + apart_in_detail, N))


def _distances(values: Floats, pairs: Pairs) -> Floats:
    """Squared distances of pairs."""
    parts = [
        np.square(values[some[:, 0]] - values[some[:, 1]]).sum(1)
        for some in np.array_split(pairs, len(pairs) // 65_536 + 1)
    ]
    return np.concatenate(parts)


def _places(pairs: Pairs, distances: Floats, N: int) -> Rows:
    """The place of each pair among those of its rows, by distance; the smaller of both places."""
    places = np.full(len(pairs), len(pairs), np.int64)
    for side in (0, 1):
        order = np.lexsort((distances, pairs[:, side]))
        starts = np.searchsorted(pairs[order, side], np.arange(N))
        places[order] = np.minimum(places[order], np.arange(len(pairs)) - starts[pairs[order, side]])
    return places


def _described(thumbs: Thumbs) -> tuple[Floats, Floats, Floats]:
    """Signatures of all thumbs: coarse, coarse without their borders, and fine."""
    whole, content, detail = [], [], []
    for part in slices(len(thumbs), BATCH):
        grey = thumbs[part].astype(np.float32)
        whole.append(coarse(grey))
        content.append(whole[-1].copy())
        bordered, inside = trimmed(grey)
        content[-1][bordered] = coarse(inside)
        detail.append(fine(grey))
    return np.concatenate(whole), np.concatenate(content), np.concatenate(detail)


class _Keys:
    """Pairs of N rows, each as the number lower * N + higher."""

    def __init__(self, N: int) -> None:
        self.N = N
        self._found: list[Rows] = []

    def add(self, rows: Rows, distances: Floats, others: Rows, most: float) -> None:
        """Add each of `rows` (n,) with those of its `others` (n, k) that are within a distance."""
        is_near = (distances <= most) & (others >= 0) & (others != rows[:, None])
        a, b = np.broadcast_to(rows[:, None], others.shape)[is_near], others[is_near]
        self._found.append(np.unique(np.minimum(a, b) * self.N + np.maximum(a, b)))
        if len(self._found) > 64:
            self._found = [np.unique(np.concatenate(self._found))]

    def pairs(self) -> Pairs:
        keys = np.unique(np.concatenate(self._found))
        return np.stack(np.divmod(keys, self.N), 1)
