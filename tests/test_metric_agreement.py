"""Metrics, intervals and p-values equal those of other libraries; `spq bench metric_agreement` takes 500 cases."""

from __future__ import annotations

import pytest

from metric_agreement import PEERS, curve_difference, interval_difference, metric_differences, p_difference

CASES = 40


@pytest.mark.parametrize("library", PEERS)
def test_every_metric_equals_that_of_another_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    for other in PEERS.keys() - {library}:
        monkeypatch.delitem(PEERS, other)
    found = [each for seed in range(CASES) for each in metric_differences(seed)]
    assert {metric for _, metric, _ in found} == {"map", "map_all", "map_r", "precision", "recall"}
    assert max(difference for _, _, difference in found) < 1e-6


def test_the_curve_over_the_whole_ranking_equals_that_of_scikit_learn() -> None:
    assert max(map(curve_difference, range(CASES))) < 1e-12


def test_intervals_equal_those_of_scipy() -> None:
    assert max(interval_difference(seed, 20_000) for seed in range(5)) < 0.02


def test_p_values_equal_those_of_scipy() -> None:
    assert max(p_difference(seed, 10_000) for seed in range(6)) < 0.02
