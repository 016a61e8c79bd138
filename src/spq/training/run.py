"""What surrounds a training loop: batches, learning rates, budget, log, checkpoints and interruption."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from spq.common.parallel import launched
from spq.config import InputConfig, Recipe
from spq.errors import CollapseError
from spq.model.network import Network
from spq.training.budget import Stopwatch
from spq.training.callbacks import TrainStatus
from spq.training.checkpoint import Checkpoint, Phase, Progress
from spq.training.context import Training
from spq.training.health import measure
from spq.training.log import TrainingLog
from spq.training.losses import Criterion
from spq.training.moving_targets import MovingTargets
from spq.training.optimizers import lr_factor, set_lr
from spq.training.processes import ALONE, Processes

__all__ = ["Part", "Run", "Stopwatch", "step_seed"]

LOG_SECONDS = 10.0
TRY_OUTS = (0.5, 0.9)  # shares of a loop after which the time for the end is estimated again
TRY_OUT_SHARE = 0.02  # of the loop: an estimate must not take longer
RECENT = 8  # batches whose descriptors the health of a status is measured on
SAME_SIGNAL = 10.0  # seconds
SHOWN_SHARE = 0.1  # of the progress, for a finish that has no share of the minutes


@dataclass(frozen=True)
class Part:
    """What one loop trains, and within which limits.

    Attributes:
        recipe: settings of the steps; the checkpoint stores the recipe of the training.
        count: number of pictures. batch_size: pictures in a step.
        seconds: start and end of this loop, in seconds of the training.
        neighbour_ids: (count, n) neighbours of each picture, where they are positives.
        targets: moving targets of the network, where the recipe has them.
        shown: start and end of this loop in the progress of its phase, 0..1.
        criterion: the loss; stage `cluster` has its own.
        processes: those that take each step together. The first one decides on time, and is the only one that writes.
    """

    phase: Phase
    recipe: Recipe
    network: Network
    optimizers: list[Optimizer]
    count: int
    batch_size: int
    seconds: tuple[float, float] = (0.0, math.inf)
    neighbour_ids: Tensor | None = None
    shown: tuple[float, float] = (0.0, 1.0)
    targets: MovingTargets | None = None
    criterion: Criterion | None = None
    processes: Processes = ALONE

    @property
    def steps_per_epoch(self) -> int:
        return self.count // self.batch_size


class Run:
    """One loop of a training.

    Args:
        progress: where the loop starts; it is not changed.
    """

    def __init__(self, training: Training, part: Part, progress: Progress) -> None:
        self.training, self.part, self.progress = training, part, replace(progress)
        self.saves = part.phase is not Phase.CLUSTER  # a stopped stage `cluster` starts again
        self.interrupted = False
        self.signal = 0  # that interrupted it
        self.received, self.received_at = 0, 0.0  # the first signal to this process, and when it came
        self.decided: float | None = None  # how much is done, where the first of several processes decides
        self.recent: list[Tensor] = []
        self.loss: Tensor | None = None  # of the last step, until it is logged
        self.log = TrainingLog(training, part.phase) if part.processes.is_first else None
        if part.processes.is_first:
            (training.out / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.watch, self.own_watch = training.budget.watch, Stopwatch(training.options.clock)
        if not progress.step and not progress.began:
            self.progress.began = self.watch.seconds
        self.planned = training.budget.ending.seconds  # what the end of this loop leaves for the end of the training
        self.tried_out = 0
        self.first_step, self.last_log, self.last_checkpoint = progress.step, 0.0, 0.0

    @property
    def views(self) -> int:
        return self.part.recipe.train.num_views * self.part.batch_size * self.progress.step

    @property
    def done(self) -> float:
        """Share of this loop's budget that is spent, by steps or by seconds, whichever ends first."""
        return self._own_done if self.decided is None else self.decided

    @property
    def _own_done(self) -> float:
        """The same by the clock of this process."""
        (start, end), train = self._span, self.part.recipe.train
        by_steps = 0.0 if train.minutes > 0 else self.progress.step / (train.epochs * self.part.steps_per_epoch)
        by_seconds = (self.watch.seconds - start) / max(end - start, 1e-9)
        return min(1.0, max(by_steps, by_seconds))

    @property
    def _span(self) -> tuple[float, float]:
        """Start and end of this loop, in seconds of the training; the end follows the estimates of what comes after it."""
        later = self.training.budget.ending.seconds - self.planned
        return max(self.part.seconds[0], self.progress.began), self.part.seconds[1] - later

    @property
    def done_of_all(self) -> float:
        """Share of the whole training's budget that is spent."""
        last = (self.training.last_share or SHOWN_SHARE) if self.training.has_last_stage else 0.0
        start, end = self.part.shown
        done = start + (end - start) * self.done
        return 1 - last * (1 - done) if self.part.phase.is_last else done * (1 - last)

    @property
    def network_facts(self) -> dict[str, float]:
        """How much the network has learned from; the last stage adds nothing."""
        return self.progress.network_facts or {
            "views": self.views,
            "steps": self.progress.step,
            "epochs": round(self.progress.step / self.part.steps_per_epoch, 2),
        }

    @property
    def view_input(self) -> InputConfig:
        """The input at the size of the views.

        Early epochs learn as much from small, cheap views. Crops show objects larger than whole pictures do. So views that
        are a little smaller than the input match better what is encoded later (Touvron et al., Fixing the train-test
        resolution discrepancy, 2019).
        """
        train = self.part.recipe.train
        return self.part.recipe.input.scaled(train.small_scale if self.done < train.small_share else train.view_scale)

    @property
    def temperature(self) -> float:
        """The temperature of the loss: low at first, when single pictures are learned; later kinds of pictures come together."""
        train = self.part.recipe.train
        return train.late_temperature if self.done > 1 - train.late_share else train.temperature

    def batches(self) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Yield random row numbers and the generator of their views, until the budget is spent.

        Both depend on the seed and the step only, so a resumed run repeats an uninterrupted one. The learning rates are set
        before each batch.
        """
        part, device, seed = self.part, self.training.device, self.part.recipe.train.seed
        while self._decide() < 1 and not self.interrupted:
            epoch, position = divmod(self.progress.step, part.steps_per_epoch)
            shuffle = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            order = torch.randperm(part.count, generator=shuffle).to(device)
            for start in range(position * part.batch_size, part.steps_per_epoch * part.batch_size, part.batch_size):
                if (done := self._decide()) >= 1 or self.interrupted:
                    return
                self._set_lr(done)
                drawn = step_seed(seed, self.progress.step)
                generator = torch.Generator(device).manual_seed(drawn)
                _seed_layers(drawn + part.processes.rank, device)
                yield order[start : start + part.batch_size], generator

    def _decide(self) -> float:
        """Return how much is done. Of several processes, the first one decides, and a signal to any of them stops all."""
        if not self.part.processes.several:
            return self.done
        self.decided, self.signal = self.part.processes.agree(self._own_done, self.received)
        self.interrupted = bool(self.signal)
        return self.decided

    def after_step(self, loss: Tensor, x: Tensor) -> None:
        """Count a step; log, save and call back when it is time.

        Args:
            loss: scalar. x: (B, D) descriptors of the batch.
        Raises:
            CollapseError: loss or weights are not finite.
        """
        self.progress.step += 1
        if self.progress.step == self.first_step + 1:
            self._note_idle_codebooks()
        if not self.part.processes.is_first:
            return
        self.recent = [*self.recent[1 - RECENT :], x.detach().clone()]  # the next step may overwrite x
        self.loss, elapsed = loss.detach(), self.own_watch.elapsed
        if self.tried_out < sum(self.done >= share for share in TRY_OUTS):
            self.tried_out += 1
            start, end = self._span
            self.training.budget.estimate_again(TRY_OUT_SHARE * (end - start))
        if elapsed - self.last_log >= LOG_SECONDS or self.done >= 1 or self.interrupted:
            self.last_log = elapsed
            self._write_status()
        if self.saves and elapsed - self.last_checkpoint >= 60 * self.part.recipe.train.checkpoint_minutes:
            self.last_checkpoint = elapsed
            self.save_checkpoint()
        self._call_on_epoch()

    def _note_idle_codebooks(self) -> None:
        """Tell the user of a loss that does not use the quantizations, so that the codebooks would stay random."""
        options, part = self.training.options, self.part
        if options.loss is None or part.phase.is_last or part.recipe.train.refit:
            return
        if all(p.grad is None for p in part.network.quantizer.parameters()):
            self.training.callbacks.note(
                "the loss gives the codebooks no gradient; set train.refit = true, which fits them at the end"
            )

    @property
    def _remedy(self) -> str:
        """What to do where numbers are no longer finite."""
        own = "check your own `loss`, or " if self.training.options.loss is not None else ""
        return f"{own}lower the learning rate of the recipe"

    def save_checkpoint(self) -> None:
        """Save all that the rest of the training depends on.

        Raises:
            CollapseError: weights are not finite; the earlier checkpoint stays.
        """
        part, training = self.part, self.training
        if not torch.stack([p.isfinite().all() for p in part.network.parameters()]).all():
            raise CollapseError(f"weights are not finite at step {self.progress.step}; {self._remedy}")
        Checkpoint(
            training.recipe, part.phase, training.fingerprint, part.neighbour_ids, part.network.state_dict(),
            [optimizer.state_dict() for optimizer in part.optimizers],
            replace(self.progress, seconds=self.watch.seconds), part.targets.state_dict() if part.targets else None,
            training.options.parts, part.criterion.state() if part.criterion else None,
        ).save(training.out)  # fmt: skip

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """End the loop after the current step on Ctrl-C or SIGTERM, with a checkpoint; a second signal ends it at once.

        A launcher of several processes passes a signal on to all of them, so what follows within seconds is the same one.

        Raises:
            KeyboardInterrupt: at the end of an interrupted loop.
        """

        def stop(signum: int, frame: Any) -> None:
            now = time.monotonic()
            if self.received and (launched()[1] == 1 or now - self.received_at > SAME_SIGNAL):
                _pass_on(handlers[signum], signum)
            if not self.received:
                self.received, self.received_at = signum, now
            if not self.part.processes.several:  # which agree on it before the next step
                self.interrupted, self.signal = True, self.received

        try:
            with _handled(stop) as handlers:
                yield
                self._end()
        finally:
            if self.log:
                self.log.close()
        if self.interrupted or self.received:
            number = self.signal or self.received
            _pass_on(handlers.get(number), number)

    def _end(self) -> None:
        """Log the last step, and save a checkpoint."""
        if self.part.processes.several:
            self._decide()  # a signal may have come
        if self.part.processes.is_first:
            self._write_status()  # the time may have ended just after a step
            if self.saves:
                self.save_checkpoint()
        self.part.processes.meet()  # if one ended earlier, its launcher would stop the first one while that saves

    def _write_status(self) -> None:
        """Log the last step, unless that was done."""
        if self.loss is not None and self.log:
            self.log.write(self._status(self.loss))
            self.loss = None

    def _status(self, loss: Tensor) -> TrainStatus:
        value, part = loss.item(), self.part
        if not math.isfinite(value):
            raise CollapseError(f"the loss is {value} at step {self.progress.step}; {self._remedy}")
        x = torch.cat(self.recent)
        with torch.no_grad():
            codes = part.network.quantizer.encode(x)
        steps = self.progress.step - self.first_step
        return TrainStatus(
            part=part.phase.part,
            done=self.done_of_all,
            step=self.progress.step,
            epoch=self.progress.step // part.steps_per_epoch,
            views=self.views,
            seconds=self.watch.seconds,
            seconds_left=self._seconds_left(),
            images_per_second=steps * part.batch_size / max(self.own_watch.elapsed, 1e-9),
            loss=value,
            lr=float(part.optimizers[0].param_groups[0]["lr"]),
            health=measure(codes.cpu().numpy(), x.cpu().numpy(), part.recipe.quantizer.codebook_size),
        )

    def _seconds_left(self) -> float:
        """Seconds until the training ends: those of the budget, or, without one, those of this loop at its present rate."""
        if (limit := self.training.limit) < math.inf and self.training.options.deadline is None:
            return max(0.0, limit - self.watch.seconds)
        begun = self.first_step / self.progress.step * self.done  # before a resume
        return self.own_watch.elapsed * (1 - self.done) / max(self.done - begun, 1e-9)

    def _call_on_epoch(self) -> None:
        on_epoch, network = self.training.callbacks.on_epoch, self.part.network
        if self.part.phase is Phase.CLUSTER or not on_epoch or self.progress.step % self.part.steps_per_epoch:
            return
        modes = {module: module.training for module in network.modules()}
        on_epoch(self.progress.step // self.part.steps_per_epoch, network)
        for module, mode in modes.items():  # a callback that evaluates the network must not change the training
            module.training = mode

    def _set_lr(self, done: float) -> None:
        factor = lr_factor(done, self.part.recipe.train.warmup, self.part.recipe.train.schedule)
        for optimizer in self.part.optimizers:
            for group in optimizer.param_groups:
                set_lr(group, group["peak_lr"] * factor)


@contextmanager
def _handled(stop: Callable[[int, Any], None]) -> Iterator[dict[int, Any]]:
    """Let a function handle Ctrl-C and SIGTERM; yields the handlers that they have otherwise."""
    handlers: dict[int, Any] = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            handlers[each] = signal.signal(each, stop)
    except ValueError:
        pass  # not the main thread, which handles signals
    try:
        yield handlers
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _pass_on(handler: Any, signum: int) -> NoReturn:
    """Let the earlier handler of a signal know of it, and end."""
    if callable(handler):
        handler(signum, None)
    raise KeyboardInterrupt


def step_seed(seed: int, step: int) -> int:
    """Return the seed of a step's random views, 32 bits: torch's generator on a CPU ignores more of a seed."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def _seed_layers(seed: int, device: torch.device) -> None:
    """Seed layers that draw random numbers, such as dropout, so that a resumed run repeats them."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
