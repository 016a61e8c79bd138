from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.pq.distinct import Distinct
from spq.pq.ties import tie_keys


def gallery(N: int, P: int, values: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, values, (N, P)).astype(np.uint8)


@given(
    N=st.integers(0, 120),
    P=st.integers(1, 17),
    values=st.sampled_from([1, 2, 3, 256]),
    top=st.integers(0, 130),
    levels=st.integers(1, 5),
    has_ids=st.sampled_from([None, True, False]),
    seed=st.integers(0, 999),
)
@settings(max_examples=200, deadline=None)
def test_the_nearest_rows_follow_from_distances_of_distinct_codes(
    N: int, P: int, values: int, top: int, levels: int, has_ids: bool | None, seed: int
) -> None:
    packed = gallery(N, P, values, seed)
    ids = None if has_ids is None else range(7, 7 + 3 * N, 3) if not has_ids else np.arange(N, dtype=np.uint32) * 5
    codes = Distinct(packed, ids=ids)
    d = np.random.default_rng(seed).integers(0, levels, len(codes)).astype(np.float32)
    by_row = d[codes.numbers()]
    keys = np.arange(N) if ids is None else tie_keys(np.asarray(ids))
    expected = np.lexsort((keys, by_row))[:top]
    distances, rows = codes.nearest(d, top)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(distances, by_row[expected])

    some = np.flatnonzero(np.arange(len(codes)) % 2)
    there = np.flatnonzero(np.isin(codes.numbers(), some))
    expected = there[np.lexsort((keys[there], by_row[there]))[:top]]
    np.testing.assert_array_equal(codes.nearest(d[some], top, some)[1], expected)


@given(N=st.integers(1, 120), P=st.integers(1, 17), values=st.sampled_from([1, 2, 256]), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_each_row_knows_its_code(N: int, P: int, values: int, seed: int) -> None:
    packed = gallery(N, P, values, seed)
    codes = Distinct(packed)
    np.testing.assert_array_equal(codes.packed[codes.numbers()], packed)
    assert [codes.number(row) for row in range(N)] == codes.numbers().tolist()


@pytest.mark.parametrize(("repeated", "kept"), [(0, 100), (10, 100), (50, 50), (99, 1)])
def test_codes_are_grouped_if_that_saves_memory(repeated: int, kept: int) -> None:
    packed = np.arange(100, dtype=np.uint8)[:, None]
    packed[: repeated + 1] = 0
    assert len(Distinct(packed)) == kept
