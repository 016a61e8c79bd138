from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.index.merge import combined
from spq.index.request import SearchRequest
from spq.pq.tables import distance_tables


def summed(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return table[np.arange(table.shape[0]), codes].sum(1)


@settings(max_examples=60, deadline=None)
@given(P=st.integers(1, 4), J=st.integers(0, 3), seed=st.integers(0, 999), weighted=st.booleans())
def test_the_distance_is_that_of_the_formula(P: int, J: int, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    tables = rng.normal(size=(P + J, 5, 16)).astype(np.float32)  # of both signs, as for `dot`
    codes = rng.integers(0, 16, (40, 5))
    w = rng.uniform(0.1, 3, P + J) if weighted else np.array([1.0] * P + [0.3] * J)
    D = np.array([summed(table, codes) for table in tables])
    expected = [sum(w[i] * D[i, x] for i in range(P)) / sum(w[:P]) for x in range(40)]
    for x in range(40):
        toward = expected[x]
        for j in range(J):
            expected[x] += w[P + j] * (toward - D[P + j, x]) / J
    request = SearchRequest([list(range(P))], negative=list(range(J)), weights=w if weighted else None)
    found = summed(combined(tables[:P], tables[P:], request.weights_of(range(P))), codes)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_positive_alone_keeps_its_table_to_the_bit() -> None:
    table = np.random.default_rng(0).random((1, 8, 16)).astype(np.float32)
    for weight in (1, 0.3):
        np.testing.assert_array_equal(combined(table, table[:0], np.array([weight])), table[0])


@pytest.mark.parametrize("v", [0.3, 1, 2])
def test_squared_distances_rank_by_a_point_moved_away_from_the_negative(v: float) -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    codes = rng.integers(0, 16, (200, 4))
    points = codebooks[np.arange(4), codes].reshape(200, 12)
    p, n = rng.normal(size=(2, 12)).astype(np.float32)
    tables = distance_tables(np.stack([p, n]), codebooks, "sqeuclidean")
    found = summed(combined(tables[:1], tables[1:], np.array([1, v])), codes)
    expected = ((points - (p + v * (p - n))) ** 2).sum(1)
    np.testing.assert_allclose(found - found.min(), expected - expected.min(), rtol=1e-3, atol=1e-3)


def test_unsquared_distances_leave_the_positive_in_front_of_everything() -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    for code in rng.integers(0, 16, (20, 4)):
        p = codebooks[np.arange(4), code].reshape(12)
        tables = distance_tables(np.stack([p, rng.normal(size=12).astype(np.float32)]), codebooks, "l2")
        np.testing.assert_array_equal(combined(tables[:1], tables[1:], np.array([1, 0.3])).argmin(1), code)


@pytest.mark.parametrize("v", [0.3, 1, 2])
def test_inner_products_are_those_with_a_point_moved_away_from_the_negative(v: float) -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    codes = rng.integers(0, 16, (200, 4))
    points = codebooks[np.arange(4), codes].reshape(200, 12)
    p, n = rng.normal(size=(2, 12)).astype(np.float32)
    tables = distance_tables(np.stack([p, n]), codebooks, "dot")
    found = summed(combined(tables[:1], tables[1:], np.array([1, v])), codes)
    np.testing.assert_allclose(found, -points @ (p + v * (p - n)), rtol=1e-3, atol=1e-4)
