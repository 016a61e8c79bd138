from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from spq.pq import fastscan
from spq.pq.distinct import Distinct
from spq.pq.fastscan import FastScan, nearest
from spq.pq.sums import pack, rank
from spq.pq.tables import distance_tables


def data(N: int, M: int, Q: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 16, (N, M)).astype(np.uint8), rng.random((Q, M, 16), np.float32)


def products(M: int, Q: int, seed: int, d: int = 8) -> np.ndarray:
    """Tables of `dot`: of both signs, without a smallest value that a perfect match has."""
    rng = np.random.default_rng(seed)
    x, codebooks = rng.normal(size=(Q, M * d)), rng.normal(size=(M, 16, d))
    return distance_tables(x.astype(np.float32), codebooks.astype(np.float32), "dot")


@pytest.mark.parametrize("M", [8, 16])
@pytest.mark.parametrize("duplicates", [1, 4])
@pytest.mark.parametrize("kind", ["plain", "squared", "dot"])
def test_answers_are_proven_without_summing_all_codes(duplicates: int, kind: str, M: int) -> None:
    codes, tables = data(50_000 // duplicates, M, 50, 1)
    tables = {"plain": tables, "squared": tables**2, "dot": products(M, 50, 1)}[kind]
    codes = np.repeat(codes, duplicates, 0)
    gallery, expected = Distinct(pack(codes, 16)), rank(tables, codes, 20)
    finder = FastScan(gallery.packed, M)
    with (
        mock.patch.object(FastScan, "all", side_effect=AssertionError("all codes are summed")),
        mock.patch.object(FastScan, "find", autospec=True, side_effect=FastScan.find) as find,
    ):
        for query, table in enumerate(tables):
            distances, rows = nearest(finder, gallery, table, 20)
            np.testing.assert_array_equal(rows, expected[1][query])
            np.testing.assert_array_equal(distances, expected[0][query])
    assert find.call_count < 1.2 * len(tables)


@pytest.mark.parametrize("kind", ["plain", "dot"])
def test_the_error_of_products_is_below_the_bound_but_not_far_below(kind: str) -> None:
    codes, tables = data(5000, 16, 20, 2)
    finder = FastScan(pack(codes, 16), 16)
    for table in products(16, 20, 2) if kind == "dot" else tables:
        proposed, found = finder.find(-table.reshape(1, -1), 5000)
        error = np.abs(table[np.arange(16), codes[found]].sum(1) + proposed).max()
        bound = fastscan._error_bound(table, float(np.ptp(table, axis=1).max()))
        assert 0.1 * bound < error < bound


def test_a_near_code_with_an_entry_far_above_its_codebooks_smallest_is_found() -> None:
    """The first round lowers just that entry."""
    codes, tables = data(20_000, 4, 1, 3)
    table = tables[0]
    table[0] = 10  # all entries of the first codebook but one, which no code has
    table[0, 0] = 0
    codes[:, 0] = np.maximum(codes[:, 0], 1)
    gallery = Distinct(pack(codes, 16))
    distances, rows = nearest(FastScan(gallery.packed, 4), gallery, table, 30)
    expected = rank(tables, codes, 30)
    np.testing.assert_array_equal(rows, expected[1][0])
    np.testing.assert_array_equal(distances, expected[0][0])


@pytest.mark.parametrize("table", [np.zeros((8, 16)), np.full((8, 16), 3.0), np.arange(128).reshape(8, 16) * 1e-44])
def test_tables_in_which_faiss_finds_nothing_are_answered(table: np.ndarray) -> None:
    codes, _ = data(5000, 8, 1, 0)
    gallery, tables = Distinct(pack(codes, 16)), table[None].astype(np.float32)
    distances, rows = nearest(FastScan(gallery.packed, 8), gallery, tables[0], 10)
    expected = rank(tables, codes, 10)
    np.testing.assert_array_equal(rows, expected[1][0])
    np.testing.assert_array_equal(distances, expected[0][0])


@pytest.mark.parametrize("M", [1, 2, 5, 8, 15, 16, 32])
def test_codes_are_read_back_from_the_blocks_of_faiss(M: int) -> None:
    packed = pack(data(1000, M, 1, M)[0], 16)
    rows = np.random.default_rng(0).permutation(1000)
    np.testing.assert_array_equal(FastScan(packed, M).packed_of(rows), packed[rows])
