"""Training on two processes gives what one gives, also stopped and continued; if one ends, the other ends with a line."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_training import COUNT, FROZEN, Patches, sample_images, small_recipe, weights, with_finish
from spq.cli import main as cli
from spq.errors import ConfigError
from spq.training.context import draw_sample
from spq.training.processes import ALONE, Processes, joined
from spq.training.run import Run
from spq.training.train import train
from together import finish, printed, start, together

# 20 steps and the finish; at the high rates of recipe fast, Adam and Muon amplify the rounding of any two runs
RECIPE = with_finish(small_recipe(epochs=4, optimizer="adam", lr=1e-3, one_pass=True, refit=False), epochs=2, lr=1e-3)


def trained(out: Path, resume: bool = False, stop_after: int = 0) -> Any:
    """The weights of a training, or the steps after which it was stopped."""
    steps = []

    def on_epoch(epoch: int, network: Any) -> None:
        steps.append(epoch)
        if epoch == stop_after:
            signal.raise_signal(signal.SIGTERM)

    try:
        model = train(sample_images(), RECIPE, out, resume=resume, measure=False, on_epoch=on_epoch)
    except KeyboardInterrupt:
        return "stopped"
    return weights(model)


def furthest(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max())


def test_two_processes_learn_what_one_learns_also_if_a_training_changes_their_number(tmp_path: Path) -> None:
    wanted = trained(tmp_path / "one")
    first, second = together(2, trained, tmp_path / "two", folder=tmp_path)
    assert (first == second).all()
    assert furthest(first, wanted) < 1e-4

    out = tmp_path / "changing"
    assert together(2, trained, out, False, 1, folder=tmp_path) == ["stopped", "stopped"]
    assert [trained(out, resume=True, stop_after=2)] == ["stopped"]
    assert furthest(together(2, trained, out, True, folder=tmp_path)[0], wanted) < 1e-4
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [(row["part"], row["step"]) for row in lines] == [
        ("network", 5),
        ("network", 10),
        ("network", 20),
        ("head and codes", 10),
    ]


def frozen(out: Path) -> tuple[np.ndarray, dict[str, Any]]:
    torch.manual_seed(int(os.environ["RANK"]))  # so each process has a backbone of its own
    model = train(sample_images(), FROZEN, out, backbone=Patches(), measure=False)
    return weights(model), model.facts


def test_features_are_computed_by_the_first_process_and_all_get_its_model(tmp_path: Path) -> None:
    (first, facts), (second, same) = together(2, frozen, tmp_path / "m", folder=tmp_path)
    np.testing.assert_array_equal(first, second)
    assert facts == same
    assert facts["images"] == COUNT


def train_command(out: Path, recipe: Path, rank: int, number: int) -> None:
    """`spq train`, in which a process gets a signal during the third step."""
    after_step = Run.after_step

    def signalled(run: Run, *given: Any) -> None:
        after_step(run, *given)
        if run.progress.step == 3 and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), number)

    Run.after_step = signalled  # type: ignore[method-assign]
    os._exit(
        cli.run_stoppable(["train", "sample:train", "--out", str(out), "--recipe", str(recipe), "--epochs", "500"])
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_any_process_ends_all_with_one_checkpoint_and_one_line(
    rank: int, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    processes = start(2, train_command, out, recipe_file, rank, signal.SIGTERM, folder=tmp_path)
    assert finish(processes) == [143, 143]
    assert torch.load(out / "checkpoints" / "last.pt", weights_only=True)["step"] == 3
    again = f"torchrun --nproc-per-node 2 -m spq train sample:train --out {out} --resume"
    assert printed(tmp_path, 0).splitlines()[-1] == f"spq: stopped; continue with: {again}"
    assert printed(tmp_path, 1) == ""


@pytest.mark.parametrize("rank", [0, 1])
def test_if_a_process_is_killed_the_other_ends_with_one_line(rank: int, recipe_file: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "m", 1 - rank
    processes = start(2, train_command, out, recipe_file, rank, signal.SIGKILL, folder=tmp_path)
    assert finish(processes)[other] == 1
    said = [line for line in printed(tmp_path, other).splitlines() if line.startswith("spq: ")]
    assert said == [
        "spq: another process of this training has ended, so this one ends too; its own message says why, and --resume "
        "continues from the last checkpoint"
    ]


def waiting(left: Path) -> str:
    """The first process works until the other, which waits for it and gets a signal, has left."""
    try:
        with joined("cpu") as processes:
            if processes.is_first:
                while not left.exists():
                    time.sleep(0.01)
            else:
                signal.signal(signal.SIGALRM, signal.default_int_handler)
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                processes.meet()
    except KeyboardInterrupt:
        left.touch()
        return "left"
    return "worked"


def test_a_signal_ends_a_process_that_waits(tmp_path: Path) -> None:
    assert together(2, waiting, tmp_path / "left", folder=tmp_path) == ["worked", "left"]


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    Processes(count=4).check_batch(16)
    with pytest.raises(
        ConfigError, match=r"train.batch_size is 18, which 4 processes cannot share evenly; set it to 16, or start 3"
    ):
        Processes(count=4).check_batch(18)


def test_one_process_shares_nothing() -> None:
    loss = torch.tensor(2.0)
    assert ALONE.sum_gradients([], loss) is loss
    assert ALONE.from_first(lambda: 5) == 5
    assert ALONE.own(7) == slice(0, 7)


def test_a_sample_is_drawn_with_the_seed_and_recorded(tmp_path: Path) -> None:
    images, recipe = sample_images(), small_recipe(epochs=1)
    model = train(images, recipe, tmp_path / "a", sample=64, measure=False)
    assert (model.facts["images"], model.facts["sample"]) == (64, 64)
    again = train(images, recipe, tmp_path / "b", sample=64, measure=False)
    assert model.hash == again.hash
    assert draw_sample(images, 64, 1).ids != draw_sample(images, 64, 2).ids
    assert draw_sample(images, 1000, 1) is images
