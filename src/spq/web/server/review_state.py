"""A report of copies together with what the user has decided about its groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from spq.dupes.decisions import APART, KEEP, OPEN, Decision, Decisions, Picture
from spq.dupes.groups import KINDS, LINK
from spq.dupes.ignored import Ignored
from spq.web.server.review_rules import Group, suggested

Pair = frozenset[str]
MOST_IN_PAIRS = 50  # pictures of a group of which every two are remembered as no duplicates


@dataclass
class Judged:
    """A group and its decision.

    Attributes:
        choice: KEEP, APART or OPEN. kept: positions. stays: positions that would go, but are kept in another group.
        revision: of the file of decisions, when that was decided. is_outdated: it was decided before a picture changed.
    """

    group: Group
    choice: str = OPEN
    kept: frozenset[int] = frozenset()
    revision: int = 0
    is_outdated: bool = False
    stays: frozenset[int] = frozenset()

    @property
    def is_decided(self) -> bool:
        return self.choice != OPEN

    @property
    def dropped(self) -> list[int]:
        """The positions of the pictures that go."""
        if self.choice != KEEP:
            return []
        return [n for n in range(len(self.group["items"])) if n not in self.kept and n not in self.stays]

    def facts(self) -> dict[str, Any]:
        """The decision as the API gives it."""
        ids = self.group["ids"]
        return {
            "choice": self.choice,
            "keep": [ids[n] for n in sorted(self.kept)] if self.choice == KEEP else [],
            "stays": [ids[n] for n in sorted(self.stays)],
            "revision": self.revision,
            "outdated": self.is_outdated,
        }


@dataclass
class ReviewState:
    """All groups of a report, judged.

    Attributes:
        left: decisions about groups that are not in the report any more.
    """

    groups: list[Judged] = field(default_factory=list)
    by_key: dict[str, Judged] = field(default_factory=dict)
    left: dict[str, Decision] = field(default_factory=dict)

    def progress(self, ids: Collection[int] | None = None) -> dict[str, Any]:
        """Groups and decided groups of each kind, and what would be freed by all decisions.

        Args:
            ids: count only groups with one of these pictures.
        """
        total, decided = (Counter[str](), Counter[str]())
        for each in self.groups if ids is None else self.shown(KINDS, "all", None, ids):
            total[each.group["kind"]] += 1
            decided[each.group["kind"]] += each.is_decided
        gone = {item["id"]: item for item in self.dropped()}
        return {
            "kinds": {kind: {"groups": total[kind], "decided": decided[kind]} for kind in KINDS if total[kind]},
            "dropped": len(gone),
            "freed": sum(freed(item) for item in gone.values()),
            "outdated": sum(each.is_outdated for each in self.groups),
        }

    def dropped(self) -> Iterator[dict[str, Any]]:
        """The pictures that go. One may be in several groups."""
        return (each.group["items"][n] for each in self.groups for n in each.dropped)

    def shown(
        self, kinds: Collection[str], state: str, as_of: int | None = None, ids: Collection[int] | None = None
    ) -> list[Judged]:
        """Some groups, in the order of the report.

        Args:
            state: `all`, `open` or `decided`. as_of: groups that were decided after this revision count as open, too.
            ids: only groups with one of these pictures.
        """

        def fits(each: Judged) -> bool:
            is_new = as_of is not None and each.revision > as_of
            is_state = state == "all" or (state == "open") is not each.is_decided or (state == "open" and is_new)
            return (
                is_state and each.group["kind"] in kinds and (ids is None or any(n in ids for n in each.group["ids"]))
            )

        return [each for each in self.groups if fits(each)]


def judged(report: dict[str, Any], decisions: Decisions, apart: Collection[Pair]) -> ReviewState:
    """Put a report and decisions together.

    Args:
        apart: pairs of hashes of pictures that are no duplicates.
    """
    state = ReviewState()
    keys = {group["key"] for group in report["groups"]}
    state.left = {k: d for k, d in decisions.groups.items() if k not in keys and d.choice == KEEP}
    earlier: dict[str, list[str]] = {}  # path -> keys of these decisions
    for key, decision in state.left.items():
        for picture in decision.pictures:
            earlier.setdefault(picture.path, []).append(key)
    for group in report["groups"]:
        each = _judge(group, decisions.groups.get(group["key"]), apart)
        known = Counter(key for item in group["items"] for key in earlier.get(item["path"], ()))
        each.is_outdated |= not each.is_decided and any(shared > 1 for shared in known.values())
        state.groups.append(each)
        state.by_key[group["key"]] = each
    kept = {each.group["ids"][n] for each in state.groups if each.choice == KEEP for n in each.kept}
    for each in state.groups:
        if each.choice == KEEP:
            ids = each.group["ids"]
            each.stays = frozenset(n for n, id_ in enumerate(ids) if n not in each.kept and id_ in kept)
    return state


def _judge(group: Group, decision: Decision | None, apart: Collection[Pair]) -> Judged:
    revision = decision.revision if decision else 0
    if is_apart(group, apart):
        return Judged(group, APART, revision=revision)
    if decision is None or decision.choice != KEEP:
        return Judged(group, revision=revision)
    kept = _kept(group, decision)
    return Judged(group, OPEN, revision=revision, is_outdated=True) if not kept else Judged(group, KEEP, kept, revision)


def _kept(group: Group, decision: Decision) -> frozenset[int]:
    """The positions that a decision keeps, also after a picture got a new name; none if that is not clear any more."""
    left = list(decision.pictures)
    found: dict[int, bool] = {}
    here = list(enumerate(zip(group["hashes"], (item["path"] for item in group["items"]), strict=True)))
    for n, (digest, path) in here:
        same = next((each for each in left if (each.hash, each.path) == (digest, path)), None)
        if same:
            found[n] = same.is_kept
            left.remove(same)
    for n, (digest, _) in here:
        choices = {each.is_kept for each in left if each.hash == digest}
        if n not in found and len(choices) == 1:
            found[n] = choices.pop()
    if len(found) < len(here):
        return frozenset()
    return frozenset(n for n, is_kept in found.items() if is_kept)


def is_apart(group: Group, apart: Collection[Pair]) -> bool:
    """Whether all pictures were called no duplicates of the first one."""
    first, *others = group["hashes"]
    return bool(apart) and all(frozenset((first, other)) in apart for other in others)


def pairs_of(group: Group) -> list[Ignored]:
    """What is remembered of a group whose pictures are no duplicates: every two; in a large group each one and the first."""
    members = [(digest, item["path"]) for digest, item in zip(group["hashes"], group["items"], strict=True)]
    some = combinations(members, 2) if len(members) <= MOST_IN_PAIRS else ((members[0], each) for each in members[1:])
    found: dict[Pair, Ignored] = {}
    for (a, first), (b, second) in some:
        pair = Ignored((a, b), (first, second))
        found.setdefault(pair.key, pair)
    return list(found.values())


def pictures_of(group: Group, kept: Collection[int]) -> list[Picture]:
    """The pictures of a group for a decision that keeps these positions."""
    rows = zip(group["hashes"], group["items"], strict=True)
    return [Picture(digest, item["path"], n in kept) for n, (digest, item) in enumerate(rows)]


def freed(item: dict[str, Any]) -> int:
    """Bytes that the disk gets back without a picture: none for a link."""
    return 0 if item["keep"] == LINK else int(item["size"])


def group_facts(each: Judged) -> dict[str, Any]:
    """A group as the API gives it."""
    group = {name: value for name, value in each.group.items() if name != "hashes"}
    ids = group["ids"]
    return {**group, "suggested": [ids[n] for n in sorted(suggested(each.group))], "decision": each.facts()}
