from __future__ import annotations

from typing import Any

import pytest

from spq.web.server.review_rules import FOLDER, RULES, folders_of, kept_by, suggested


def group(kind: str = "identical", keep: tuple[str, ...] = ("yes", "no", "no"), **more: Any) -> dict[str, Any]:
    """Three pictures: the second is the oldest and in folder b, the third the largest and in c, the first has most pixels."""
    times, sizes, sides = ("2024", "2020", "2022"), (20, 10, 30), (300, 200, 100)
    items = [
        {"path": f"{'abc'[n]}/x/{n}.jpg", "time": times[n], "size": sizes[n]}
        | {"width": sides[n], "height": sides[n], "keep": keep[n]}
        for n in range(3)
    ]
    confirmed = kind in ("identical", "re-encoded", "edited")
    return {"kind": kind, "confirmed": confirmed, "items": items, **more}


@pytest.mark.parametrize(
    ("rule", "kept"), [("suggested", 0), ("oldest", 1), ("newest", 0), ("largest", 2), ("pixels", 0), ("folder", 1)]
)
def test_a_rule_keeps_one_of_identical_files(rule: str, kept: int) -> None:
    assert kept_by(group(), rule, "b/x") == {kept}
    assert rule in RULES


def test_a_rule_keeps_links_and_what_has_to_be_looked_at() -> None:
    assert kept_by(group(keep=("yes", "no", "link")), "oldest") == {1, 2}
    assert kept_by(group(keep=("yes", "link", "no")), "oldest") == {1, 2}  # a link is not the one that is kept
    assert kept_by(group(keep=("yes", "look", "look")), "suggested") is None
    assert suggested(group(keep=("yes", "look", "no"))) == {0, 1}


def test_a_rule_drops_no_picture_that_shows_more() -> None:
    assert kept_by(group("re-encoded"), "oldest") == {0, 1}
    assert kept_by(group("edited"), "largest") == {0, 2}
    same = group("re-encoded")
    for item in same["items"]:
        item["width"] = item["height"] = 100
    assert kept_by(same, "oldest") == {1}


def test_nothing_is_suggested_for_pictures_that_are_no_copies_but_a_rule_decides_them() -> None:
    burst = group("burst", ("look", "look", "look"))
    assert kept_by(burst, "suggested") is None
    assert kept_by(burst, "oldest") == {1}


def test_a_folder_decides_only_groups_that_are_partly_in_it() -> None:
    assert kept_by(group(), FOLDER, "d") is None
    inside = group()
    for item in inside["items"]:
        item["path"] = f"b/{item['path']}"
    assert kept_by(inside, FOLDER, "b") is None
    assert folders_of([group(), group(), inside])[:3] == [("a", 2), ("a/x", 2), ("b", 2)]
    assert ("b", 3) not in folders_of([group(), group(), inside])


def test_pictures_without_a_date_are_not_the_oldest() -> None:
    some = group()
    some["items"][1]["time"] = ""
    assert kept_by(some, "oldest") == {2}
    for item in some["items"]:
        item["time"] = ""
    assert kept_by(some, "oldest") is None
