"""Progress on stderr: a bar on a terminal, else a line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from spq.training.callbacks import TrainStatus

LINE_SECONDS = 30.0


class TrainingBar:
    """Progress of decoding and training: images per second, time left, loss and how evenly codes are used."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.console = Console(stderr=True)
        self.bar = _bar(self.console)
        self.task = self.bar.add_task("decoding", total=count, facts="")
        self.last_line = 0.0
        self.last_warning: str | None = None

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def loading(self, done: int) -> None:
        self.bar.update(self.task, completed=done)
        if done >= self.count:
            self.bar.reset(self.task, description="training", total=1.0)

    def update(self, status: TrainStatus) -> None:
        facts = (
            f"epoch {status.epoch}, {status.images_per_second:,.0f} images/s, loss {status.loss:.3f}, "
            f"codes {status.health.entropy:.0%}"
        )
        self.bar.update(
            self.task, description=f"training, {status.part}", total=1.0, completed=status.done, facts=facts
        )
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.last_line >= LINE_SECONDS or status.done >= 1):
            self.last_line = now
            left = status.seconds * (1 - status.done) / max(status.done, 1e-9)
            print(
                f"{status.done:4.0%}  {status.part}: {facts}, {left / 60:.1f} minutes left", file=sys.stderr, flush=True
            )
        if status.health.warning and status.health.warning != self.last_warning and status.done > 0.2:
            self.last_warning = status.health.warning
            self.console.print(f"warning: {status.health.warning}", highlight=False)


@contextmanager
def counting(what: str) -> Iterator[Callable[..., None]]:
    """A callback (done, total, unreadable=0) that shows images per second, time left and the number of unreadable pictures."""
    console, start = Console(stderr=True), time.monotonic()
    last_line = start

    def update(done: int, total: int, unreadable: int = 0) -> None:
        nonlocal last_line
        now = time.monotonic()
        rate = done / max(now - start, 1e-9)
        facts = f"{rate:,.0f} images/s" + (f", {unreadable:,} unreadable" if unreadable else "")
        bar.update(task, completed=done, total=total, facts=facts)
        if not console.is_terminal and now - last_line >= LINE_SECONDS:
            last_line = now
            left = (total - done) / rate / 60
            print(f"{done:,} of {total:,}  {facts}, {left:.1f} minutes left", file=sys.stderr, flush=True)

    with _bar(console) as bar:
        task = bar.add_task(what, total=None, facts="")
        yield update


def _bar(console: Console) -> Progress:
    """A progress bar for tasks with a field `facts`; draws nothing without a terminal."""
    share, facts = TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.fields[facts]}")
    columns = (TextColumn("{task.description}"), BarColumn(), share, TimeRemainingColumn(), facts)
    return Progress(*columns, console=console, disable=not console.is_terminal)
