"""Groups of copies: which picture of a group to keep, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from spq.index.items import Item

Rows = NDArray[np.int64]
Pairs = NDArray[np.int64]  # (P, 2) rows
Note = Callable[[int, int], tuple[str, float | None]]  # (row, kept row) -> what the row is to it, and their distance
Compare = Callable[[Pairs], list[str]]  # pairs -> what the second is to the first; empty if it is not a copy


@dataclass(frozen=True)
class Member:
    """A picture of a group.

    Attributes:
        note: what it is to the picture that is kept. distance: of their codes, if the kind is similar.
        modified: ISO 8601, UTC.
    """

    path: str
    id: int
    width: int
    height: int
    bytes: int
    modified: str
    note: str = ""
    distance: float | None = None


@dataclass(frozen=True)
class Group:
    """Pictures that are copies of `keep`. why: what `keep` has over the others."""

    kind: str
    keep: Member
    why: str
    others: list[Member]


class Grouping:
    """Puts items into groups. A row leads itself until a better row makes it superfluous.

    Attributes:
        leader: (N,), the row that is kept instead of each row.
        groups: found so far.
    """

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.leader = np.arange(len(items))
        self.groups: list[Group] = []
        order = sorted(range(len(items)), key=lambda row: _preference(items[row]))
        self._rank = np.empty(len(items), np.int64)
        self._rank[order] = np.arange(len(items))

    def kept(self) -> Rows:
        """Rows that no other row makes superfluous."""
        return np.flatnonzero(self.leader == np.arange(len(self.items)))

    def join(self, kind: str, pairs: Pairs, compare: Compare) -> None:
        """Make groups of connected rows: the best row with all its copies, then the best of the others, and so on.

        Every member is compared with the row that is kept.
        """
        members: dict[int, list[int]] = {}
        notes: dict[int, str] = {}
        remaining = [sorted(rows, key=self._rank.__getitem__) for rows in self._connected(pairs)]
        while remaining := [rows for rows in remaining if len(rows) > 1]:
            compared = [(keep, row) for keep, *others in remaining for row in others]
            note_of = dict(zip(compared, compare(np.array(compared, np.int64)), strict=True))
            for keep, *others in remaining:
                if copies := [row for row in others if note_of[keep, row]]:
                    members[keep] = copies
                    notes |= {row: note_of[keep, row] for row in copies}
            remaining = [[row for row in others if not note_of[keep, row]] for keep, *others in remaining]
        self._add(kind, members, lambda row, _: (notes[row], None))

    def gather(self, kind: str, pairs: Pairs, distances: NDArray[np.float32]) -> None:
        """Make groups of near rows: the best row takes all rows paired with it, then the best of the others, and so on."""
        distance_to: dict[int, dict[int, float]] = defaultdict(dict)
        for (a, b), distance in zip(pairs.tolist(), distances.tolist(), strict=True):
            distance_to[a][b] = distance_to[b][a] = distance
        taken: set[int] = set()
        members: dict[int, list[int]] = {}
        for row in sorted(distance_to, key=self._rank.__getitem__):
            others = [other for other in distance_to[row] if other not in taken]
            if row not in taken and others:
                members[row] = [other for _, other in sorted((distance_to[row][other], other) for other in others)]
                taken.update(others, [row])
        self._add(kind, members, lambda row, keep: ("similar", distance_to[keep][row]))

    def _connected(self, pairs: Pairs) -> list[list[int]]:
        """The leaders of rows that pairs connect, directly or through others."""
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
        return list(connected.values())

    def _add(self, kind: str, members: dict[int, list[int]], note: Note) -> None:
        for keep, others in sorted(members.items(), key=lambda group: self.items[group[0]].path):
            self.leader[others] = keep
            why = reason_to_keep([self.items[row] for row in [keep, *others]])
            copies = [_member(self.items[row], *note(row, keep)) for row in others]
            self.groups.append(Group(kind, _member(self.items[keep]), why, copies))


def reason_to_keep(items: list[Item]) -> str:
    """Why the first item is better than the second best one."""
    first, second = _preference(items[0]), min(_preference(item) for item in items[1:])
    reasons = (
        "most pixels",
        "largest file of the most pixels",
        "oldest of equal files",
        "shortest path",
        "first by name",
    )
    return next(reason for reason, a, b in zip(reasons, first, second, strict=True) if a != b)


def _preference(item: Item) -> tuple[int, int, int, int, str]:
    """The item with the smallest value is kept."""
    return -item.width * item.height, -item.size, item.mtime_ns, len(item.path), item.path


def _member(item: Item, note: str = "", distance: float | None = None) -> Member:
    modified = datetime.fromtimestamp(item.mtime_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
    return Member(item.path, item.id, item.width, item.height, item.size, modified, note, distance)
