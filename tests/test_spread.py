"""Parts that are held elsewhere are searched as one gallery, and what does not answer is missing, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.errors import ConfigError, ShardsMissingError, StoreError
from spq.pq.coarse import Coarse
from spq.pq.parts import Part, PartedScan
from spq.pq.questions import HeldPart, Key, Question, Reply, Source, answer, digest_of, pack_rows, unpack_rows
from spq.pq.scan import Method
from spq.pq.spread import SpreadScan
from test_parts import SHAPES, data, parted, plain, same, small


class Held:
    """A holder that answers at once, hangs, or fails."""

    def __init__(self) -> None:
        self.parts: dict[Key, tuple[Part, np.ndarray]] = {}
        self.asked: list[Question] = []
        self.notes: list[str] = []
        self.does = "answer"
        self.later: dict[Key, tuple[Part, np.ndarray]] = {}

    def ask(self, question: Question) -> Future[Reply]:
        self.asked.append(question)
        future: Future[Reply] = Future()
        if self.does == "fail":
            future.set_exception(ConnectionError("lost\nin two lines"))
        elif self.does == "answer":
            missing = tuple(key for key in question.keys if key not in self.parts)
            found = [self.parts[key] for key in question.keys if key in self.parts]
            if missing:
                future.set_result(Reply(unready=missing))
            else:
                future.set_result(answer(question, *zip(*found, strict=True), question.lists == "lists"))
        return future

    def note(self, question: Question, seconds: float, failure: str = "") -> None:
        assert seconds >= 0
        self.notes.append(failure)

    def look(self, seconds: float) -> None:
        self.parts |= self.later


class Around:
    """Holders, and which of the parts they say that they have."""

    def __init__(self, holders: Sequence[Held], seconds: float = 0.05) -> None:
        self.holders, self.seconds = holders, seconds
        self.claimed: dict[Key, int] = {}
        self.missed: list[Key] = []

    def sources(self, keys: Sequence[Key]) -> list[tuple[Source, list[int]]]:
        numbers = [[n for n, key in enumerate(keys) if self.claimed.get(key) == h] for h in range(len(self.holders))]
        return [(holder, some) for holder, some in zip(self.holders, numbers, strict=True) if some]

    def miss(self, keys: Sequence[Key]) -> None:
        self.missed += keys


def spread(scan: PartedScan, holders: int, **lists: Any) -> tuple[SpreadScan, Around]:
    """The same parts, all but the last held by the holders in turn."""
    around = Around([Held() for _ in range(holders)])
    held: list[Part] = []
    for number, (part, dead) in enumerate(zip(scan.parts[:-1], scan.dead[:-1], strict=True)):
        held.append(HeldPart(part.scan, f"s{number}", part.scan.distinct))
        key = Key(f"s{number}", digest_of(dead))
        around.holders[number % holders].parts[key] = (part, dead)
        around.claimed[key] = number % holders
    return SpreadScan([*held, scan.parts[-1]], scan.dead, around, **lists), around


@given(
    N=st.integers(0, 200),
    shape=st.sampled_from(SHAPES),
    count=st.sampled_from([1, 2, 5]),
    holders=st.sampled_from([1, 2, 3]),
    top=st.integers(0, 220),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    method=st.sampled_from(["auto", "exact", "fast"]),
    threads=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_the_answers_are_those_of_one_process(
    N: int, shape: tuple[int, int], count: int, holders: int, top: int, share: float, method: Method,
    threads: int | None, seed: int,
) -> None:  # fmt: skip
    codes, tables = data(N, *shape, 3, seed, 2 if seed % 2 else 256)
    rng = np.random.default_rng(seed)
    scan = parted(codes, rng.permutation(3 * N)[:N], shape[1], count, seed, rng.random(N) < share)
    ours, _ = spread(scan, holders)
    rows = scan.live_rows()
    rows = rows[rng.random(len(rows)) < rng.choice([0.01, 0.5, 1])]
    with small():
        same(ours.search(tables, top, method, threads), scan.search(tables, top, method, threads))
        same(ours.search_rows(tables, rows, top, threads), scan.search_rows(tables, rows, top, threads))
    assert (len(ours), ours.distinct) == (len(scan), scan.distinct)


def missing_one(is_filtered: bool) -> tuple[SpreadScan, Around, np.ndarray, Any, np.ndarray | None]:
    """A gallery of five parts, four of them held by two holders; and the right answers without those of the second."""
    codes, tables = data(600, 8, 16, 4, 5)
    rng = np.random.default_rng(5)
    ids, is_dead = rng.permutation(2000)[:600], rng.random(600) < 0.1
    scan = parted(codes, ids, 16, 5, 5, is_dead)
    ours, around = spread(scan, 2)
    rows = scan.live_rows()
    rows = rows[::3] if is_filtered else rows
    lost = np.isin(np.searchsorted(scan.starts, rows, "right") - 1, [1, 3])
    expected = plain(scan.codes_of(rows[~lost]), scan.ids_of(rows[~lost]), 16, tables, 30)
    return ours, around, tables, (expected, int(lost.sum())), rows if is_filtered else None


@pytest.mark.parametrize("is_filtered", [False, True])
@pytest.mark.parametrize("how", ["hang", "fail", "down"])
def test_a_holder_that_does_not_answer_is_missing_and_everything_else_is_there(how: str, is_filtered: bool) -> None:
    ours, around, tables, (expected, missing), rows = missing_one(is_filtered)
    around.holders[1].does = how
    if how == "down":
        around.claimed = {key: number for key, number in around.claimed.items() if number == 0}
    search = ours.begin(is_partial=True)
    found = search.search(tables, 30) if rows is None else search.search_rows(tables, rows, 30)
    same((found[0], np.array([ours.ids_of(some) for some in found[1]])), expected)
    assert search.missing == missing > 0
    with pytest.raises(ShardsMissingError, match=rf"^{missing} pictures could not be searched in time; try again"):
        _ = ours.search(tables, 30) if rows is None else ours.search_rows(tables, rows, 30)
    assert around.holders[0].notes[0] == ""
    reason = {"hang": "no answer within 0.05 s", "fail": "ConnectionError: lost"}
    assert [key.name for key in around.missed] == (["s1", "s3"] * 2 if how == "down" else [])
    assert around.holders[1].notes == [reason[how]] * 2 if how in reason else not around.holders[1].asked


def test_what_was_missing_once_stays_missing_in_the_same_request() -> None:
    ours, around, tables, (expected, missing), _ = missing_one(False)
    around.holders[1].does = "fail"
    search = ours.begin(is_partial=True)
    search.search(tables, 5)
    around.holders[1].does = "answer"
    found = search.search(tables, 30)
    same((found[0], np.array([ours.ids_of(some) for some in found[1]])), expected)
    assert search.missing == missing
    again = ours.begin(is_partial=True)
    again.search(tables, 5)
    assert again.missing == 0


def test_a_part_in_which_no_row_is_wanted_is_not_missed() -> None:
    ours, around, tables, _, _ = missing_one(False)
    around.holders[1].does = "fail"
    in_first = ours.live_rows()[:20]
    assert len(ours.search_rows(tables, in_first, 30)[1][0]) == 20
    assert not around.holders[1].asked


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_holder_that_lost_a_part_is_looked_at_again_once(comes_back: bool) -> None:
    ours, around, tables, (_, missing), _ = missing_one(False)
    lossy = around.holders[1]
    lossy.later = dict(lossy.parts) if comes_back else {}
    lossy.parts = {}
    search = ours.begin(is_partial=True)
    search.search(tables, 30)
    assert len(lossy.asked) == 2
    assert search.missing == (0 if comes_back else missing)
    assert lossy.notes == ["it has not all shards ready"] * (1 if comes_back else 2) + [""] * comes_back


def lists_of(N: int) -> tuple[PartedScan, PartedScan, np.ndarray]:
    """Parts with lists, and the same parts with few dead rows in the nearest lists only."""
    codes, _ = data(N, 8, 16, 1, 3)
    rng = np.random.default_rng(3)
    tables = rng.random((6, 8, 16)).astype(np.float32)
    scan = parted(codes, rng.permutation(3 * N)[:N], 16, 4, 3, rng.random(N) < 0.05)
    coarse = Coarse.train(scan.sample(N, rng), 8, 64)
    for part in scan.parts[:-1]:
        part.scan.add_lists(coarse, *part.scan.order(coarse))
    return scan, scan.with_coarse(coarse), tables


@pytest.mark.parametrize(("nprobe", "top"), [(1, 2000), (1, 5), (4, 40), (64, 10)])
def test_lists_are_read_as_in_one_process(nprobe: int, top: int) -> None:
    scan, expected, tables = lists_of(3000)
    ours, around = spread(scan, 2, coarse=expected.coarse, lists="lists")
    same(ours.search(tables, top, "ivf", nprobe=nprobe), expected.search(tables, top, "ivf", nprobe=nprobe))
    rounds = len(around.holders[0].asked)
    assert rounds == len(around.holders[1].asked)
    assert (rounds > 1) == (top == 2000)  # the nearest list has not so many
    around.holders[0].does = "fail"
    search = ours.begin(is_partial=True)
    found = search.search(tables, top, "ivf", nprobe=nprobe)
    assert found[1].shape == (6, min(top, len(ours) - search.missing))
    owners = np.searchsorted(ours.starts, found[1], "right") - 1
    assert not np.isin(owners, [0, 2]).any()


def test_a_holder_with_other_lists_searches_all_codes() -> None:
    scan, expected, tables = lists_of(500)
    ours, _ = spread(scan, 1, coarse=expected.coarse, lists="others")
    same(ours.search(tables, 20, "ivf", nprobe=1), scan.search(tables, 20))


def test_wrong_options_and_tables_are_refused_before_anyone_is_asked() -> None:
    ours, around, tables, _, _ = missing_one(False)
    with pytest.raises(ConfigError, match="unknown `method`"):
        ours.search(tables, 5, "best")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="not finite"):
        ours.search(np.full_like(tables, np.nan), 5)
    assert not any(holder.asked for holder in around.holders)


@given(size=st.integers(1, 300), share=st.sampled_from([0.0, 0.01, 0.5, 1.0]), seed=st.integers(0, 99))
def test_packed_rows_come_back(size: int, share: float, seed: int) -> None:
    rows = np.flatnonzero(np.random.default_rng(seed).random(size) < share)
    packed = pack_rows(rows, size)
    np.testing.assert_array_equal(unpack_rows(packed), rows)
    assert packed.nbytes <= max(size / 8 + 1, 1)
