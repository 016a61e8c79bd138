"""Views of the caller: used in every stage that uses views, and refused where they are not what they must be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from small_training import FROZEN, Patches, StopError, sample_images, small_recipe, weights, with_finish
from spq.config import ClusterConfig, InputConfig, Recipe
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.model import normalise
from spq.model.network import Network
from spq.training.losses import Criterion
from spq.training.own_views import call_views, check_own_views
from spq.training.processes import Processes
from spq.training.stages.train_network import Learner
from spq.training.train import train
from spq.training.view_source import ViewSource

PIXELS = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


class Crops:
    """Crops by torchvision, which uses the global random numbers."""

    def __init__(self, size: int = 16) -> None:
        self.crop = v2.RandomResizedCrop(size)
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        assert pixels.dtype == torch.uint8
        self.calls.append(tuple(pixels.shape))
        return torch.stack([self.crop(picture) for picture in pixels])


def call(views: Callable[[Tensor, torch.Generator], Tensor], seed: int = 0, rank: int = 0) -> Tensor:
    return call_views(views, PIXELS, torch.Generator().manual_seed(seed), InputConfig(size=16), rank)


def test_uint8_and_float_views_are_normalised_alike() -> None:
    expected = normalise(PIXELS, InputConfig(size=16))
    torch.testing.assert_close(call(lambda pixels, generator: pixels), expected)
    torch.testing.assert_close(call(lambda pixels, generator: pixels / 255), expected)
    torch.testing.assert_close(call(lambda pixels, generator: (pixels / 255).half()), expected, atol=5e-3, rtol=0)


def test_global_random_numbers_follow_the_generator_and_are_left_as_they_were() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = call(Crops()), call(Crops()), call(Crops(), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, call(Crops(), rank=1))  # another process has other pictures


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (lambda p, g: p.numpy(), "return ndarray, not a tensor; return one square view of each picture, (4, 3, S, S)"),
        (lambda p, g: p[:2], "return shape (2, 3, 16, 16); return one square view"),
        (lambda p, g: p[..., :8], "return shape (4, 3, 16, 8); return one square view"),
        (lambda p, g: p.long(), "return torch.int64; return uint8 from 0 to 255, or float from 0 to 1"),
        (lambda p, g: p / 127.5 - 1, "return numbers from -1 to 1; return float from 0 to 1, and spq normalises them"),
        (lambda p, g: p * float("nan"), "return numbers from nan to nan; return float from 0 to 1"),
    ],
)
def test_other_shapes_types_and_ranges_are_refused(
    views: Callable[[Tensor, torch.Generator], Tensor], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"`views` test_own_views.<lambda> {message}")):
        call(views)


def test_a_training_uses_them_and_records_and_resumes_with_them(images: ImageSet, tmp_path: Path) -> None:
    recipe, views = small_recipe(epochs=2, small_share=0.5, small_scale=0.5, checkpoint_minutes=0.0), Crops(12)
    whole = train(images, recipe, tmp_path / "whole", views=views)
    assert len(views.calls) == 2 + 2 * 2 * 5  # two before pictures are read, then two views in each of ten steps
    assert whole.facts["parts"]["views"]["class"] == "test_own_views.Crops"
    assert (whole.config.train.view_scale, whole.config.train.small_share) == (1.0, 0.0)

    def stop(epoch: int, network: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(images, recipe, tmp_path / "m", views=Crops(12), on_epoch=stop)
    with pytest.raises(ConfigError, match=r"began with your own views test_own_views\.Crops; continue it in Python"):
        train(images, recipe, tmp_path / "m", resume=True)
    resumed = train(images, recipe, tmp_path / "m", views=Crops(12), resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_each_of_several_processes_makes_the_views_of_its_own_rows() -> None:
    recipe = small_recipe(channels_last=False)
    network = Network(recipe)
    learner = Learner(
        recipe, network, network.backbone, ViewSource(PIXELS, None), None, Criterion(None, network, 4), False,
        processes=Processes(rank=1, count=2), own_views=lambda pixels, generator: pixels,
    )  # fmt: skip
    rows = torch.tensor([3, 1, 0, 2, 2, 0, 1, 3])  # of two views, one after the other
    views = learner.views(rows, recipe.input, torch.Generator().manual_seed(0), 4)
    torch.testing.assert_close(views, normalise(PIXELS[[0, 2, 1, 3]], recipe.input))


def test_views_that_are_none_are_refused_before_pictures_are_read(images: ImageSet, tmp_path: Path) -> None:
    read: list[int] = []
    with pytest.raises(ConfigError, match=r"return shape \(3, 16, 16\)"):
        train(images, small_recipe(), tmp_path / "m", views=lambda pixels, _: pixels[0], on_load=read.append)
    assert not read


def test_views_that_take_something_else_are_refused(images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`views` \S+ cannot be called: it must take \(pixels, generator\)"):
        train(images, small_recipe(), tmp_path / "m", views=lambda pixels: pixels)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"`views` torch\.\S+\.Identity cannot be called: it must take \(pixels, generator\)"
    ):
        train(images, small_recipe(), tmp_path / "m", views=nn.Identity())


def test_the_finish_and_a_frozen_backbone_use_them_too(images: ImageSet, tmp_path: Path) -> None:
    views = Crops()
    train(images, with_finish(small_recipe(epochs=1), views=2), tmp_path / "finish", views=views)
    assert len(views.calls) == 2 + 10 + 2  # the finish describes two views of all pictures at once
    views = Crops()
    once = replace(FROZEN, train=replace(FROZEN.train, epochs=1, cached_views=3))
    models = [train(images, once, tmp_path / f"{n}", views=views, backbone=Patches()) for n in range(2)]
    assert len(views.calls) == 2 * (2 + 3)  # computed again, since their code may have changed
    assert models[0].facts["images"] == len(images)


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        (replace(small_recipe(), cluster=ClusterConfig(share=0.4)), "cluster.share"),
        (small_recipe(graph=True), "train.graph"),
    ],
)
def test_recipes_that_would_not_use_them_are_refused(recipe: Recipe, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"has {setting}, which does not work with `views`; set it to"):
        check_own_views(Crops(), recipe)
    with pytest.raises(ConfigError, match=r"`views` must be a module or a function of .* got int"):
        check_own_views(3, recipe)  # type: ignore[arg-type]
