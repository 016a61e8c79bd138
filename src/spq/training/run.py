"""What a training keeps beside its loop: schedule, log, checkpoints, interruption, and the model at its end."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from spq.common.files import Replacing
from spq.config import InputConfig, Recipe, to_dict
from spq.data.decode import Pixels
from spq.errors import CollapseError, ConfigError, DataError
from spq.model.model import Model
from spq.model.network import Network
from spq.training import fidelity
from spq.training.checkpoint import State
from spq.training.health import Health, measure
from spq.training.optimizers import lr_factor
from spq.training.refit import refit

Outputs = Sequence[tuple[Tensor, Tensor]]  # descriptors x and their soft quantizations z, (B, D) each, of every view
Objective = Callable[[Outputs, Network, Callable[[Outputs], Tensor]], Tensor]

LOG_SECONDS = 10.0
SHOWN_SHARE = 0.1  # of the progress, for a finish that no share of the minutes is kept for
FIT_IMAGES = 20_000  # pictures, about, that the end of a training looks at once more


@dataclass(frozen=True)
class TrainStatus:
    """Where a training stands.

    part: what learns, the "network" or, after it, "head and codes" or "clusters", with steps, epochs and views of its own.
    done: share of the budget, 0..1. seconds: spent so far, resumed parts included.
    """

    part: str
    done: float
    step: int
    epoch: int
    views: int
    seconds: float
    images_per_second: float
    loss: float
    lr: float
    health: Health


class Run:
    """Book-keeping around the loop: schedule, checkpoints, log, interruption.

    Args:
        recipe: what the steps go by. whole: the recipe that is saved, where `recipe` is of the part after the backbone's.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        network: Network,
        optimizers: list[Optimizer],
        state: State,
        batch_size: int,
        fingerprint: str,
        tensorboard: bool,
        whole: Recipe | None = None,
    ) -> None:
        self.recipe, self.out, self.network, self.optimizers = recipe, out, network, optimizers
        self.whole = whole or recipe
        self.state, self.batch_size, self.fingerprint = state, batch_size, fingerprint
        self.near: Tensor | None = None  # (N, count) neighbours of each picture, where they are positives
        # seconds between which this part learns
        self.clock = 0.0, 60 * recipe.train.minutes * (1 - self.kept) or math.inf
        self.span = 0.0, 1.0  # of the progress of its part, from where to where this run goes
        self.steps_per_epoch = 0
        self.part = "head and codes" if state.trained else "network"
        self.checkpoints = True  # a part that begins again when it was stopped writes none
        self.interrupted = False
        self.health = Health(1.0, 1.0, 1.0)
        self.recent: list[Tensor] = []
        self.session_start = self.last_log = self.last_checkpoint = 0.0
        self.step_at_start = state.step
        self.board = _board(out) if tensorboard else None  # before anything is written: it may be missing
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.session_start

    @property
    def views(self) -> int:
        return self.recipe.train.num_views * self.batch_size * self.state.step

    @property
    def has_finish(self) -> bool:
        return (self.whole.finish.epochs > 0 or self.whole.cluster.share > 0) and not self.whole.train.frozen

    @property
    def kept(self) -> float:
        """Share of the whole budget that is kept for head and codes, after the backbone; a frozen one has no part of its own."""
        return (self.whole.cluster.share or self.whole.finish.share) if self.has_finish else 0.0

    @property
    def done(self) -> float:
        """Share of this part's budget that is spent: of the wall clock, or of the steps; of a finish, of what ends first."""
        start, end = self.clock
        train = self.recipe.train
        by_steps = 0.0 if train.minutes > 0 else self.state.step / (train.epochs * self.steps_per_epoch)
        return min(1.0, max(by_steps, (self.seconds - start) / (end - start)))

    @property
    def done_of_all(self) -> float:
        last = (self.kept or SHOWN_SHARE) if self.has_finish else 0.0
        start, end = self.span
        done = start + (end - start) * self.done
        return 1 - last * (1 - done) if self.state.trained else done * (1 - last)

    @property
    def learned(self) -> dict[str, float]:
        """What the network has learned from; the part after it adds nothing."""
        return self.state.trained or {
            "views": self.views,
            "steps": self.state.step,
            "epochs": round(self.state.step / self.steps_per_epoch, 2),
        }

    def batches(self, count: int, device: torch.device) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Random index batches and the generator of their views, both functions of (seed, step) alone."""
        self.steps_per_epoch = count // self.batch_size
        self.session_start = self.last_log = self.last_checkpoint = time.monotonic()
        seed = self.recipe.train.seed
        while self.done < 1 and not self.interrupted:
            epoch, position = divmod(self.state.step, self.steps_per_epoch)
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).to(device)
            for start in range(position * self.batch_size, self.steps_per_epoch * self.batch_size, self.batch_size):
                if (done := self.done) >= 1 or self.interrupted:
                    return
                self.set_lr(done)
                drawn = step_seed(seed, self.state.step)
                generator = torch.Generator(device).manual_seed(drawn)
                _seed_layers(drawn, device)
                yield order[start : start + self.batch_size], generator

    def view_config(self) -> InputConfig:
        """The input at the size of the views.

        Early epochs learn as much from small, cheap views. And crops show things larger than whole pictures do, so
        that views a bit smaller than the input fit better what is encoded later (Touvron et al., Fixing the train-test
        resolution discrepancy, 2019).
        """
        train = self.recipe.train
        return self.recipe.input.scaled(train.small_scale if self.done < train.small_share else train.view_scale)

    def set_lr(self, done: float) -> None:
        factor = lr_factor(done, self.recipe.train.warmup, self.recipe.train.schedule)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor

    def after_step(
        self,
        loss: Tensor,
        x: Tensor,
        on_status: Callable[[TrainStatus], None] | None,
        on_epoch: Callable[[int, Network], None] | None,
    ) -> None:
        self.state.step += 1
        self.recent = [*self.recent[-7:], x.detach().clone()]  # the next step may write there
        now = time.monotonic()
        if now - self.last_log >= LOG_SECONDS or self.done >= 1 or self.interrupted:
            self.last_log = now
            self._log(loss, on_status)
        if self.checkpoints and now - self.last_checkpoint >= 60 * self.recipe.train.checkpoint_minutes:
            self.last_checkpoint = now
            self.save_checkpoint()
        if on_epoch and self.state.step % self.steps_per_epoch == 0:
            modes = {module: module.training for module in self.network.modules()}
            on_epoch(self.state.step // self.steps_per_epoch, self.network)
            for module, mode in modes.items():  # who looks how good it is must not change what it becomes
                module.training = mode

    def _log(self, loss: Tensor, on_status: Callable[[TrainStatus], None] | None) -> None:
        value = loss.item()
        if not math.isfinite(value):
            raise CollapseError(f"the loss is {value} at step {self.state.step}; lower the learning rate of the recipe")
        x = torch.cat(self.recent)
        with torch.no_grad():
            codes = self.network.quantizer.encode(x)
        self.health = measure(codes.cpu().numpy(), x.cpu().numpy(), self.recipe.quantizer.codebook_size)
        elapsed = time.monotonic() - self.session_start
        status = TrainStatus(
            part=self.part,
            done=self.done_of_all,
            step=self.state.step,
            epoch=self.state.step // self.steps_per_epoch,
            views=self.views,
            seconds=self.seconds,
            images_per_second=(self.state.step - self.step_at_start) * self.batch_size / max(elapsed, 1e-9),
            loss=value,
            lr=self.optimizers[0].param_groups[0]["lr"],
            health=self.health,
        )
        row = {**asdict(status), "warning": self.health.warning}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            prefix = "finish/" if self.state.trained else ""  # whose steps count from 0 again
            for key in ("loss", "lr", "images_per_second"):
                self.board.add_scalar(prefix + key, row[key], self.state.step)
            for key, number in asdict(self.health).items():
                self.board.add_scalar(f"{prefix}health/{key}", number, self.state.step)
        if on_status:
            on_status(status)

    def save_checkpoint(self) -> None:
        """Everything that the rest of the run depends on, replaced whole.

        Raises:
            CollapseError: weights that are no longer finite; the checkpoint of before stays.
        """
        if not torch.stack([p.isfinite().all() for p in self.network.parameters()]).all():
            raise CollapseError(f"weights are not finite at step {self.state.step}; lower the recipe's learning rate")
        content = {
            "recipe": to_dict(self.whole),
            "fingerprint": self.fingerprint,
            "near": self.near,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.state.step,
            "seconds": self.seconds,
            "trained": self.state.trained,
            "began": self.state.began,
        }
        with Replacing(self.out / "checkpoints" / "last.pt") as temporary:
            torch.save(content, temporary)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the current step, with a checkpoint; a second one ends it at once."""

        def stop(signum: int, frame: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        handlers = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                handlers[number] = signal.signal(number, stop)
        except ValueError:
            pass  # not the main thread: its owner handles signals
        try:
            yield
            if self.checkpoints:
                self.save_checkpoint()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if self.board:
                self.board.close()
        if self.interrupted:
            raise KeyboardInterrupt

    def finish(self, name: str, pixels: Pixels) -> Model:
        """The trained model, saved; its health is that of the pictures themselves, not of their views."""
        model = Model(self.network, self.whole)
        sample = pixels.array[:: 1 + len(pixels.array) // FIT_IMAGES]
        x = model.embed(sample)  # on the device that trained

        def pixels_of(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
            return sample[rows], np.ones(len(rows), bool)

        return self.conclude(name, x, pixels_of, len(pixels.array), len(pixels.failures))

    def conclude(
        self,
        name: str,
        x: NDArray[np.float32],
        pixels_of: Callable[[NDArray[np.int64]], tuple[NDArray[np.uint8], NDArray[np.bool_]]],
        images: int,
        unreadable: int,
    ) -> Model:
        """The trained model, saved, with what its codes keep.

        Args:
            x: (N, D) descriptors of a sample of the pictures. pixels_of: rows of that sample -> pixels of those that
                can still be read, and which they are.
        """
        model = Model(self.network, self.whole)
        shown = fidelity.chosen(len(x), fidelity.PICTURES)
        originals = fidelity.chosen(len(shown), fidelity.QUERIES)
        pixels, readable = pixels_of(shown[originals])
        originals = originals[readable]
        copies = fidelity.describe_copies(self.network, pixels, self.recipe.input, model.batch_size)
        self.network.to("cpu")
        if self.recipe.train.refit:
            refit(self.network.quantizer, torch.from_numpy(x))
        health = measure(model.encode_descriptors(x), x, self.recipe.quantizer.codebook_size)
        codes = fidelity.measure_fidelity(torch.from_numpy(x[shown]), copies, originals, self.network.quantizer)
        facts = {
            "images": images,
            "unreadable": unreadable,
            "source": name,
            **self.learned,
            "minutes": round(self.seconds / 60, 2),
            "seed": self.recipe.train.seed,
            "health": asdict(health),
            "codes": [asdict(report) for report in codes],
        }
        model = Model(self.network, self.whole, facts)
        model.save(self.out)
        return model


def step_seed(seed: int, step: int) -> int:
    """Of the random views of a step, 32 bits: more of a seed torch's generator on a CPU does not look at."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def _seed_layers(seed: int, device: torch.device) -> None:
    """Layers that draw by themselves, such as dropout, draw after a resume what they would have drawn without."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def batch_size_for(recipe: Recipe, count: int, name: str, failures: list[tuple[int, str]]) -> int:
    """The recipe's, or less for a collection smaller than four batches."""
    if not count and failures:
        raise DataError(f"none of the {len(failures)} pictures in {name} is readable, for example: {failures[0][1]}")
    if count < 16:
        raise DataError(
            f"{count} readable pictures in {name} are too few to learn from; 16 is the least, 1,000 sensible"
        )
    return max(2, min(recipe.train.batch_size, count // 4))


def _board(out: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs tensorboard; run pip install 'spq-retrieval[tensorboard]'") from None
    return SummaryWriter(str(out / "tensorboard"))
