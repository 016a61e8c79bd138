"""Losses as modules: those of spq, and those of a caller with parameters, memory and moving targets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference import paper
from small_training import FROZEN, Patches, StopError, sample_images, small_recipe, weights, with_finish
from spq import CrossQuantized, NTXent
from spq.config import Recipe
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.network import Network
from spq.training.checkpoint_file import read_checkpoint
from spq.training.loss import nt_xent
from spq.training.losses import Criterion, check_loss
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_recipe(epochs=2)


def views(V: int, B: int, D: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(V)
    x, z = torch.randn(2, V, B, D, generator=generator, dtype=torch.float64).requires_grad_()
    return list(zip(x, z, strict=True))


def test_a_batch_has_the_loss_of_the_papers_loop_at_the_temperature_and_prefixes_of_the_recipe(
    tiny_recipe: Recipe,
) -> None:
    quantizer = replace(tiny_recipe.quantizer, num_codebooks=3, codeword_dim=4, prefixes=(1, 3))
    network, outputs = Network(replace(tiny_recipe, quantizer=quantizer)), views(2, 5, 12)
    arrays = [v.detach().numpy() for pair in outputs for v in pair]
    for given, temperature in ((None, 0.3), (CrossQuantized(), 0.3), (CrossQuantized(0.7), 0.7)):
        expected = np.mean([paper.cqc_loss(*(v[:, :n] for v in arrays), temperature) for n in (4, 12)])
        found = Criterion(given, network, 5)(outputs, torch.arange(5), 0.3)
        assert found.item() == pytest.approx(expected, rel=1e-9)


def test_nt_xent_is_the_mean_over_the_pairs_of_views(tiny_recipe: Recipe) -> None:
    outputs = views(3, 5, 32)
    pairs = [nt_xent(outputs[a][0], outputs[b][0], 0.2).item() for a, b in ((0, 1), (0, 2), (1, 2))]
    found = Criterion(NTXent(0.2), Network(tiny_recipe), 5)(outputs, torch.arange(5), 0.5)
    assert found.item() == pytest.approx(np.mean(pairs), rel=1e-6)


def test_the_loss_of_the_recipe_given_by_hand_trains_the_same_model(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    models = [train(images, with_finish(recipe), tmp_path / str(loss), loss=loss) for loss in (None, CrossQuantized())]
    np.testing.assert_array_equal(weights(models[0]), weights(models[1]))
    assert models[1].facts["parts"]["loss"]["class"] == "spq.training.losses.CrossQuantized"


class Learned(nn.Module):
    """A temperature that is learned, with a memory of the descriptors of each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(-0.7))
        self.base = CrossQuantized(0.5)

    def prepare(self, network: Network, count: int) -> None:
        self.register_buffer("memory", torch.zeros(count, network.quantizer.config.dim))

    def forward(self, x: Tensor, z: Tensor, rows: Tensor) -> Tensor:
        assert self.training
        memory: Any = self.memory
        near = F.cosine_similarity(x[0], memory[rows], dim=1).mean()
        memory[rows] = x[0].detach()
        self.base.temperature = self.log_temperature.exp()
        value: Tensor = self.base(x, z, rows)
        return value - 0.1 * near


def test_a_learned_temperature_moves_and_is_saved_and_resumes(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    once, loss = replace(recipe, train=replace(recipe.train, checkpoint_minutes=0.0)), Learned()
    whole = train(images, once, tmp_path / "whole", loss=loss)
    learned = whole.facts["loss_parameters"]["log_temperature"]
    assert learned == pytest.approx(loss.log_temperature.item(), abs=1e-5)
    assert abs(learned + 0.7) > 1e-3
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["training"]["loss_parameters"]
    state = (read_checkpoint(tmp_path / "whole") or {})["loss"]
    assert set(state) == {"log_temperature", "memory"}
    assert (state["memory"].abs().sum(1) > 0).all()  # two epochs saw every picture

    def stop(epoch: int, network: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(images, once, tmp_path / "m", loss=Learned(), on_epoch=stop)
    again = Learned()
    resumed = train(images, once, tmp_path / "m", loss=again, resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert torch.equal(again.log_temperature, loss.log_temperature)
    assert resumed.facts["parts"] == whole.facts["parts"]
    assert "CrossQuantized(0.5)" in whole.facts["parts"]["loss"]["description"]  # as it was before it learned
    with pytest.raises(ConfigError, match=r"m began with your own loss test_losses\.Learned; continue it in Python"):
        train(images, once, tmp_path / "m", resume=True)


def test_a_loss_with_other_parameters_than_the_checkpoints_is_refused(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    once = replace(recipe, train=replace(recipe.train, epochs=1))
    train(images, once, tmp_path, loss=CrossQuantized(nn.Parameter(torch.tensor(0.5))))
    with pytest.raises(ConfigError, match="the given `loss` does not fit the checkpoint; give one with the same"):
        train(images, once, tmp_path, loss=CrossQuantized(0.5), resume=True)


def test_parameters_of_the_loss_learn_with_adam_and_those_of_the_network_once(images: ImageSet, tmp_path: Path) -> None:
    class Held(CrossQuantized):
        def prepare(self, network: Network, count: int) -> None:
            super().prepare(network, count)
            self.network, self.filters = network, nn.Parameter(torch.ones(2, 2, 3, 3))

        def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
            return super().forward(x, z, rows) * self.filters.square().mean()

    once = small_recipe(epochs=1, optimizer="muon", weight_decay=1e-4)
    train(images, once, tmp_path, loss=Held())
    content = read_checkpoint(tmp_path) or {}
    assert set(content["loss"]) == {"filters"}
    muon, adam = content["optimizers"]
    assert [group["weight_decay"] for group in adam["param_groups"]] == [1e-4, 0.0]
    assert len(adam["param_groups"][1]["params"]) == 1
    learned = sum(len(group["params"]) for optimizer in (muon, adam) for group in optimizer["param_groups"])
    assert learned == len(list(Network(once).parameters())) + 1


def test_the_finish_calls_it_with_positions_of_the_same_pictures(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    seen: list[set[int]] = []

    class Rows(CrossQuantized):
        def prepare(self, network: Network, count: int) -> None:
            super().prepare(network, count)
            assert count == len(images)
            seen.append(set())

        def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
            seen[-1] |= set(rows.tolist())
            return super().forward(x, z, rows)

    train(images, with_finish(recipe), tmp_path / "m", loss=Rows())
    assert seen == [set(range(len(images)))] * 2
    train(
        images, replace(FROZEN, train=replace(FROZEN.train, epochs=1)), tmp_path / "f", loss=Rows(), backbone=Patches()
    )
    assert len(seen) == 3


class ToAverage(nn.Module):
    """BYOL: a predictor of what the moving average sees in the other view."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.predictor = nn.Linear(dim, dim)

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, target_x: Tensor, target_z: Tensor) -> Tensor:
        assert not target_x.requires_grad
        return -F.cosine_similarity(self.predictor(x), target_z.flip(0), dim=2).mean() + z.square().mean() / 100


def test_a_loss_gets_the_moving_average_of_a_recipe_that_has_one(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    moving = replace(recipe, train=replace(recipe.train, target_momentum=0.9, predictor=16))
    loss = ToAverage(recipe.quantizer.dim)
    before = loss.predictor.weight.detach().clone()
    train(images, moving, tmp_path, loss=loss)
    assert not torch.equal(loss.predictor.weight, before)
    with pytest.raises(
        ConfigError, match=r"CrossQuantized cannot be called as train.target_momentum is set: it must take"
    ):
        check_loss(CrossQuantized(), moving)
    with pytest.raises(ConfigError, match=r"has finish\.epochs, and the finish has no moving average for `loss`"):
        check_loss(loss, with_finish(moving))
    with pytest.raises(ConfigError, match=r"ToAverage cannot be called: it must take \(x, z, rows\)"):
        check_loss(loss, recipe)


class Prepared(NTXent):
    def prepare(self, network: Network) -> None:  # type: ignore[override]
        """It lacks the number of pictures."""


def test_a_loss_whose_preparation_takes_something_else_is_refused(recipe: Recipe) -> None:
    loss = NTXent()
    loss.inner = Prepared()
    with pytest.raises(
        ConfigError, match=r"`loss` \S*Prepared\.prepare cannot be called: it must take \(network, count\)"
    ):
        check_loss(loss, recipe)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, z, rows: (x * z).sum(2), r"test_losses\.<lambda> returns shape \(2, 32\), not one number"),
        (lambda x, z, rows: 1.0, "returns float, not one number"),
        (lambda x, z, rows: x.detach().mean(), "returns a number without a gradient; compute it from x or z"),
    ],
)
def test_what_is_no_loss_is_refused_at_the_first_step(
    images: ImageSet, recipe: Recipe, tmp_path: Path, loss: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(images, recipe, tmp_path, loss=loss)


def test_codebooks_that_the_loss_does_not_use_are_noted(images: ImageSet, tmp_path: Path) -> None:
    for refit in (False, True):
        notes: list[str] = []
        train(images, small_recipe(epochs=1, refit=refit), tmp_path / str(refit), loss=NTXent(), on_note=notes.append)
        assert [note for note in notes if "gives the codebooks no gradient" in note] == notes[: not refit]
