"""Groups of pictures that are the same or alike, apart by how sure that is. It reports, and never deletes.

identical   the same bytes
re-encoded  the same picture in other bytes: re-encoded or resized; confirmed on pixels
edited      a mirrored, slightly cropped, brightened or darkened copy; confirmed on pixels
similar     near by code, unconfirmed

Every member is compared with the one that is kept, so that no chain of small changes, as of a film's pictures, leads astray.

Each kind looks only at what the kinds before it would keep, so no picture is called superfluous twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from spq.data.image_set import ImageSet
from spq.dupes.candidates import (
    BY_CODE,
    Neighbours,
    Pairs,
    candidate_pairs,
    code_neighbours,
    decode_thumbs,
)
from spq.dupes.confirm import Confirmed, confirm
from spq.dupes.pixels import signatures
from spq.dupes.threshold import Threshold, calibrate, within
from spq.errors import ImageError
from spq.index.codebooks import read_codebooks
from spq.index.image_index import ImageIndex
from spq.index.store import Item

KINDS = ("identical", "re-encoded", "edited", "similar")
Rows = NDArray[np.int64]
Note = Callable[[int, int], tuple[str, float | None]]  # (row, row that is kept) -> what it is to it, distance
Compare = Callable[[Pairs], list[str]]  # pairs (P, 2) of rows -> what the second is to the first; empty: no copy of it


@dataclass(frozen=True)
class Member:
    """A picture of a group. note: what it is to the one that is kept. distance: of their codes, where kind is similar."""

    path: str
    id: int
    width: int
    height: int
    bytes: int
    modified: str  # ISO 8601, UTC
    note: str = ""
    distance: float | None = None


@dataclass(frozen=True)
class Group:
    """Pictures of which one may be enough. why: what `keep` has over the others."""

    kind: str
    keep: Member
    why: str
    others: list[Member]


@dataclass(frozen=True)
class Report:
    """What was found. left_out: (path, reason) of pictures that could not be judged. threshold: None for under two.
    crowded: pictures with more others within the threshold than BY_CODE, of which only the nearest were looked at."""

    pictures: int
    groups: list[Group]
    threshold: Threshold | None
    left_out: list[tuple[str, str]]
    crowded: int = 0


def find_duplicates(
    index: ImageIndex,
    images: ImageSet,
    *,
    threshold: float | None = None,
    recall: float = 0.9,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Look through an index and its pictures. One that is missing, unreadable or changed is left out and named.

    Args:
        images: the collection that was indexed; each picture of distinct bytes is decoded once.
        threshold: code distance up to which pictures are similar; by default calibrated on the collection's own copies.
        recall: share of those copies that the calibrated threshold finds.
        seed: of the sample and its copies.
        progress: called with (pictures decoded, pictures to decode).
    """
    manifest = index.store.manifest
    items, positions, left_out = _present(index, images)
    sorting = _Sorting(items)
    sorting.join("identical", _same_bytes(items), lambda pairs: ["the same bytes"] * len(pairs))

    distinct = sorting.kept()
    thumbs, readable, failures = decode_thumbs(images, positions[distinct], progress)
    left_out += [(items[distinct[n]].path, reason) for n, reason in failures]
    rows = distinct[readable]
    seen, codes = signatures(thumbs), _codes(items, rows, manifest.num_codebooks)
    near = code_neighbours(codes, read_codebooks(index.store.folder, manifest), manifest.distance)
    candidates = candidate_pairs(seen, near)
    found = confirm(thumbs, seen, candidates)
    is_edited = np.array([note != "" for note in found.notes], bool)
    place = np.zeros(len(items), np.int64)
    place[rows] = np.arange(len(rows))

    def compared(pairs: Pairs) -> Confirmed:
        return confirm(thumbs, seen, np.sort(place[pairs], axis=1))

    sorting.join("re-encoded", rows[candidates[found.is_same]], lambda pairs: _resized(items, pairs, compared(pairs)))
    sorting.join("edited", rows[candidates[is_edited]], lambda pairs: _edited(compared(pairs)))

    different = np.flatnonzero(sorting.leader[rows] == rows)  # of `rows`
    pairs, distances, nearest = _among(different, near)
    limit = calibrate(
        index.model, images, positions[rows[different]], codes[different], nearest,
        threshold=threshold, recall=recall, seed=seed,
    )  # fmt: skip
    crowded = 0
    if limit:
        close = within(distances, limit.distance)
        sorting.gather("similar", rows[pairs[close]], distances[close])
        if len(near.rows) > BY_CODE:
            crowded = int(within(near.distances[different, -1], limit.distance).sum())
    return Report(len(items), sorting.groups, limit, left_out, crowded)


class _Sorting:
    """Items under their leaders: a row leads itself until it is found to be superfluous beside a better one."""

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.leader = np.arange(len(items))
        self.groups: list[Group] = []
        order = sorted(range(len(items)), key=lambda row: _preference(items[row]))
        self.rank = np.empty(len(items), np.int64)
        self.rank[order] = np.arange(len(items))

    def kept(self) -> Rows:
        """Rows that are superfluous beside no other."""
        return np.flatnonzero(self.leader == np.arange(len(self.items)))

    def join(self, kind: str, pairs: Pairs, compare: Compare) -> None:
        """Connected rows form groups: the one that is to be preferred with all that are its copies, then the best of the
        others with those that are its, and so on."""
        parent = list(range(len(self.items)))

        def root(row: int) -> int:
            while parent[row] != row:
                parent[row] = parent[parent[row]]
                row = parent[row]
            return row

        for a, b in self.leader[pairs].tolist():
            parent[root(b)] = root(a)
        connected = defaultdict(list)
        for row in np.unique(self.leader[pairs]).tolist():
            connected[root(row)].append(row)
        members: dict[int, list[int]] = {}
        notes: dict[int, str] = {}
        left = [sorted(rows, key=lambda row: int(self.rank[row])) for rows in connected.values()]
        while left := [rows for rows in left if len(rows) > 1]:
            asked = [(keep, row) for keep, *others in left for row in others]
            told = dict(zip(asked, compare(np.array(asked, np.int64)), strict=True))
            for keep, *others in left:
                if copies := [row for row in others if told[keep, row]]:
                    members[keep] = copies
                    notes |= {row: told[keep, row] for row in copies}
            left = [[row for row in others if not told[keep, row]] for keep, *others in left]
        self._add(kind, members, lambda row, _: (notes[row], None))

    def gather(self, kind: str, pairs: Pairs, distances: NDArray[np.float32]) -> None:
        """The best row takes all that are paired with it, then the best of the others, and so on: no chains."""
        beside: dict[int, dict[int, float]] = defaultdict(dict)
        for (a, b), distance in zip(pairs.tolist(), distances.tolist(), strict=True):
            beside[a][b] = beside[b][a] = distance
        taken: set[int] = set()
        members: dict[int, list[int]] = {}
        for row in sorted(beside, key=lambda row: int(self.rank[row])):
            others = [other for other in beside[row] if other not in taken]
            if row not in taken and others:
                members[row] = [other for _, other in sorted((beside[row][other], other) for other in others)]
                taken.update(others, [row])
        self._add(kind, members, lambda row, keep: ("similar", beside[keep][row]))

    def _add(self, kind: str, members: dict[int, list[int]], note: Note) -> None:
        for keep, others in sorted(members.items(), key=lambda group: self.items[group[0]].path):
            self.leader[others] = keep
            best = [self.items[row] for row in [keep, *others]]
            self.groups.append(
                Group(
                    kind,
                    _member(best[0]),
                    _reason(best),
                    [_member(self.items[row], *note(row, keep)) for row in others],
                )
            )


def _present(index: ImageIndex, images: ImageSet) -> tuple[list[Item], Rows, list[tuple[str, str]]]:
    """Items whose file is as it was when it was encoded, their positions, and the others with the reason."""
    place = {path: position for position, path in enumerate(images.ids)}
    items, positions = [], []
    left_out = index.store.unreadable()
    for item in index.store.items():
        try:
            if item.path not in place:
                raise ImageError("it is missing; run spq index again")
            if images.stat(place[item.path]) != (item.size, item.mtime_ns):
                raise ImageError("it has changed since it was indexed; run spq index again")
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


def _codes(items: list[Item], rows: Rows, M: int) -> NDArray[np.uint8]:
    codes = [items[row].code for row in rows.tolist()]
    return np.array(codes, np.uint8).reshape(-1, M)


def _among(rows: Rows, near: Neighbours) -> tuple[Pairs, NDArray[np.float32], NDArray[np.float32]]:
    """Pairs of `rows` that are neighbours by code, each once, their distances, and (n,) the distance to the nearest."""
    wanted = np.zeros(len(near.rows) + 1, bool)
    wanted[rows] = True
    a, b = np.repeat(rows, near.rows.shape[1]), near.rows[rows].ravel()
    distances, good = near.distances[rows], (wanted[b] & (a != b))
    nearest = np.where(good.reshape(distances.shape), distances, np.inf).min(1, initial=np.inf)
    pairs = np.sort(np.stack([a, b], 1)[good], axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    return pairs, distances.ravel()[good][first], nearest


def _preference(item: Item) -> tuple[int, int, int, int, str]:
    """The smallest is kept."""
    return -item.width * item.height, -item.size, item.mtime_ns, len(item.path), item.path


def _reason(best: list[Item]) -> str:
    """By what the first item comes before all others."""
    mine, next_best = _preference(best[0]), min(_preference(item) for item in best[1:])
    reasons = (
        "most pixels",
        "largest file of the most pixels",
        "oldest of equal files",
        "shortest path",
        "first by name",
    )
    return next(reason for reason, a, b in zip(reasons, mine, next_best, strict=True) if a != b)


def _resized(items: list[Item], pairs: Pairs, found: Confirmed) -> list[str]:
    """What the second of each pair is to the first, where they are the same picture."""
    sizes = [[(items[row].width, items[row].height) for row in pair] for pair in pairs.tolist()]
    said = ["re-encoded" if mine == other else "resized" for mine, other in sizes]
    return [text if same else "" for text, same in zip(said, found.is_same, strict=True)]


def _edited(found: Confirmed) -> list[str]:
    return [note or "the same picture" * bool(same) for note, same in zip(found.notes, found.is_same, strict=True)]


def _member(item: Item, note: str = "", distance: float | None = None) -> Member:
    modified = datetime.fromtimestamp(item.mtime_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
    return Member(item.path, item.id, item.width, item.height, item.size, modified, note, distance)
