from __future__ import annotations

import json
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
from torch._dynamo.testing import CompileCounterWithBackend

from conftest import training_recipe
from spq import SPQ
from spq.config import FinishConfig, Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import CollapseError, ConfigError, DataError, ModelError
from spq.model.model import Model
from spq.model.network import Network
from spq.training import train as train_module
from spq.training.checkpoint import read_checkpoint
from spq.training.muon import orthogonalise
from spq.training.neighbours import neighbours
from spq.training.run import TrainStatus, step_seed
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(400))


@pytest.fixture
def recipe() -> Recipe:
    return training_recipe()


def distance(model: Model, other: Model) -> float:
    """Between their weights, as a share: rounding differs, and the first steps of Adam make much of the least gradient."""
    return float(np.linalg.norm(weights(model) - weights(other)) / np.linalg.norm(weights(other)))


def weights(model: Model) -> np.ndarray:
    return np.concatenate([t.float().numpy().ravel() for t in model.network.state_dict().values()])


def test_same_seed_gives_the_same_weights_and_another_seed_others(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    first, second = (train(images, recipe, tmp_path / str(run)) for run in range(2))
    np.testing.assert_array_equal(weights(first), weights(second))
    other = train(images, replace(recipe, train=replace(recipe.train, seed=1)), tmp_path / "other")
    assert not np.array_equal(weights(first), weights(other))


def test_training_lowers_the_loss_and_beats_its_own_start(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    recipe = replace(recipe, train=replace(recipe.train, epochs=10))
    train(images, recipe, tmp_path / "m", on_status=seen.append)
    assert np.mean([s.loss for s in seen[-6:]]) < 0.8 * np.mean([s.loss for s in seen[:3]])
    assert (seen[-1].step, seen[-1].epoch, seen[-1].views, seen[-1].done) == (60, 10, 60 * 128, 1.0)
    rows = [json.loads(line) for line in (tmp_path / "m" / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 60
    assert rows[-1]["health"]["codeword_use"] > 0.3
    assert SPQ.load(tmp_path / "m").training["views"] == 60 * 128


class StopError(Exception):
    pass


def test_a_run_that_died_resumes_to_the_same_weights(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    whole = train(images, recipe, tmp_path / "whole")
    recipe = replace(recipe, train=replace(recipe.train, checkpoint_minutes=0.0))

    def die(epoch: int, network: object) -> None:
        if epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(images, recipe, tmp_path / "died", on_epoch=die)
    resumed = train(images, recipe, tmp_path / "died", resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


class Dropping(nn.Module):
    """A backbone that draws by itself in training, and takes pictures of `only` pixels if that is given."""

    def __init__(self, only: int = 0) -> None:
        super().__init__()
        self.conv, self.only = nn.Conv2d(3, 12, 5, 4), only

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] == self.only or not self.only, f"height {images.shape[2]} is not {self.only}"
        return nn.functional.dropout(torch.relu(self.conv(images)), 0.3, self.training).mean((2, 3))


def test_layers_that_draw_by_themselves_draw_after_a_resume_what_they_would_have_drawn(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    first = Dropping()
    again = Dropping()
    again.load_state_dict(first.state_dict())
    whole = train(images, recipe, tmp_path / "whole", backbone=first)

    def die(epoch: int, network: object) -> None:
        if epoch == 2:
            raise StopError

    often = replace(recipe, train=replace(recipe.train, checkpoint_minutes=0.0))
    with pytest.raises(StopError):
        train(images, often, tmp_path / "died", backbone=again, on_epoch=die)
    resumed = train(images, often, tmp_path / "died", backbone=Dropping(), resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_who_looks_after_every_epoch_how_good_the_network_is_changes_nothing(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    alone = train(images, with_finish(recipe), tmp_path / "alone")

    def look(epoch: int, network: Network) -> None:
        Model(network, recipe).encode(load(images))

    np.testing.assert_array_equal(
        weights(train(images, with_finish(recipe), tmp_path / "seen", on_epoch=look)), weights(alone)
    )


def test_a_resumed_training_takes_nothing_from_a_model_to_start_from(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    whole = train(images, recipe, tmp_path / "m")
    other = replace(recipe, input=replace(recipe.input, mean=(0.1, 0.1, 0.1)), head=replace(recipe.head, hidden=8))
    start = train(images, replace(other, train=replace(recipe.train, epochs=1)), tmp_path / "start")
    again = train(images, recipe, tmp_path / "m", resume=True, start=start)
    assert again.config == whole.config
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_a_backbone_that_takes_pictures_of_one_size_is_refused_before_pictures_are_read(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    smaller = replace(recipe, train=replace(recipe.train, view_scale=0.75, small_share=0.0))
    read: list[int] = []
    with pytest.raises(
        ConfigError, match=r"given/Dropping takes no pictures of 12 x 12 pixels \(height 12 is not 16\)"
    ):
        train(images, smaller, tmp_path / "m", backbone=Dropping(16), on_load=read.append)
    assert not read
    whole = replace(recipe, train=replace(recipe.train, small_share=0.0, epochs=1))
    train(images, whole, tmp_path / "m", backbone=Dropping(16))


def test_a_finish_without_a_share_of_the_minutes_has_one_of_the_progress(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    whole = with_finish(recipe)
    train(images, replace(whole, finish=replace(whole.finish, share=0.0)), tmp_path / "m", on_status=seen.append)
    done = [status.done for status in seen]
    assert done == sorted(done)
    assert [status.part for status in seen if status.done == 1] == ["head and codes"]


def with_finish(recipe: Recipe, **train: Any) -> Recipe:
    finish = FinishConfig(epochs=4, share=0.25, neighbours=5, batch_size=64)
    return replace(recipe, train=replace(recipe.train, **train), finish=finish)


def test_the_finish_learns_head_and_codes_anew_and_leaves_the_backbone(
    images: ImageSet, recipe: Recipe, tmp_path: Path
) -> None:
    seen: list[TrainStatus] = []
    plain = train(images, recipe, tmp_path / "plain")
    whole = train(images, with_finish(recipe), tmp_path / "whole", on_status=seen.append)
    for name, tensor in plain.network.backbone.state_dict().items():
        torch.testing.assert_close(whole.network.backbone.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(whole.network.head[-1].weight, plain.network.head[-1].weight)
    assert {key: whole.training[key] for key in ("steps", "views", "epochs")} == {
        key: plain.training[key] for key in ("steps", "views", "epochs")
    }
    assert [status.part for status in seen] == sorted((status.part for status in seen), reverse=True)
    assert {status.part for status in seen} == {"network", "head and codes"}
    done = [status.done for status in seen]
    assert [*done, 1] == [*sorted(done), done[-1]]
    assert max(status.done for status in seen if status.part == "network") == 0.75
    loaded = Model.load(tmp_path / "whole")
    assert loaded.config == whole.config == with_finish(recipe)


def test_tensorboard_shows_the_finish_beside_the_network_and_not_over_it(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    train(images, with_finish(recipe), tmp_path / "m", on_status=seen.append, tensorboard=True)
    board = EventAccumulator(str(tmp_path / "m" / "tensorboard"))
    board.Reload()
    for part, prefix in (("network", ""), ("head and codes", "finish/")):
        told = [(status.step, status.loss) for status in seen if status.part == part]
        events = board.Scalars(f"{prefix}loss")
        assert [event.step for event in events] == [step for step, _ in told]
        np.testing.assert_allclose([event.value for event in events], [loss for _, loss in told], rtol=1e-6)
        assert len(board.Scalars(f"{prefix}health/codeword_use")) == len(told)


def test_the_finish_draws_neighbours_together(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    pixels = load_pixels(images, 16).array
    shares = []
    for number, lr in enumerate((1e-9, 1e-2)):
        finish = replace(with_finish(recipe).finish, epochs=20, views=0, lr=lr)
        model = train(images, replace(recipe, finish=finish), tmp_path / str(number))
        near = neighbours(model.features(pixels), 5, 0, torch.device("cpu"))
        assert near is not None
        x = torch.nn.functional.normalize(torch.from_numpy(model.embed(pixels)), dim=1)
        found = (x @ x.T).fill_diagonal_(-1).topk(5).indices
        shares.append(float((found[:, :, None] == near[:, None]).any(2).float().mean()))
    assert shares[1] > shares[0] + 0.05


@pytest.mark.parametrize("dies", [("network", 1), ("network", 3), ("head and codes", 1), ("head and codes", 4)])
def test_a_training_with_a_finish_that_died_anywhere_resumes_to_the_same_weights(
    images: ImageSet, recipe: Recipe, tmp_path: Path, dies: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_finish(recipe, checkpoint_minutes=0.0)
    whole = train(images, recipe, tmp_path / "whole")

    def die(status: TrainStatus) -> None:
        if (status.part, status.epoch) == dies:
            raise RuntimeError

    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    with pytest.raises(RuntimeError):
        train(images, recipe, tmp_path / "died", on_status=die)
    resumed = train(images, recipe, tmp_path / "died", resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert {**resumed.training, "minutes": 0, "codes": 0} == {**whole.training, "minutes": 0, "codes": 0}
    again = train(images, recipe, tmp_path / "died", resume=True)
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_the_finish_is_kept_its_share_of_the_minutes(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    recipe = with_finish(recipe, minutes=0.05)
    model = train(images, recipe, tmp_path / "m", on_status=seen.append)
    network = [status for status in seen if status.part == "network"][-1]
    assert 2.25 <= network.seconds < 2.9  # seconds, of 3
    assert 60 * model.training["minutes"] >= network.seconds


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"share": 1.0}, "share must satisfy 0 <= share < 1, got 1.0"),
        ({"views": -1}, "views must be 0 or more, got -1"),
        ({"neighbours": 0}, "neighbours must be 1 or more, got 0"),
    ],
)
def test_a_finish_that_cannot_be_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        FinishConfig(**{"epochs": 1, **values})


@pytest.mark.slow
def test_kill_9_then_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        "[input]\nsize = 16\n[backbone]\nblocks = [1, 1]\nwidth = 16\n[quantizer]\nnum_codebooks = 4\ncodeword_dim = 8\n"
        "[train]\nbatch_size = 256\nepochs = 2\noptimizer = 'muon'\nlr = 1e-3\ncheckpoint_minutes = 0.0\n",
        "utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "spq",
        "train",
        "sample:train",
        "--recipe",
        str(tmp_path / "r.toml"),
        "--device",
        "cpu",
        "--out",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    victim = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed" / "config.json").exists()  # it did not get to its end
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, env=environment, capture_output=True)
    np.testing.assert_array_equal(weights(SPQ.load(tmp_path / "whole")), weights(SPQ.load(tmp_path / "killed")))


def test_ctrl_c_saves_a_checkpoint_first(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(images, recipe, tmp_path / "m", on_epoch=lambda epoch, network: os.kill(os.getpid(), signal.SIGINT))
    assert (tmp_path / "m" / "checkpoints" / "last.pt").exists()
    resumed = train(images, recipe, tmp_path / "m", resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(train(images, recipe, tmp_path / "whole")))


def test_a_budget_of_minutes_is_kept(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, train=replace(recipe.train, minutes=0.02))
    model = train(images, recipe, tmp_path / "m")
    assert 0.02 <= model.training["minutes"] < 0.2


def test_too_few_pictures_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 readable pictures in sample:train"):
        train(subset(open_images("sample:train"), range(5)), recipe, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_other_pictures_do_not_continue_a_training(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    train(images, recipe, tmp_path / "m")
    with pytest.raises(ModelError, match="made from other pictures"):
        train(subset(images, range(300)), recipe, tmp_path / "m", resume=True)


def test_a_diverging_loss_is_said(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    recipe = replace(recipe, train=replace(recipe.train, optimizer="adam", lr=1e30, warmup=0.0))
    with pytest.raises(CollapseError, match="lower the learning rate"):
        train(images, recipe, tmp_path / "m")


def test_a_damaged_checkpoint_is_refused(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="delete it to start anew"):
        train(images, recipe, tmp_path, resume=True)


def test_muon_makes_updates_nearly_orthogonal() -> None:
    G = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(G, 5))
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    torch.testing.assert_close(orthogonalise(G.T, 5), orthogonalise(G, 5).T)


def test_muon_on_the_small_square_equals_the_iteration_as_it_is_written() -> None:
    a, b, c = 3.4445, -4.7750, 2.0315
    G = torch.randn(24, 216, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, 24)[:, None]
    X = G.double() / G.double().norm()
    for _ in range(3):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    torch.testing.assert_close(orthogonalise(G, 3).double(), X, atol=2e-5, rtol=0)


def test_spq_train_from_python_needs_no_folder(images: ImageSet, recipe: Recipe) -> None:
    model = SPQ.train(images, recipe=recipe, bits=8, epochs=1)
    assert model.config.quantizer.bits == 8
    assert model.encode(load(images)).shape == (4, 2)


def load(images: ImageSet) -> list[object]:
    return [images.image(i) for i in range(4)]


def test_views_may_be_more_and_smaller_and_codebooks_are_refitted(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    make_views = train_module.make_views
    monkeypatch.setattr(train_module, "make_views", lambda *args: sizes.append(args[2].size) or make_views(*args))
    config = replace(
        recipe.train, num_views=3, view_scale=0.75, small_share=0.5, small_scale=0.5, epochs=2, refit=False
    )
    plain = train(images, replace(recipe, train=config), tmp_path / "plain")
    steps = 2 * (400 // 64)
    assert sizes == 3 * (steps // 2) * [8] + 3 * (steps // 2) * [12]
    assert plain.training["views"] == 3 * 64 * steps
    fitted = train(images, replace(recipe, train=replace(config, refit=True)), tmp_path / "fitted")
    x = torch.from_numpy(plain.embed([images.image(i) for i in range(len(images))]))
    errors = [model.network.quantizer.squared_distances(x).min(-1).values.sum().item() for model in (plain, fitted)]
    assert errors[1] < errors[0]


def test_a_finished_run_resumed_keeps_its_health(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    first = train(images, recipe, tmp_path / "m")
    again = train(images, recipe, tmp_path / "m", resume=True)
    assert {**again.training, "minutes": 0} == {**first.training, "minutes": 0}


def test_a_compiled_training_has_one_graph_for_each_size_of_the_views_and_learns_the_same(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CompileCounterWithBackend("aot_eager")  # the compiler without its last, slow stage: making kernels
    compile_, sizes = torch.compile, replace(recipe.train, small_share=0.5, small_scale=0.5, epochs=2)
    eager = train(images, replace(recipe, train=sizes), tmp_path / "eager")
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, backend=counter, **options))
    monkeypatch.setattr(train_module, "resolve_compile", lambda option, device: (option == "on", ""))
    make_views, ready = train_module.make_views, list[int]()
    monkeypatch.setattr(
        train_module, "make_views", lambda *args: ready.append(counter.frame_count) or make_views(*args)
    )
    compiled = train(images, replace(recipe, train=replace(sizes, compile="on")), tmp_path / "compiled")
    assert set(ready) == {2}  # both before the first step, and so before the clock
    batches = [{k: v for k, v in m.network.state_dict().items() if "num_batches" in k} for m in (compiled, eager)]
    assert batches[0] == batches[1]
    assert list(compiled.network.state_dict()) == list(eager.network.state_dict())
    other = train(images, replace(recipe, train=replace(sizes, seed=1)), tmp_path / "other")
    assert 10 * distance(compiled, eager) < distance(other, eager)
    assert SPQ.load(tmp_path / "compiled").hash == compiled.hash


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_kernels_learn_what_eager_ones_learn(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    notes: list[str] = []
    models = [
        train(
            images,
            replace(recipe, train=replace(recipe.train, compile=choice, small_share=0.0, epochs=2)),
            tmp_path / choice,
            on_note=notes.append,
        )
        for choice in ("off", "on")
    ]
    if notes:
        pytest.skip(notes[0])
    assert distance(models[1], models[0]) < 0.1


def test_a_training_that_cannot_be_compiled_says_so_and_goes_on(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(train_module, "resolve_compile", lambda option, device: (False, "not compiled: no compiler"))
    train(images, replace(recipe, train=replace(recipe.train, epochs=1)), tmp_path, on_note=notes.append)
    short = replace(recipe.train, minutes=0.01)  # not even asked for
    train(images, replace(recipe, train=short), tmp_path / "short", on_note=notes.append)
    assert notes == ["not compiled: no compiler"]


def test_a_network_that_cannot_be_compiled_says_so_and_learns_the_same_without(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: torch.nn.Module, **options: Any) -> Any:
        def forward(view: torch.Tensor) -> Any:
            network(view)  # which moves batch statistics
            raise RuntimeError("backend raised:\n  no kernel for this")

        return forward

    notes: list[str] = []
    once = replace(recipe.train, epochs=1)
    eager = train(images, replace(recipe, train=once), tmp_path / "eager")
    monkeypatch.setattr(train_module, "resolve_compile", lambda option, device: (option == "on", ""))
    monkeypatch.setattr(torch, "compile", broken)
    model = train(images, replace(recipe, train=replace(once, compile="on")), tmp_path / "on", on_note=notes.append)
    assert notes == ["training is not compiled, which is slower: no kernel for this"]
    assert distance(model, eager) == 0


def test_weights_that_are_not_finite_leave_the_checkpoint_of_before(
    images: ImageSet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 1e9)  # no look at the loss

    def break_down(epoch: int, network: Network) -> None:
        if epoch == 2:
            network.quantizer.codebooks.data.fill_(torch.nan)

    often = replace(recipe, train=replace(recipe.train, checkpoint_minutes=0.0, epochs=4))
    with pytest.raises(CollapseError, match="weights are not finite at step"):
        train(images, often, tmp_path, on_epoch=break_down)
    network = Network(often)
    network.load_state_dict(read_checkpoint(tmp_path)["network"])  # type: ignore[index]
    assert all(p.isfinite().all() for p in network.parameters())
    train(images, often, tmp_path, resume=True)


def test_another_backbone_than_the_checkpoints_is_refused(images: ImageSet, recipe: Recipe, tmp_path: Path) -> None:
    once = replace(recipe, train=replace(recipe.train, epochs=1))
    train(images, once, tmp_path)
    with pytest.raises(ConfigError, match="given backbone does not fit the checkpoint; give one of its shapes"):
        train(images, once, tmp_path, resume=True, backbone=torch.nn.Sequential(torch.nn.Flatten()))


@pytest.mark.parametrize("known", [{"pretrained": True}, {"weights": "w.safetensors"}])
def test_an_optimizer_that_unlearns_pretrained_weights_is_refused(
    images: ImageSet, recipe: Recipe, tmp_path: Path, known: dict[str, Any]
) -> None:
    backbone = replace(recipe.backbone, name="timm/resnet18", **known)
    muon = replace(recipe, backbone=backbone, train=replace(recipe.train, optimizer="muon"))
    with pytest.raises(ConfigError, match="with which timm/resnet18 unlearns what it knows; use --recipe finetune"):
        train(images, muon, tmp_path)


def test_views_of_other_seeds_and_steps_are_others() -> None:
    drawn = {
        float(torch.rand(1, generator=torch.Generator().manual_seed(step_seed(seed, step))))
        for seed in (0, 1, 2, 20240101, 2**40)
        for step in range(20)
    }
    assert len(drawn) == 100
