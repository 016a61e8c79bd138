from __future__ import annotations

import itertools

import numpy as np
import pytest

from spq.evaluation import significance
from spq.evaluation.significance import bootstrap_interval, holm, paired_p_value


def test_an_interval_covers_the_true_mean_in_95_of_100_samples() -> None:
    rng, hits = np.random.default_rng(0), 0
    for seed in range(300):
        low, high = bootstrap_interval(rng.beta(0.5, 2, 60), resamples=1000, seed=seed)
        hits += low <= 0.2 <= high
    assert 0.91 < hits / 300 < 0.98


def test_equal_values_have_an_interval_of_no_length() -> None:
    for value in (0.0, 0.3):
        assert bootstrap_interval(np.full(10, value)) == (pytest.approx(value), pytest.approx(value))


def test_the_same_seed_gives_the_same_interval_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    one = bootstrap_interval(values, seed=3), paired_p_value(values - 0.45, seed=3)
    assert one == (bootstrap_interval(values, seed=3), paired_p_value(values - 0.45, seed=3))
    assert one != (bootstrap_interval(values, seed=4), paired_p_value(values - 0.45, seed=4))
    monkeypatch.setattr(significance, "CELLS", 70_000)
    np.testing.assert_allclose(one[0], bootstrap_interval(values, seed=3), atol=0.01)


def test_more_confidence_is_a_longer_interval() -> None:
    values = np.random.default_rng(0).random(50)
    (low, high), (lower, higher) = (bootstrap_interval(values, confidence) for confidence in (0.8, 0.99))
    assert lower < low < values.mean() < high < higher


def test_the_p_value_is_that_of_all_signs() -> None:
    differences = np.array([0.3, -0.1, 0.2, 0.25, 0.05, 0.1, -0.05, 0.3])
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert paired_p_value(differences, resamples=20_000) == pytest.approx(exact, abs=0.01)
    assert paired_p_value(-differences, resamples=20_000) == pytest.approx(exact, abs=0.01)


def test_p_values_of_equal_methods_are_uniform() -> None:
    rng = np.random.default_rng(1)
    found = np.array([paired_p_value(rng.normal(size=30), resamples=500, seed=seed) for seed in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(found <= level) == pytest.approx(level, abs=0.05)


def test_holm_never_adjusts_below_the_value_and_keeps_the_order() -> None:
    values = [0.2, 0.001, 0.04, 0.04]
    adjusted = holm(values)
    assert adjusted == pytest.approx([0.2, 0.004, 0.12, 0.12])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
