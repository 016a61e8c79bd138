"""The minutes of a training: it ends in time although reading, measuring and other programs take theirs.

Time is simulated: it passes only while pictures are described, and in callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_training import COUNT, FROZEN, sample_images, small_recipe, with_finish
from spq.config import Recipe
from spq.training.budget import Budget, Ending, Stopwatch
from spq.training.callbacks import TrainStatus
from spq.training.train import train

LIMIT = 60.0  # seconds
MINUTES = LIMIT / 60


class Busy(nn.Module):
    """A backbone (B, 3, S, S) -> (B, 16) that takes simulated time, more of it while other programs run.

    Args:
        learning, describing: seconds for a picture in training and in evaluation mode.
        load: moment -> factor of these seconds.
    """

    def __init__(self, learning: float, describing: float, load: Callable[[float], float] = lambda _: 1.0) -> None:
        super().__init__()
        self.costs, self.load, self.now = (describing, learning), load, 0.0
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.now += len(images) * self.costs[self.training] * self.load(self.now)
        return nn.functional.adaptive_avg_pool2d(self.conv(images), 2).flatten(1)

    def clock(self) -> float:
        return self.now


def run(out: Path, recipe: Recipe, backbone: Busy, **options: Any) -> tuple[list[TrainStatus], dict[str, Any]]:
    """Train with simulated time; returns the statuses and the facts of the model."""
    seen: list[TrainStatus] = []
    recipe = replace(recipe, train=replace(recipe.train, minutes=MINUTES, epochs=1))
    images, clock = sample_images(), backbone.clock
    model = train(images, recipe, out, backbone=backbone, clock=clock, on_status=seen.append, device="cpu", **options)
    return seen, model.facts


def test_learning_ends_early_enough_to_measure_and_save_the_model(tmp_path: Path) -> None:
    backbone = Busy(learning=0.02, describing=0.02)  # describing 160 pictures and their copies takes 6.4 s
    seen, facts = run(tmp_path, small_recipe(), backbone)
    assert 0.95 * LIMIT <= backbone.now <= 1.05 * LIMIT
    assert seen[-1].seconds < LIMIT - 5
    assert facts["minutes"] == pytest.approx(backbone.now / 60, abs=0.01)  # of everything


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_the_budget_holds_when_other_programs_start_or_end(factor: float, tmp_path: Path) -> None:
    backbone = Busy(0.02, 0.01, lambda now: factor if now > LIMIT / 3 else 1.0)
    run(tmp_path, small_recipe(), backbone)
    assert 0.9 * LIMIT <= backbone.now <= 1.1 * LIMIT


def test_the_time_for_reading_pictures_and_for_starting_the_program_counts(tmp_path: Path) -> None:
    backbone = Busy(0.02, 0.01)

    def read(done: int) -> None:
        backbone.now += 20.0 * (done == COUNT)

    seen, facts = run(tmp_path, small_recipe(), backbone, on_load=read, began=-10.0)
    assert 0.95 * LIMIT <= backbone.now + 10 <= 1.05 * LIMIT
    assert facts["minutes"] == pytest.approx(MINUTES, rel=0.1)
    assert 0 < seen[0].seconds_left < LIMIT - 30


def test_a_budget_that_reading_uses_up_is_reported_and_something_is_learned(tmp_path: Path) -> None:
    backbone, notes = Busy(0.02, 0.01), list[str]()

    def read(done: int) -> None:
        backbone.now += 70.0 * (done == COUNT)

    seen, _ = run(tmp_path, small_recipe(), backbone, on_load=read, on_note=notes.append)
    assert notes == ["reading pictures took 1.2 of 1 minutes, so little is learned in the rest; give more minutes"]
    assert seen[-1].step > 0
    assert backbone.now < 70 + 0.15 * LIMIT


def test_the_finish_takes_its_share_and_no_more(tmp_path: Path) -> None:
    backbone = Busy(0.02, 0.01)
    seen, _ = run(tmp_path, with_finish(small_recipe(), epochs=20, share=0.3), backbone, on_stage=costs(backbone))
    network = max(status.seconds for status in seen if status.part == "network")
    assert 0.55 * LIMIT <= network <= 0.75 * LIMIT
    assert 0.9 * LIMIT <= backbone.now <= 1.1 * LIMIT


def costs(backbone: Busy) -> Callable[[str, int, int], None]:
    """Each batch of head and codes takes no simulated time, so let neighbours take all that is left but a little."""

    def on_stage(what: str, done: int, total: int) -> None:
        if what == "neighbours" and done == total:
            backbone.now = max(backbone.now, 0.95 * LIMIT)

    return on_stage


def test_head_and_codes_on_features_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    backbone = Busy(0.02, 0.01)

    def pass_time(status: TrainStatus) -> None:
        backbone.now += 0.5

    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    recipe = replace(FROZEN, train=replace(FROZEN.train, minutes=MINUTES))
    model = train(
        sample_images(), recipe, tmp_path / "m", backbone=backbone, clock=backbone.clock, device="cpu", on_status=pass_time
    )  # fmt: skip
    assert 0.9 * LIMIT <= backbone.now <= 1.1 * LIMIT
    assert model.facts["minutes"] == pytest.approx(MINUTES, rel=0.1)


def test_estimating_the_end_does_not_change_the_training(tmp_path: Path) -> None:
    """With a budget that never ends, the epochs of a recipe without minutes give the same weights."""
    torch.manual_seed(0)
    weights = Busy(0.02, 0.01).state_dict()
    found = []
    for name, minutes in (("a", 0.0), ("b", 1e6)):
        backbone = Busy(0.02, 0.01)
        backbone.load_state_dict(weights)
        networks: list[Tensor] = []

        def keep(epoch: int, network: Any, into: list[Tensor] = networks) -> None:
            into.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
            if epoch == 3:
                raise KeyboardInterrupt

        recipe = small_recipe(minutes=minutes, schedule="constant", optimizer="adam", warmup=0.0, small_share=0.0)
        with pytest.raises(KeyboardInterrupt):
            train(sample_images(), recipe, tmp_path / name, backbone=backbone, on_epoch=keep, clock=backbone.clock)
        found.append(networks)
    assert len(found[0]) == len(found[1]) == 3
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_deadline_is_the_end_of_learning_so_nothing_is_reserved(tmp_path: Path) -> None:
    backbone = Busy(0.02, 0.01)
    seen: list[TrainStatus] = []
    train(
        sample_images(), small_recipe(), tmp_path, backbone=backbone, clock=backbone.clock, deadline=LIMIT,
        on_status=seen.append, device="cpu",
    )  # fmt: skip
    assert LIMIT <= seen[-1].seconds < 1.05 * LIMIT


def test_an_estimate_is_averaged_with_the_one_before() -> None:
    estimates = iter([Ending(1.0, 10, 4.0), Ending(3.0, 20, 2.0)])
    budget = Budget()
    budget.estimate_again()
    assert budget.ending.seconds == 0  # nothing is planned yet
    budget.plan_ending(lambda: next(estimates))
    assert budget.ending.seconds == 14
    budget.estimate_again()
    assert budget.ending == Ending(2.0, 20, 3.0)


def test_a_stopwatch_adds_the_seconds_before_and_counts_from_a_given_moment() -> None:
    assert Stopwatch(lambda: 5.0, before=10.0, start=2.0).seconds == 13.0
    assert Stopwatch(lambda: 5.0, before=10.0).elapsed == 0.0
