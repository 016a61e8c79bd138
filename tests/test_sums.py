from __future__ import annotations

import itertools
import re
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reference import adc
from spq.errors import StoreError
from spq.pq import sums
from spq.pq.sums import (
    add_up,
    add_up_all,
    check_tables,
    for_each,
    in_order,
    lookup,
    pack,
    places,
    rank,
    smallest,
    unpack,
)

SHAPES = st.tuples(st.integers(1, 9), st.sampled_from([2, 4, 8, 16, 17, 32, 64, 256]))


@given(shape=SHAPES, N=st.integers(0, 20), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_packed_codes_come_back(shape: tuple[int, int], N: int, seed: int) -> None:
    M, K = shape
    codes = np.random.default_rng(seed).integers(0, K, (N, M)).astype(np.uint8)
    packed = pack(codes, K)
    assert packed.shape == (N, -(-M // 2) if K <= 16 else M)
    unpacked = unpack(packed, M, K)
    assert packed.dtype == unpacked.dtype == np.uint8
    np.testing.assert_array_equal(unpacked, codes)


@given(shape=SHAPES, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_sums_equal_the_transcription_and_do_not_depend_on_how_many_are_made(shape: tuple[int, int], seed: int) -> None:
    M, K = shape
    rng = np.random.default_rng(seed)
    codes, table = rng.integers(0, K, (50, M)).astype(np.uint8), rng.random((M, K), np.float32)
    packed, entries = pack(codes, K), lookup(table)
    d = add_up(entries, packed)
    assert entries.dtype == d.dtype == np.float32
    expected = {row: distance for distance, row in adc.search(table[None], codes, 50)[0]}
    np.testing.assert_allclose(d, [expected[row] for row in range(50)], rtol=1e-6)
    many = np.tile(packed, (sums.BLOCK // 20, 1))  # more than a block
    assert add_up(entries, many).dtype == np.float32
    np.testing.assert_array_equal(add_up(entries, many), np.tile(d, sums.BLOCK // 20))
    some = np.tile(packed, (sums.FEW // 20, 1))
    np.testing.assert_array_equal(add_up(entries, some), np.tile(d, sums.FEW // 20))


@pytest.mark.parametrize(("M", "K"), [(7, 16), (32, 16), (16, 256), (31, 64)])
def test_a_row_has_the_same_sum_alone_as_among_others(M: int, K: int) -> None:
    rng = np.random.default_rng(M)
    codes, table = rng.integers(0, K, (3000, M)).astype(np.uint8), rng.normal(size=(M, K)).astype(np.float32)
    packed, entries = pack(codes, K), lookup(table)
    d = add_up(entries, packed)
    for rows in (1, 2, 3, sums.FEW, sums.FEW + 1):
        np.testing.assert_array_equal(add_up(entries, packed[:rows]), d[:rows])
    np.testing.assert_array_equal(np.concatenate([add_up(entries, row[None]) for row in packed[:200]]), d[:200])


@pytest.mark.parametrize(
    ("M", "K"), [(1, 2), (4, 2), (5, 2), (3, 4), (4, 8), (1, 16), (2, 16), (3, 16), (2, 17), (2, 32), (1, 256)]
)
def test_the_sums_of_all_codes_are_at_the_positions_of_places(M: int, K: int) -> None:
    table = np.random.default_rng(0).random((M, K), np.float32)
    codes = np.array(list(itertools.product(range(K), repeat=M)), np.uint8)
    d = add_up_all(lookup(table), M, K)
    assert d.shape == (K**M,)
    np.testing.assert_array_equal(d[places(pack(codes, K), K)], add_up(lookup(table), pack(codes, K)))


@example(n=3000, top=0, levels=3, seed=0)
@example(n=3000, top=2999, levels=3, seed=0)
@example(n=3000, top=1, levels=9, seed=0)
@given(n=st.sampled_from([1, 5, 3000]), top=st.integers(0, 3001), levels=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_smallest_are_sorted_and_ties_go_to_the_lower_position(n: int, top: int, levels: int, seed: int) -> None:
    d = np.random.default_rng(seed).integers(0, levels, n).astype(np.float32)
    np.testing.assert_array_equal(smallest(d, top), np.argsort(d, kind="stable")[:top])
    keys = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(smallest(d, top, lambda places: keys[places]), np.lexsort((keys, d))[:top])


def test_any_number_of_the_smallest_of_different_values() -> None:
    d = np.random.default_rng(0).permutation(1500).astype(np.float32)
    for top in range(1502):
        np.testing.assert_array_equal(d[smallest(d, top)], np.arange(min(top, 1500)))


def test_tables_may_be_as_large_as_their_sums_are_finite() -> None:
    limit = np.finfo(np.float32).max / np.float32(4)
    tables = np.full((1, 4, 16), np.nextafter(limit, np.float32(0)), np.float32)
    check_tables(tables, 4, 16)
    check_tables(-tables, 4, 16)
    assert np.isfinite(rank(tables, np.zeros((1, 4), np.uint8), 1)[0]).all()
    for sign in (1, -1):
        tables[0, 3, 15] = sign * limit
        with pytest.raises(
            StoreError, match=r"^the distances of a query are not finite; its descriptor holds NaN, inf"
        ):
            check_tables(tables, 4, 16)


@pytest.mark.parametrize("shape", [(2, 3, 16), (2, 4, 8), (4, 16), (1, 2, 4, 16)])
def test_tables_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    message = f"tables must have shape (queries, 4, 16) for these codes, got {shape}; use the same model"
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        check_tables(np.zeros(shape, np.float32), 4, 16)


@pytest.mark.parametrize("threads", [1, 3, None])
@pytest.mark.parametrize(("M", "K"), [(3, 16), (5, 4), (2, 64)])
@pytest.mark.parametrize("queries", [1, 2, 7])
def test_the_exact_ranking_equals_the_slow_transcription(M: int, K: int, queries: int, threads: int | None) -> None:
    rng = np.random.default_rng(K)
    codes, tables = rng.integers(0, K, (30, M)).astype(np.uint8), rng.integers(0, 9, (queries, M, K)).astype(np.float32)
    for top in (1, 12, 40):
        distances, rows = rank(tables, codes, top, threads)
        for query, answer in enumerate(adc.search(tables, codes, top)):
            assert list(zip(distances[query].tolist(), rows[query].tolist(), strict=True)) == answer


def test_a_ranking_by_tables_that_do_not_fit_is_refused() -> None:
    codes, tables = np.zeros((9, 4), np.uint8), np.zeros((1, 4, 16), np.float32)
    with pytest.raises(StoreError, match="use the same model"):
        rank(tables[:, :3], codes, 2)
    tables[0, 1, 5] = np.nan
    with pytest.raises(StoreError, match="not finite"):
        rank(tables, codes, 2)


def test_no_query_has_no_answers() -> None:
    distances, rows = rank(np.empty((0, 4, 16), np.float32), np.zeros((9, 4), np.uint8), 3)
    assert distances.shape == rows.shape == (0, 3)
    assert (distances.dtype, rows.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("queries", [2, 3, 7])
def test_queries_are_answered_at_the_same_time_in_as_many_threads_as_are_given(queries: int) -> None:
    threads = min(queries, 3)
    together, used, calls = threading.Barrier(threads), set(), []

    def one(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(float(table[0, 0]))
        if len(used) < threads:
            used.add(threading.get_ident())
            together.wait(timeout=60)  # an error if fewer threads than that come
        return table[0, :1], np.array([7])

    tables = np.arange(queries, dtype=np.float32)[:, None, None]
    distances, rows = for_each(one, tables, 1, threads)
    assert len(used) == threads
    assert sorted(calls) == list(range(queries))  # each once
    assert (distances.dtype, rows.dtype) == (np.float32, np.int64)
    assert (distances[:, 0].tolist(), rows[:, 0].tolist()) == (list(range(queries)), [7] * queries)


@pytest.mark.parametrize(("queries", "threads"), [(3, 1), (1, 3), (1, None)])
def test_no_thread_is_started_for_one_thread_or_one_query(
    queries: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(threading.Thread, "start")
    tables = np.zeros((queries, 2, 16), np.float32)
    assert rank(tables, np.zeros((5, 2), np.uint8), 2, threads)[1].tolist() == [[0, 1]] * queries


@given(N=st.integers(0, 60), values=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_all_rows_are_in_order_of_value_and_then_of_position(N: int, values: int, seed: int) -> None:
    d = (np.random.default_rng(seed).integers(-values, values, N) / 7).astype(np.float32)
    d[::5] = -0.0  # is 0.0
    np.testing.assert_array_equal(in_order(d), d.argsort(kind="stable"))
    extreme = np.array([3e38, -3e38, 1e-45, -1e-45, 0], np.float32)
    np.testing.assert_array_equal(in_order(extreme), extreme.argsort(kind="stable"))
