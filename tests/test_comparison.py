from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from spq.data.decode import load_pixels
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.evaluation import metrics
from spq.evaluation.baselines import descriptor_baselines, float_cosine
from spq.evaluation.collect import Collected
from spq.evaluation.compare import compare
from spq.evaluation.comparison import add_baselines, better_method
from spq.evaluation.evaluate import evaluate
from spq.evaluation.report import Report
from spq.model.model import Model


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    gallery = subset(open_images("sample:train"), range(1000))
    return Protocol("small", subset(open_images("sample:test"), range(100)), gallery, gallery, 100)


def test_baselines_have_the_expected_order(tiny_model: Model, protocol: Protocol) -> None:
    rows = evaluate(tiny_model, protocol, baselines=True).rows
    assert abs(rows["random codes"] - 0.1) < 0.06  # ten classes
    assert rows["raw-pixel PQ"] > 2 * rows["random codes"]
    for name in descriptor_baselines(tiny_model.config.quantizer.bits):
        assert rows["random codes"] + 0.1 < rows[f"{name}, same descriptors"] < rows["float cosine, no code"] + 0.1


def test_each_baseline_has_a_report_to_compare_with(tiny_model: Model, protocol: Protocol) -> None:
    report = evaluate(tiny_model, protocol, baselines=True)
    assert {name: rival.map for name, rival in report.baselines.items()} == {
        name: value for name, value in report.rows.items() if not name.startswith("SPQ")
    }
    comparison = compare({"spq": report, **report.baselines}, resamples=500)
    found = {difference.name: difference for difference in comparison.differences}
    chance = found["random codes"]
    assert (chance.difference, chance.p < 0.01) == (pytest.approx(report.rows["random codes"] - report.map), True)
    assert comparison.methods[0].others.keys() >= {"MAP@R", "P@1"}
    dim = tiny_model.config.quantizer.dim
    assert {rival.bits for rival in report.baselines.values()} == {32, 32 * dim}
    assert "baselines" not in report.to_dict()


def test_notes_name_baselines_with_other_bits(tiny_model: Model) -> None:
    report = Report("p", 10, 0.5, 5, 2, 20, "l2", 0.0, "hash", 0)
    rng = np.random.default_rng(0)
    queries, gallery = (
        Collected(rng.normal(size=(n, 4)).astype(np.float32), np.zeros(n, int), 0, rng.integers(0, 256, (n, 27)))
        for n in (100, 1000)
    )
    add_baselines(report, tiny_model, queries, gallery, 0, lambda _: None)
    assert "baselines have 12 bits" in report.table()
    assert "ITQ has 8 of its 12 bits from random directions: 4 dimensions" in report.table()


def test_a_classic_method_that_beats_the_trained_codes_is_named_in_one_line(
    tiny_model: Model, protocol: Protocol
) -> None:
    poor = Model(copy.deepcopy(tiny_model.network), tiny_model.config)
    poor.network.quantizer.codebooks.data.normal_(generator=torch.Generator().manual_seed(0))
    report = evaluate(poor, protocol, baselines=True)
    rivals = {name: report.rows[f"{name}, same descriptors"] for name in descriptor_baselines(8)}
    best = max(rivals, key=rivals.__getitem__)
    notes = [note for note in report.notes if "better than the trained codes" in note]
    assert rivals[best] > report.map
    assert notes
    assert notes[0].startswith(
        f"{best}, same descriptors: {rivals[best]:.4f} is better than the trained codes' {report.map:.4f};"
    )
    assert f"note: {notes[0]}" in report.table()
    assert "refit the codebooks" in notes[0]
    assert "refit" not in better_method(report, is_refitted=True)[0]
    report.map = 1.0
    assert better_method(report, is_refitted=False) == []


def test_a_frozen_backbones_own_features_are_measured_too(tiny_model: Model, protocol: Protocol) -> None:
    frozen = replace(tiny_model.config, train=replace(tiny_model.config.train, frozen=True))
    report = evaluate(Model(tiny_model.network, frozen), protocol, baselines=True)
    plain = evaluate(tiny_model, protocol, baselines=True)
    assert report.map == pytest.approx(plain.map, abs=1e-3)
    assert {name for name in report.rows if "backbone" in name} == {
        f"{name}, backbone's features" for name in ("PQ", "OPQ", "PQ-256", "OPQ-256", "ITQ", "LSH", "float cosine")
    }
    x, q = (tiny_model.features(load_pixels(images, 28).array) for images in (protocol.gallery, protocol.queries))
    rows = float_cosine(x)(q, 100)
    expected = metrics.mean_average_precision(metrics.relevance(protocol.queries.labels, protocol.gallery.labels, rows))
    assert report.rows["float cosine, backbone's features"] == pytest.approx(expected, abs=1e-3)


def test_multi_label_sets_are_evaluated_with_baselines(tiny_model: Model, protocol: Protocol) -> None:
    queries, gallery = (subset(images, range(80)) for images in (protocol.queries, protocol.gallery))
    for images in (queries, gallery):  # garment for the upper body, shoe or bag, and a rare third label
        images.labels = np.stack([np.isin(images.labels, (0, 2, 4, 6)), images.labels > 6, images.labels == 3], 1)
    report = evaluate(tiny_model, Protocol("multi", queries, gallery, gallery, 20), baselines=True)
    assert report.rows["random codes"] < report.map <= 1
