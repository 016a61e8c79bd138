from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spq.dupes.groups import Grouping, reason_to_keep
from spq.index.items import Item

GOOD = Item("photos/a.jpg", size=100, mtime_ns=5, hash=b"h", width=20, height=10)


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        (replace(GOOD, width=19, size=500), "most pixels"),
        (replace(GOOD, size=99, mtime_ns=1), "largest file of the most pixels"),
        (replace(GOOD, mtime_ns=6, path="a.jpg"), "oldest of equal files"),
        (replace(GOOD, path="photos/more/a.jpg"), "shortest path"),
        (replace(GOOD, path="photos/b.jpg"), "first by name"),
    ],
)
def test_the_better_one_is_kept_for_a_reason_that_is_true(worse: Item, why: str) -> None:
    for items in ([GOOD, worse], [worse, GOOD]):
        grouping = Grouping(items)
        grouping.join("identical", np.array([[0, 1]]), lambda pairs: ["the same bytes"] * len(pairs))
        (group,) = grouping.groups
        assert (group.keep.path, group.why) == (GOOD.path, why)
    assert reason_to_keep([GOOD, worse, replace(GOOD, width=1)]) == why  # the runner-up decides


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0, 9, width=32)), max_size=40))
def test_groups_are_apart_and_each_member_is_near_to_the_kept(edges: list[tuple[int, int, float]]) -> None:
    edges = [edge for edge in edges if edge[0] != edge[1]]
    pairs = np.array([edge[:2] for edge in edges], np.int64).reshape(-1, 2)
    items = [Item(f"{n:02d}", 1, 1, width=n, height=1) for n in range(12)]
    near = {frozenset(pair) for pair in pairs.tolist()}

    gathered = Grouping(items)
    gathered.gather("similar", pairs, np.array([edge[2] for edge in edges], np.float32))
    for group in gathered.groups:
        assert all(frozenset((int(group.keep.path), int(other.path))) in near for other in group.others)

    joined = Grouping(items)
    joined.join("edited", pairs, lambda some: ["a copy" * (frozenset(pair) in near) for pair in some.tolist()])
    for group in joined.groups:
        assert all(frozenset((int(group.keep.path), int(other.path))) in near for other in group.others)
    kept = set(joined.kept().tolist())
    assert not any(pair <= kept for pair in near)
    assert len(joined.kept()) == len(items) - sum(len(group.others) for group in joined.groups)
    for grouping in (gathered, joined):
        members = [member.path for group in grouping.groups for member in (group.keep, *group.others)]
        assert len(members) == len(set(members))
        assert all(group.keep.width > max(other.width for other in group.others) for group in joined.groups)
