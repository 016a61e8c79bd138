from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from spq.evaluation.metrics import average_precision_at_k, precision_recall
from spq.evaluation.scorer import Scorer


def scored(relevant: np.ndarray, total: np.ndarray, at: int, gallery: int, step: int) -> Scorer:
    scorer = Scorer(at, relevant.shape[1], gallery)
    for start in range(0, len(relevant), step):
        scorer.add(relevant[start : start + step], total[start : start + step])
    return scorer


def test_scores_and_curve_do_not_depend_on_how_many_queries_come_at_a_time() -> None:
    rng = np.random.default_rng(0)
    relevant = rng.random((23, 300)) < 0.1
    relevant[5] = False
    one, other = (scored(relevant, relevant.sum(1), 50, 300, step) for step in (23, 4))
    assert one.scores().keys() == other.scores().keys()
    for name, values in one.scores().items():
        np.testing.assert_array_equal(values, other.scores()[name])
    np.testing.assert_allclose(one.curve()["recall"], other.curve()["recall"], atol=1e-12)
    np.testing.assert_allclose(one.scores()["map"], average_precision_at_k(relevant[:, :50]))
    np.testing.assert_allclose(
        (one.curve()["precision"], one.curve()["recall"]), precision_recall(relevant, relevant.sum(1)), atol=1e-12
    )


def test_the_curve_ends_at_the_whole_gallery_whatever_n_is() -> None:
    relevant = np.random.default_rng(1).random((9, 1000)) < 0.2
    curve = scored(relevant, relevant.sum(1), 10, 1000, 9).curve()
    assert (curve["ranks"][0], curve["ranks"][-1], len(curve["ranks"]) <= 200) == (1, 1000, True)
    assert curve["recall"][-1] == pytest.approx(1)
    assert curve["precision"][-1] == pytest.approx(relevant.mean())


def test_a_query_without_relevant_pictures_scores_zero_and_is_not_in_the_curve() -> None:
    relevant = np.array([[True, False, True, False], [False] * 4])
    scorer = scored(relevant, np.array([2, 0]), 2, 4, 2)
    scores = {name: values.tolist() for name, values in scorer.scores().items()}
    assert scores == {
        "map": [1, 0], "map_all": [pytest.approx(5 / 6), 0], "map_r": [0.5, 0], "relevant": [2, 0],
        "precision@1": [1, 0], "recall@1": [0.5, 0], "precision@2": [0.5, 0], "recall@2": [0.5, 0],
    }  # fmt: skip
    assert scorer.curve() == {"ranks": [1, 2, 3, 4], "precision": [1, 0.5, 2 / 3, 0.5], "recall": [0.5, 0.5, 1, 1]}


def test_short_rankings_have_no_map_over_all_and_map_r_only_if_they_reach_it() -> None:
    relevant = np.array([[True, False, True]])
    for total, expected in ((2, 0.5), (3, pytest.approx(5 / 9)), (4, None)):
        scores = scored(relevant, np.array([total]), 2, 10, 1).scores()
        assert "map_all" not in scores
        assert (scores["map_r"][0] if "map_r" in scores else None) == expected


def test_the_memory_does_not_grow_with_the_queries() -> None:
    relevant = np.random.default_rng(0).random((10, 2000)) < 0.1
    total, scorer = relevant.sum(1), Scorer(100, 2000, 2000)
    scorer.add(relevant, total)
    tracemalloc.start()
    for _ in range(50):
        scorer.add(relevant, total)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 500 * 2000 / 4  # bytes; a yes or no for each answer would take four times as much
