"""Find pictures that are the same or similar, in groups by how certain that is. Nothing is deleted.

identical   the same bytes
re-encoded  the same picture in other bytes: re-encoded or resized; confirmed on pixels
edited      a mirrored, slightly cropped, brightened or darkened copy; confirmed on pixels
similar     near by code, not confirmed

Every member is compared with the picture that is kept. So a chain of small changes, such as the pictures of a film, does not
become one group. Each kind looks only at pictures that the kinds before it keep, so no picture is superfluous twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spq.data.image_set import ImageSet
from spq.dupes.candidates import (
    BY_CODE,
    Neighbours,
    candidate_pairs,
    code_neighbours,
    decode_thumbs,
)
from spq.dupes.confirm import Confirmed, confirm
from spq.dupes.groups import Group, Grouping, Member, Pairs, Rows
from spq.dupes.pixels import signatures
from spq.dupes.threshold import CodedPictures, Threshold, calibrate, within
from spq.errors import ImageError
from spq.index.image_index import ImageIndex
from spq.index.items import Item

__all__ = ["KINDS", "Group", "Member", "Report", "find_duplicates"]
KINDS = ("identical", "re-encoded", "edited", "similar")
Floats = NDArray[np.float32]
Unjudged = list[tuple[str, str]]  # (path, reason)
Progress = Callable[[str, int, int], None]
READING = "reading pictures"


@dataclass(frozen=True)
class Report:
    """The result of a search for copies.

    Attributes:
        threshold: None for fewer than two pictures.
        left_out: (path, reason) of pictures that could not be judged.
        crowded: pictures with more than BY_CODE others within the threshold. Only the nearest were compared.
    """

    pictures: int
    groups: list[Group]
    threshold: Threshold | None
    left_out: Unjudged
    crowded: int = 0


def find_duplicates(
    index: ImageIndex,
    images: ImageSet,
    *,
    threshold: float | None = None,
    recall: float = 0.9,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Report:
    """Find the copies among the pictures of an index. Missing, unreadable or changed pictures are left out and named.

    Args:
        images: the collection that was indexed; each picture of distinct bytes is decoded once.
        threshold: code distance up to which pictures are similar; by default calibrated on altered copies of the collection.
        recall: share of these copies that the calibrated threshold finds.
        seed: of the sample of pictures and their copies.
        progress: called with (what, done, total): pictures read, compared and so on.
    """
    items, positions, left_out = _present(index, images)
    grouping = Grouping(items)
    grouping.join("identical", _same_bytes(items), lambda pairs: ["the same bytes"] * len(pairs))
    pictures, failures = _load(index, images, grouping, positions, progress)
    _join_copies(grouping, pictures, progress)
    different = np.flatnonzero(grouping.leader[pictures.rows] == pictures.rows)
    pairs, distances, nearest = _pairs_among(different, pictures.neighbours)
    coded = CodedPictures(images, positions[pictures.rows[different]], pictures.codes[different], nearest)
    calibrating = partial(progress, "calibrating on altered copies")
    limit = calibrate(index.model, coded, threshold=threshold, recall=recall, seed=seed, progress=calibrating)
    if limit:
        is_near = within(distances, limit.distance)
        grouping.gather("similar", pictures.rows[pairs[is_near]], distances[is_near])
    crowded = _crowded(pictures.neighbours, different, limit)
    return Report(len(items), grouping.groups, limit, left_out + failures, crowded)


@dataclass(frozen=True)
class _Pictures:
    """Readable pictures of different bytes.

    Attributes:
        rows: (n,) of the items. thumbs: (n, 3, 64, 64). signatures: (n, 64). codes: (n, M). neighbours: by code.
    """

    rows: Rows
    thumbs: NDArray[np.uint8]
    signatures: Floats
    codes: NDArray[np.uint8]
    neighbours: Neighbours


def _present(index: ImageIndex, images: ImageSet) -> tuple[list[Item], Rows, Unjudged]:
    """Items whose file has not changed since it was encoded, their positions, and the others with the reason."""
    place = {path: position for position, path in enumerate(images.ids)}
    items, positions = [], []
    left_out = index.store.unreadable()
    for item in index.store.items():
        try:
            if item.path not in place:
                raise ImageError("it is missing; update the index")
            if images.stat(place[item.path]) != (item.size, item.mtime_ns):
                raise ImageError("it has changed since it was indexed; update the index")
        except ImageError as error:
            left_out.append((item.path, str(error)))
            continue
        items.append(item)
        positions.append(place[item.path])
    return items, np.array(positions, np.int64), left_out


def _same_bytes(items: list[Item]) -> Pairs:
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(item.hash, row), row) for row, item in enumerate(items) if item.hash]
    return np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def _load(
    index: ImageIndex,
    images: ImageSet,
    grouping: Grouping,
    positions: Rows,
    progress: Progress,
) -> tuple[_Pictures, Unjudged]:
    """The pictures that are kept so far, decoded, and the unreadable ones with the reason."""
    manifest, items, distinct = index.store.manifest, grouping.items, grouping.kept()
    thumbs, readable, failures = decode_thumbs(images, positions[distinct], partial(progress, READING))
    rows = distinct[readable]
    codes = np.array([items[row].code for row in rows.tolist()], np.uint8).reshape(-1, manifest.num_codebooks)
    neighbours = code_neighbours(codes, index.codebooks, manifest.distance, partial(progress, "comparing codes"))
    pictures = _Pictures(rows, thumbs, signatures(thumbs), codes, neighbours)
    return pictures, [(items[distinct[n]].path, reason) for n, reason in failures]


def _join_copies(grouping: Grouping, pictures: _Pictures, progress: Progress) -> None:
    """Group re-encoded and edited copies, both confirmed on pixels."""
    rows, candidates = (
        pictures.rows,
        candidate_pairs(pictures.signatures, pictures.neighbours, partial(progress, "comparing thumbs")),
    )
    found = confirm(pictures.thumbs, pictures.signatures, candidates, partial(progress, "comparing pixels"))
    is_edited = np.array([note != "" for note in found.notes], bool)
    place = np.zeros(len(grouping.items), np.int64)
    place[rows] = np.arange(len(rows))

    def compare(pairs: Pairs) -> Confirmed:
        return confirm(pictures.thumbs, pictures.signatures, np.sort(place[pairs], axis=1))

    grouping.join(
        "re-encoded", rows[candidates[found.is_same]], lambda pairs: _resized(grouping.items, pairs, compare(pairs))
    )
    grouping.join("edited", rows[candidates[is_edited]], lambda pairs: _edited(compare(pairs)))


def _pairs_among(rows: Rows, neighbours: Neighbours) -> tuple[Pairs, Floats, Floats]:
    """Pairs of `rows` that are neighbours by code, each once, their distances, and the distance to the nearest (n,)."""
    is_row = np.zeros(len(neighbours.rows) + 1, bool)
    is_row[rows] = True
    a, b = np.repeat(rows, neighbours.rows.shape[1]), neighbours.rows[rows].ravel()
    distances, is_pair = neighbours.distances[rows], (is_row[b] & (a != b))
    nearest = np.where(is_pair.reshape(distances.shape), distances, np.inf).min(1, initial=np.inf)
    pairs = np.sort(np.stack([a, b], 1)[is_pair], axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    return pairs, distances.ravel()[is_pair][first], nearest


def _crowded(neighbours: Neighbours, rows: Rows, limit: Threshold | None) -> int:
    """How many of `rows` have more neighbours within the threshold than were looked up."""
    if not limit or len(neighbours.rows) <= BY_CODE:
        return 0
    return int(within(neighbours.distances[rows, -1], limit.distance).sum())


def _resized(items: list[Item], pairs: Pairs, found: Confirmed) -> list[str]:
    """What the second of each pair is to the first; empty if they are not the same picture."""
    sizes = [[(items[row].width, items[row].height) for row in pair] for pair in pairs.tolist()]
    notes = ["re-encoded" if first == second else "resized" for first, second in sizes]
    return [note if is_same else "" for note, is_same in zip(notes, found.is_same, strict=True)]


def _edited(found: Confirmed) -> list[str]:
    return [note or "the same picture" * bool(same) for note, same in zip(found.notes, found.is_same, strict=True)]
