"""Progress on stderr, with rate and time left: a bar on a terminal, else lines from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from spq.cli.output import note

if TYPE_CHECKING:
    from spq.training.callbacks import TrainStatus

ESTIMATED = {"comparing at full size"}  # stages whose totals are guesses, so that a time left would be wrong
FIRST_SECONDS, LINE_SECONDS = 2.0, 30.0  # in a log: time until the first line of a stage, and between the others


class Stages:
    """Progress of a command, stage after stage."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = _bar(self.console)
        self.task = self.bar.add_task("", total=None, visible=False, facts="")
        self.name = ""
        self.began, self.done_before, self.next_line = 0.0, 0, 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def stage(self, what: str, done: int, total: int, unreadable: int = 0) -> None:
        """Show how far a stage is; another name begins another stage."""
        now = time.monotonic()
        if what != self.name:
            self._begin(what, now)
            self.done_before = done  # for example features that an earlier run has computed
        rate = (done - self.done_before) / max(now - self.began, 1e-9)
        facts = [f"{rate:,.1f}/s" if rate < 10 else f"{rate:,.0f}/s"]
        facts += [f"{unreadable:,} unreadable"] * bool(unreadable)
        is_guess = what in ESTIMATED
        if rate > 0 and done < total and not is_guess:
            facts.append(f"{duration((total - done) / rate)} left")
        shown, about = ", ".join(facts), "about " if is_guess else ""
        self.bar.update(self.task, total=max(total, 1), completed=done, facts=shown)
        self._line(f"{what}: {done:,} of {about}{total:,}, {shown}", now, is_last=done >= total)

    def _begin(self, what: str, now: float) -> None:
        self.name, self.began, self.next_line = what, now, now + FIRST_SECONDS
        self.bar.reset(self.task, description=what, visible=True, facts="")

    def _line(self, text: str, now: float, is_last: bool) -> None:
        """Print a line where there is no bar, unless the last line was printed a short time ago."""
        is_slow = now - self.began >= FIRST_SECONDS
        if not self.console.is_terminal and (now >= self.next_line or (is_last and is_slow)):
            self.next_line = now + LINE_SECONDS
            note(text)


class TrainingBar(Stages):
    """Progress of a training; while it learns also the loss, and how evenly codes are used."""

    def __init__(self) -> None:
        super().__init__()
        self.last_warning: str | None = None

    def update(self, status: TrainStatus) -> None:
        now, what = time.monotonic(), f"training, {status.part}"
        if what != self.name:
            self._begin(what, now)
        facts = (
            f"epoch {status.epoch}, {status.images_per_second:,.0f} images/s, loss {status.loss:.3f}, "
            f"codes {status.health.entropy:.0%}, {duration(status.seconds_left)} left"
        )
        self.bar.update(self.task, total=1.0, completed=status.done, facts=facts)
        self._line(f"{what}: {status.done:.0%}, {facts}", now, is_last=status.done >= 1)
        if status.health.warning and status.health.warning != self.last_warning and status.done > 0.2:
            self.last_warning = status.health.warning
            self.console.print(f"warning: {status.health.warning}", highlight=False, markup=False)


@contextmanager
def counting(what: str) -> Iterator[Callable[..., None]]:
    """A callback (done, total, unreadable=0) that shows one stage."""

    def update(done: int, total: int, unreadable: int = 0) -> None:
        stages.stage(what, done, total, unreadable)

    with Stages() as stages:
        yield update


def duration(seconds: float) -> str:
    """A time as text, with the precision that an estimate has.

    >>> duration(0.4), duration(95), duration(754)
    ('0 seconds', '95 seconds', '12.6 minutes')
    """
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _bar(console: Console) -> Progress:
    """A progress bar for tasks with a field `facts`; draws nothing without a terminal."""
    share, facts = TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.fields[facts]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), share, TimeElapsedColumn(), facts)
    return Progress(*columns, console=console, disable=not console.is_terminal)
