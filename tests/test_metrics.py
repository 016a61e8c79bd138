from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from reference import metrics as slow
from spq.errors import DataError
from spq.evaluation import metrics
from spq.evaluation.metrics import (
    average_precision_at_k,
    mean_average_precision,
    precision_at,
    precision_recall,
    query_chunks,
    relevance,
    relevant_in_gallery,
)

GOLDEN = np.load(Path(__file__).parent / "golden" / "spq_reference.npz")


def ranked(distances: np.ndarray, top: int) -> np.ndarray:
    return np.argsort(distances, axis=1, kind="stable")[:, :top]


@pytest.mark.parametrize("position", range(3))
def test_map_equals_the_authors_code(position: int) -> None:
    rows = ranked(GOLDEN["distances"], int(GOLDEN["map_at"][position]))
    single = relevance(GOLDEN["query_onehot"].argmax(1), GOLDEN["gallery_onehot"].argmax(1), rows)
    assert mean_average_precision(single) == pytest.approx(float(GOLDEN["map_single"][position]), abs=1e-5)
    multi = relevance(GOLDEN["query_multilabel"].astype(bool), GOLDEN["gallery_multilabel"].astype(bool), rows)
    assert mean_average_precision(multi) == pytest.approx(float(GOLDEN["map_multi"][position]), abs=1e-5)


@given(seed=st.integers(0, 10**6), N=st.integers(1, 40), top=st.integers(1, 50), multi=st.booleans())
@settings(max_examples=60, deadline=None)
def test_map_equals_the_slow_transcription_also_with_ties(seed: int, N: int, top: int, multi: bool) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.integers(0, 5, (4, N)).astype(float)
    if multi:
        query, gallery = rng.random((4, 3)) < 0.4, rng.random((N, 3)) < 0.4
        sets = [[set(np.flatnonzero(row).tolist()) for row in part] for part in (query, gallery)]
    else:
        query, gallery = rng.integers(0, 3, 4), rng.integers(0, 3, N)
        sets = [[{int(label)} for label in part] for part in (query, gallery)]
    ours = mean_average_precision(relevance(query, gallery, ranked(distances, top)))
    assert ours == pytest.approx(slow.mean_average_precision(distances.tolist(), *sets, top), abs=1e-12)


def test_over_the_whole_gallery_ap_equals_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.permutation(100) + 0.0, rng.random(100) < 0.3
    relevant = truth[np.argsort(-scores)][None]
    assert average_precision_at_k(relevant)[0] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize("top", [1, 5, 30, 60])
def test_ap_inside_the_top_equals_that_of_torchmetrics(top: int) -> None:
    from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_precision

    rng = np.random.default_rng(top)
    for _ in range(20):
        scores, truth = rng.permutation(60) + 1.0, rng.random(60) < 0.1  # above 0: it takes the rest as not relevant
        relevant = truth[np.argsort(-scores)][None, :top]
        pair = torch.from_numpy(scores), torch.from_numpy(truth)
        assert average_precision_at_k(relevant)[0] == pytest.approx(
            float(retrieval_average_precision(*pair, top)), abs=1e-6
        )
        assert precision_at(relevant, [top])[top] == pytest.approx(float(retrieval_precision(*pair, top)), abs=1e-6)


def test_precision_and_recall_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.permutation(80) + 0.0, rng.random(80) < 0.3
    ours = precision_recall(truth[np.argsort(-scores)][None], truth.sum()[None])
    reference = precision_recall_curve(truth, scores)
    for value, other in zip(ours, reference, strict=False):
        np.testing.assert_allclose(value, other[-2::-1][:80], atol=1e-12)  # reference starts at the last rank


@pytest.mark.parametrize(
    ("hits", "expected"),
    [([0, 0, 0], 0.0), ([1, 1, 1], 1.0), ([0, 1, 0], 0.5), ([0, 0, 1], 1 / 3), ([1, 0, 1], 5 / 6), ([], 0.0)],
)
def test_average_precision_of_hand_made_rankings(hits: list[int], expected: float) -> None:
    assert average_precision_at_k(np.array([hits], bool))[0] == pytest.approx(expected)


def test_hits_beyond_the_top_do_not_count_in_the_denominator() -> None:
    relevant = np.array([[True, False, False, True, True]])
    assert average_precision_at_k(relevant[:, :2])[0] == 1.0  # others divide by all three and would say 1/3


def test_precision_and_recall_at_every_rank() -> None:
    relevant = np.array([[True, False, True], [False, False, False], [False, True, False]])
    precision, recall = precision_recall(relevant, np.array([4, 0, 1]))  # the second query has nothing to find
    np.testing.assert_allclose(precision, [0.5, 0.5, 0.5])
    np.testing.assert_allclose(recall, [0.125, 0.625, 0.75])
    assert precision_at(relevant, [1, 3, 9]) == {1: 1 / 3, 3: pytest.approx(1 / 3)}


def test_the_curve_is_zero_if_no_query_has_relevant_images() -> None:
    precision, recall = precision_recall(np.zeros((2, 5), bool), np.zeros(2, np.int64))
    assert not precision.any()
    assert not recall.any()


@pytest.mark.parametrize(
    ("k", "points", "ranks"), [(1000, 5, [1, 6, 32, 178, 1000]), (9, 3, [1, 3, 9]), (4, 4, [1, 2, 3, 4])]
)
def test_a_long_curve_is_drawn_at_ranks_that_are_spaced_evenly_on_a_log_scale(
    k: int, points: int, ranks: list[int]
) -> None:
    relevant = np.arange(1, k + 1)[None] % 2 == 0  # every second one
    precision, recall = precision_recall(relevant, np.array([k]), points)
    np.testing.assert_allclose(precision, [(rank // 2) / rank for rank in ranks])
    np.testing.assert_allclose(recall, [(rank // 2) / k for rank in ranks])


def test_a_curve_has_all_ranks_up_to_200_and_no_more_points_of_longer_rankings() -> None:
    assert len(precision_recall(np.ones((1, 200), bool), np.array([200]))[0]) == 200
    assert len(precision_recall(np.ones((1, 201), bool), np.array([201]))[0]) < 200


def test_one_relevant_image_is_enough_for_a_query_to_count() -> None:
    precision, recall = precision_recall(np.array([[True], [False]]), np.array([1, 1]))
    assert (precision.tolist(), recall.tolist()) == ([0.5], [0.5])


def test_without_queries_the_map_is_zero_and_nothing_is_relevant() -> None:
    assert mean_average_precision(np.zeros((0, 5), bool)) == 0
    for query, gallery in ((np.empty(0, int), np.arange(3)), (np.empty((0, 2), bool), np.ones((3, 2), bool))):
        counted = relevant_in_gallery(query, gallery)
        assert (counted.shape, counted.dtype) == ((0,), np.int64)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query, gallery = rng.random((9, 3)) < 0.3, rng.random((50, 3)) < 0.3
    relevant, total = rng.random((9, 50)) < 0.2, relevant_in_gallery(query, gallery)
    whole = mean_average_precision(relevant), precision_recall(relevant, total)
    monkeypatch.setattr(metrics, "CELLS", 120)
    np.testing.assert_array_equal(relevant_in_gallery(query, gallery), total)
    np.testing.assert_allclose(precision_recall(relevant, total), whole[1], atol=1e-12)
    assert mean_average_precision(relevant) == pytest.approx(whole[0], abs=1e-12)


def test_a_chunk_holds_a_bounded_number_of_entries_but_at_least_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CELLS", 6)
    sizes = {k: [part.stop - part.start for part in query_chunks(8, k)] for k in (0, 1, 3, 6, 7)}
    assert sizes == {0: [6, 2], 1: [6, 2], 3: [2] * 4, 6: [1] * 8, 7: [1] * 8}
    assert list(query_chunks(0, 3)) == []


def test_relevant_in_the_gallery_is_counted_for_both_kinds_of_labels() -> None:
    np.testing.assert_array_equal(relevant_in_gallery(np.array([0, 2, 5]), np.array([0, 0, 2, 1])), [2, 1, 0])
    query, gallery = np.array([[1, 1], [0, 0]], bool), np.array([[1, 0], [0, 1], [0, 0]], bool)
    np.testing.assert_array_equal(relevant_in_gallery(query, gallery), [2, 0])


def test_relevance_is_a_yes_or_no_for_both_kinds_of_labels() -> None:
    rows = np.array([[1, 0]])
    one = relevance(np.array([7]), np.array([7, 8]), rows)
    several = relevance(np.array([[True, False]]), np.array([[True, True], [False, True]]), rows)
    for relevant in (one, several):
        assert (relevant.dtype, relevant.tolist()) == (bool, [[False, True]])


@pytest.mark.parametrize(("query", "gallery"), [((3,), (4, 2)), ((3, 2), (4,)), ((3, 2), (4, 3))])
def test_single_and_multi_label_or_other_numbers_of_labels_do_not_compare(
    query: tuple[int, ...], gallery: tuple[int, ...]
) -> None:
    message = f"labels of shapes {query} and {gallery} do not compare; use the same classes"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        relevance(np.zeros(query, bool), np.zeros(gallery, bool), np.zeros((3, 2), int))
