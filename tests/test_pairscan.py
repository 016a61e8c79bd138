from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import adc
from spq.pq import pairscan
from spq.pq.distinct import Distinct
from spq.pq.pairscan import PairScan, nearest
from spq.pq.sums import add_up, lookup, pack, rank
from spq.pq.tables import distance_tables


def data(N: int, M: int, K: int, Q: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, K, (N, M)).astype(np.uint8), rng.random((Q, M, K), np.float32)


def products(M: int, Q: int, seed: int, d: int = 4) -> np.ndarray:
    """Tables of `dot`: of both signs."""
    rng = np.random.default_rng(seed)
    x, codebooks = rng.normal(size=(Q, M * d)), rng.normal(size=(M, 256, d))
    return distance_tables(x.astype(np.float32), codebooks.astype(np.float32), "dot")


@given(
    N=st.integers(1, 90),
    M=st.integers(1, 9),
    K=st.sampled_from([2, 4, 8, 32, 64, 128, 256]),
    top=st.integers(1, 95),
    used=st.sampled_from([1, 2, 256]),
    least=st.sampled_from([0, -4]),
    more=st.sampled_from([1, 32]),
    seed=st.integers(0, 999),
)
@settings(max_examples=100, deadline=None)
def test_answers_equal_the_slow_transcription_also_with_ties_and_equal_codes(
    N: int, M: int, K: int, top: int, used: int, least: int, more: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, min(K, used), (N, M)).astype(np.uint8)
    tables = rng.integers(least, 4, (2, M, K)).astype(np.float32)
    gallery, top = Distinct(pack(codes, K)), min(top, N)
    finder = PairScan(gallery.packed)
    with mock.patch.object(pairscan, "MORE", more):
        for table, expected in zip(tables, adc.search(tables, codes, top), strict=True):
            distances, rows = nearest(finder, gallery, table, top)
            assert list(zip(distances.tolist(), rows.tolist(), strict=True)) == expected


@pytest.mark.parametrize("M", [2, 3, 4, 7, 8, 16])
@pytest.mark.parametrize("duplicates", [1, 4])
@pytest.mark.parametrize("kind", ["plain", "squared", "dot"])
def test_one_pass_of_faiss_proves_the_answers(M: int, duplicates: int, kind: str) -> None:
    codes, tables = data(12_000 // duplicates, M, 256, 10, 1)
    tables = {"plain": tables, "squared": tables**2, "dot": products(M, 10, 1)}[kind]
    codes = np.repeat(codes, duplicates, 0)
    gallery, expected = Distinct(pack(codes, 256)), rank(tables, codes, 20)
    finder = PairScan(gallery.packed)
    with mock.patch.object(pairscan, "add_up", side_effect=add_up) as summed:
        for query, table in enumerate(tables):
            distances, rows = nearest(finder, gallery, table, 20)
            np.testing.assert_array_equal(rows, expected[1][query])
            np.testing.assert_array_equal(distances, expected[0][query])
    assert {len(call.args[1]) for call in summed.call_args_list} == {20 + pairscan.MORE}  # not all codes are summed


@pytest.mark.parametrize("K", [4, 32, 256])
@pytest.mark.parametrize("M", [4, 7, 8, 32])
def test_the_error_of_sums_is_below_the_bound_but_not_far_below(M: int, K: int) -> None:
    codes, tables = data(3000, M, K, 10, 2)
    packed = pack(codes, K)
    finder, shares = PairScan(packed), []
    for table in tables - np.float32(0.5):
        sums, found = finder.find(lookup(table), len(packed))
        error = np.abs(table[np.arange(M), codes[found]].sum(1, dtype=np.float64) - sums).max()
        shares.append(error / pairscan._error_bound(lookup(table)))
    assert 0.01 < max(shares) < 0.5  # a half for each of two sums


def test_a_table_replaces_the_one_before() -> None:
    codes, tables = data(2000, 4, 256, 1, 3)
    gallery = Distinct(pack(codes, 256))
    finder = PairScan(gallery.packed)
    for table in (tables[0], 2 - tables[0]):
        distances, rows = nearest(finder, gallery, table, 10)
        expected = rank(table[None], codes, 10)
        np.testing.assert_array_equal(rows, expected[1][0])
        np.testing.assert_array_equal(distances, expected[0][0])


@pytest.mark.parametrize("M", [7, 8])
@pytest.mark.parametrize("table", ["zeros", "constant", "tiny", "huge"])
def test_tables_that_faiss_cannot_rank_are_answered(M: int, table: str) -> None:
    codes, tables = data(3000, M, 256, 1, 4)
    tables = {
        "zeros": 0 * tables,
        "constant": 0 * tables + 3,
        "tiny": (tables.astype(np.float64) * 1e-43).astype(np.float32),
        "huge": tables * np.float32(1e37),
    }[table]
    gallery, expected = Distinct(pack(codes, 256)), rank(tables, codes, 10)
    distances, rows = nearest(PairScan(gallery.packed), gallery, tables[0], 10)
    np.testing.assert_array_equal(rows, expected[1][0])
    np.testing.assert_array_equal(distances, expected[0][0])


def test_codes_are_not_copied() -> None:
    packed = data(1000, 8, 256, 1, 0)[0]
    finder = PairScan(packed)
    finder.find(np.ones((8, 256), np.float32), 5)
    assert np.shares_memory(finder._packed, packed)
    assert finder.nbytes == 4 * 65_536 * 4  # four tables for pairs of bytes
