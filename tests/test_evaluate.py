from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.data.protocols import Protocol, custom_protocol
from spq.data.sources import ImageSet, open_images, subset
from spq.errors import DataError
from spq.evaluation import baselines
from spq.evaluation.evaluate import evaluate
from spq.model.artifact import Model


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    gallery = subset(open_images("sample:train"), range(1000))
    return Protocol("small", subset(open_images("sample:test"), range(100)), gallery, gallery, 100)


def test_a_report_holds_what_machines_read(tiny_model: Model, protocol: Protocol, tmp_path: Path) -> None:
    report = evaluate(tiny_model, protocol)
    content = json.loads(json.dumps(report.to_dict()))
    assert {"protocol", "bits", "map", "map_at", "queries", "gallery", "distance", "seconds"} <= set(content)
    assert (content["bits"], content["map_at"], content["queries"], content["gallery"]) == (32, 100, 100, 1000)
    assert 0.2 < report.map < 1  # descriptors of an untrained network still beat chance (0.1)
    for path in report.save_plots(tmp_path / "plots"):
        with Image.open(path) as image:
            assert image.width > 300


def test_baselines_stand_in_the_order_that_they_should(tiny_model: Model, protocol: Protocol) -> None:
    rows = evaluate(tiny_model, protocol, baselines=True).rows
    assert abs(rows["random codes"] - 0.1) < 0.06  # ten classes
    assert rows["raw-pixel PQ"] > 2 * rows["random codes"]
    for name in ("PQ", "OPQ", "ITQ", "LSH"):
        assert rows["random codes"] + 0.1 < rows[f"{name}, same descriptors"] < rows["float cosine, no code"] + 0.1


def test_the_distance_can_be_chosen(tiny_model: Model, protocol: Protocol) -> None:
    assert evaluate(tiny_model, protocol, distance="sqeuclidean").distance == "sqeuclidean"
    assert evaluate(tiny_model, protocol, at=10**6).map_at == 1000


def test_a_set_without_labels_is_refused(tiny_model: Model, protocol: Protocol) -> None:
    bare = ImageSet("bare", protocol.queries.ids)
    with pytest.raises(DataError, match="bare has no labels"):
        evaluate(tiny_model, Protocol("p", bare, protocol.gallery, protocol.gallery, 10))


def test_a_custom_protocol_matches_classes_by_name(photos: Path, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    for name in ("sneaker", "bag"):
        (queries / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(queries / name / "q.png")
    protocol = custom_protocol(photos, queries)
    names = [protocol.gallery.class_names[int(label)] for label in protocol.queries.labels]
    assert names == ["bag", "sneaker"]
    with pytest.raises(DataError, match="gallery and queries are the same"):
        custom_protocol(photos, photos)


@pytest.mark.parametrize("method", list(baselines.DESCRIPTOR_BASELINES.values()))
def test_a_baseline_finds_clusters_that_are_there(method: object) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 24)) * 5
    labels = rng.integers(0, 5, 300)
    x = (centres[labels] + rng.normal(size=(300, 24))).astype(np.float32)
    rows = method(x[50:], x[:50], 16, 20, np.random.default_rng(1))
    assert (labels[50:][rows] == labels[:50, None]).mean() > 0.9


def test_opq_quantizes_rotated_data_better_than_pq() -> None:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    x = ((rng.integers(0, 2, (2000, 16)) * np.geomspace(10, 0.1, 16)) @ rotation).astype(np.float32)
    truth = np.argsort(((x[:50, None] - x[None, 50:]) ** 2).sum(2), axis=1)[:, :100]

    def recall(method: object) -> float:
        rows = method(x[50:], x[:50], 16, 100, np.random.default_rng(1))
        return float(np.mean([np.isin(row, best).mean() for row, best in zip(rows, truth, strict=True)]))

    assert recall(baselines.optimized_product_quantization) > recall(baselines.product_quantization)
