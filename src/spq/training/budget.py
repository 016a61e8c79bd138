"""The time of a training: what is spent, and what the end of it will need.

A budget in minutes counts everything from the start of the training to the saved model. So learning must end earlier, by the
time that measuring and saving take. That time depends on the machine and on how busy it is. So parts of that work are tried
out, before learning and a few times during it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

LEAST_SHARE = 0.05  # of the budget: what a stage gets even if the stages before it took all the time


class Stopwatch:
    """Seconds of a training: those spent before, and those since it was made.

    Args:
        start: the moment from which it counts; by default now.
    """

    def __init__(self, clock: Callable[[], float], before: float = 0.0, start: float | None = None) -> None:
        self.clock, self.before = clock, before
        self.start = clock() if start is None else start

    @property
    def elapsed(self) -> float:
        return self.clock() - self.start

    @property
    def seconds(self) -> float:
        return self.before + self.elapsed


@dataclass(frozen=True)
class Ending:
    """How long measuring and saving the model take.

    Attributes:
        per_picture: seconds to describe a picture. pictures: how many will be described. rest: seconds of all other work.
    """

    per_picture: float = 0.0
    pictures: int = 0
    rest: float = 0.0

    @property
    def seconds(self) -> float:
        return self.per_picture * self.pictures + self.rest

    def mean(self, other: Ending) -> Ending:
        """Average with another estimate: one alone may fall into a busy or a quiet moment."""
        per_picture, rest = (self.per_picture + other.per_picture) / 2, (self.rest + other.rest) / 2
        return Ending(per_picture, other.pictures, rest)


class Budget:
    """What is spent, and what is reserved for the end. All stages of a training share it.

    Attributes:
        watch: seconds of the training so far, with those before a resume.
        ending: the last estimate.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, before: float = 0.0, start: float | None = None
    ) -> None:
        self.watch = Stopwatch(clock, before, start)
        self.ending = Ending()
        self._try_out: Callable[[], Ending] | None = None
        self._cost = 0.0  # seconds that the last estimate took

    def plan_ending(self, try_out: Callable[[], Ending]) -> None:
        """Reserve time for the end, as `try_out` estimates it now and at each `estimate_again`."""
        self._try_out, self.ending = try_out, self._estimate(try_out)

    def estimate_again(self, most: float = math.inf) -> None:
        """Update the estimate, because other programs may use more or less of the machine than before.

        Args:
            most: seconds that this may take; else the estimate stays.
        """
        if self._try_out and self._cost <= most:
            self.ending = self.ending.mean(self._estimate(self._try_out))

    def _estimate(self, try_out: Callable[[], Ending]) -> Ending:
        watch = Stopwatch(self.watch.clock)
        ending = try_out()
        self._cost = watch.elapsed
        return ending
