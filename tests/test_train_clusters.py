"""Stage `cluster`: clustering heads, self-training, and codebooks of the clusters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import write_photos
from small_training import FakeClock, StopError, sample_images, small_recipe
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
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint import Checkpoint, Phase
from spq.training.context import Training, TrainOptions
from spq.training.signs import Signs
from spq.training.stages import train_clusters as module
from spq.training.stages.train_clusters import ClusterStage, cluster_recipe, train_clusters
from spq.training.train import train
from spq.training.trained import Trained


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    small = small_recipe()
    return replace(
        small,
        quantizer=replace(small.quantizer, prefixes=(2, 4)),
        cluster=ClusterConfig(
            share=0.4, epochs=2, batch_size=32, head_steps=40, head_batch=64, candidates=2, certainty=0.0
        ),
    )


def context_of(recipe: Recipe, images: ImageSet, out: Path, **named: Any) -> tuple[Training, Trained]:
    """What stage `network` would leave, with an untrained network."""
    torch.manual_seed(0)
    network = Network(recipe).to(memory_format=torch.channels_last)
    out.mkdir(parents=True, exist_ok=True)
    options, pixels = TrainOptions().with_names(**named), load_pixels(images, recipe.input.size)
    training = Training(images, recipe, out, torch.device("cpu"), options, decoded=pixels)
    return training, Trained(network, {"views": 0, "steps": 1, "epochs": 1}, 0.0)


def run_stage(recipe: Recipe, images: ImageSet, out: Path, **named: Any) -> Model:
    return train_clusters(*context_of(recipe, images, out, **named))


def stage_of(recipe: Recipe, images: ImageSet, out: Path) -> ClusterStage:
    return ClusterStage(*context_of(recipe, images, out))


@pytest.fixture(scope="module")
def clustered(images: ImageSet, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return train(images, recipe, tmp_path_factory.mktemp("clustered"))


@pytest.fixture(scope="module")
def plain(images: ImageSet, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """What the stage alone makes."""
    return run_stage(recipe, images, tmp_path_factory.mktemp("plain"))


def test_a_training_ends_with_codebooks_of_clusters(
    images: ImageSet, recipe: Recipe, clustered: Model, tmp_path: Path
) -> None:
    seen: list[TrainStatus] = []
    parts: dict[str, Model] = {}
    model = train(images, recipe, tmp_path / "m", on_status=seen.append, on_part=parts.__setitem__)
    assert [status.part for status in seen] == sorted(
        (status.part for status in seen), reverse=True
    )  # network, clusters
    assert {status.part for status in seen} == {"network", "clusters"}
    assert [status.done for status in seen] == sorted(status.done for status in seen)
    assert list(parts) == ["network", "heads", "self-training", "heads 2", "self-training 2"]
    assert (parts["network"].config.quantizer.distance, parts["heads"].config.quantizer.distance) == (
        "sqeuclidean",
        "dot",
    )

    shown = [images.image(i) for i in range(20)]
    x = model.embed(shown)
    np.testing.assert_array_equal(x, parts["self-training 2"].embed(shown))  # the heads that learned stay
    assert x.shape == (20, 4 * 16)
    np.testing.assert_allclose(x.reshape(20, 4, 16).sum(2), 1, atol=1e-5)  # soft assignments
    assert (model.config.quantizer.distance, model.config.quantizer.lengths) == ("dot", (8, 16))
    assert model.facts["minutes"] > 0
    loaded = Model.load(tmp_path / "m")
    assert loaded.hash == model.hash
    np.testing.assert_array_equal(loaded.encode([images.image(3)]), model.encode([images.image(3)]))
    short = model.truncate(8)
    np.testing.assert_allclose(short.embed([images.image(3)]), model.embed([images.image(3)])[:, :32], atol=1e-6)

    rows = [json.loads(line) for line in (tmp_path / "m" / "clusters.jsonl").read_text("utf-8").splitlines()]
    assert [(row["round"], row["step"]) for row in rows] == [(1, 10), (2, 10)]  # each of two epochs
    with pytest.raises(ConfigError, match="already holds a training"):  # and no "other files"
        check_model_out(tmp_path / "m", resume=False)

    assert model.hash == clustered.hash  # of the same seed


def test_the_stage_uses_a_compiled_backbone(images: ImageSet, recipe: Recipe, plain: Model, tmp_path: Path) -> None:
    training, trained = context_of(recipe, images, tmp_path / "compiled")
    forward = torch.compile(trained.network.backbone, backend="eager")
    compiled = train_clusters(training, replace(trained, forward=forward))
    shown = [images.image(i) for i in range(20)]
    np.testing.assert_allclose(compiled.embed(shown), plain.embed(shown), atol=1e-5)


def test_views_may_be_mixed(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    mixed = replace(recipe, cluster=replace(recipe.cluster, mixup=1.0, confidence=0.2))
    assert run_stage(mixed, images, tmp_path).embed([images.image(0)]).shape == (1, 64)


def test_its_models_are_searched_and_evaluated_like_others(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
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


def test_a_stopped_stage_starts_again_and_ends_the_same(
    images: ImageSet, recipe: Recipe, clustered: Model, tmp_path: Path
) -> None:
    def stop(name: str, model: Model) -> None:
        if name == "heads":
            raise StopError

    with pytest.raises(StopError):
        train(images, recipe, tmp_path, on_part=stop)
    checkpoint = Checkpoint.load(tmp_path)
    assert checkpoint is not None
    assert checkpoint.phase is Phase.CLUSTER
    assert checkpoint.progress.network_facts == {"views": 960, "steps": 15, "epochs": 3.0}
    assert train(images, recipe, tmp_path, resume=True).hash == clustered.hash


def test_a_self_training_that_collapses_is_dropped(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, notes = Signs.take, list[str]()
    monkeypatch.setattr(Signs, "take", lambda self: take(self) | {"largest": 0.6})
    kept = run_stage(recipe, images, tmp_path / "kept", on_note=notes.append)
    assert notes == ["the result of self-training is dropped: one cluster of a head holds 60% of the pictures"]
    row = json.loads((tmp_path / "kept" / "clusters.jsonl").read_text("utf-8"))
    assert (row["step"], row["largest"]) == (10, 0.6)  # the end is changed at, however few steps there were
    assert kept.facts["minutes"] >= 0  # two digits: 0 on a quick machine
    without = replace(recipe, cluster=replace(recipe.cluster, rounds=0))
    expected = run_stage(without, images, tmp_path / "without").network
    torch.testing.assert_close(kept.network.head[0].weight, expected.head[0].weight, rtol=0, atol=0)


@pytest.mark.parametrize("count", [20, 100])
def test_small_collections_have_fewer_neighbours(images: ImageSet, recipe: Recipe, tmp_path: Path, count: int) -> None:
    few, cluster = subset(images, range(count)), replace(recipe.cluster, neighbours=50, epochs=1)
    model = train(few, replace(recipe, train=replace(recipe.train, epochs=1), cluster=cluster), tmp_path / "m")
    assert model.encode([few.image(0)]).shape == (1, 4)


def test_the_order_of_a_collection_does_not_affect_its_statistics(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    """A folder is sorted by what its pictures show, and batch statistics are of a part of them."""
    assert images.labels is not None
    by_class = subset(images, np.argsort(images.labels, kind="stable"))
    stage = stage_of(recipe, by_class, tmp_path / "m")
    first = stage.space.pixels[:80].float().mean() - stage.space.pixels.float().mean()
    sorted_first = load_pixels(by_class, 16).array[:80].mean() - stage.space.pixels.float().mean()
    assert abs(float(first)) < 0.5 * abs(float(sorted_first))


def test_a_callback_that_changes_its_model_does_not_change_the_training(
    images: ImageSet, recipe: Recipe, plain: Model, tmp_path: Path
) -> None:
    def spoil(name: str, model: Model) -> None:
        for p in model.network.parameters():
            p.data.zero_()

    assert run_stage(recipe, images, tmp_path / "changed", on_part=spoil).hash == plain.hash


def test_settings_that_the_stage_excludes_are_refused(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match=r"finish.epochs and cluster.share exclude each other"):
        replace(recipe, finish=replace(recipe.finish, epochs=3))
    with pytest.raises(ConfigError, match=r"train.frozen and cluster.share exclude each other"):
        replace(recipe, train=replace(recipe.train, frozen=True))
    for key, value in {"temperature": 0.0, "epochs": 0, "candidates": 0, "head_batch": 0, "confidence": 1.0}.items():
        with pytest.raises(ConfigError, match=rf"cluster.{key} .*{value}"):
            replace(recipe.cluster, **{key: value})  # type: ignore[arg-type]
    fixed = replace(recipe, cluster=replace(recipe.cluster, view_scale=0.5))
    assert fixed.shown_sizes == {16, 8}


def test_unclear_clusters_prevent_self_training(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    notes: list[str] = []
    recipe = replace(recipe, cluster=replace(recipe.cluster, certainty=1.0))
    run_stage(recipe, images, tmp_path / "m", on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("no self-training: the clusters are not clear (mean assignment 0.")
    assert not (tmp_path / "m" / "clusters.jsonl").exists()


def test_the_stage_gets_its_share_of_the_minutes(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(
        recipe,
        train=replace(recipe.train, minutes=0.15, refit=False),
        cluster=replace(recipe.cluster, share=0.5, epochs=10_000),
    )
    seen: list[TrainStatus] = []
    model = train(images, recipe, tmp_path, on_status=seen.append, clock=FakeClock(0.05))
    last = {status.part: status for status in seen}
    assert last["network"].done == pytest.approx(0.5)
    assert last["clusters"].done == 1.0
    assert 4.5 <= last["network"].seconds < 5  # of 9 seconds
    assert 8 <= last["clusters"].seconds < 10
    assert model.facts["minutes"] == pytest.approx(0.15, abs=0.02)


def test_no_round_starts_when_the_heads_took_all_of_the_time(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    notes: list[str] = []
    late = replace(recipe, train=replace(recipe.train, minutes=0.01))
    run_stage(late, images, tmp_path, on_note=notes.append, clock=FakeClock(1.0))
    assert notes == ["no time is left for self-training, because the heads take too long; give more minutes"]
    assert not (tmp_path / "clusters.jsonl").exists()


def test_the_stage_draws_from_more_pictures_than_it_learns_from(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PICTURES", 100)
    stage = stage_of(recipe, images, tmp_path / "m")
    heads = stage.make_heads()
    assert (len(stage.space.pixels), len(heads.neighbour_ids), len(heads.assignments)) == (100, 100, 100)
    assert int(heads.neighbour_ids.max()) < 100


def test_the_last_recipe_describes_how_its_codes_are_made(recipe: Recipe) -> None:
    end = cluster_recipe(recipe)
    assert (end.head.hidden, end.head.softmax, end.quantizer.codeword_dim) == (0, 4.0, 16)
    with pytest.raises(ConfigError, match=r"cluster.share must be from 0 to 0.99, got 1.0"):
        ClusterConfig(share=1.0)
    with pytest.raises(ConfigError, match=r"head.softmax needs head.norm = 0, got 1.0"):
        replace(recipe.head, softmax=3.0, norm=1.0)
