"""Groups of copies: which picture of a group to keep, and what the others are to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from spq.dupes.beside import kinds
from spq.dupes.facts import Facts
from spq.dupes.keep import Preference, Seen
from spq.dupes.links import note_of_link

Rows = NDArray[np.int64]
Pairs = NDArray[np.int64]  # (P, 2) rows
Region = tuple[float, float, float, float]  # x, y, width, height, as shares of the picture

KINDS = ("identical", "re-encoded", "edited", "almost", "burst", "similar")
CONFIRMED = KINDS[:3]
LOSSES = {"grey", "cropped", "border added", "resized"}  # edits that add nothing; other copies may be the original
MORE_PIXELS, WITH_BORDER = 1.1, 2.0  # times as many as the kept picture has; the same if a border was added
TELLS = {"place": "a place (GPS)", "words": "a title, keywords or a rating"}  # data that are missed
KEEP, SPARE, LINK, LOOK = "yes", "no", "link", "look"  # what to do with a picture


@dataclass(frozen=True)
class Member:
    """A picture of a group.

    Attributes:
        note: what it is to the first picture of the group. distance: of their codes, if the kind is similar.
        modified: ISO 8601, UTC. file: absolute path; empty inside a container.
        keep: `yes`; `no` for a confirmed copy; `link` for another name of a file that is there once; `look` if nothing is
            suggested.
        region: of the first picture of the group, where the two differ most, if the kind is almost.
    """

    path: str
    id: int
    width: int
    height: int
    bytes: int
    modified: str
    note: str = ""
    distance: float | None = None
    file: str = ""
    keep: str = LOOK
    region: Region | None = None


@dataclass(frozen=True)
class Group:
    """Pictures that are compared with the first of them, `keep`. It is to be kept if the kind is confirmed.

    Attributes:
        why: what `keep` has over the others; empty if nothing is suggested.
    """

    kind: str
    keep: Member
    why: str
    others: list[Member]

    @property
    def is_confirmed(self) -> bool:
        """Whether the others are copies: the same bytes, or compared at full size."""
        return self.kind in CONFIRMED


@dataclass(frozen=True)
class Tie:
    """What a row is to the row that it was compared with."""

    kind: str
    note: str
    distance: float | None = None
    region: Region | None = None


class Grouping:
    """Puts pictures into groups. A row leads itself until a better row makes it superfluous.

    Attributes:
        leader: (N,), the row that is kept instead of each row.
        groups: found so far. rank: (N,), place of each row in the order in which rows are kept.
        seen: what comparisons have shown of rows; `rank_again` takes it into account.
        doubts: (larger, smaller) rows of copies, of which the larger may be the smaller one, enlarged and sharpened.
    """

    def __init__(self, facts: Sequence[Facts], preference: Preference | None = None) -> None:
        self.facts, self.preference = facts, preference or Preference()
        self.leader = np.arange(len(facts))
        self.groups: list[Group] = []
        self.seen: dict[int, Seen] = {}
        self.doubts: set[tuple[int, int]] = set()
        self._twins: dict[int, list[int]] = {}  # row -> superfluous rows of the same bytes
        self.rank = np.empty(len(facts), np.int64)
        self.rank_again()

    def rank_again(self) -> None:
        """Order all rows again, after more was seen of some."""
        rows = range(len(self.facts))
        orders = [self.order(row) for row in rows]
        self.rank[sorted(rows, key=orders.__getitem__)] = np.arange(len(orders))

    def order(self, row: int) -> tuple[float | str, ...]:
        """The row with the smallest value is kept."""
        return self.preference.order(self.facts[row], self.seen.get(row))

    def is_kept(self, row: int) -> bool:
        return bool(self.leader[row] == row)

    def join_identical(self, rows: Sequence[int], apart: set[bytes]) -> dict[bytes, int]:
        """Join rows of the same bytes. Return the row that stands for each hash.

        Args:
            apart: hashes of bytes whose copies the user wants to keep.
        """
        same: dict[bytes, list[int]] = defaultdict(list)
        for row in sorted(rows, key=self.rank.__getitem__):
            same[self.facts[row].hash].append(row)
        has_reference = any(self.facts[row].is_reference for row in rows)
        for digest, (first, *others) in same.items():
            if has_reference:  # only a picture of the reference has copies, and none of them is of the reference
                others = [row for row in others if self.facts[first].is_reference and not self.facts[row].is_reference]
            if others and digest not in apart:
                self.leader[others] = first
                self._twins[first] = others
        return {digest: members[0] for digest, members in same.items()}

    def join(self, keep: int, ties: dict[int, Tie]) -> None:
        """Make `keep` the leader of rows that are confirmed copies of it, and of those with the same bytes as such a row."""
        ties = ties | {twin: tie for row, tie in ties.items() for twin in self._twins.pop(row, [])}
        for kind in CONFIRMED:
            rows = [row for row, tie in ties.items() if tie.kind == kind]
            if not rows:
                continue
            self.leader[rows] = keep
            rows.sort(key=lambda row: self.facts[row].path)
            why = self.preference.why([self.order(row) for row in (keep, *rows)])
            others = [self._copy(row, [keep, *rows], ties[row]) for row in rows]
            self.groups.append(Group(kind, self._member(keep, keep=KEEP), why, others))

    def gather(self, pairs: Iterable[tuple[int, int]], ties: Sequence[Tie]) -> None:
        """Make groups of rows that may be worth a look: the best row takes all rows paired with it, then the best of the rest."""
        tie_of: dict[int, dict[int, Tie]] = defaultdict(dict)
        for (a, b), tie in zip(pairs, ties, strict=True):
            tie_of[a][b] = tie_of[b][a] = tie
        taken: set[int] = set()
        for row in sorted(tie_of, key=self.rank.__getitem__):
            others = [other for other in tie_of[row] if other not in taken]
            if row not in taken and others:
                taken.update(others, [row])
                others.sort(key=lambda other, row=row: (tie_of[row][other].distance or 0, self.facts[other].path))  # type: ignore[misc]
                self.look(row, {other: tie_of[row][other] for other in others})

    def look(self, first: int, ties: dict[int, Tie]) -> None:
        """Make a group for which nothing is suggested."""
        others = [self._member(row, tie) for row, tie in ties.items()]
        self.groups.append(Group(next(iter(ties.values())).kind, self._member(first), "", others))

    def sorted_groups(self) -> list[Group]:
        """All groups, by kind, then by the path of their first picture."""
        for first in list(self._twins):
            self.join(first, {row: Tie("identical", "the same bytes") for row in self._twins.pop(first)})
        return sorted(self.groups, key=lambda group: (KINDS.index(group.kind), group.keep.path))

    def _copy(self, row: int, group: list[int], tie: Tie) -> Member:
        facts, others = self.facts[row], [self.facts[other] for other in group]
        link = note_of_link(facts, others)
        has_less = tie.kind != "edited" or LOSSES.issuperset(tie.note.split(", "))
        more = self._more(group[0], row, tie.note if has_less else None)
        only_preview = tie.kind != "identical" and self._is_raw(group[0]) and not self._is_raw(row)
        in_doubt = (group[0], row) in self.doubts
        is_spare = has_less and not only_preview and not more and not in_doubt
        keep = LINK if link else SPARE if is_spare else LOOK
        note = f"{tie.note}; of the raw, only its preview was compared" if only_preview else tie.note
        note += "; perhaps the kept one is this one, enlarged and sharpened" if in_doubt else ""
        note += f"; it has {more}, which the kept one lacks" if more else ""
        return self._member(row, Tie(tie.kind, link or note), keep)

    def _more(self, keep: int, row: int, note: str | None) -> str:
        """What would be lost with a copy that has more than the kept picture; empty if the user has chosen between the two.

        Args:
            note: the edit that made it, if that adds nothing.
        """
        first, second = self.facts[keep], self.facts[row]
        if first.is_reference:
            camera = self.seen.get(row, Seen()).has_camera and not self.seen.get(keep, Seen()).has_camera
            return " and ".join([*self._more_pixels(keep, row, note), *["the data of a camera"] * camera])
        if self.preference.is_wanted(self.order(keep), self.order(row)):
            return ""
        lacking = kinds(second.beside) - kinds(first.beside)
        files = [name for name in second.beside if kinds((name,)) & lacking]
        told = (self.seen.get(n, Seen()).tells for n in (row, keep))
        words = [TELLS[each] for each in sorted(next(told) - next(told)) if each in TELLS]
        return " and ".join([*self._more_pixels(keep, row, note), *files[:1], *words])

    def _more_pixels(self, keep: int, row: int, note: str | None) -> list[str]:
        """Whether a copy shows the picture larger than the kept one, which is kept for another reason, as its camera data."""
        old, new = (self.seen.get(n, Seen()).pixels or self.facts[n].pixels for n in (keep, row))
        return ["more pixels"] * (
            note is not None and new > (WITH_BORDER if "border added" in note else MORE_PIXELS) * old
        )

    def _is_raw(self, row: int) -> bool:
        return self.seen.get(row, Seen()).is_raw

    def _member(self, row: int, tie: Tie | None = None, keep: str = LOOK) -> Member:
        facts, tie = self.facts[row], tie or Tie("", "")
        return Member(
            facts.path, facts.id, facts.width, facts.height, facts.size, _iso(facts.mtime_ns),
            tie.note, tie.distance, facts.file, keep, tie.region,
        )  # fmt: skip


def _iso(time_ns: int) -> str:
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):  # a wrong clock
        return ""
