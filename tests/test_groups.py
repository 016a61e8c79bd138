from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spq.dupes.facts import Facts
from spq.dupes.groups import KINDS, Grouping, Tie
from spq.dupes.keep import Preference, Seen

GOOD = Facts("photos/a.jpg", size=100, mtime_ns=5, hash=b"h", width=20, height=10)


def test_files_of_the_same_bytes_are_one_group_unless_the_user_wants_both() -> None:
    facts = [replace(GOOD, path=path) for path in ("b", "a", "c")] + [replace(GOOD, path="d", hash=b"other")]
    grouping = Grouping(facts)
    assert grouping.join_identical(range(4), set()) == {b"h": 1, b"other": 3}
    (group,) = grouping.sorted_groups()
    assert (group.kind, group.keep.path, [other.path for other in group.others]) == ("identical", "a", ["b", "c"])
    assert {member.keep for member in group.others} == {"no"}
    assert [grouping.is_kept(row) for row in range(4)] == [False, True, False, True]
    both = Grouping(facts)
    both.join_identical(range(4), {b"h"})
    assert both.sorted_groups() == []


def test_a_link_is_never_kept_instead_of_its_file_and_never_superfluous() -> None:
    file = replace(GOOD, path="long/name.jpg", file="/d/long/name.jpg", inode=(1, 2))
    link = replace(GOOD, path="l.jpg", file="/d/l.jpg", inode=(1, 2), is_link=True, target=file.file)
    hard = replace(GOOD, path="z/hard.jpg/long.jpg", file="/d/h.jpg", inode=(1, 2))
    grouping = Grouping([link, file, hard])
    grouping.join_identical(range(3), set())
    (group,) = grouping.sorted_groups()
    assert (group.keep.path, group.keep.keep) == ("long/name.jpg", "yes")
    assert {m.path: (m.keep, m.note) for m in group.others} == {
        "l.jpg": ("link", "link to long/name.jpg"),
        "z/hard.jpg/long.jpg": ("link", "hard link of long/name.jpg, frees nothing"),
    }


def test_pictures_of_the_reference_are_all_kept_and_no_copies_of_each_other() -> None:
    facts = [replace(GOOD, path="new", size=900)] + [replace(GOOD, path=p, is_reference=True) for p in ("r1", "r2")]
    grouping = Grouping(facts)
    grouping.join_identical(range(3), set())
    (group,) = grouping.sorted_groups()
    assert (group.keep.path, [m.path for m in group.others]) == ("r1", ["new"])
    assert group.why == "in the collection that is compared with"


def test_a_picture_beside_the_raw_of_a_camera_is_never_superfluous_but_the_same_raw_is() -> None:
    facts = [replace(GOOD, path=path, hash=path[:1].encode()) for path in ("a.dng", "a.nef", "b.jpg")]
    grouping = Grouping(facts)
    grouping.seen[0] = Seen(is_raw=True)
    grouping.join_identical(range(3), set())
    grouping.join(0, {2: Tie("re-encoded", "half the size")})
    same, copies = grouping.sorted_groups()
    assert [(m.path, m.keep) for m in (copies.keep, *copies.others)] == [("a.dng", "yes"), ("b.jpg", "look")]
    assert [(m.path, m.keep) for m in (same.keep, *same.others)] == [("a.dng", "yes"), ("a.nef", "no")]


def test_a_copy_that_has_what_the_kept_picture_lacks_is_worth_a_look_unless_the_user_has_chosen() -> None:
    large = replace(GOOD, width=99, file="/d/photos/a.jpg")
    for more, seen, note in (
        ({"beside": ("b.MOV",)}, Seen(), "b.MOV"),
        ({}, Seen(tells=frozenset({"place", "date"})), "a place (GPS)"),
        ({"beside": ("b.xmp",)}, Seen(tells=frozenset({"words"})), "b.xmp and a title, keywords or a rating"),
    ):
        facts = [large, replace(GOOD, path="b.jpg", hash=b"b", **more)]  # type: ignore[arg-type]
        for preference, keep in (
            (Preference(), "look"),
            (Preference(("photos/",)), "no"),
            (Preference(choice="oldest"), "look"),
        ):
            grouping = Grouping(facts, preference)
            grouping.seen[1] = seen
            grouping.join(0, {1: Tie("re-encoded", "resized")})
            (copy,) = grouping.groups[0].others
            assert copy.keep == keep
            assert copy.note == ("resized" if keep == "no" else f"resized; it has {note}, which the kept one lacks")
    grouping = Grouping([replace(large, beside=("a.mov",)), replace(GOOD, path="b.jpg", beside=("b.MOV",))])
    grouping.join(0, {1: Tie("re-encoded", "resized")})
    assert grouping.groups[0].others[0].keep == "no"


def test_a_new_picture_that_is_better_than_that_of_the_reference_is_worth_a_look() -> None:
    old = replace(GOOD, path="old", hash=b"o", is_reference=True)
    for new, seen, note in (
        (replace(GOOD, path="new", width=30), Seen(), "more pixels"),
        (replace(GOOD, path="new"), Seen(has_camera=True), "the data of a camera"),
        (replace(GOOD, path="new", width=30), Seen(pixels=200, is_blown_up=True), ""),
        (replace(GOOD, path="new", width=21), Seen(), ""),
    ):
        grouping = Grouping([new, old])
        grouping.seen[0] = seen
        grouping.join(1, {0: Tie("re-encoded", "resized")})
        (copy,) = grouping.groups[0].others
        assert (copy.keep, copy.note) == (
            ("look", f"resized; it has {note}, which the kept one lacks") if note else ("no", "resized")
        )


@pytest.mark.parametrize(
    ("tie", "width", "seen", "keep"),
    [
        (Tie("re-encoded", "resized"), 30, Seen(), "look"),
        (Tie("edited", "grey"), 30, Seen(), "look"),
        (Tie("edited", "cropped"), 23, Seen(), "look"),
        (Tie("edited", "border added"), 50, Seen(), "look"),
        (Tie("edited", "border added"), 38, Seen(), "no"),  # with the border
        (Tie("re-encoded", "resized"), 30, Seen(pixels=200, is_blown_up=True), "no"),
        (Tie("re-encoded", "re-encoded"), 20, Seen(), "no"),
    ],
)
def test_a_copy_with_more_pixels_than_the_kept_one_is_not_superfluous(
    tie: Tie, width: int, seen: Seen, keep: str
) -> None:
    facts = [replace(GOOD, path="camera.jpg"), replace(GOOD, path="large.jpg", width=width)]
    grouping = Grouping(facts)
    grouping.seen.update({0: Seen(has_camera=True), 1: seen})
    grouping.join(0, {1: tie})
    (copy,) = grouping.groups[0].others
    assert copy.keep == keep
    assert ("; it has more pixels, which the kept one lacks" in copy.note) == (keep == "look")
    grouping = Grouping(facts, Preference(("camera*",)))
    grouping.join(0, {1: tie})
    assert grouping.groups[0].others[0].keep == "no"  # the user has chosen


def test_nothing_is_suggested_if_the_kept_picture_may_be_an_enlargement() -> None:
    grouping = Grouping([replace(GOOD, width=99), replace(GOOD, path="b"), replace(GOOD, path="c")])
    grouping.doubts.add((0, 1))
    grouping.join(0, {row: Tie("re-encoded", "resized") for row in (1, 2)})
    assert [m.keep for m in grouping.groups[0].others] == ["look", "no"]
    assert "enlarged and sharpened" in grouping.groups[0].others[0].note


def test_files_of_the_same_bytes_as_a_copy_join_its_group() -> None:
    grouping = Grouping([replace(GOOD, path=path, hash=path[:1].encode()) for path in ("a", "b1", "b2")])
    grouping.join_identical(range(3), set())
    grouping.join(0, {1: Tie("edited", "mirrored")})
    (group,) = grouping.sorted_groups()
    assert (group.kind, [(m.path, m.note) for m in group.others]) == (
        "edited",
        [("b1", "mirrored"), ("b2", "mirrored")],
    )


def test_the_reason_is_given_for_each_kind_of_a_group() -> None:
    facts = [GOOD, replace(GOOD, path="b", width=5), replace(GOOD, path="c", width=38)]
    grouping = Grouping(facts, Preference())
    ties = {1: Tie("re-encoded", "resized"), 2: Tie("edited", "border added")}
    grouping.seen[2] = Seen(is_edited=True)
    grouping.join(0, ties)
    assert [(g.kind, g.keep.path, g.why, g.others[0].path, g.others[0].note) for g in grouping.sorted_groups()] == [
        ("re-encoded", "photos/a.jpg", "most pixels", "b", "resized"),
        ("edited", "photos/a.jpg", "not edited", "c", "border added"),
    ]


def test_nothing_is_suggested_for_pictures_that_are_no_confirmed_copies() -> None:
    grouping = Grouping([replace(GOOD, path=p) for p in "abc"])
    grouping.gather([(0, 1)], [Tie("almost", "differs here", region=(0.1, 0.2, 0.3, 0.4))])
    grouping.look(0, {2: Tie("burst", "taken 1 s after the first")})
    for group in grouping.groups:
        assert not group.is_confirmed
        assert group.why == ""
        assert {member.keep for member in (group.keep, *group.others)} == {"look"}
    assert grouping.groups[0].others[0].region == (0.1, 0.2, 0.3, 0.4)
    assert all(grouping.is_kept(row) for row in range(3))
    assert [group.kind for group in grouping.sorted_groups()] == ["almost", "burst"]
    assert KINDS.index("almost") < KINDS.index("burst")


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0, 9, width=32)), max_size=40))
def test_gathered_groups_are_apart_and_each_member_is_near_to_the_first(edges: list[tuple[int, int, float]]) -> None:
    edges = [edge for edge in edges if edge[0] != edge[1]]
    facts = [Facts(f"{n:02d}", 1, 1, width=n, height=1) for n in range(12)]
    near = {frozenset(edge[:2]) for edge in edges}
    grouping = Grouping(facts)
    grouping.gather([edge[:2] for edge in edges], [Tie("similar", "similar", edge[2]) for edge in edges])
    for group in grouping.groups:
        assert all(frozenset((int(group.keep.path), int(other.path))) in near for other in group.others)
        assert all(group.keep.width > other.width for other in group.others)
        assert [m.distance for m in group.others] == sorted(m.distance or 0 for m in group.others)
    members = [member.path for group in grouping.groups for member in (group.keep, *group.others)]
    assert len(members) == len(set(members))
