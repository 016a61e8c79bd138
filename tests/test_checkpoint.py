"""A training that stopped at any moment resumes to the weights of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import run_spq
from small_training import StopError, sample_images, small_recipe, weights, with_finish
from spq import SPQ
from spq.config import ClusterConfig, Recipe
from spq.data.image_set import ImageSet, subset
from spq.errors import CollapseError, ConfigError, ModelError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint import Checkpoint, Phase, Progress
from spq.training.checkpoint_file import read_checkpoint
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """It saves a checkpoint after every step."""
    return small_recipe(checkpoint_minutes=0.0)


@pytest.fixture(scope="module")
def whole_folder(images: ImageSet, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(images, recipe, folder)
    return folder


@pytest.fixture(scope="module")
def whole(whole_folder: Path) -> Model:
    return Model.load(whole_folder)


def stop_after_epoch_2(epoch: int, network: object) -> None:
    if epoch == 2:
        raise StopError


def test_a_stopped_training_resumes_to_the_same_weights(
    images: ImageSet, recipe: Recipe, whole: Model, tmp_path: Path
) -> None:
    with pytest.raises(StopError):
        train(images, recipe, tmp_path, on_epoch=stop_after_epoch_2)
    resumed = train(images, recipe, tmp_path, resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


class Dropping(nn.Module):
    """A backbone that draws random numbers in training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 5, 4)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(torch.relu(self.conv(images)), 0.3, self.training).mean((2, 3))


def test_dropout_draws_the_same_numbers_after_a_resume(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    first, again = Dropping(), Dropping()
    again.load_state_dict(first.state_dict())
    whole = train(images, recipe, tmp_path / "whole", backbone=first)
    with pytest.raises(StopError):
        train(images, recipe, tmp_path / "stopped", backbone=again, on_epoch=stop_after_epoch_2)
    resumed = train(images, recipe, tmp_path / "stopped", backbone=Dropping(), resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


@pytest.fixture(scope="module")
def finished(images: ImageSet, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return train(images, with_finish(recipe), tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize("moment", [("network", 1), ("network", 3), ("head and codes", 1), ("head and codes", 4)])
def test_a_training_with_a_finish_resumes_from_any_stage(
    images: ImageSet, recipe: Recipe, finished: Model, tmp_path: Path, moment: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def stop(status: TrainStatus) -> None:
        if (status.part, status.epoch) == moment:
            raise StopError

    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    with pytest.raises(StopError):
        train(images, with_finish(recipe), tmp_path, on_status=stop)
    for _ in range(2):  # a training that ended also resumes, and has nothing more to learn
        resumed = train(images, with_finish(recipe), tmp_path, resume=True)
        np.testing.assert_array_equal(weights(resumed), weights(finished))
        assert {**resumed.facts, "minutes": 0, "seconds": 0, "codes": 0} == {
            **finished.facts,
            "minutes": 0,
            "seconds": 0,
            "codes": 0,
        }


def test_a_resumed_training_ignores_the_model_to_start_from(
    images: ImageSet, recipe: Recipe, whole: Model, whole_folder: Path, tmp_path: Path
) -> None:
    other = replace(recipe, input=replace(recipe.input, mean=(0.1, 0.1, 0.1)), head=replace(recipe.head, hidden=8))
    start = train(images, replace(other, train=replace(recipe.train, epochs=1)), tmp_path)
    again = train(images, recipe, whole_folder, resume=True, start=start)
    assert again.config == whole.config
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_a_resumed_training_that_ended_keeps_its_facts(
    images: ImageSet, recipe: Recipe, whole: Model, whole_folder: Path
) -> None:
    again = train(images, recipe, whole_folder, resume=True)
    assert {**again.facts, "minutes": 0, "seconds": 0} == {**whole.facts, "minutes": 0, "seconds": 0}


def test_ctrl_c_saves_a_checkpoint_first(images: ImageSet, whole: Model, tmp_path: Path) -> None:
    recipe = small_recipe()  # which saves no other checkpoint
    with pytest.raises(KeyboardInterrupt):
        train(images, recipe, tmp_path, on_epoch=lambda epoch, network: os.kill(os.getpid(), signal.SIGINT))
    assert read_checkpoint(tmp_path)["step"] == 5  # type: ignore[index]
    np.testing.assert_array_equal(weights(train(images, recipe, tmp_path, resume=True)), weights(whole))


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        "[input]\nsize = 16\n[backbone]\nblocks = [1, 1]\nwidth = 8\n[quantizer]\nnum_codebooks = 4\ncodeword_dim = 8\n"
        "[train]\nbatch_size = 15\nepochs = 6\noptimizer = 'muon'\nlr = 1e-3\ncheckpoint_minutes = 0.0\n",
        "utf-8",
    )
    options = ["--recipe", str(recipe), "--device", "cpu", "--out"]
    command = [sys.executable, "-m", "spq", "train", str(photos), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    victim = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed" / "config.json").exists()  # it had not ended
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, env=environment, capture_output=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in those processes
    assert run_spq("train", photos, *options, tmp_path / "whole") == 0
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(weights(SPQ.load(tmp_path / "whole")), weights(SPQ.load(tmp_path / "killed")))
    left = {path.name for path in (tmp_path / "killed").rglob(".*")}
    assert not left  # neither locks nor parts of files


def test_other_pictures_do_not_continue_a_training(images: ImageSet, recipe: Recipe, whole_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"made from other pictures than .*; use the same pictures, or a new `out`"):
        train(subset(images, range(100)), recipe, whole_folder, resume=True)


def test_a_damaged_checkpoint_is_refused(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="delete it to start again"):
        train(images, recipe, tmp_path, resume=True)


def test_a_file_of_other_content_is_no_checkpoint(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for content in ({"weights": 1}, [1, 2]):
        torch.save(content, tmp_path / "checkpoints" / "last.pt")
        with pytest.raises(ModelError, match=r"last.pt is not a checkpoint of spq; delete it"):
            train(images, recipe, tmp_path, resume=True)


def test_a_backbone_of_other_shapes_than_the_checkpoints_is_refused(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    def small(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, width, 5, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    with pytest.raises(StopError):
        train(images, recipe, tmp_path, backbone=small(12), on_epoch=stop_after_epoch_2)
    with pytest.raises(
        ConfigError, match="`backbone` does not fit the checkpoint; give a backbone with the same shapes"
    ):
        train(images, recipe, tmp_path, resume=True, backbone=small(8))


def test_weights_that_are_not_finite_do_not_replace_the_checkpoint(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 1e9)  # the loss is not looked at

    def spoil(epoch: int, network: Network) -> None:
        if epoch == 2:
            network.quantizer.codebooks.data.fill_(torch.nan)

    with pytest.raises(CollapseError, match="weights are not finite at step 11"):
        train(images, recipe, tmp_path, on_epoch=spoil)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint["step"] == 10
    assert all(t.isfinite().all() for t in checkpoint["network"].values())
    train(images, recipe, tmp_path, resume=True)


KEYS = {
    "recipe", "fingerprint", "near", "network", "optimizers", "step", "seconds", "trained", "began", "targets", "parts", "loss",
}  # fmt: skip


def test_the_keys_of_the_file_stay_so_that_old_checkpoints_resume(whole_folder: Path) -> None:
    assert set(read_checkpoint(whole_folder) or {}) == KEYS


def test_a_checkpoint_from_before_the_finish_existed_is_read(whole_folder: Path, tmp_path: Path) -> None:
    content = read_checkpoint(whole_folder) or {}
    del content["trained"], content["began"], content["targets"], content["parts"], content["loss"]
    (tmp_path / "checkpoints").mkdir()
    torch.save(content, tmp_path / "checkpoints" / "last.pt")
    checkpoint = Checkpoint.load(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.phase, checkpoint.progress.step, checkpoint.progress.began) == (Phase.NETWORK, 15, 0.0)


@pytest.mark.parametrize(
    ("changes", "facts", "phase"),
    [
        ({}, None, Phase.NETWORK),
        ({}, {"steps": 3.0}, Phase.FINISH),
        ({"cluster": ClusterConfig(share=0.5)}, None, Phase.NETWORK),
        ({"cluster": ClusterConfig(share=0.5)}, {"steps": 3.0}, Phase.CLUSTER),
        ({"train": small_recipe(frozen=True).train}, None, Phase.FROZEN_HEAD),
    ],
)
def test_recipe_and_progress_decide_the_phase(
    changes: dict[str, Any], facts: dict[str, float] | None, phase: Phase, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    progress = Progress(step=7, seconds=2.5, network_facts=facts, began=1.5)
    near = torch.tensor([[1], [0]])
    Checkpoint(replace(small_recipe(), **changes), phase, "ab", near, {}, [], progress).save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded is not None
    assert (loaded.phase, loaded.progress, loaded.fingerprint) == (phase, progress, "ab")
    assert torch.equal(loaded.neighbour_ids, near)  # type: ignore[arg-type]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert Checkpoint.load(tmp_path) is None
