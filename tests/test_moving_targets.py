"""Targets of a moving average: the loss as a slow transcription, and trainings with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from small_training import StopError, sample_images, small_recipe, weights
from spq.config import Recipe
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.network import Network
from spq.training.moving_targets import MovingTargets
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture
def recipe() -> Recipe:
    recipe = small_recipe(target_momentum=0.9, predictor=16, num_views=3, checkpoint_minutes=0.0)
    return replace(recipe, quantizer=replace(recipe.quantizer, prefixes=(2, 4)))


@torch.no_grad()
@pytest.mark.parametrize("negatives", [True, False])
def test_the_loss_equals_a_slow_transcription(recipe: Recipe, negatives: bool) -> None:
    torch.manual_seed(0)
    recipe = replace(recipe, train=replace(recipe.train, negatives=negatives))
    network, D = Network(recipe), recipe.quantizer.dim
    targets = MovingTargets(network, recipe).eval()
    outputs, seen = ([(torch.randn(4, D), torch.randn(4, D)) for _ in range(3)] for _ in range(2))
    total, terms = 0.0, 0
    for dims in recipe.quantizer.prefix_dims:
        for of in (0, 1):  # descriptors predict quantizations, and quantizations predict descriptors
            for view in range(3):
                p = F.normalize(targets.predictor(outputs[view][of])[:, :dims], dim=1)
                others = [F.normalize(seen[other][1 - of][:, :dims], dim=1) for other in range(3) if other != view]
                t = F.normalize(sum(others), dim=1)
                if negatives:
                    total += 2 * float(F.cross_entropy(p @ t.T / 0.3, torch.arange(4)))
                else:
                    total += float((p - t).square().sum(1).mean())  # 2 - 2 cos
                terms += 1
    assert float(targets.loss(outputs, seen, 0.3)) == pytest.approx(total / terms, rel=1e-5)


def test_the_average_follows_slowly_and_has_no_gradient(recipe: Recipe) -> None:
    network = Network(recipe)
    targets = MovingTargets(network, recipe)
    before = [p.clone() for p in targets.average.parameters()]
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    targets.follow(network)
    for old, now in zip(before, targets.average.parameters(), strict=True):
        torch.testing.assert_close(now, old + 0.1)
        assert not now.requires_grad


def test_a_training_learns_and_resumes_to_the_same_weights(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    losses: list[float] = []
    whole = train(images, recipe, tmp_path / "whole", on_status=lambda status: losses.append(status.loss))

    def stop(epoch: int, network: object) -> None:
        if epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(images, recipe, tmp_path / "stopped", on_epoch=stop)
    resumed = train(images, recipe, tmp_path / "stopped", resume=True)
    assert (weights(resumed) == weights(whole)).all()


def test_the_average_uses_batch_statistics_also_when_training_starts_from_a_model(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    """A loaded model is in evaluation mode, and fixed statistics would soon be wrong for weights that change."""
    start = train(images, small_recipe(epochs=1), tmp_path / "start")
    seen: list[bool] = []
    original = MovingTargets.outputs

    def watch(self: MovingTargets, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(self.average.backbone.training)
        return original(self, views)

    recipe = replace(recipe, quantizer=start.config.quantizer, train=replace(recipe.train, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovingTargets, "outputs", watch)
        train(images, recipe, tmp_path / "m", start=start)
    assert seen
    assert all(seen)


def test_no_negatives_without_moving_targets_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs moving targets"):
        small_recipe(negatives=False)
