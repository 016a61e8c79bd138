"""Compare candidates at full size, and join copies with the picture that is kept.

Only a picture that may be kept is compared with others: first the best of all, then the best of the rest, and so on. What a copy
is near to is compared too. So the number of comparisons follows the number of copies, not the square of the group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from spq.dupes.blown_up import enlargement
from spq.dupes.confirm import SAME_PIXELS, Verdict
from spq.dupes.exif import Shot
from spq.dupes.groups import CONFIRMED, Grouping, Pairs, Tie
from spq.dupes.keep import Seen, seen_of
from spq.dupes.matching import Matching, Pair
from spq.errors import ImageError

LATER, EARLIER = (
    {"cropped", "border added", "frame added", "grey", "text added"},
    {"less cropped", "border removed", "frame removed", "coloured", "text removed"},
)
PAGES_NOTE = "the same first page or frame; further ones are not compared"
OTHER_SHOT_NOTE = "another shot of the same view: its camera wrote another time or other settings"
BURST_NOTE = "taken within seconds of the first"


@dataclass
class Copies:
    """Joins copies, and collects pairs that are worth a look.

    Attributes:
        shot_of: row -> when and how it was taken.
        looks: pairs of rows (better, other) that are no copies, but almost the same, or of one burst.
    """

    grouping: Grouping
    matching: Matching
    shot_of: Callable[[int], Shot]
    looks: dict[Pair, Tie] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._copies: dict[int, dict[int, Tie]] = {}  # kept row -> its confirmed copies
        self._is_kept = np.array([self.grouping.is_kept(row) for row in range(len(self.grouping.facts))], bool)
        self.kept = np.arange(len(self._is_kept))  # row -> the row that is kept instead of it, so far
        self._pairs: Pairs = np.empty((0, 2), np.int64)  # all candidates so far
        self._judged: set[Pair] = set()

    def join(self, pairs: Pairs) -> None:
        """Judge candidates, pairs (P, 2) of rows. It can be called again with further ones; copies are not judged again.

        The picture that is kept may be another one than those that led the comparisons: then what was near to its copies is
        compared with it too, until nothing is left.
        """
        self._pairs = np.unique(np.concatenate([self._pairs, pairs]), axis=0)
        while len(pairs):
            self._join(pairs)
            moved = np.unique(np.sort(self.kept[self._pairs], axis=1), axis=0)
            rows = [pair for pair in map(tuple, moved.tolist()) if pair[0] != pair[1] and pair not in self._judged]
            pairs = np.array(rows, np.int64).reshape(-1, 2)

    def _join(self, pairs: Pairs) -> None:
        near: dict[int, set[int]] = defaultdict(set)
        for a, b in pairs.tolist():
            near[a].add(b)
            near[b].add(a)
        for row in near:
            shot = self.shot_of(row)
            self.grouping.seen.setdefault(row, seen_of(shot))
        self.grouping.rank_again()
        is_open = self._is_kept.copy()
        while len(pairs := pairs[is_open[pairs].all(1)]):
            rank = self.grouping.rank
            ordered = np.where((rank[pairs[:, 0]] < rank[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
            leaders = np.setdiff1d(ordered[:, 0], ordered[:, 1])
            found = self._round(ordered[np.isin(ordered[:, 0], leaders)], near, is_open)
            waiting = self._waiting(found, near)
            for leader in leaders.tolist():
                if leader in waiting:
                    is_open[list(found.get(leader, {}))] = True
                    continue
                is_open[leader] = False
                self._settle(leader, found.get(leader, {}))

    def finish(self) -> None:
        """Make the groups."""
        for keep, ties in self._copies.items():
            if ties:
                seen = self.grouping.seen
                self.grouping.join(keep, {row: _noted(tie, seen.get(row, Seen())) for row, tie in ties.items()})

    def _waiting(self, found: dict[int, dict[int, Tie]], near: dict[int, set[int]]) -> set[int]:
        """Leaders that turn out to be blown up, and those that have a candidate in common with them: they are judged again."""
        waiting = {leader for leader, ties in found.items() if self._is_blown_up(leader, ties)}
        if waiting:
            self.grouping.rank_again()
        freed = {row for leader in waiting for row in found[leader]}
        while further := {leader for leader in found if leader not in waiting and near[leader] & freed}:
            waiting |= further
            freed |= {row for leader in further for row in found[leader]}
        return waiting

    def _round(self, pairs: Pairs, near: dict[int, set[int]], is_open: NDArray[np.bool_]) -> dict[int, dict[int, Tie]]:
        """Judge pairs (leader, other), then what is near to the copies that were found. Return leader -> copies."""
        rank, found = self.grouping.rank, dict[int, dict[int, Tie]]()
        todo = sorted(map(tuple, pairs.tolist()), key=lambda pair: (rank[pair[0]], rank[pair[1]]))
        asked = set(todo)
        while todo:
            further: list[Pair] = []
            for (leader, row), tie in zip(todo, self._ties(todo), strict=True):
                if tie.kind not in CONFIRMED:
                    self._look_at(leader, row, tie)
                elif is_open[row]:
                    is_open[row] = False
                    found.setdefault(leader, {})[row] = tie
                    further += [(leader, n) for n in sorted(near[row]) if is_open[n] and rank[leader] < rank[n]]
            todo = [pair for pair in dict.fromkeys(further) if pair not in asked and is_open[pair[1]]]
            asked.update(todo)
        self._add_blown_up(found, is_open)
        return found

    def _add_blown_up(self, found: dict[int, dict[int, Tie]], is_open: NDArray[np.bool_]) -> None:
        """Judge what is almost the same as a leader again, if it is the blown-up copy of one of its copies."""
        again = [
            (leader, row)
            for (leader, row), tie in list(self.looks.items())
            if tie.kind == "almost" and leader in found and is_open[row] and self._is_blown_up(row, found[leader])
        ]
        for (leader, row), tie in zip(again, self._ties(again), strict=True):
            if tie.kind in CONFIRMED and is_open[row]:
                is_open[row] = False
                found[leader][row] = tie
                del self.looks[leader, row]

    def _settle(self, leader: int, ties: dict[int, Tie]) -> None:
        """Choose the picture to keep among a leader and its copies, now that edits are known. The others are superfluous.

        Copies of a copy, which an earlier call found, are compared with the leader too.
        """
        seen = self.grouping.seen
        before = [other for row in ties for other in self._copies.pop(row, {})]
        ties = self._copies.pop(leader, {}) | ties | self._confirmed(leader, before)
        for row, tie in ties.items():
            if (is_later := _is_later(tie.note)) is not None:
                edited, other = (row, leader) if is_later else (leader, row)
                if not _may_be_first(tie.note, seen[edited], seen[other]):
                    seen[edited] = replace(seen[edited], is_edited=True)
        for row in _turned_otherwise(leader, ties):
            seen[row] = replace(seen[row], is_edited=True)
        rest = sorted({leader, *ties, *before}, key=self.grouping.order)
        while rest:
            keep, *others = rest
            ties = (
                {row: ties[row] for row in others if row in ties} if keep == leader else self._confirmed(keep, others)
            )
            self._copies[keep] = ties
            self._is_kept[keep], self._is_kept[list(ties)] = True, False
            self.kept[[keep, *ties]] = keep
            rest = [row for row in others if row not in ties]

    def _confirmed(self, keep: int, rows: list[int]) -> dict[int, Tie]:
        """Which rows are confirmed copies of `keep`."""
        pairs = [(keep, row) for row in rows]
        return {row: tie for row, tie in zip(rows, self._ties(pairs), strict=True) if tie.kind in CONFIRMED}

    def _ties(self, pairs: list[Pair]) -> list[Tie]:
        """What the second of each pair is to the first. Two shots of a burst are no copies, however alike they are."""
        self._judged.update((min(pair), max(pair)) for pair in pairs)
        return [self._tie(*pair, verdict) for pair, verdict in zip(pairs, self.matching.judge(pairs), strict=True)]

    def _tie(self, first: int, second: int, verdict: Verdict) -> Tie:
        is_other = verdict.note != SAME_PIXELS and self.shot_of(first).is_other_shot(self.shot_of(second))
        if verdict.kind in CONFIRMED and not is_other:
            if self.shot_of(first).has_pages or self.shot_of(second).has_pages:
                return Tie("almost", PAGES_NOTE)
            return Tie(verdict.kind, verdict.note)
        if verdict.kind and self.shot_of(first).is_near(self.shot_of(second)):
            return Tie("burst", BURST_NOTE)
        if verdict.kind in CONFIRMED:
            return Tie("almost", OTHER_SHOT_NOTE)
        return Tie(verdict.kind, verdict.note, region=verdict.region)

    def _look_at(self, first: int, second: int, tie: Tie) -> None:
        if tie.kind:
            self.looks[first, second] = tie

    def _is_blown_up(self, large: int, ties: dict[int, Tie]) -> bool:
        """Whether a row is the blown-up copy of a smaller one of `ties`. Then it is reduced to the pixels that are real."""
        facts, seen = self.grouping.facts, self.grouping.seen[large]
        pixels = facts[large].pixels if seen.pixels is None else seen.pixels
        smaller = [row for row, tie in ties.items() if tie.kind == "re-encoded" and facts[row].pixels < 0.9 * pixels]
        for row in sorted(smaller, key=lambda row: -facts[row].pixels):
            try:
                found = enlargement(self.matching.image(large), self.matching.image(row))
                if found.is_likely and not seen.has_camera:
                    self.grouping.doubts.add((large, row))
                if found.is_certain:
                    self.grouping.seen[large] = replace(seen, pixels=facts[row].pixels, is_blown_up=True)
                    self.matching.reduce(large, (facts[row].width, facts[row].height))
                    return True
            except ImageError:
                continue
        return False


def _turned_otherwise(leader: int, ties: dict[int, Tie]) -> list[int]:
    """Rows that are turned or mirrored otherwise than most of a leader and its copies; none if no way leads.

    >>> ties = {1: Tie("edited", "turned 90"), 2: Tie("edited", "turned 90, grey"), 3: Tie("edited", "mirrored")}
    >>> _turned_otherwise(0, ties)
    [0, 3]
    """
    ways = {leader: "", **{row: _turn(tie.note) for row, tie in ties.items()}}
    (most, count), *others = Counter(ways.values()).most_common()
    if not others or others[0][1] == count:
        return []
    return [row for row, way in ways.items() if way != most]


def _turn(note: str) -> str:
    return ", ".join(word for word in note.split(", ") if word.startswith(("turned", "mirrored", "flipped")))


def _is_later(note: str) -> bool | None:
    """Whether the second of a pair is the edited one, as its note says; None if that could be either.

    >>> _is_later("mirrored, cropped"), _is_later("border removed"), _is_later("turned 90")
    (True, False, None)
    """
    words = set(note.split(", "))
    return True if words & LATER else False if words & EARLIER else None


def _may_be_first(note: str, smaller: Seen, larger: Seen) -> bool:
    """Whether a picture that shows less may still be the original: it alone has the data of a camera, and nothing else was done.

    The rest of the larger one may be a frame or a blurred ground.
    """
    edits = set(note.split(", ")) & (LATER | EARLIER)
    return edits <= {"cropped", "less cropped"} and smaller.has_camera and not larger.has_camera


def _noted(tie: Tie, seen: Seen) -> Tie:
    return replace(tie, note=f"{tie.note}, blown up") if seen.is_blown_up else tie


def burst_groups(shots: dict[int, Shot], pairs: Iterable[Pair]) -> list[list[int]]:
    """Rows that pairs of one burst connect, in the order in which they were taken."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            row = parent[row]
        return row

    for a, b in pairs:
        parent[root(b)] = root(a)
    connected = defaultdict(list)
    for row in parent:
        connected[root(row)].append(row)
    return [sorted(rows, key=lambda row: (shots[row].seconds or 0, row)) for rows in connected.values()]
