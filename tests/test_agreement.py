"""Our training is the paper's: the same losses from the same initial weights and the same views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from agreement import nudged, ours, windows
from reference import training as paper
from spq.config import Recipe, load_recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.model.network import Network
from spq.training.views import make_views

STEPS, BATCH = 16, 16


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Recipe `paper` with a small network and batch, at the constant rate of the authors' first epochs."""
    paper_recipe = load_recipe("paper")
    return replace(
        paper_recipe,
        input=replace(paper_recipe.input, size=16),
        backbone=replace(paper_recipe.backbone, blocks=(1, 1), width=8),
        head=replace(paper_recipe.head, hidden=32),
        quantizer=replace(paper_recipe.quantizer, num_codebooks=4, codeword_dim=8),
        train=replace(paper_recipe.train, batch_size=BATCH, schedule="constant", epochs=1),
    )


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(STEPS * BATCH))


@pytest.fixture(scope="module")
def views(recipe: Recipe, images: ImageSet) -> list[torch.Tensor]:
    pixels = torch.from_numpy(load_pixels(images, recipe.input.size).array)
    generator = torch.Generator().manual_seed(0)
    return [make_views(batch, recipe.views, recipe.input, generator) for batch in pixels.split(BATCH) for _ in range(2)]


@pytest.fixture(scope="module")
def initial(recipe: Recipe) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Network(recipe).state_dict()


def test_training_follows_the_papers_loss_curve_from_the_same_weights_and_views(
    recipe: Recipe, images: ImageSet, views: list[torch.Tensor], initial: dict[str, torch.Tensor]
) -> None:
    losses = np.array(ours(images, recipe, initial, views))
    train, q = recipe.train, recipe.quantizer
    weights = {name: t for name, t in initial.items() if "running" not in name and "batches" not in name}
    truth = np.array(
        paper.train(
            weights, views, recipe.backbone.blocks, tau=train.temperature, tau_q=q.temperature, lr=train.lr,
            decay=train.weight_decay,
        )
    )  # fmt: skip
    assert len(losses) == STEPS
    np.testing.assert_allclose(losses[:3], truth[:3], atol=1e-5)
    np.testing.assert_allclose(losses, truth, atol=2e-3)  # rounding, amplified from step to step
    assert truth[-4:].mean() < truth[0] - 0.05  # it learns, so the curves could have parted


def test_another_learning_rate_is_noticed(
    recipe: Recipe, images: ImageSet, views: list[torch.Tensor], initial: dict[str, torch.Tensor]
) -> None:
    losses = np.array(ours(images, recipe, initial, views))
    other = replace(recipe, train=replace(recipe.train, lr=2 * recipe.train.lr))
    assert abs(np.array(ours(images, other, initial, views)) - losses).max() > 1e-2


def test_nudged_weights_are_off_in_the_seventh_digit(initial: dict[str, torch.Tensor]) -> None:
    other = nudged(initial)
    for name, t in initial.items():
        if t.is_floating_point() and t.abs().max():
            assert 0 < ((other[name] - t).abs().max() / t.abs().max()) < 1e-6
        else:
            assert torch.equal(other[name], t)


def test_windows_are_means_over_parts_of_the_curve() -> None:
    assert windows(np.repeat([1.0, 3.0], [10, 5])) == {"1-10": 1.0, "11-15": 3.0}
