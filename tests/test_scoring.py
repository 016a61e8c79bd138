from __future__ import annotations

import numpy as np
import pytest

from reference import adc
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import DataError
from spq.evaluation.evaluate import evaluate
from spq.evaluation.scoring import code_search, held_out_protocol, relevant_answers
from spq.model.model import Model


def test_held_out_queries_and_the_gallery_share_no_picture_and_are_the_whole_set() -> None:
    images = open_images("sample:train")
    protocol = held_out_protocol(images, queries=100, seed=3)
    assert (len(protocol.queries), len(protocol.gallery)) == (100, len(images) - 100)
    assert sorted([*protocol.queries.ids, *protocol.gallery.ids]) == sorted(images.ids)
    assert protocol.training is protocol.gallery
    assert protocol.queries.ids == held_out_protocol(images, queries=100, seed=3).queries.ids
    assert protocol.queries.ids != held_out_protocol(images, queries=100, seed=4).queries.ids


def test_at_most_a_tenth_is_held_out_and_a_set_without_labels_or_too_small_is_refused() -> None:
    images = subset(open_images("sample:train"), range(50))
    assert len(held_out_protocol(images).queries) == 5
    with pytest.raises(DataError, match="too few to hold some out"):
        held_out_protocol(subset(images, range(9)))
    with pytest.raises(DataError, match="bare has no labels"):
        held_out_protocol(ImageSet("bare", images.ids))


def test_a_held_out_protocol_can_be_evaluated(tiny_model: Model) -> None:
    protocol = held_out_protocol(subset(open_images("sample:train"), range(300)), map_at=50)
    report = evaluate(tiny_model, protocol)
    assert (report.queries, report.gallery, report.map_at) == (30, 270, 50)
    assert report.protocol == "sample:train, 30 held out"


def test_codes_are_searched_as_the_slow_transcription_does(tiny_model: Model) -> None:
    images = open_images("sample:test")
    x = tiny_model.embed([images.image(position) for position in range(40)])
    codes = tiny_model.encode_descriptors(x)
    rows = code_search(tiny_model, codes, "sqeuclidean")(x[:3], 10)
    truth = adc.search(tiny_model.tables(x[:3], "sqeuclidean"), codes, 10)
    assert rows.tolist() == [[row for _, row in answers] for answers in truth]


def test_an_answer_is_relevant_if_it_has_the_label_of_its_query() -> None:
    found = np.array([[0, 1, 2], [2, 1, 0]])
    relevant = relevant_answers(
        lambda q, top: found[:, :top], np.zeros((2, 4)), np.array([5, 6]), np.array([5, 6, 6]), 2
    )
    assert relevant.tolist() == [[True, False], [True, True]]


def test_only_labelled_pictures_are_held_out() -> None:
    images = subset(open_images("sample:train"), range(50))
    images.labels = np.where(np.arange(50) < 30, images.labels, -1)
    protocol = held_out_protocol(images)
    assert (len(protocol.queries), len(protocol.gallery)) == (3, 27)
    images.labels = np.full(50, -1)
    with pytest.raises(DataError, match="has no labels"):
        held_out_protocol(images)
