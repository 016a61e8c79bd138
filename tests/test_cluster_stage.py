from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spq.training.cluster_stage import ClusterStage, Signs, cluster_recipe

from conftest import training_recipe, write_photos
from spq.cli.checks import check_model_out
from spq.config import ClusterConfig, Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.errors import ConfigError
from spq.evaluation.evaluate import evaluate
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.model.network import Network
from spq.training import cluster_stage
from spq.training.checkpoint import State, read_checkpoint
from spq.training.run import TrainStatus
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(400))


@pytest.fixture
def recipe() -> Recipe:
    small = training_recipe()
    return replace(
        small,
        quantizer=replace(small.quantizer, prefixes=(2, 4)),
        cluster=ClusterConfig(
            share=0.4, epochs=2, batch_size=64, head_steps=40, head_batch=64, candidates=2, certainty=0.0
        ),
    )


def stage_of(recipe: Recipe, images: ImageSet, out: Path, **more: Any) -> ClusterStage:
    torch.manual_seed(0)
    pixels, state = load_pixels(images, recipe.input.size), State(trained={"views": 0, "steps": 1, "epochs": 1})
    network = Network(recipe).to(memory_format=torch.channels_last)
    out.mkdir(parents=True, exist_ok=True)
    return ClusterStage(network, recipe, pixels, "x", out, state, fingerprint="", device=torch.device("cpu"), **more)


def test_a_training_ends_with_codebooks_of_clusters(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    parts: dict[str, Model] = {}
    model = train(images, recipe, tmp_path / "m", on_status=seen.append, on_part=parts.__setitem__)
    assert [status.part for status in seen] == sorted(
        (status.part for status in seen), reverse=True
    )  # network, clusters
    assert {status.part for status in seen} == {"network", "clusters"}
    assert [status.done for status in seen] == sorted(status.done for status in seen)
    assert list(parts) == ["network", "heads", "self-training", "heads 2", "self-training 2", "heads 3"]
    assert (parts["network"].config.quantizer.distance, parts["heads"].config.quantizer.distance) == (
        "sqeuclidean",
        "dot",
    )

    x = model.embed([images.image(i) for i in range(20)])
    assert x.shape == (20, 4 * 16)
    np.testing.assert_allclose(x.reshape(20, 4, 16).sum(2), 1, atol=1e-5)  # soft assignments
    assert (model.config.quantizer.distance, model.config.quantizer.lengths) == ("dot", (8, 16))
    assert model.training["minutes"] > 0
    loaded = Model.load(tmp_path / "m")
    assert loaded.hash == model.hash
    np.testing.assert_array_equal(loaded.encode([images.image(3)]), model.encode([images.image(3)]))
    short = model.truncate(8)
    np.testing.assert_allclose(short.embed([images.image(3)]), model.embed([images.image(3)])[:, :32], atol=1e-6)

    rows = [json.loads(line) for line in (tmp_path / "m" / "clusters.jsonl").read_text("utf-8").splitlines()]
    assert [(row["round"], row["step"]) for row in rows] == [(1, 12), (2, 12)]  # each of two epochs
    with pytest.raises(ConfigError, match="already holds a training"):  # and no "other files"
        check_model_out(tmp_path / "m", resume=False)

    same = train(images, recipe, tmp_path / "same")
    assert same.hash == model.hash  # of the same seed


def test_its_models_are_searched_and_evaluated_as_any_other(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, cluster=replace(recipe.cluster, rounds=0))
    model = train(images, recipe, tmp_path / "m")
    report = evaluate(model, Protocol("p", open_images("sample:test"), images, images, 50))
    assert report.distance == "dot"
    assert report.map > 0.12  # chance is 0.1

    index = ImageIndex.build(tmp_path / "photos.index", model, write_photos(tmp_path / "photos"))
    query = next((tmp_path / "photos").rglob("*.png"))
    hits = index.search(query, top=60)
    x, codes = model.embed([query]), model.encode([tmp_path / "photos" / hit.path for hit in hits])
    expected = -(x.reshape(1, 4, 16) * model.codebooks[np.arange(4), codes]).sum((1, 2))
    np.testing.assert_allclose([hit.distance for hit in hits], expected, atol=1e-5)
    assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
    index.close()


def test_a_stage_that_was_stopped_begins_again_and_ends_the_same(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(images, recipe, tmp_path / "whole")
    heads = ClusterStage.heads

    def stopped(self: ClusterStage) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClusterStage, "heads", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(images, recipe, tmp_path / "m")
    monkeypatch.setattr(ClusterStage, "heads", heads)
    checkpoint = read_checkpoint(tmp_path / "m")
    assert checkpoint is not None
    assert checkpoint["trained"]["steps"] == 18
    assert train(images, recipe, tmp_path / "m", resume=True).hash == whole.hash


def test_a_self_training_that_collapses_is_not_kept(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, notes = Signs.taken, list[str]()
    monkeypatch.setattr(Signs, "taken", lambda self: taken(self) | {"largest": 0.6})
    kept = stage_of(recipe, images, tmp_path / "kept", on_note=notes.append).run()
    assert notes == ["self-training is not kept: one cluster of a head holds 60% of the pictures"]
    row = json.loads((tmp_path / "kept" / "clusters.jsonl").read_text("utf-8"))
    assert (row["step"], row["largest"]) == (12, 0.6)  # the end is looked at, however few steps there were
    assert kept.training["minutes"] > 0
    without = replace(recipe, cluster=replace(recipe.cluster, rounds=0))
    expected = stage_of(without, images, tmp_path / "without").run().network
    torch.testing.assert_close(kept.network.head[0].weight, expected.head[0].weight, rtol=0, atol=0)


def test_signs_are_means_over_steps() -> None:
    signs = Signs(2, 4, torch.device("cpu"))
    own = torch.nn.functional.one_hot(torch.tensor([[0, 1], [0, 2], [0, 3], [1, 3]]), 4).float()
    sure = torch.tensor([[True, True], [True, False], [False, False], [True, True]])
    logits = own.clone()
    logits[0, 0] = logits[0, 0].roll(1)  # one miss where the teacher is sure, of five
    for _ in range(3):
        signs.add(logits, own, own, sure)
    expected = {"confident": 0.625, "agreement": 0.8, "certainty": 1.0, "largest": 0.75, "used": 2.5}
    assert signs.taken() == pytest.approx(expected)
    assert float(signs.totals.abs().sum()) == 0


@pytest.mark.parametrize("count", [20, 100])
def test_small_collections_have_fewer_neighbours(images: ImageSet, recipe: Recipe, tmp_path: Path, count: int) -> None:
    few = subset(images, range(count))
    model = train(few, replace(recipe, cluster=replace(recipe.cluster, neighbours=50)), tmp_path / "m")
    assert model.encode([few.image(0)]).shape == (1, 4)


def test_the_order_of_a_collection_does_not_decide_its_statistics(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    """A folder is sorted by what its pictures show, and batch statistics are of a part of them."""
    assert images.labels is not None
    by_class = subset(images, np.argsort(images.labels, kind="stable"))
    stage = stage_of(recipe, by_class, tmp_path / "m")
    first = stage.data[:200].float().mean() - stage.data.float().mean()
    sorted_first = load_pixels(by_class, 16).array[:200].mean() - stage.data.float().mean()
    assert abs(float(first)) < 0.5 * abs(float(sorted_first))


def test_a_look_at_a_part_changes_nothing(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    def spoil(name: str, model: Model) -> None:
        for p in model.network.parameters():
            p.data.zero_()

    plain = stage_of(recipe, images, tmp_path / "plain").run()
    assert stage_of(recipe, images, tmp_path / "looked", on_part=spoil).run().hash == plain.hash


def test_what_the_stage_cannot_go_with_is_refused_before_work(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"finish.epochs and cluster.share exclude each other"):
        replace(recipe, finish=replace(recipe.finish, epochs=3))
    with pytest.raises(ConfigError, match=r"train.frozen and cluster.share exclude each other"):
        replace(recipe, train=replace(recipe.train, frozen=True))
    with pytest.raises(ConfigError, match=r"has cluster.share, which takes no objective of your own"):
        train(images, recipe, tmp_path / "m", objective=lambda outputs, network, loss: loss(outputs))
    for key, value in {"temperature": 0.0, "epochs": 0, "candidates": 0, "head_batch": 0, "confidence": 1.0}.items():
        with pytest.raises(ConfigError, match=rf"cluster.{key} .*{value}"):
            replace(recipe.cluster, **{key: value})  # type: ignore[arg-type]
    fixed = replace(recipe, cluster=replace(recipe.cluster, view_scale=0.5))
    assert fixed.shown_sizes == {16, 8}


def test_no_training_goes_on_from_clusters(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    model = stage_of(recipe, images, tmp_path / "m").run()
    with pytest.raises(ConfigError, match="cannot start from a model that ends with clusters"):
        train(images, recipe, tmp_path / "n", start=model)


def test_unclear_clusters_are_not_learned_from(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    notes: list[str] = []
    recipe = replace(recipe, cluster=replace(recipe.cluster, certainty=1.0))
    stage_of(recipe, images, tmp_path / "m", on_note=notes.append).run()
    assert len(notes) == 1
    assert notes[0].startswith("no self-training: the clusters are not clear (mean assignment 0.")
    assert not (tmp_path / "m" / "clusters.jsonl").exists()


def test_the_stage_keeps_to_its_share_of_the_minutes(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(
        recipe,
        train=replace(recipe.train, minutes=0.15, refit=False),
        cluster=replace(recipe.cluster, share=0.5, epochs=10_000),
    )
    seen: list[TrainStatus] = []
    model = train(images, recipe, tmp_path / "m", on_status=seen.append)
    ends = {status.part: (status.done, status.seconds) for status in seen}
    assert ends["network"][0] == pytest.approx(0.5)
    assert ends["clusters"][0] == 1.0
    assert ends["network"][1] >= 60 * 0.15 * 0.5
    assert ends["clusters"][1] >= 60 * 0.15 * 0.8  # heads follow
    assert model.training["minutes"] >= 0.15 * 0.8


def test_no_round_begins_when_the_heads_took_all_of_the_time(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    notes: list[str] = []
    stage = stage_of(recipe, images, tmp_path / "m", on_note=notes.append)
    stage.end = 0.0
    stage.run()
    assert notes == ["no time is left for self-training: the heads take too long; give more minutes"]
    assert not (tmp_path / "m" / "clusters.jsonl").exists()


def test_a_deadline_takes_the_place_of_the_minutes(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, train=replace(recipe.train, epochs=10_000), cluster=replace(recipe.cluster, epochs=10_000))
    model = train(images, recipe, tmp_path / "m", deadline=time.monotonic() + 6)
    assert 0 < model.config.train.minutes <= 0.1
    assert model.training["steps"] < 10_000 * 6


def test_more_pictures_than_the_stage_learns_from_are_drawn(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_stage, "PICTURES", 100)
    stage = stage_of(recipe, images, tmp_path / "m")
    _, near, bank = stage.heads()
    assert (len(stage.data), len(near), len(bank)) == (100, 100, 100)
    assert int(near.max()) < 100


def test_the_recipe_of_the_end_says_how_its_codes_are_made(recipe: Recipe) -> None:
    end = cluster_recipe(recipe)
    assert (end.head.hidden, end.head.softmax, end.quantizer.codeword_dim) == (0, 4.0, 16)
    with pytest.raises(ConfigError, match=r"cluster.share must satisfy 0 <= share < 1, got 1.0"):
        ClusterConfig(share=1.0)
    with pytest.raises(ConfigError, match=r"head.softmax needs head.norm = 0, got 1.0"):
        replace(recipe.head, softmax=3.0, norm=1.0)
