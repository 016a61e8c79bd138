from __future__ import annotations

from typing import Any

from spq.dupes.decisions import APART, KEEP, OPEN, Decision, Decisions, group_key
from spq.web.server.review_state import MOST_IN_PAIRS, group_facts, judged, pairs_of, pictures_of

NO_PAIRS: frozenset[frozenset[str]] = frozenset()


def group(*names: str, kind: str = "re-encoded") -> dict[str, Any]:
    """A group of pictures; the first letter of a name is its content."""
    items = [
        {"id": sum(map(ord, name)), "path": name, "size": 100, "width": 9, "height": 9, "keep": "no" if n else "yes"}
        for n, name in enumerate(names)
    ]
    hashes = [f"{ord(name[0]):02x}" for name in names]
    ids = [item["id"] for item in items]
    return {"key": group_key(hashes), "hashes": hashes, "kind": kind, "ids": ids, "items": items, "confirmed": True}


def report(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"groups": list(groups)}


def decisions(*made: tuple[dict[str, Any], set[int]], choice: str = KEEP) -> Decisions:
    found = {of["key"]: Decision(choice, tuple(pictures_of(of, kept)), n) for n, (of, kept) in enumerate(made, 1)}
    return Decisions(len(made), found)


def test_a_decision_drops_what_it_does_not_keep() -> None:
    some = group("a1", "b1", "c1")
    state = judged(report(some), decisions((some, {0, 2})), NO_PAIRS)
    assert [item["path"] for item in state.dropped()] == ["b1"]
    assert state.progress() == {
        "kinds": {"re-encoded": {"groups": 1, "decided": 1}},
        "dropped": 1,
        "freed": 100,
        "outdated": 0,
    }
    assert group_facts(state.groups[0])["decision"] == {
        "choice": KEEP, "keep": [some["ids"][0], some["ids"][2]], "stays": [], "revision": 1, "outdated": False,
    }  # fmt: skip
    assert "hashes" not in group_facts(state.groups[0])


def test_a_link_frees_nothing() -> None:
    some = group("a1", "a2")
    some["items"][1]["keep"] = "link"
    assert judged(report(some), decisions((some, {0})), NO_PAIRS).progress()["freed"] == 0


def test_a_picture_that_one_group_keeps_stays_also_if_others_would_drop_all() -> None:
    ab, bc, ca = group("a", "b"), group("b", "c", kind="edited"), group("c", "a", kind="almost")
    state = judged(report(ab, bc, ca), decisions((ab, {0}), (bc, {0}), (ca, {0})), NO_PAIRS)
    assert list(state.dropped()) == []
    assert [each.stays for each in state.groups] == [{1}, {1}, {1}]


def test_a_decision_follows_its_pictures_to_new_names_and_ids() -> None:
    before, after = group("a1", "b1"), group("b2", "a2")
    state = judged(report(after), decisions((before, {0})), NO_PAIRS)
    assert [item["path"] for item in state.dropped()] == ["b2"]
    same_bytes, renamed = group("a1", "a2", "a3"), group("a1", "a2", "a9")
    state = judged(report(renamed), decisions((same_bytes, {0, 1})), NO_PAIRS)
    assert [item["path"] for item in state.dropped()] == ["a9"]


def test_what_is_not_clear_any_more_is_outdated_and_drops_nothing() -> None:
    same_bytes, renamed = group("a1", "a2"), group("a8", "a9")  # which one was to be kept?
    state = judged(report(renamed), decisions((same_bytes, {0})), NO_PAIRS)
    assert (state.groups[0].choice, state.groups[0].is_outdated, list(state.dropped())) == (OPEN, True, [])
    before, changed = group("a1", "b1"), group("a1", "b1")
    changed["hashes"][1] = "ff"
    changed["key"] = group_key(changed["hashes"])
    state = judged(report(changed), decisions((before, {0})), NO_PAIRS)
    assert (state.groups[0].is_outdated, state.progress()["outdated"]) == (True, 1)
    assert state.left.keys() == {before["key"]}


def test_groups_that_were_called_no_duplicates_are_decided_however_that_was_said() -> None:
    some = group("a1", "b1", "c1")
    pairs = frozenset(pair.key for pair in pairs_of(some))
    assert len(pairs) == 3
    assert judged(report(some), Decisions(0, {}), pairs).groups[0].choice == APART
    forgotten = judged(report(some), decisions((some, set()), choice=APART), NO_PAIRS)
    assert forgotten.groups[0].choice == OPEN
    assert pairs_of(group("a1", "a2"))[0].key == {"61"}


def test_of_a_large_group_each_picture_is_remembered_with_the_first() -> None:
    many = group(*(chr(100 + n) for n in range(MOST_IN_PAIRS + 1)))
    assert len(pairs_of(many)) == MOST_IN_PAIRS
    assert judged(report(many), Decisions(0, {}), frozenset(p.key for p in pairs_of(many))).groups[0].choice == APART


def test_groups_are_chosen_by_kind_state_and_pictures() -> None:
    first, second = group("a1", "b1"), group("c1", "d1", kind="similar")
    state = judged(report(first, second), decisions((first, {0})), NO_PAIRS)

    def shown(*arguments: Any) -> list[dict[str, Any]]:
        return [each.group for each in state.shown(*arguments)]

    kinds = ("re-encoded", "similar")
    assert shown(kinds, "all") == [first, second]
    assert shown(kinds, "open") == [second]
    assert shown(kinds, "decided") == [first]
    assert shown(kinds, "open", 0) == [first, second]  # it was decided after revision 0
    assert shown(["similar"], "all") == [second]
    assert shown(kinds, "all", None, {second["ids"][1]}) == [second]
