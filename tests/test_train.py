"""`train`: what the same seed gives, what a training learns, and which options it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_training import COUNT, sample_images, small_recipe, weights, with_finish
from spq import SPQ
from spq.config import InputConfig, Recipe
from spq.data.image_set import ImageSet
from spq.errors import CollapseError, ConfigError, DataError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.callbacks import TrainStatus
from spq.training.context import TrainOptions
from spq.training.losses import Criterion
from spq.training.stages import train_network as network_stage
from spq.training.train import train
from spq.training.view_source import ViewSource


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_recipe()


@pytest.fixture(scope="module")
def trained(images: ImageSet, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return train(images, recipe, tmp_path_factory.mktemp("trained"))


def test_same_seed_gives_same_weights_and_another_seed_gives_others(
    images: ImageSet, recipe: Recipe, trained: Model, tmp_path: Path
) -> None:
    again = train(images, recipe, tmp_path / "again")
    np.testing.assert_array_equal(weights(again), weights(trained))
    other = train(images, small_recipe(seed=1), tmp_path / "other")
    assert not np.array_equal(weights(other), weights(trained))


def test_training_lowers_the_loss_and_logs_every_status(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    train(images, small_recipe(epochs=10), tmp_path / "m", on_status=seen.append)
    assert np.mean([s.loss for s in seen[-6:]]) < 0.8 * np.mean([s.loss for s in seen[:3]])
    assert (seen[-1].step, seen[-1].epoch, seen[-1].views, seen[-1].done) == (50, 10, 50 * 64, 1.0)
    rows = [json.loads(line) for line in (tmp_path / "m" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [row["loss"] for row in rows] == [status.loss for status in seen]
    assert rows[-1]["health"]["codeword_use"] > 0.3
    assert SPQ.load(tmp_path / "m").facts["views"] == 50 * 64


def test_a_callback_that_evaluates_the_network_does_not_change_the_training(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    alone = train(images, with_finish(recipe), tmp_path / "alone")
    epochs: list[int] = []

    def encode(epoch: int, network: Network) -> None:
        epochs.append(epoch)
        Model(network, recipe).encode(pictures(images))  # sets evaluation mode

    seen = train(images, with_finish(recipe), tmp_path / "seen", on_epoch=encode)
    np.testing.assert_array_equal(weights(seen), weights(alone))
    assert epochs == [1, 2, 3, 1, 2, 3, 4]  # the finish counts from 1 again


def pictures(images: ImageSet) -> list[object]:
    return [images.image(i) for i in range(4)]


def test_views_may_be_several_and_small_and_codebooks_are_refitted(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    make_views = network_stage.make_views
    monkeypatch.setattr(network_stage, "make_views", lambda *args: sizes.append(args[2].size) or make_views(*args))
    recipe = small_recipe(num_views=3, view_scale=0.75, small_share=0.5, small_scale=0.5, epochs=2, refit=False)
    plain = train(images, recipe, tmp_path / "plain")
    assert sizes == 3 * 5 * [8] + 3 * 5 * [12]
    assert plain.facts["views"] == 3 * 32 * 10
    fitted = train(images, replace(recipe, train=replace(recipe.train, refit=True)), tmp_path / "fitted")
    x = torch.from_numpy(plain.embed([images.image(i) for i in range(COUNT)]))
    errors = [model.network.quantizer.squared_distances(x).min(-1).values.sum().item() for model in (plain, fitted)]
    assert errors[1] < errors[0]


def test_views_in_one_pass_have_the_loss_of_views_in_several(images: ImageSet, tmp_path: Path) -> None:
    """With batch statistics off, only the random numbers of the views differ; so the same views are given to both."""
    losses: dict[bool, list[float]] = {}
    for one_pass in (False, True):
        torch.manual_seed(0)
        recipe = small_recipe(one_pass=one_pass, epochs=1, backbone_lr_scale=0.1, channels_last=False, optimizer="adam")
        pixels = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
        network = Network(recipe).eval()
        source, criterion = ViewSource(pixels, None), Criterion(None, network, 8)
        learner = network_stage.Learner(recipe, network, network.backbone, source, None, criterion, False)
        whole = replace(recipe.views, crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
        learner = replace(learner, recipe=replace(recipe, views=whole))
        generator = torch.Generator().manual_seed(0)
        loss, x = network_stage.step_loss(learner, torch.arange(8), generator, recipe.input, 0.5)
        losses[one_pass] = [loss.item(), float(x.detach().abs().sum())]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_the_temperature_changes_late(images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = network_stage.step_loss

    def watch(*words: Any) -> Any:
        seen.append(words[-1])
        return original(*words)

    monkeypatch.setattr(network_stage, "step_loss", watch)
    model = train(images, small_recipe(temperature=0.2, late_temperature=0.7, late_share=0.4), tmp_path / "m")
    assert seen == [0.2] * 10 + [0.7] * 5
    same = train(images, small_recipe(temperature=0.2), tmp_path / "same")
    assert not np.array_equal(weights(model), weights(same))


def test_spq_train_needs_no_folder(images: ImageSet, recipe: Recipe) -> None:
    model = SPQ.train(images, recipe=recipe, bits=8, epochs=1, device="cpu")
    assert model.config.quantizer.bits == 8
    assert model.encode(pictures(images)).shape == (4, 2)


def test_options_are_given_by_name_or_as_an_object(images: ImageSet, tmp_path: Path) -> None:
    once, seen = small_recipe(epochs=1), list[int]()
    options = TrainOptions(device="cpu").with_names(on_load=seen.append)
    first = train(images, once, tmp_path / "a", options)
    loads = len(seen)
    assert loads > 0
    second = train(images, once, tmp_path / "b", device="cpu", on_load=seen.append)
    assert len(seen) == 2 * loads
    np.testing.assert_array_equal(weights(first), weights(second))


def test_an_unknown_option_is_refused_with_the_known_ones(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"unknown training option 'divice'; known options: backbone, .*on_status"):
        train(images, recipe, tmp_path / "m", divice="cpu")
    assert not (tmp_path / "m").exists()


class FixedSize(nn.Module):
    """A backbone that accepts pictures of 16 pixels only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 5, 4)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] == 16, f"height {images.shape[2]} is not 16"
        return torch.relu(self.conv(images)).mean((2, 3))


def test_a_backbone_of_one_size_gets_views_of_this_size(images: ImageSet, tmp_path: Path) -> None:
    notes: list[str] = []
    smaller = small_recipe(view_scale=0.75, small_share=0.5, epochs=1)
    model = train(images, smaller, tmp_path / "m", backbone=FixedSize(), on_note=notes.append)
    assert (model.config.train.view_scale, model.config.train.small_share) == (1.0, 0.0)
    assert [
        note
        for note in notes
        if "given/FixedSize takes no views of 8 or 12 pixels, so all views have 16 x 16: " in note
    ]


def test_a_backbone_of_another_size_is_refused_before_pictures_are_read(images: ImageSet, tmp_path: Path) -> None:
    read: list[int] = []
    other = replace(small_recipe(), input=InputConfig(size=20))
    with pytest.raises(ConfigError, match=r"FixedSize takes no pictures of 20 x 20 pixels \(height 20 is not 16\)"):
        train(images, other, tmp_path / "m", backbone=FixedSize(), on_load=read.append)
    assert not read


def of_timm(name: str, **options: Any) -> nn.Module:
    import timm

    module: nn.Module = timm.create_model(name, num_classes=0, **options)
    return module


def fixed_vit() -> nn.Module:
    return of_timm("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)


def convnext() -> nn.Module:
    return of_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))


@pytest.mark.parametrize(("make", "size"), [(fixed_vit, 16), (convnext, 32)])
@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_networks_of_timm_with_other_layers_train_and_load(
    images: ImageSet, tmp_path: Path, make: Callable[[], nn.Module], size: int, optimizer: str
) -> None:
    """A transformer of one input size is fitted to that of the recipe, also when the model is loaded."""
    recipe = replace(small_recipe(epochs=1, optimizer=optimizer, view_scale=0.75), input=InputConfig(size=size))
    backbone = make()
    before = {name: p.detach().clone() for name, p in backbone.named_parameters() if "pos_embed" not in name}
    model = train(images, recipe, tmp_path / "m", backbone=backbone)
    after = dict(model.network.backbone.named_parameters())
    assert all(not torch.equal(after[name], value) for name, value in before.items())
    assert np.isfinite(weights(model)).all()
    loaded = Model.load(tmp_path / "m", backbone=make())
    np.testing.assert_array_equal(loaded.encode(pictures(images)), model.encode(pictures(images)))


def test_too_few_pictures_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 readable pictures in sample:train are too few; give at least 16"):
        train(sample_images(5), recipe, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_loss_that_is_not_finite_ends_the_training(images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(CollapseError, match="check your own `loss`, or lower the learning rate"):
        train(images, small_recipe(), tmp_path / "m", loss=lambda x, z, rows: (x * z).mean() * torch.inf)
