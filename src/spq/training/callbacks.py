"""What a training reports while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spq.model.model import Model
from spq.model.network import Network
from spq.training.health import Health


@dataclass(frozen=True)
class TrainStatus:
    """The state of a training at one moment.

    Attributes:
        part: what learns: the "network", or after it "head and codes" or "clusters". Each part counts its own steps, epochs
            and views.
        done: share of the whole budget that is spent, 0..1.
        seconds: time spent so far, including reading the pictures and the time before a resume.
        seconds_left: estimated time until the end.
    """

    part: str
    done: float
    step: int
    epoch: int
    views: int
    seconds: float
    seconds_left: float
    images_per_second: float
    loss: float
    lr: float
    health: Health


@dataclass(frozen=True)
class Callbacks:
    """Functions that a training calls; each may be None.

    Attributes:
        on_load: called with the number of pictures decoded so far.
        on_stage: called with (what, done, total) while something other than learning takes time, such as "reading pictures".
        on_status: called about every 10 seconds and at the end of each part.
        on_epoch: called after every epoch with its number and the network in training mode. The finish counts its epochs
            from 1 again. Stage `cluster` does not call it.
        on_note: called with a text for the user, for example that training cannot be compiled here.
        on_part: called when a part of stage `cluster` is done, with the name of the part and the model so far.
    """

    on_load: Callable[[int], None] | None = None
    on_status: Callable[[TrainStatus], None] | None = None
    on_epoch: Callable[[int, Network], None] | None = None
    on_note: Callable[[str], None] | None = None
    on_part: Callable[[str, Model], None] | None = None
    on_stage: Callable[[str, int, int], None] | None = None

    def note(self, text: str) -> None:
        """Pass a text to `on_note`, unless it is empty."""
        if self.on_note and text:
            self.on_note(text)

    def stage(self, what: str, total: int) -> Callable[[int], None]:
        """Return a function that reports to `on_stage` how much is done; it has reported 0."""

        def report(done: int) -> None:
            if self.on_stage:
                self.on_stage(what, done, total)

        report(0)
        return report

    def loading(self, what: str, total: int) -> Callable[[int], None]:
        """Return a function that reports pictures that are done, to `on_load` and to `on_stage`."""
        report = self.stage(what, total)

        def loaded(done: int) -> None:
            report(done)
            if self.on_load:
                self.on_load(done)

        return loaded
