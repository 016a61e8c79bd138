from __future__ import annotations

from dataclasses import replace

import pytest

from spq.dupes.facts import Facts
from spq.dupes.keep import CHOICES, Preference, Seen
from spq.errors import ConfigError

GOOD = Facts("photos/a.jpg", size=100, mtime_ns=5, width=20, height=10, file="/d/photos/a.jpg")
PLAIN = Seen()
MOST_DATA = "has most data, such as place or keywords"


@pytest.mark.parametrize(
    ("good", "worse", "why"),
    [
        (PLAIN, (replace(GOOD, width=19, size=500), PLAIN), "most pixels"),
        (PLAIN, (replace(GOOD, size=99, mtime_ns=1), PLAIN), "largest file"),
        (PLAIN, (replace(GOOD, mtime_ns=6, path="a.jpg"), PLAIN), "oldest"),
        (Seen(is_lossless=True), (replace(GOOD, size=500), PLAIN), "lossless"),
        (Seen(has_camera=True), (replace(GOOD, size=50), Seen(is_lossless=True)), "has the data of a camera (EXIF)"),
        (PLAIN, (replace(GOOD, width=19, size=50), Seen(is_lossless=True)), "most pixels"),
        (Seen(is_raw=True), (replace(GOOD, width=99, size=900), Seen(has_camera=True)), "the raw of a camera"),
        (Seen(is_raw=True, is_edited=True), (replace(GOOD, size=900), PLAIN), "the raw of a camera"),
        (Seen(tells=frozenset({"place"})), (replace(GOOD, size=500), Seen(is_lossless=True)), MOST_DATA),
        (Seen(), (replace(GOOD, width=19, beside=("a.xmp",)), Seen(tells=frozenset({"place"}))), "most pixels"),
        (PLAIN, (replace(GOOD, path="photos/more/a.jpg"), PLAIN), "shortest path"),
        (PLAIN, (replace(GOOD, path="photos/b.jpg"), PLAIN), "first by name"),
        (PLAIN, (replace(GOOD, path="a.jpg", is_link=True), PLAIN), "a file, not a link"),
        (Seen(has_camera=True), (replace(GOOD, width=99, size=900), PLAIN), "has the data of a camera (EXIF)"),
        (PLAIN, (replace(GOOD, width=99, size=900), Seen(is_edited=True)), "not edited"),
        (PLAIN, (replace(GOOD, width=99, size=900), Seen(pixels=50, is_blown_up=True)), "most real pixels"),
        (PLAIN, (replace(GOOD, width=99, size=900), Seen(pixels=200, is_blown_up=True)), "not blown up"),
    ],
)
def test_the_better_one_is_kept_for_a_reason_that_is_true(good: Seen, worse: tuple[Facts, Seen], why: str) -> None:
    preference = Preference()
    orders = [preference.order(GOOD, good), preference.order(*worse)]
    assert orders[0] < orders[1]
    assert preference.why(orders) == why
    worst = preference.order(replace(worse[0], is_link=True, width=0), worse[1])
    assert preference.why([orders[0], worst, orders[1]]) == why  # the runner-up decides


def test_a_picture_with_a_sidecar_is_kept_before_a_larger_file_of_the_same_size() -> None:
    live, larger = replace(GOOD, beside=("a.mov",)), replace(GOOD, size=500)
    orders = [Preference().order(live), Preference().order(larger, Seen(tells=frozenset({"place"})))]
    assert orders[0] < orders[1]
    assert Preference().why(orders) == "has a sidecar or a video beside it"


OLD, LARGE = replace(GOOD, path="old.jpg", mtime_ns=1), replace(GOOD, path="longer/large.jpg", size=900, width=99)


@pytest.mark.parametrize(
    ("choice", "kept"),
    list(zip(CHOICES, (OLD, LARGE, LARGE, OLD, OLD, LARGE), strict=True)),
)
def test_a_choice_comes_before_cameras_pixels_and_sizes(choice: str, kept: Facts) -> None:
    preference = Preference(choice=choice)
    camera = Seen(has_camera=True)
    orders = {facts.path: preference.order(facts, camera if facts is not kept else None) for facts in (OLD, LARGE)}
    assert min(orders, key=orders.__getitem__) == kept.path
    assert preference.why(sorted(orders.values())) in (
        choice,
        *("shortest path", "most pixels", "largest file", "smallest file"),
    )


def test_a_pattern_comes_before_a_choice_and_a_reference_before_a_pattern() -> None:
    preference = Preference(("originals/",), "largest")
    wanted = replace(GOOD, path="originals/x.jpg", size=1)
    assert preference.order(wanted) < preference.order(LARGE)
    assert preference.why([preference.order(wanted), preference.order(LARGE)]) == "preferred by your pattern"
    assert preference.order(replace(LARGE, is_reference=True)) < preference.order(wanted)
    assert Preference(("/d/photos/*",)).order(GOOD) < Preference(("/d/photos/*",)).order(
        replace(OLD, file="/e/old.jpg")
    )


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ConfigError, match="`keep` best is unknown; use oldest, newest"):
        Preference(choice="best")


def test_the_first_pattern_counts_most_and_idle_ones_are_named() -> None:
    raw, sea, other = (
        replace(GOOD, path=f"{name}/a.jpg", file=f"/d/{name}/a.jpg") for name in ("RAW", "best [sea]", "x")
    )
    for first, second in ((raw, sea), (sea, raw)):
        patterns = [facts.path.split("/")[0].lower() for facts in (first, second)]
        order = Preference((*patterns, "none")).order
        assert sorted((other, second, first), key=order) == [first, second, other]
    names = [(facts.path, facts.file) for facts in (raw, sea, other)]
    assert Preference(("d/x", "/d", "raw", "/x/a", "y", "*.png")).idle(names) == ["/x/a", "y", "*.png"]


def test_of_two_paths_to_one_file_the_one_over_no_linked_folder_is_kept() -> None:
    behind = replace(GOOD, path="a.jpg", is_behind_link=True)
    assert Preference().why([Preference().order(GOOD), Preference().order(behind)]) == "in no linked folder"
    larger = replace(behind, width=99)
    assert min((GOOD, larger), key=Preference().order) is larger  # another file: a better picture
