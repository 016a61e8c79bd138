from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.errors import ConfigError, StoreError
from spq.pq import fastscan, pairscan, parts
from spq.pq.coarse import Coarse
from spq.pq.parts import Part, PartedScan
from spq.pq.scan import Method, Scan
from spq.pq.sums import Ranking, add_up, lookup, pack
from spq.pq.ties import tie_keys

SHAPES = [(16, 16), (5, 16), (3, 4), (4, 256), (3, 32)]  # (M, K)


def same(ours: Ranking, truth: Ranking) -> None:
    np.testing.assert_array_equal(ours[1], truth[1])
    np.testing.assert_array_equal(ours[0], truth[0])


def data(N: int, M: int, K: int, Q: int, seed: int, used: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and tables of small whole numbers: many rows are equally far."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, min(K, used), (N, M)).astype(np.uint8)
    return codes, rng.integers(0, 4, (Q, M, K)).astype(np.float32)


def parted(
    codes: np.ndarray, ids: np.ndarray, K: int, count: int, seed: int = 0, is_dead: np.ndarray | None = None
) -> PartedScan:
    """The codes in `count` parts by chance, each with its ids ascending."""
    of = np.random.default_rng(seed).integers(0, count, len(ids))
    made, dead = [], []
    for number in range(count):
        members = np.flatnonzero(of == number)
        members = members[ids[members].argsort()]
        scan = Scan.of_packed(pack(codes[members], K), codes.shape[1], K, ids=ids[members])
        made.append(Part(scan))
        dead.append(np.flatnonzero(is_dead[members]) if is_dead is not None else np.empty(0, np.int64))
    return PartedScan(made, dead)


def plain(codes: np.ndarray, ids: np.ndarray, K: int, tables: np.ndarray, top: int) -> Ranking:
    """Distances and ids by plain sums of all codes, sorted by distance and the hash of the id."""
    distances, found = [], []
    for table in tables:
        d = add_up(lookup(table), pack(codes, K)) if len(codes) else np.empty(0, np.float32)
        order = np.lexsort((tie_keys(ids), d))[:top]
        distances.append(d[order])
        found.append(ids[order])
    return np.array(distances), np.array(found)


@contextmanager
def small() -> Iterator[None]:
    """Candidates and threads also for a few codes."""
    with (
        mock.patch.multiple(fastscan, FEWEST=1, MOST_CANDIDATES=1),
        mock.patch.object(pairscan, "MORE", 2),
        mock.patch.object(parts, "SPREAD_FROM", 0),
    ):
        yield


@given(
    N=st.integers(0, 300),
    shape=st.sampled_from(SHAPES),
    count=st.sampled_from([1, 2, 4, 16]),
    top=st.integers(0, 320),
    used=st.sampled_from([1, 2, 256]),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    method=st.sampled_from(["auto", "exact", "fast"]),
    threads=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 999),
)
@settings(max_examples=150, deadline=None)
def test_parts_are_searched_as_one_gallery_without_the_dead_rows(
    N: int,
    shape: tuple[int, int],
    count: int,
    top: int,
    used: int,
    share: float,
    method: Method,
    threads: int,
    seed: int,
) -> None:
    M, K = shape
    codes, tables = data(N, M, K, 3, seed, used)
    rng = np.random.default_rng(seed)
    ids, is_dead = rng.permutation(3 * N)[:N], rng.random(N) < share
    scan = parted(codes, ids, K, count, seed, is_dead)
    with small():
        distances, rows = scan.search(tables, top, method, threads)
        one = scan.search(tables[:1], top, method, threads)
    live = ~is_dead
    expected = plain(codes[live], ids[live], K, tables, top)
    same((distances, np.array([scan.ids_of(found) for found in rows])), expected)
    same(one, (distances[:1], rows[:1]))
    assert len(scan) == live.sum()
    np.testing.assert_array_equal(np.sort(scan.ids_of(scan.live_rows())), np.sort(ids[live]))


@pytest.mark.parametrize(("M", "K", "Q"), [(16, 16, 300), (4, 16, 50), (8, 256, 50)])
def test_many_queries_have_the_same_answers_in_1_4_and_16_parts(M: int, K: int, Q: int) -> None:
    codes, tables = data(16_000, M, K, Q, 1)
    tables[Q // 2 :] = np.random.default_rng(2).random(tables[Q // 2 :].shape)
    rng = np.random.default_rng(3)
    ids, is_dead = rng.permutation(200_000)[: len(codes)], rng.random(len(codes)) < 0.003
    expected = None
    for count in (1, 4, 16):
        scan = parted(codes, ids, K, count, 4, is_dead)
        with mock.patch.object(parts, "SPREAD_FROM", 0):
            distances, rows = scan.search(tables, 20, "fast", threads=2)
        answers = distances, np.array([scan.ids_of(found) for found in rows])
        if expected is not None:
            same(answers, expected)
        expected = answers
    some = slice(Q // 2 - 20, Q // 2 + 20)
    same((expected[0][some], expected[1][some]), plain(codes[~is_dead], ids[~is_dead], K, tables[some], 20))


@pytest.mark.parametrize("ids", [range(5, 305), range(7, 907, 3), np.arange(300, dtype=np.uint32) * 2])
def test_ids_rows_and_codes_belong_together(ids: range | np.ndarray) -> None:
    codes, tables = data(400, 5, 16, 2, 0)
    dead = [np.array([3, 299]), np.array([0])]
    first = Part(Scan.of_packed(pack(codes[:300], 16), 5, 16, ids=ids))
    second = Part(Scan.of_packed(pack(codes[300:], 16), 5, 16, ids=np.arange(1000, 1100)))
    scan = PartedScan([first, second], dead)
    assert (len(scan), scan.rows) == (397, 400)
    all_ids = [*np.asarray(ids).tolist(), *range(1000, 1100)]
    np.testing.assert_array_equal(scan.ids_of(np.arange(400)), all_ids)
    np.testing.assert_array_equal(scan.codes, codes)
    np.testing.assert_array_equal(scan.codes_of(np.array([399, 0, 300])), codes[[399, 0, 300]])
    np.testing.assert_array_equal(scan.code(301), codes[301])
    for row, item in enumerate(all_ids):
        assert scan.row_of(item) == (None if row in (3, 299, 300) else row)
    for absent in (-(10**9), -1, 999, 1100, 10**9):
        assert scan.row_of(absent) is None
    if all_ids[1] > all_ids[0] + 1:
        assert scan.row_of(all_ids[0] + 1) is None
    asked = np.array([1099, all_ids[3], all_ids[8], all_ids[1], 999])
    np.testing.assert_array_equal(scan.rows_of(asked), [1, 8, 399])
    among = np.array([1, 8, 150, 399])
    distances, rows = scan.search_rows(tables, among, 3)
    same((distances, scan.ids_of(rows.ravel()).reshape(rows.shape)),
         plain(codes[among], np.array(all_ids)[among], 16, tables, 3))  # fmt: skip


def test_an_id_may_be_dead_in_one_part_and_live_in_another() -> None:
    codes, tables = data(4, 5, 16, 1, 0)
    old = Part(Scan.of_packed(pack(codes[:3], 16), 5, 16))
    new = Part(Scan.of_packed(pack(codes[3:], 16), 5, 16, ids=np.array([1])))
    scan = PartedScan([old, new], [np.array([1]), np.empty(0, np.int64)])
    assert scan.row_of(1) == 3
    assert scan.rows_of(np.arange(3)).tolist() == [0, 2, 3]
    assert sorted(scan.ids_of(scan.search(tables, 9)[1][0]).tolist()) == [0, 1, 2]


def test_a_part_keeps_its_structures_in_a_new_scan() -> None:
    codes, tables = data(30_000, 16, 16, 1, 0)
    large = Part(Scan.of_packed(pack(codes, 16), 16, 16, distinct=30_000))
    empty = Part(Scan.of_packed(np.empty((0, 8), np.uint8), 16, 16))
    first = PartedScan([large, empty])
    best = first.search(tables, 1)[1][0]
    with mock.patch.object(fastscan.FastScan, "__init__", side_effect=AssertionError("made again")):
        second = PartedScan([large, empty], [best, np.empty(0, np.int64)])
        assert best[0] not in second.search(tables, 20, "fast")[1]


def test_ties_between_parts_are_in_one_order() -> None:
    codes = np.zeros((40, 4), np.uint8)
    ids = np.random.default_rng(0).permutation(100)[:40]
    for count in (1, 3, 8):
        scan = parted(codes, ids, 16, count)
        found = scan.search(np.zeros((1, 4, 16), np.float32), 12)[1][0]
        np.testing.assert_array_equal(scan.ids_of(found), ids[tie_keys(ids).argsort()][:12])


def clustered(N: int, M: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes near to 50 others, and tables that are small at 9 further such codes."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 16, (50, M))
    codes = centres[rng.integers(0, 50, N + 9)]
    codes = np.where(rng.random(codes.shape) < 0.3, rng.integers(0, 16, codes.shape), codes).astype(np.uint8)
    tables = rng.integers(1, 4, (9, M, 16)).astype(np.float32)
    np.put_along_axis(tables, codes[N:, :, None].astype(np.int64), 0, 2)
    return codes[:N], tables


def hamming(codes: np.ndarray) -> np.ndarray:
    """Tables of the number of different sub-codes."""
    return (np.arange(16) != codes[:, :, None]).astype(np.float32)


@pytest.mark.parametrize("nprobe", [1, 4, 40])
def test_lists_give_the_same_answers_in_1_4_and_16_parts(nprobe: int) -> None:
    M, N = 12, 6000
    codes, tables = clustered(N, M, 0)
    rng = np.random.default_rng(1)
    ids, is_dead = rng.permutation(3 * N)[:N], rng.random(N) < 0.05
    quantizer = Coarse.train(pack(codes[:3000], 16), M, 60, hamming, threads=1)
    list_of = quantizer.assign(pack(codes, 16))
    for count in (1, 4, 16):
        parted_scan = parted(codes, ids, 16, count, 4, is_dead)
        for part in parted_scan.parts[: max(1, count - 1)]:
            part.scan.add_lists(quantizer, *part.scan.order(quantizer))
        whole = parted_scan.parts[-1].ids if count > 1 else np.empty(0)  # the last part has no lists
        scan = PartedScan(parted_scan.parts, parted_scan.dead, quantizer)
        with small():
            rankings = [scan.search(tables, 30, "ivf", threads, nprobe) for threads in (1, 3)]
        same(*rankings)
        for query, table in enumerate(tables):
            among, count = np.empty(0), nprobe
            while len(among) < 30:
                read = quantizer.nearest(table, min(count, len(quantizer)))[1][0]
                among = np.flatnonzero((np.isin(list_of, read) | np.isin(ids, whole)) & ~is_dead)
                count *= 2
            distances, found = rankings[0]
            same((distances[query][None], scan.ids_of(found[query])[None]),
                 plain(codes[among], ids[among], 16, table[None], 30))  # fmt: skip


def test_a_recall_target_reads_as_many_lists_as_the_codes_themselves_need() -> None:
    codes, tables = clustered(4000, 12, 0)
    quantizer = Coarse.train(pack(codes, 16), 12, 60, hamming, threads=1)
    made = parted(codes, np.arange(4000), 16, 3)
    for part in made.parts:
        part.scan.add_lists(quantizer, *part.scan.order(quantizer))
    scan = PartedScan(made.parts, coarse=quantizer, tables_of=hamming)
    with mock.patch.object(parts, "IVF_FROM", 0):
        found = scan.search(tables, 10, recall_target=0.8)
        assert scan.coarse is not None
        assert 1 < scan.coarse.nprobe_for(0.8) < len(quantizer)
        same(found, scan.search(tables, 10, "ivf", nprobe=scan.coarse.nprobe_for(0.8)))
        restored = PartedScan(made.parts, coarse=Coarse.from_arrays(scan.coarse.to_arrays()))
        same(found, restored.search(tables, 10, recall_target=0.8))
    same(scan.search(tables, 10, nprobe=1), scan.search(tables, 10))  # a small gallery is searched exactly
    with pytest.raises(ConfigError, match="`recall_target` needs"):
        PartedScan(made.parts, coarse=quantizer).search(tables, 10, "ivf", recall_target=0.8)


def test_packed_codes_may_be_a_memory_map_and_are_not_sorted_in_vain(tmp_path: Path) -> None:
    codes, tables = data(30_000, 16, 16, 5, 0)
    np.save(tmp_path / "codes.npy", pack(codes, 16))
    packed = np.load(tmp_path / "codes.npy", mmap_mode="r")
    with mock.patch("spq.pq.distinct._grouped", side_effect=AssertionError("sorted")):
        scan = Scan.of_packed(packed, 16, 16, distinct=30_000)
    same(scan.search(tables, 50, "fast"), Scan(codes, 16).search(tables, 50, "exact"))
    assert scan.distinct == 30_000
    assert scan.nbytes < 9 * 30_000  # FAISS's copy, but not the map
    np.testing.assert_array_equal(scan.codes_of(np.array([29_999, 0, 77])), codes[[29_999, 0, 77]])
    np.testing.assert_array_equal(scan.code(12_345), codes[12_345])
    repeated = Scan.of_packed(np.repeat(packed[:100], 5, 0), 16, 16, distinct=100)
    assert repeated.distinct == 100


def test_packed_codes_of_another_width_are_refused() -> None:
    with pytest.raises(StoreError, match=r"packed codes of shape \(3, 4\) do not fit 16 sub-codes below 16"):
        Scan.of_packed(np.zeros((3, 4), np.uint8), 16, 16)
