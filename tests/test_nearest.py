from __future__ import annotations

import numpy as np
import pytest

from spq.dupes.nearest import EXACT_BELOW, Nearest


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Vectors in clusters, as pictures are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, 16))
    return (centres[rng.integers(50, size=count)] + 0.5 * rng.normal(size=(count, 16))).astype(np.float32)


def test_few_vectors_are_compared_with_all() -> None:
    values = vectors(300)
    distances, rows = Nearest(values).search(values[:20], 5)
    exact = np.square(values[:20, None] - values[None]).sum(2)
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_allclose(distances, np.sort(exact, 1)[:, :5], atol=1e-3)


def test_among_many_vectors_a_copy_is_found_and_few_of_them_are_compared() -> None:
    values = vectors(2 * EXACT_BELOW)
    copies = values[:500] + 0.02 * np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    search = Nearest(values)
    calls: list[tuple[int, int]] = []
    _, rows = search.search(copies, 3, lambda *done: calls.append(done))
    assert (rows[:, 0] == np.arange(500)).mean() > 0.99
    assert calls == [(0, 500)]
    assert search.index.nprobe * 20 < search.index.nlist


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_vectors_and_equal_ones(count: int) -> None:
    distances, rows = Nearest(np.ones((count, 8), np.float32)).search(np.ones((1, 8), np.float32), 9)
    assert distances.tolist() == [[0.0] * count]
    assert sorted(rows[0].tolist()) == list(range(count))


def test_many_equal_vectors_do_not_break_the_lists() -> None:
    values = np.zeros((EXACT_BELOW + 1, 8), np.float32)
    distances, rows = Nearest(values).search(values[:3], 4)
    assert (distances[rows >= 0] == 0).all()
