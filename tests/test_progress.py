"""Progress: bars on a terminal, lines in a log, with rate and time left."""

from __future__ import annotations

import pytest

from spq.cli import progress
from spq.training.callbacks import TrainStatus
from spq.training.health import Health


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "FIRST_SECONDS", 2.0)
    return clock


def status(part: str, done: float, left: float) -> TrainStatus:
    health = Health(codeword_use=1.0, entropy=0.9, spread=0.9)
    return TrainStatus(part, done, 10, 1, 640, 5.0, left, 320.0, 1.5, 0.1, health)


def test_in_a_log_a_stage_has_a_line_after_two_seconds_and_then_from_time_to_time(
    clock: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.Stages() as stages:
        for seconds in range(80):
            clock.now = 100.0 + seconds
            stages.stage("reading pictures", 10 * seconds, 1000)
        stages.stage("fitting codebooks", 0, 20)
        clock.now += 1
        stages.stage("fitting codebooks", 20, 20)  # it took a second
        stages.stage("measuring codes", 0, 3)
        clock.now += 6
        stages.stage("measuring codes", 3, 3)
    assert capsys.readouterr().err.splitlines() == [
        "reading pictures: 20 of 1,000, 10/s, 98 seconds left",
        "reading pictures: 320 of 1,000, 10/s, 68 seconds left",
        "reading pictures: 620 of 1,000, 10/s, 38 seconds left",
        "measuring codes: 3 of 3, 0.5/s",
    ]


def test_the_rate_does_not_count_what_an_earlier_run_has_done(clock: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.counting("features") as update:
        update(5000, 10_000)
        clock.now += 10
        update(5100, 10_000, 2)
    assert capsys.readouterr().err == "features: 5,100 of 10,000, 10/s, 2 unreadable, 8.2 minutes left\n"


def test_a_stage_with_a_guessed_total_shows_no_time_left(clock: Time, capsys: pytest.CaptureFixture[str]) -> None:
    (guessed,) = progress.ESTIMATED
    with progress.Stages() as stages:
        for done, total in ((0, 50), (40, 50), (400, 441)):
            stages.stage(guessed, done, total)
            clock.now += 31
        stages.stage("reading dates", 0, 10)
        clock.now += 3
        stages.stage("reading dates", 5, 10)
    assert capsys.readouterr().err.splitlines() == [
        "comparing at full size: 40 of about 50, 1.3/s",
        "comparing at full size: 400 of about 441, 6.5/s",
        "reading dates: 5 of 10, 1.7/s, 3 seconds left",
    ]


def test_the_lines_of_a_training_show_the_time_left(clock: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.TrainingBar() as bar:
        for seconds in range(0, 50, 10):
            clock.now = 100.0 + seconds
            bar.update(status("network", seconds / 100, 240.0 - seconds))
        bar.update(status("head and codes", 1.0, 3.0))
    assert capsys.readouterr().err.splitlines() == [
        "training, network: 10%, epoch 1, 320 images/s, loss 1.500, codes 90%, 3.8 minutes left",
        "training, network: 40%, epoch 1, 320 images/s, loss 1.500, codes 90%, 3.3 minutes left",
    ]


def test_on_a_terminal_a_bar_shows_the_stage_its_rate_and_unreadable_pictures(
    clock: Time, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes it for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress.counting("encoding") as update:
        update(0, 1000)
        clock.now += 10
        update(500, 1000, 3)
    shown = capsys.readouterr().err
    assert "encoding" in shown
    assert "50 %" in shown
    assert "50/s, 3 unreadable, 10 seconds left" in shown
