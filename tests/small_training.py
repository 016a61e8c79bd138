"""Trainings of less than a second, for the tests of `spq.training`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from conftest import training_recipe
from spq.config import FinishConfig, HeadConfig, InputConfig, QuantizerConfig, Recipe, TrainConfig
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.model.model import Model

COUNT, BATCH = 160, 32  # five steps in an epoch


class StopError(Exception):
    """Raised by a callback that stops a training."""


class FakeClock:
    """A clock that advances by the same time at each reading."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def sample_images(count: int = COUNT) -> ImageSet:
    return subset(open_images("sample:train"), range(count))


def small_recipe(**train: Any) -> Recipe:
    """Three epochs of five steps."""
    recipe = training_recipe()
    return replace(recipe, train=replace(recipe.train, **{"batch_size": BATCH, **train}))


def with_finish(recipe: Recipe, **finish: Any) -> Recipe:
    values = {"epochs": 4, "share": 0.25, "neighbours": 5, "batch_size": BATCH, **finish}
    return replace(recipe, finish=FinishConfig(**values))


def weights(model: Model) -> np.ndarray:
    return np.concatenate([t.float().numpy().ravel() for t in model.network.state_dict().values()])


def distance(model: Model, other: Model) -> float:
    """Relative distance of the weights: rounding differs, and Adam's first steps amplify the smallest gradients."""
    return float(np.linalg.norm(weights(model) - weights(other)) / np.linalg.norm(weights(other)))


FROZEN = Recipe(
    input=InputConfig(size=16),
    head=HeadConfig(hidden=0, norm=1.0, start="pq"),
    quantizer=QuantizerConfig(num_codebooks=4, codeword_dim=4, distance="sqeuclidean"),
    train=TrainConfig(frozen=True, cached_views=2, neighbours=5, batch_size=64, epochs=3, lr=1e-3, refit=True),
)


class Patches(nn.Module):
    """Random filters, average pooled on a 2 x 2 grid: (B, 3, 16, 16) -> (B, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 24, 5, 2), nn.BatchNorm2d(24)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(nn.functional.relu(self.norm(self.conv(images))), 2).flatten(1)
