from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spq.dupes import copies
from spq.dupes.blown_up import Enlargement
from spq.dupes.confirm import SAME_PIXELS, Verdict
from spq.dupes.copies import Copies, burst_groups
from spq.dupes.exif import Shot
from spq.dupes.facts import Facts
from spq.dupes.groups import Grouping
from spq.dupes.keep import Preference


@dataclass
class Told:
    """Verdicts that a test gives, instead of those of pictures; all other pairs are no copies."""

    verdicts: dict[tuple[int, int], Verdict]
    judged: list[tuple[int, int]] = field(default_factory=list)
    when_reduced: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    reduced: dict[int, tuple[int, int]] = field(default_factory=dict)
    total: int = 0

    def judge(self, pairs: list[tuple[int, int]]) -> list[Verdict]:
        self.judged += pairs
        return [self.verdicts.get(pair, Verdict("", "")) for pair in pairs]

    def reduce(self, row: int, size: tuple[int, int]) -> None:
        self.reduced[row] = size
        self.verdicts |= self.when_reduced

    def image(self, row: int) -> Image.Image:
        return Image.new("RGB", (10 * row + 10, 10 * row + 10))


def both_ways(kind: str, *pairs: tuple[int, int], note: str = "resized") -> dict[tuple[int, int], Verdict]:
    return {pair: Verdict(kind, note) for a, b in pairs for pair in ((a, b), (b, a))}


def run(sizes: list[int], told: Told, pairs: list[tuple[int, int]], shots: dict[int, Shot] | None = None) -> Copies:
    """Pictures 0, 1, ... of these widths."""
    grouping = Grouping([Facts(str(n), 1, 1, size, 1, bytes([n])) for n, size in enumerate(sizes)], Preference())
    found = Copies(grouping, told, lambda row: (shots or {}).get(row, Shot()))  # type: ignore[arg-type]
    found.join(np.array(pairs, np.int64).reshape(-1, 2))
    found.finish()
    return found


def groups(found: Copies) -> dict[str, list[str]]:
    return {group.keep.path: sorted(m.path for m in group.others) for group in found.grouping.groups}


def test_a_chain_of_copies_is_compared_with_its_best_picture_and_not_with_each_other() -> None:
    told = Told(both_ways("re-encoded", (0, 1), (0, 2), (1, 2), (2, 3)))
    found = run([9, 8, 7, 6], told, [(0, 1), (1, 2), (2, 3)])
    assert groups(found) == {"0": ["1", "2"]}  # 3 is a copy of 2, but not of 0
    assert (0, 3) in told.judged
    assert (1, 2) not in told.judged
    assert found.grouping.is_kept(3)


def test_many_copies_of_one_picture_take_one_comparison_each() -> None:
    pairs = [(a, b) for a in range(40) for b in range(a + 1, 40)]
    told = Told(both_ways("re-encoded", *pairs))
    run(list(range(90, 50, -1)), told, pairs)
    assert len(told.judged) == 39


def test_the_edited_one_of_two_is_not_kept_although_it_is_larger() -> None:
    told = Told({(0, 1): Verdict("edited", "border removed"), (1, 0): Verdict("edited", "border added")})
    found = run([9, 8], told, [(0, 1)])
    (group,) = found.grouping.groups
    assert (group.keep.path, group.why, group.others[0].note) == ("1", "not edited", "border added")


@pytest.mark.parametrize("sizes", [[9, 8], [8, 9]])
def test_the_data_of_a_camera_decide_if_a_picture_only_shows_less_than_its_copy(sizes: list[int]) -> None:
    told = Told({(0, 1): Verdict("edited", "less cropped"), (1, 0): Verdict("edited", "cropped")})
    (group,) = run(sizes, told, [(0, 1)], {0: Shot("Camera")}).grouping.groups
    assert (group.keep.path, group.others[0].note, group.others[0].keep) == ("0", "less cropped", "look")
    for shots in ({}, {0: Shot("Camera"), 1: Shot("Camera")}, {1: Shot("Camera")}):
        (group,) = run(sizes, told, [(0, 1)], shots).grouping.groups
        keep = "look" if sizes[0] > sizes[1] else "no"  # what is left of it, it shows larger
        assert (group.keep.path, group.others[0].note[:7], group.others[0].keep) == ("1", "cropped", keep)


def test_the_picture_with_the_data_of_a_camera_is_kept_and_compared_with_the_others_again() -> None:
    told = Told(both_ways("re-encoded", (0, 1), (0, 2), (1, 2)))
    found = run([9, 8, 7], told, [(0, 1), (0, 2)], {2: Shot("Camera")})
    assert groups(found) == {"2": ["0", "1"]}
    assert found.grouping.groups[0].why == "has the data of a camera (EXIF)"


def test_a_copy_of_the_largest_picture_alone_is_kept_if_it_is_no_copy_of_the_better_one() -> None:
    told = Told(both_ways("re-encoded", (0, 1), (0, 2)))
    found = run([9, 8, 7], told, [(0, 1), (0, 2)], {2: Shot("Camera")})
    assert groups(found) == {"2": ["0"]}
    assert found.grouping.is_kept(1)


def test_a_blown_up_copy_counts_with_the_pixels_of_the_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "enlargement", lambda large, small: Enlargement(large.width == 10))  # picture 0
    told = Told(both_ways("re-encoded", (0, 1), (0, 2), (1, 2)))
    found = run([9, 6, 3], told, [(0, 1), (0, 2)])
    (group,) = found.grouping.groups
    assert (group.keep.path, group.why) == ("1", "not blown up")
    assert {m.path: m.note for m in group.others} == {"0": "resized, blown up", "2": "resized"}
    assert told.reduced == {0: (6, 1)}


def test_a_blown_up_copy_of_a_small_one_is_compared_with_the_original_at_the_size_that_is_real(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies, "enlargement", lambda large, small: Enlargement(large.width == 10))
    told = Told(both_ways("re-encoded", (0, 2), (1, 2)) | both_ways("almost", (0, 1), note="differs here"))
    told.when_reduced = both_ways("re-encoded", (0, 1))
    found = run([9, 6, 3], told, [(0, 1), (0, 2), (1, 2)])
    (group,) = found.grouping.groups
    assert (group.keep.path, group.why) == ("1", "most real pixels")
    assert {m.path: m.note for m in group.others} == {"0": "resized, blown up", "2": "resized"}


def test_what_is_almost_the_same_is_judged_again_if_it_is_blown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "enlargement", lambda large, small: Enlargement(large.width == 10))
    told = Told(both_ways("re-encoded", (1, 2)) | both_ways("almost", (0, 1), note="differs here"))
    told.when_reduced = both_ways("re-encoded", (0, 1))
    found = run([9, 6, 3], told, [(0, 1), (1, 2)], {1: Shot("Camera")})
    assert groups(found) == {"1": ["0", "2"]}
    assert found.looks == {}


def test_two_shots_of_a_burst_are_no_copies_however_alike_they_are() -> None:
    told = Told(both_ways("re-encoded", (0, 1), (0, 2)))
    shots = {0: Shot("C", 100.0), 1: Shot("C", 102.0), 2: Shot("C", 100.0)}
    found = run([9, 8, 7], told, [(0, 1), (0, 2)], shots)
    assert groups(found) == {"0": ["2"]}
    assert found.looks[0, 1].kind == "burst"


def test_what_a_camera_took_at_another_time_is_another_shot_unless_the_pixels_are_the_same() -> None:
    told = Told(
        both_ways("re-encoded", (0, 1), (0, 2), note="re-encoded") | both_ways("re-encoded", (0, 3), note=SAME_PIXELS)
    )
    shots = {0: Shot("C", 100.0), 1: Shot("C", 160.0), 2: Shot("C", 7300.0), 3: Shot("C", 160.0)}
    found = run([9, 8, 7, 6], told, [(0, 1), (0, 2), (0, 3)], shots)
    assert groups(found) == {"0": ["2", "3"]}  # 2 hours: a time zone
    assert {pair: tie.note for pair, tie in found.looks.items()} == {(0, 1): copies.OTHER_SHOT_NOTE}


def test_pictures_that_are_almost_the_same_stay_and_are_remembered_with_their_region() -> None:
    told = Told({(0, 1): Verdict("almost", "differs here", (0.1, 0.2, 0.3, 0.4))})
    found = run([9, 8], told, [(0, 1)])
    assert groups(found) == {}
    assert (found.looks[0, 1].kind, found.looks[0, 1].region) == ("almost", (0.1, 0.2, 0.3, 0.4))


def test_what_the_first_leader_could_not_confirm_is_compared_with_the_picture_that_is_kept() -> None:
    """0 has a border and is the largest, 2 has bars, and 1 is the original of both."""
    told = Told({(0, 1): Verdict("edited", "border removed"), (1, 0): Verdict("edited", "border added")})
    told.verdicts |= {(2, 1): Verdict("edited", "border removed"), (1, 2): Verdict("edited", "border added")}
    found = run([9, 7, 8], told, [(0, 1), (0, 2), (1, 2)])
    assert groups(found) == {"1": ["0", "2"]}


def test_a_candidate_of_a_copy_is_one_of_the_picture_that_is_kept() -> None:
    told = Told({(0, 1): Verdict("edited", "border removed"), (1, 0): Verdict("edited", "border added")})
    told.verdicts |= both_ways("edited", (1, 2), note="grey")
    found = run([9, 8, 7], told, [(0, 1), (0, 2)])  # 1 and 2 are no candidates
    assert groups(found) == {"1": ["0", "2"]}


def test_copies_of_a_picture_that_turns_out_to_be_a_copy_are_compared_with_the_better_one() -> None:
    told = Told(both_ways("re-encoded", (0, 1), (1, 2), (1, 3), (0, 2)))
    grouping = Grouping([Facts(str(n), 1, 1, 9 - n, 1, bytes([n])) for n in range(4)])
    found = Copies(grouping, told, lambda _: Shot())  # type: ignore[arg-type]
    found.join(np.array([(1, 2), (1, 3)]))
    found.join(np.array([(0, 1)]))
    found.finish()
    assert groups(found) == {"0": ["1", "2"]}
    assert grouping.is_kept(3)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30), st.permutations(list(range(10, 20))))
def test_every_member_is_a_copy_of_the_kept_and_no_two_kept_ones_are(
    edges: list[tuple[int, int]], sizes: list[int]
) -> None:
    edges = [(min(edge), max(edge)) for edge in edges if edge[0] != edge[1]]
    found = run(sizes, Told(both_ways("re-encoded", *edges)), sorted(set(edges)))
    near = set(edges)
    for group in found.grouping.groups:
        for other in group.others:
            assert tuple(sorted((int(group.keep.path), int(other.path)))) in near
            assert other.width < group.keep.width
    kept = {row for row in range(10) if found.grouping.is_kept(row)}
    assert not any({a, b} <= kept for a, b in near)


def test_bursts_are_chains_in_the_order_of_time() -> None:
    shots = {n: Shot("C", float(-n)) for n in range(5)}
    assert burst_groups(shots, [(0, 1), (2, 1), (3, 4)]) == [[2, 1, 0], [4, 3]]
    assert burst_groups(shots, []) == []
