"""What all stages of a training share: pictures, recipe, options and the last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from spq.config import Recipe
from spq.config.ranges import plain, shown
from spq.data.image_set import ImageSet, subset
from spq.errors import ConfigError, DataError
from spq.model.device import resolve_precision
from spq.model.model import Model
from spq.model.own_parts import Parts, recorded
from spq.training.budget import LEAST_SHARE, Budget
from spq.training.callbacks import Callbacks
from spq.training.checkpoint import Checkpoint
from spq.training.losses import Loss
from spq.training.own_views import Views
from spq.training.pixel_memory import Pictures
from spq.training.processes import ALONE, Processes

KINDS = {
    "device": str, "resume": bool, "sample": int, "tensorboard": bool, "measure": bool, "deadline": float, "began": float,
}  # fmt: skip


@dataclass(frozen=True)
class TrainOptions:
    """How to train, apart from the recipe.

    Attributes:
        device: auto, cpu, cuda or mps.
        resume: continue from `out/checkpoints/last.pt` with the recipe of that checkpoint; start from the beginning if there
            is no checkpoint.
        backbone: any module (B, 3, S, S) -> (B, F) instead of the recipe's backbone. Training changes this module itself, not
            a copy. Loading the model needs it again.
        quantizer: any module with the methods of a `spq.model.quantizer.Quantizer`, instead of the recipe's; as with `backbone`,
            training changes the module itself.
        start: a model whose weights training starts from. Its input, backbone, head and quantizer replace the recipe's.
        loss: called as `loss(x, z, rows)`, instead of the recipe's loss; see `spq.training.losses`. Training changes this
            module itself, not a copy. Resuming needs it again.
        views: called as `views(pixels, generator)`, instead of the recipe's views; see `spq.training.own_views`. Resuming needs
            them again.
        callbacks: functions that training calls while it runs.
        sample: train on this many pictures of a larger collection, drawn at random with the recipe's seed.
        tensorboard: also write `out/tensorboard`.
        measure: at the end, measure what the codes keep; it takes as long as to describe 500 pictures.
        deadline: the moment of `clock` at which learning must end. It replaces the recipe's minutes.
        clock: returns the current time in seconds.
        began: the moment of `clock` from which the minutes count; by default, when training starts.
    """

    device: str = "auto"
    resume: bool = False
    backbone: nn.Module | None = None
    quantizer: nn.Module | None = None
    start: Model | None = None
    loss: Loss | None = None
    views: Views | None = None
    callbacks: Callbacks = field(default_factory=Callbacks)
    sample: int | None = None
    tensorboard: bool = False
    measure: bool = True
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic
    began: float | None = None

    @cached_property
    def parts(self) -> Parts:
        """The caller's own parts, as model and checkpoint record them: as they were when this was first asked."""
        return recorded(loss=self.loss, backbone=self.backbone, views=self.views, quantizer=self.quantizer)

    def with_names(self, **named: Any) -> Self:
        """Return options with some values replaced; callbacks are given by their own names, such as `on_status`.

        Raises:
            TypeError: an unknown name. ConfigError: a value of another type.
        """
        callback_names, names = ({f.name for f in fields(kind)} for kind in (Callbacks, TrainOptions))
        if unknown := sorted(set(named) - callback_names - names):
            known = ", ".join(sorted(names | callback_names))
            raise TypeError(f"unknown training option {unknown[0]!r}; known options: {known}")
        functions = {name: value for name, value in named.items() if name in callback_names}
        options = {name: plain(name, value, KINDS.get(name)) for name, value in named.items() if name in names}
        for name, function in functions.items():
            if function is not None and not callable(function):
                raise ConfigError(f"`{name}` must be a function, got {shown(function)}")
        if not isinstance(options.get("start"), Model | None):
            raise ConfigError(f"`start` must be a model, such as SPQ.load(folder), got {shown(options['start'])}")
        changed = replace(self, **options)
        if not isinstance(changed.backbone, nn.Module | None):
            raise ConfigError(f"`backbone` must be a module or the name of one, got {shown(changed.backbone)}")
        return replace(changed, callbacks=replace(changed.callbacks, **functions))


@dataclass(frozen=True)
class Training:
    """One training: the context that each stage takes.

    Attributes:
        recipe: the final recipe, after the checkpoint and the start model are taken into account.
        device: where the network learns.
        checkpoint: the one to resume from.
        decoded: pixels of all pictures; None for a frozen backbone, which needs features only.
        fingerprint: hash of the pictures; a checkpoint of other pictures is refused.
        budget: the time that is spent, and what is reserved for the end.
        processes: those that train together.
    """

    images: ImageSet
    recipe: Recipe
    out: Path
    device: torch.device
    options: TrainOptions
    checkpoint: Checkpoint | None = None
    decoded: Pictures | None = None
    fingerprint: str = ""
    budget: Budget = field(default_factory=Budget)
    processes: Processes = ALONE

    @property
    def pixels(self) -> Pictures:
        assert self.decoded is not None, "a stage that needs pixels runs after they are decoded"
        return self.decoded

    @property
    def callbacks(self) -> Callbacks:
        return self.options.callbacks

    @property
    def bf16(self) -> bool:
        return resolve_precision(self.recipe.train.precision, self.device.type) == "bf16"

    @property
    def has_last_stage(self) -> bool:
        """Whether a finish or stage `cluster` follows the network."""
        return (self.recipe.finish.epochs > 0 or self.recipe.cluster.share > 0) and not self.recipe.train.frozen

    @property
    def last_share(self) -> float:
        """Share of the budget that is reserved for the last stage."""
        return (self.recipe.cluster.share or self.recipe.finish.share) if self.has_last_stage else 0.0

    @property
    def limit(self) -> float:
        """Seconds of the whole training; infinite when the recipe counts epochs."""
        return 60 * self.recipe.train.minutes or math.inf

    @property
    def seconds(self) -> float:
        """When learning must end, in seconds of the training, so that the model is saved within the limit."""
        return self.limit - self.budget.ending.seconds

    @property
    def network_seconds(self) -> float:
        """When the network must end, if its steps begin now or began before a resume. The last stage gets a share of the rest."""
        if self.limit == math.inf:
            return math.inf
        is_resumed = self.checkpoint is not None and not self.checkpoint.phase.is_last
        began = self.checkpoint.progress.began if self.checkpoint and is_resumed else self.budget.watch.seconds
        return began + max((self.seconds - began) * (1 - self.last_share), LEAST_SHARE * self.limit)

    @property
    def counts_ending(self) -> bool:
        """Whether the end of the training must fit into the minutes; a deadline is the end of learning only."""
        return self.limit < math.inf and self.options.deadline is None

    def note_late_start(self, what: str) -> None:
        """Tell the user that little time is left for learning, because `what` took more than half of the minutes."""
        spent, minutes = self.budget.watch.seconds / 60, self.recipe.train.minutes
        if self.counts_ending and spent > minutes / 2 and not self.checkpoint:
            text = (
                f"{what} took {spent:.1f} of {minutes:g} minutes, so little is learned in the rest; give more minutes"
            )
            self.callbacks.note(text)

    def with_deadline(self, *_: float) -> Self:
        """Replace the recipe's minutes by the time already spent plus the time until the deadline, if there is one."""
        if self.options.deadline is None:
            return self
        minutes = max(0.01, (self.budget.watch.seconds + self.options.deadline - self.options.clock()) / 60)
        return replace(self, recipe=replace(self.recipe, train=replace(self.recipe.train, minutes=minutes)))


LEAST = 16  # pictures; training on fewer learns nothing


def draw_sample(images: ImageSet, count: int | None, seed: int) -> ImageSet:
    """Return `count` pictures at random, in their order, or all of them if there are no more."""
    if count is None or count >= len(images):
        return images
    return subset(images, np.sort(np.random.default_rng(seed).permutation(len(images))[:count]))


def choose_batch_size(training: Training, count: int, failures: list[tuple[int, str]]) -> int:
    """Return the recipe's batch size, or less if there are fewer than four batches of pictures.

    Args:
        count: number of readable pictures. failures: (position, reason) of the others.
    Raises:
        DataError: too few readable pictures.
    """
    name = training.images.name
    if not count and failures:
        raise DataError(f"none of the {len(failures)} pictures in {name} is readable, for example: {failures[0][1]}")
    if count < LEAST and (training.recipe.train.epochs or not count):
        raise DataError(
            f"{count} readable pictures in {name} are too few; give at least {LEAST}, better 1,000 or more, or use recipe pq, "
            "which has no training steps"
        )
    return max(2, min(training.recipe.train.batch_size, count // 4))
