"""What surrounds a loop: batches, budgets by an injected clock, progress and TensorBoard."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import COUNT, FakeClock, sample_images, small_recipe, with_finish
from spq.config import Recipe
from spq.data.image_set import ImageSet
from spq.model.network import Network
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint import Phase, Progress
from spq.training.context import Training, TrainOptions
from spq.training.optimizers import make_optimizers
from spq.training.run import Part, Run, Stopwatch, step_seed
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


def make_run(out: Path, recipe: Recipe, progress: Progress | None = None) -> Run:
    training = Training(sample_images(16), recipe, out, torch.device("cpu"), TrainOptions())
    network = Network(recipe)
    part = Part(Phase.NETWORK, recipe, network, make_optimizers(network, recipe), count=70, batch_size=16)
    return Run(training, part, progress or Progress())


def take(run: Run) -> list[tuple[list[int], int]]:
    """All batches of a run: rows, and the seed of the views."""
    found = []
    for rows, generator in run.batches():
        found.append((rows.tolist(), generator.initial_seed()))
        run.progress.step += 1
    return found


def test_batches_are_shuffled_pictures_without_the_incomplete_last_batch(tmp_path: Path) -> None:
    batches = take(make_run(tmp_path, small_recipe(epochs=2)))
    assert len(batches) == 2 * 4
    for epoch in (batches[:4], batches[4:]):
        rows = [row for batch, _ in epoch for row in batch]
        assert len(set(rows)) == len(rows) == 64
        assert max(rows) < 70
    assert batches[0][0] != batches[4][0]  # each epoch has its own order
    assert len({seed for _, seed in batches}) == 8


def test_batches_after_a_resume_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    recipe = small_recipe(epochs=3)
    whole = take(make_run(tmp_path, recipe))
    for step in (1, 4, 7):
        assert take(make_run(tmp_path, recipe, Progress(step=step))) == whole[step:]


def test_an_interrupted_run_gives_no_more_batches(tmp_path: Path) -> None:
    run = make_run(tmp_path, small_recipe(epochs=3))
    for _ in run.batches():
        run.progress.step += 1
        run.interrupted = run.progress.step == 5
    assert run.progress.step == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_handler_of_the_program_learns_of_a_signal_after_the_checkpoint(number: int, tmp_path: Path) -> None:
    run, heard = make_run(tmp_path, small_recipe(epochs=3)), []
    before = signal.signal(
        number, lambda *given: heard.append((given[0], (tmp_path / "checkpoints" / "last.pt").exists()))
    )
    try:
        with pytest.raises(KeyboardInterrupt), run.interruptible():  # noqa: PT012 (what the block does is tested)
            signal.raise_signal(number)
            assert run.interrupted
            assert not heard
    finally:
        signal.signal(number, before)
    assert heard == [(number, True)]


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    run = make_run(tmp_path, small_recipe(epochs=5, optimizer="adam", lr=1.0, warmup=0.2, schedule="cosine"))
    rates = []
    for _ in run.batches():
        rates.append(run.part.optimizers[0].param_groups[0]["lr"])
        run.progress.step += 1
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert rates[12] == pytest.approx(0.5)  # the middle of the cosine
    assert rates[-1] < 0.02


def test_views_of_other_seeds_and_steps_differ() -> None:
    drawn = {
        float(torch.rand(1, generator=torch.Generator().manual_seed(step_seed(seed, step))))
        for seed in (0, 1, 2, 20240101, 2**40)
        for step in range(20)
    }
    assert len(drawn) == 100


def test_a_stopwatch_adds_the_seconds_before() -> None:
    clock = FakeClock(1.0)
    watch = Stopwatch(clock, before=10.0)
    assert [watch.elapsed, watch.seconds] == [1.0, 12.0]


def test_a_budget_of_minutes_ends_the_training(images: ImageSet, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    model = train(images, small_recipe(minutes=0.1), tmp_path, on_status=seen.append, clock=FakeClock(0.02))
    assert seen[-1].done == 1.0
    assert 4.5 <= seen[-1].seconds < 6  # the rest is for the end: tests/test_budget.py
    assert seen[-1].step > 3  # it did not end by its epochs, nor at once
    assert model.facts["minutes"] == pytest.approx(0.1, abs=0.03)


def test_a_deadline_replaces_the_minutes(images: ImageSet, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    recipe = small_recipe(epochs=10_000)
    model = train(images, recipe, tmp_path, on_status=seen.append, deadline=6.0, clock=FakeClock(0.05))
    assert 0 < model.config.train.minutes <= 0.1
    assert 5 <= seen[-1].seconds < 7


def test_the_finish_gets_its_share_of_the_minutes(images: ImageSet, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    recipe = with_finish(small_recipe(minutes=0.1), epochs=10_000)
    train(images, recipe, tmp_path, on_status=seen.append, clock=FakeClock(0.02))
    last = {status.part: status for status in seen}
    assert (
        3.5 <= last["network"].seconds < 4.5
    )  # of 6 seconds, one is for the end, and a quarter of the rest for the finish
    assert last["network"].done == pytest.approx(0.75)
    assert 5 <= last["head and codes"].seconds < 6
    assert last["head and codes"].done == 1.0


def test_a_finish_without_a_share_of_the_minutes_has_a_share_of_the_progress(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    train(images, with_finish(small_recipe(), share=0.0), tmp_path, on_status=seen.append)
    done = [status.done for status in seen]
    assert done == sorted(done)
    assert max(status.done for status in seen if status.part == "network") == pytest.approx(0.9)
    assert [status.part for status in seen if status.done == 1] == ["head and codes"]


def test_the_status_counts_views_and_images(images: ImageSet, tmp_path: Path) -> None:
    seen: list[TrainStatus] = []
    train(images, small_recipe(num_views=3, epochs=2), tmp_path, on_status=seen.append, clock=FakeClock(0.01))
    (last,) = seen
    assert (last.step, last.epoch, last.views) == (10, 2, 2 * COUNT * 3)
    assert last.images_per_second == pytest.approx(2 * COUNT / last.seconds, rel=0.05)


def test_tensorboard_shows_the_finish_beside_the_network(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    recipe = with_finish(small_recipe(epochs=2), epochs=2)
    train(images, recipe, tmp_path, on_status=seen.append, tensorboard=True)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    for part, prefix in (("network", ""), ("head and codes", "finish/")):
        reported = [(status.step, status.loss) for status in seen if status.part == part]
        events = board.Scalars(f"{prefix}loss")
        assert [event.step for event in events] == [step for step, _ in reported]
        np.testing.assert_allclose([event.value for event in events], [loss for _, loss in reported], rtol=1e-6)
        assert len(board.Scalars(f"{prefix}health/codeword_use")) == len(reported)


def test_small_views_come_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, small_recipe(epochs=10, small_share=0.5, small_scale=0.5, view_scale=0.75))
    assert run.view_input.size == 8
    run.progress = replace(run.progress, step=20)  # half of 40
    assert run.view_input.size == 12
