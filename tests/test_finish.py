"""The finish: a new head and new codebooks on the features of the trained backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_training import (
    FROZEN,
    FakeClock,
    Patches,
    StopError,
    sample_images,
    small_recipe,
    weights,
    with_finish,
)
from spq.config import FinishConfig, Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.model import Model
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint_file import read_checkpoint
from spq.training.context import Training, TrainOptions
from spq.training.neighbours import POOL, neighbours
from spq.training.stages.finish import _find_neighbours
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture
def recipe() -> Recipe:
    return small_recipe(checkpoint_minutes=0.0)


@pytest.fixture(autouse=True)
def log_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)


def stop_in_the_finish(status: TrainStatus) -> None:
    if (status.part, status.epoch) == ("head and codes", 1):
        raise StopError


def test_the_finish_learns_a_new_head_and_leaves_the_backbone(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    plain = train(images, recipe, tmp_path / "plain")
    whole = train(images, with_finish(recipe), tmp_path / "whole", on_status=seen.append)
    for name, tensor in plain.network.backbone.state_dict().items():
        torch.testing.assert_close(whole.network.backbone.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(whole.network.head[-1].weight, plain.network.head[-1].weight)
    assert {key: whole.facts[key] for key in ("steps", "views", "epochs")} == {
        key: plain.facts[key] for key in ("steps", "views", "epochs")
    }
    parts = [status.part for status in seen]
    assert parts == parts.count("network") * ["network"] + parts.count("head and codes") * ["head and codes"]
    done = [status.done for status in seen]
    assert done == sorted(done)
    assert max(status.done for status in seen if status.part == "network") == 0.75
    loaded = Model.load(tmp_path / "whole")
    assert loaded.config == whole.config == with_finish(recipe)


def test_the_finish_brings_neighbours_together(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    pixels = load_pixels(images, 16).array
    shares = []
    for number, lr in enumerate((1e-9, 1e-2)):
        model = train(images, with_finish(recipe, epochs=20, views=0, lr=lr), tmp_path / str(number))
        near = neighbours(model.features(pixels), 5, 0, torch.device("cpu"))
        assert near is not None
        x = torch.nn.functional.normalize(torch.from_numpy(model.embed(pixels)), dim=1)
        found = (x @ x.T).fill_diagonal_(-1).topk(5).indices
        shares.append(float((found[:, :, None] == near[:, None]).any(2).float().mean()))
    assert shares[1] > shares[0] + 0.05


def test_a_finish_by_the_clock_describes_some_pictures_and_resumes_with_the_same(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.stages.finish.CHUNK", 4)  # 40 chunks
    # of 10 seconds about 2 are for the end, and 7 for the finish; half of these are for features
    timed = replace(with_finish(recipe, epochs=100_000, share=0.9), train=replace(recipe.train, minutes=0.17))
    clock = FakeClock(0.1)

    def stop(status: TrainStatus) -> None:
        if status.part == "head and codes":
            clock.step = 0.01  # steps are quick
        stop_in_the_finish(status)

    with pytest.raises(StopError):
        train(images, timed, tmp_path, on_status=stop, clock=clock)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    described = len(checkpoint["near"])
    assert 16 <= described < 160
    seen: list[TrainStatus] = []
    train(images, timed, tmp_path, resume=True, on_status=seen.append, clock=FakeClock(0.05))
    assert len(read_checkpoint(tmp_path)["near"]) == described  # type: ignore[index]
    assert seen[-1].done > 0.95  # it ends, though not by its epochs
    assert seen[-1].epoch < 100_000


def test_a_finish_of_some_of_the_pictures_resumes_to_the_same_weights(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.stages.finish.PICTURES", 100)
    seen: list[TrainStatus] = []
    whole = train(images, with_finish(recipe), tmp_path / "whole", on_status=seen.append)
    batch = min(32, 100 // 4)
    assert (seen[-1].part, seen[-1].step, seen[-1].epoch) == ("head and codes", 4 * (100 // batch), 4)
    assert whole.facts["images"] == 160
    with pytest.raises(StopError):
        train(images, with_finish(recipe), tmp_path / "stopped", on_status=stop_in_the_finish)
    resumed = train(images, with_finish(recipe), tmp_path / "stopped", resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_a_given_backbone_still_learns_after_a_training_that_froze_it(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    backbone = Patches()
    head = train(images, FROZEN, tmp_path / "head", backbone=backbone)
    tune = with_finish(replace(FROZEN, train=replace(FROZEN.train, frozen=False, epochs=1)), epochs=1)
    for name in ("tuned", "once more"):
        before = backbone.conv.weight.detach().clone()
        train(images, tune, tmp_path / name, backbone=backbone, start=head)
        assert not torch.equal(backbone.conv.weight, before)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"share": 1.0}, "share.*1.0"), ({"views": -1}, "views.*-1"), ({"neighbours": 0}, "neighbours.*0")],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinishConfig(**{"epochs": 1, **values})


def test_neighbours_are_sought_among_as_many_pictures_as_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pools = 0.0, []

    def slow_neighbours(features: Any, count: int, seed: int, device: Any, pool: int = POOL, *_: Any) -> torch.Tensor:
        nonlocal now
        pools.append(min(pool, len(features)))
        now += (pools[-1] / 1000) ** 2  # a second for 1,000 pictures
        return torch.zeros(len(features), count, dtype=torch.long)

    monkeypatch.setattr("spq.training.stages.finish.neighbours", slow_neighbours)
    options = TrainOptions(clock=lambda: now)
    training = Training(sample_images(16), with_finish(small_recipe()), tmp_path, torch.device("cpu"), options)
    features = np.zeros((10_000, 1, 2), np.float32)
    for seconds, pool in ((16.0, 4000), (0.1, 1000), (1e6, 10_000)):
        pools.clear()
        _find_neighbours(training, features, seconds)
        assert pools == [1000, pool]
