from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reference import metrics as slow
from spq.config import DISTANCES, Distance
from spq.data.decode import load_pixels, to_pixels
from spq.data.image_set import ImageSet, Subset, subset
from spq.data.open import open_images
from spq.data.protocols import Protocol, custom_protocol
from spq.errors import ConfigError, DataError, ImageError
from spq.evaluation import evaluate as module
from spq.evaluation import metrics
from spq.evaluation.baselines import descriptor_baselines, product_quantization
from spq.evaluation.evaluate import Report, _Collected, evaluate
from spq.model.model import Model


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
    assert (content["protocol"], content["model"], content["unreadable"]) == ("small", tiny_model.hash, 0)
    assert "mAP@100" in report.table()
    for path in report.save_plots(tmp_path / "plots"):
        with Image.open(path) as image:
            assert image.width > 300


def test_baselines_stand_in_the_order_that_they_should(tiny_model: Model, protocol: Protocol) -> None:
    rows = evaluate(tiny_model, protocol, baselines=True).rows
    assert abs(rows["random codes"] - 0.1) < 0.06  # ten classes
    assert rows["raw-pixel PQ"] > 2 * rows["random codes"]
    for name in descriptor_baselines(tiny_model.config.quantizer.bits):
        assert rows["random codes"] + 0.1 < rows[f"{name}, same descriptors"] < rows["float cosine, no code"] + 0.1


def test_the_distance_can_be_chosen(tiny_model: Model, protocol: Protocol) -> None:
    assert evaluate(tiny_model, protocol, distance="sqeuclidean").distance == "sqeuclidean"
    assert evaluate(tiny_model, protocol, at=10**6).map_at == 1000


def test_at_below_one_is_refused(tiny_model: Model, protocol: Protocol) -> None:
    with pytest.raises(ConfigError, match="mAP@0 looks at no answer"):
        evaluate(tiny_model, protocol, at=0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_report_equals_a_plain_sort_of_the_distances(
    tiny_model: Model, protocol: Protocol, distance: Distance
) -> None:
    gallery = subset(protocol.gallery, module.order_of_ties(1000))
    codes, tables = (
        getattr(tiny_model, name)([images.image(i) for i in range(len(images))])
        for name, images in (("encode", gallery), ("embed", protocol.queries))
    )
    tables = tiny_model.tables(tables, distance)
    distances = sum(tables[:, m][:, codes[:, m]] for m in range(codes.shape[1]))
    rows = np.argsort(distances, axis=1, kind="stable")[:, :100]
    hits = gallery.labels[rows] == protocol.queries.labels[:, None]
    expected = slow.mean_average_precision(
        distances.tolist(),
        [{int(x)} for x in protocol.queries.labels],
        [{int(x)} for x in gallery.labels],
        100,
    )
    report = evaluate(tiny_model, protocol, distance=distance)
    assert report.distance == distance
    # the model's inner products are nearly all alike, so that sums in another order swap some of the nearest
    assert report.map == pytest.approx(expected, abs=1e-5 if distance == "dot" else 1e-6)
    assert report.precision == {1: hits[:, 0].mean(), 10: hits[:, :10].mean(), 100: pytest.approx(hits.mean())}
    assert report.pr_curve["precision"][-1] == pytest.approx(report.precision[100])


def test_small_batches_and_chunks_change_nothing(
    tiny_model: Model, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result() -> dict[str, object]:
        return evaluate(tiny_model, protocol, at=1000, baselines=True).to_dict() | {"seconds": 0}

    whole = result()
    monkeypatch.setattr(module, "BATCH_BYTES", 500 * 3 * 28**2)
    monkeypatch.setattr(metrics, "CELLS", 33_000)
    chunked = result()
    # products of matrices round by the shape of the batch, which may swap two near neighbours
    assert chunked["rows"] == pytest.approx(whole["rows"], abs=1e-4)
    assert chunked["pr_curve"]["recall"] == pytest.approx(whole["pr_curve"]["recall"], abs=1e-4)
    assert chunked["pr_curve"]["recall"][-1] == pytest.approx(1)  # the whole gallery was ranked


def test_random_codes_of_a_model_are_near_chance(
    tiny_model: Model, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(tiny_model, "encode_descriptors", lambda x: rng.integers(0, 16, (len(x), 8)).astype(np.uint8))
    assert abs(evaluate(tiny_model, protocol).map - 0.12) < 0.04  # AP inside the top N lies a bit above 1/10


def test_the_raw_pixels_of_the_baseline_come_from_the_one_decoding(
    tiny_model: Model, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    honest = Subset.image
    monkeypatch.setattr(Subset, "image", lambda *a: (looked_at.append(a[1]), honest(*a))[1])
    rows = evaluate(tiny_model, protocol, baselines=True).rows
    assert len(looked_at) == 1100
    gallery = subset(protocol.gallery, module.order_of_ties(1000))
    parts = [load_pixels(images, 28).array.reshape(len(images), -1) for images in (gallery, protocol.queries)]
    found = product_quantization(parts[0], 32, np.random.default_rng(0))(parts[1], 100)
    relevant = metrics.relevance(protocol.queries.labels, gallery.labels, found)
    assert rows["raw-pixel PQ"] == metrics.mean_average_precision(relevant)


def test_raw_pixels_are_the_models_own_at_no_more_than_32() -> None:
    pixels = load_pixels(open_images("sample:test"), 64, positions=range(3)).array
    picture = Image.fromarray(np.ascontiguousarray(pixels[2].transpose(1, 2, 0)))
    np.testing.assert_array_equal(module._raw(pixels)[2].reshape(3, 32, 32), to_pixels(picture, 32))
    assert module._raw(pixels[:0]).shape == (0, 3 * 32 * 32)
    np.testing.assert_array_equal(module._raw(pixels[:, :, :20, :20]), pixels[:, :, :20, :20].reshape(3, -1))


class SomeBroken(Subset):
    """Every tenth picture cannot be read."""

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        if position % 10 == 0:
            raise ImageError("cannot read x: broken")
        return super().image(position, size_hint)


def test_unreadable_pictures_are_counted_and_left_out(tiny_model: Model, protocol: Protocol) -> None:
    kept = [i for i in range(100) if i % 10]
    whole, clean = protocol.gallery, subset(protocol.gallery, kept)
    broken = SomeBroken(whole, np.arange(100))
    report = evaluate(tiny_model, Protocol("p", protocol.queries, broken, broken, 1000), baselines=True)
    assert (report.unreadable, report.gallery, report.map_at) == (10, 90, 90)
    expected = evaluate(tiny_model, Protocol("p", protocol.queries, clean, clean, 90), baselines=True)
    assert report.rows == pytest.approx(expected.rows)
    nothing = SomeBroken(whole, np.zeros(1, np.int64))
    with pytest.raises(DataError, match=r"none of the 1 pictures .* cannot read x: broken"):
        evaluate(tiny_model, Protocol("p", protocol.queries, nothing, nothing, 10))


def test_multi_label_sets_are_evaluated_with_baselines(tiny_model: Model, protocol: Protocol) -> None:
    queries, gallery = (subset(images, range(80)) for images in (protocol.queries, protocol.gallery))
    for images in (queries, gallery):  # garment for the upper body, shoe or bag, and a rare third label
        images.labels = np.stack([np.isin(images.labels, (0, 2, 4, 6)), images.labels > 6, images.labels == 3], 1)
    report = evaluate(tiny_model, Protocol("multi", queries, gallery, gallery, 20), baselines=True)
    assert report.rows["random codes"] < report.map <= 1


def test_queries_with_nothing_to_find_score_zero_in_valid_json(tiny_model: Model, protocol: Protocol) -> None:
    queries, gallery = subset(protocol.queries, range(5)), subset(protocol.gallery, range(30))
    queries.labels = np.full(5, 77)
    report = evaluate(tiny_model, Protocol("p", queries, gallery, gallery, 10))
    assert report.map == 0
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_report_says_where_a_baseline_is_not_quite_the_same(tiny_model: Model) -> None:
    report = Report("p", 10, 0.5, 5, 2, 20, "l2", 0.0, "hash", 0)
    rng = np.random.default_rng(0)
    queries, gallery = (
        _Collected(rng.normal(size=(n, 4)).astype(np.float32), np.zeros(n, int), 0, rng.integers(0, 256, (n, 27)))
        for n in (100, 1000)
    )
    module._add_baselines(report, tiny_model, queries, gallery, 0, lambda _: None)
    assert "baselines have 12 bits" in report.table()
    assert "ITQ has 8 of its 12 bits from random directions: 4 dimensions" in report.table()


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


def test_a_classic_method_that_beats_the_trained_codes_is_named_in_one_line(
    tiny_model: Model, protocol: Protocol
) -> None:
    poor = Model(copy.deepcopy(tiny_model.network), tiny_model.config)
    poor.network.quantizer.codebooks.data.normal_(generator=torch.Generator().manual_seed(0))
    report = evaluate(poor, protocol, baselines=True)
    rivals = {name: report.rows[f"{name}, same descriptors"] for name in descriptor_baselines(8)}
    best = max(rivals, key=rivals.__getitem__)
    told = [note for note in report.notes if "better than the trained codes" in note]
    assert rivals[best] > report.map
    assert told
    assert told[0].startswith(
        f"{best}, same descriptors: {rivals[best]:.4f} is better than the trained codes' {report.map:.4f};"
    )
    assert f"note: {told[0]}" in report.table()
    assert "refit the codebooks" in told[0]
    assert "refit" not in module._better(report, refitted=True)[0]
    report.map = 1.0
    assert module._better(report, refitted=False) == []


def test_codes_that_are_all_alike_gain_nothing_from_a_gallery_sorted_by_class(
    tiny_model: Model, protocol: Protocol
) -> None:
    """Ranked in its order, the first class would be found at once: mAP 0.25."""
    order = np.argsort(protocol.gallery.labels, kind="stable")
    blind = Model(copy.deepcopy(tiny_model.network), tiny_model.config)
    blind.network.quantizer.codebooks.data.zero_()
    ordered = replace(protocol, gallery=subset(protocol.gallery, order))
    share = np.mean(protocol.queries.labels[:, None] == protocol.gallery.labels)
    assert evaluate(blind, ordered, at=len(order)).map == pytest.approx(share, abs=0.03)


def test_a_frozen_backbones_own_features_are_measured_too(tiny_model: Model, protocol: Protocol) -> None:
    frozen = replace(tiny_model.config, train=replace(tiny_model.config.train, frozen=True))
    report = evaluate(Model(tiny_model.network, frozen), protocol, baselines=True)
    plain = evaluate(tiny_model, protocol, baselines=True)
    assert report.map == pytest.approx(plain.map, abs=1e-3)
    assert {name for name in report.rows if "backbone" in name} == {
        f"{name}, backbone's features" for name in ("PQ", "OPQ", "PQ-256", "OPQ-256", "ITQ", "LSH", "float cosine")
    }
    x, q = (tiny_model.features(load_pixels(images, 28).array) for images in (protocol.gallery, protocol.queries))
    rows = module.classic.float_cosine(x)(q, 100)
    expected = metrics.mean_average_precision(metrics.relevance(protocol.queries.labels, protocol.gallery.labels, rows))
    assert report.rows["float cosine, backbone's features"] == pytest.approx(expected, abs=1e-3)
