from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import adc
from spq.pq import sums
from spq.pq.sums import add_up, add_up_all, lookup, pack, places, smallest, unpack

SHAPES = st.tuples(st.integers(1, 9), st.sampled_from([2, 4, 8, 16, 32, 64, 256]))


@given(shape=SHAPES, N=st.integers(0, 20), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_packed_codes_come_back(shape: tuple[int, int], N: int, seed: int) -> None:
    M, K = shape
    codes = np.random.default_rng(seed).integers(0, K, (N, M)).astype(np.uint8)
    packed = pack(codes, K)
    assert packed.shape == (N, -(-M // 2) if K <= 16 else M)
    np.testing.assert_array_equal(unpack(packed, M, K), codes)


@given(shape=SHAPES, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_sums_equal_the_transcription_and_do_not_depend_on_how_many_are_made(shape: tuple[int, int], seed: int) -> None:
    M, K = shape
    rng = np.random.default_rng(seed)
    codes, table = rng.integers(0, K, (50, M)).astype(np.uint8), rng.random((M, K), np.float32)
    packed, entries = pack(codes, K), lookup(table)
    d = add_up(entries, packed)
    expected = {row: distance for distance, row in adc.search(table[None], codes, 50)[0]}
    np.testing.assert_allclose(d, [expected[row] for row in range(50)], rtol=1e-6)
    many = np.tile(packed, (sums.BLOCK // 20, 1))  # more than a block
    np.testing.assert_array_equal(add_up(entries, many), np.tile(d, sums.BLOCK // 20))
    some = np.tile(packed, (sums.FEW // 20, 1))
    np.testing.assert_array_equal(add_up(entries, some), np.tile(d, sums.FEW // 20))


@pytest.mark.parametrize(
    ("M", "K"), [(1, 2), (4, 2), (5, 2), (3, 4), (4, 8), (1, 16), (2, 16), (3, 16), (2, 32), (1, 256)]
)
def test_the_sums_of_all_codes_are_at_the_positions_of_places(M: int, K: int) -> None:
    table = np.random.default_rng(0).random((M, K), np.float32)
    codes = np.array(list(itertools.product(range(K), repeat=M)), np.uint8)
    d = add_up_all(lookup(table), M, K)
    assert d.shape == (K**M,)
    np.testing.assert_array_equal(d[places(pack(codes, K), K)], add_up(lookup(table), pack(codes, K)))


@given(n=st.sampled_from([1, 5, 3000]), top=st.integers(0, 3001), levels=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_smallest_are_sorted_and_ties_go_to_the_lower_position(n: int, top: int, levels: int, seed: int) -> None:
    d = np.random.default_rng(seed).integers(0, levels, n).astype(np.float32)
    np.testing.assert_array_equal(smallest(d, top), np.argsort(d, kind="stable")[:top])
