from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reference import metrics as slow
from spq.config import DISTANCES, Distance
from spq.data.image_set import ImageSet, Subset, subset
from spq.data.open import open_images
from spq.data.protocols import Protocol, custom_protocol
from spq.errors import ConfigError, DataError, ImageError
from spq.evaluation import collect, metrics
from spq.evaluation.collect import order_of_ties
from spq.evaluation.evaluate import evaluate
from spq.model.model import Model


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    gallery = subset(open_images("sample:train"), range(1000))
    return Protocol("small", subset(open_images("sample:test"), range(100)), gallery, gallery, 100)


def test_a_report_can_be_written_as_json_text_and_plots(tiny_model: Model, protocol: Protocol, tmp_path: Path) -> None:
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


def test_the_distance_can_be_chosen(tiny_model: Model, protocol: Protocol) -> None:
    assert evaluate(tiny_model, protocol, distance="sqeuclidean").distance == "sqeuclidean"
    assert evaluate(tiny_model, protocol, at=10**6).map_at == 1000


def test_the_curve_covers_the_whole_gallery_whatever_n_is(tiny_model: Model, protocol: Protocol) -> None:
    few, many = (evaluate(tiny_model, protocol, at=at) for at in (10, 1000))
    assert few.pr_curve == many.pr_curve
    assert (few.pr_curve["ranks"][-1], few.pr_curve["recall"][-1]) == (1000, pytest.approx(1))
    assert few.precision[100] == many.precision[100]
    assert (few.map_all, few.map_r) == (many.map_all, many.map_r)
    assert many.map == many.map_all
    assert few.map > many.map > many.map_r > 0


def test_the_report_has_the_scores_of_each_query(tiny_model: Model, protocol: Protocol) -> None:
    report = evaluate(tiny_model, protocol)
    scores = report.per_query
    assert {len(values) for values in scores.values()} == {100}
    assert (scores["map"].mean(), scores["map_all"].mean()) == (report.map, report.map_all)
    assert {n: scores[f"recall@{n}"].mean() for n in report.recall} == report.recall
    counts = [np.sum(protocol.gallery.labels == label) for label in protocol.queries.labels]
    assert scores["relevant"].tolist() == counts
    one = evaluate(tiny_model, replace(protocol, queries=subset(protocol.queries, [7])))
    assert one.map == pytest.approx(scores["map"][7], abs=1e-3)  # in another batch, sums round differently
    assert "per_query" not in report.to_dict()
    assert len(report.to_dict(per_query=True)["per_query"]["map"]) == 100


def test_the_report_says_how_ties_are_ranked_and_which_pictures_it_is_of(tiny_model: Model, protocol: Protocol) -> None:
    report = evaluate(tiny_model, protocol)
    assert f"ties: {collect.TIES}" in report.table().splitlines()
    assert (report.split, report.split_seed) == (protocol.split, None)
    others = [replace(protocol, queries=subset(protocol.queries, range(1, 100)))]
    renamed = subset(protocol.queries, range(100))
    renamed.labels = np.roll(renamed.labels, 1)
    others.append(replace(protocol, queries=renamed))
    assert len({protocol.split, *(other.split for other in others)}) == 3
    fewer = replace(protocol, training=subset(protocol.gallery, range(50)))
    assert (fewer.split == protocol.split, fewer.training_hash == protocol.training_hash) == (True, False)
    assert replace(protocol, map_at=5, name="other").split == protocol.split


def test_at_below_one_is_refused(tiny_model: Model, protocol: Protocol) -> None:
    with pytest.raises(ConfigError, match="`at` must be 1 or more, got 0"):
        evaluate(tiny_model, protocol, at=0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_report_equals_a_plain_sort_of_the_distances(
    tiny_model: Model, protocol: Protocol, distance: Distance
) -> None:
    gallery = subset(protocol.gallery, order_of_ties(1000))
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
    share = np.mean(gallery.labels == protocol.queries.labels[:, None])
    assert report.precision == pytest.approx(
        {1: hits[:, 0].mean(), 10: hits[:, :10].mean(), 100: hits.mean(), 1000: share}
    )


def test_small_batches_and_chunks_change_nothing(
    tiny_model: Model, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result() -> dict[str, object]:
        return evaluate(tiny_model, protocol, at=1000, baselines=True).to_dict() | {"seconds": 0}

    whole = result()
    monkeypatch.setattr(collect, "BATCH_BYTES", 500 * 3 * 28**2)
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


def test_queries_with_nothing_to_find_score_zero_in_valid_json(tiny_model: Model, protocol: Protocol) -> None:
    queries, gallery = subset(protocol.queries, range(5)), subset(protocol.gallery, range(30))
    queries.labels = np.full(5, 77)
    report = evaluate(tiny_model, Protocol("p", queries, gallery, gallery, 10))
    assert report.map == 0
    json.dumps(report.to_dict(), allow_nan=False)


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


def test_a_picture_without_a_label_is_neither_query_nor_answer(tiny_model: Model, protocol: Protocol) -> None:
    queries, gallery = subset(protocol.queries, range(20)), subset(protocol.gallery, range(60))
    known = subset(queries, range(5, 20)), subset(gallery, range(10, 60))
    expected = evaluate(tiny_model, Protocol("p", *known, known[1], 10), baselines=True)
    queries.labels, gallery.labels = queries.labels.copy(), gallery.labels.copy()
    queries.labels[:5], gallery.labels[:10] = -1, -1
    report = evaluate(tiny_model, Protocol("p", queries, gallery, gallery, 10), baselines=True)
    assert (report.map, report.queries, report.gallery, report.rows) == (expected.map, 15, 50, expected.rows)
