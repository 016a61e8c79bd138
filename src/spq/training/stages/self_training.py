"""One round of self-training: the network learns the clusters that a moving average of itself assigns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from spq.config import ClusterConfig, Recipe, TrainConfig
from spq.errors import CollapseError
from spq.model.network import Network
from spq.training.checkpoint import Phase, Progress
from spq.training.cluster_heads import (
    WEAK,
    Teacher,
    assignment_loss,
    collect_statistics,
    cut_out,
    describe_whole,
    mix_up,
    nearest,
    recompute_statistics,
)
from spq.training.context import Training, choose_batch_size
from spq.training.filter_gradients import fast_filter_gradients
from spq.training.graphed import GraphedStep, GraphedUpdate
from spq.training.loss import multi_view
from spq.training.optimizers import make_optimizers
from spq.training.run import Part, Run
from spq.training.signs import Signs
from spq.training.view_source import ViewSource
from spq.training.views import make_views

WATCH_STEPS = 100  # between two reports of the signs


@dataclass(frozen=True)
class Heads:
    """A backbone with clustering heads.

    Attributes:
        neighbour_ids: (N, n) neighbours of each picture. assignments: (N, M, K) soft assignments of each picture.
    """

    network: Network
    neighbour_ids: Tensor
    assignments: Tensor


@dataclass(frozen=True)
class Workspace:
    """What all rounds of stage `cluster` share.

    Attributes:
        network: the one that stage `network` trained; its backbone changes, its head serves the contrastive loss.
        pixels: (N, 3, S, S) uint8 on the device, in random order. source: what views of the same pictures are cut from.
        forward: the backbone, compiled where that is possible.
    """

    training: Training
    network: Network
    pixels: Tensor
    source: ViewSource
    forward: Callable[[Tensor], Tensor]

    @property
    def config(self) -> ClusterConfig:
        return self.training.recipe.cluster

    @property
    def recipe(self) -> Recipe:
        return self.training.recipe

    @property
    def keeps_statistics(self) -> bool:
        """A pretrained backbone keeps its batch statistics, as in stage `network`."""
        return self.recipe.train.backbone_lr_scale != 1

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.training.device.type, torch.bfloat16, enabled=self.training.bf16)

    def describe(self, network: Network, mirror: bool = True) -> Tensor:
        """Compute features (N, F) of the whole pictures."""
        return describe_whole(network.backbone, self.pixels, self.recipe.input, self.training.bf16, mirror)

    def recompute_statistics(self, network: nn.Module) -> None:
        if not self.keeps_statistics:
            recompute_statistics(network, self.pixels, self.recipe.input, self.training.bf16)

    def set_train_mode(self, network: Network, whole_pictures: bool = False) -> None:
        """Set training mode; for the teacher, which gets whole pictures, of batch normalisation only."""
        network.train(not whole_pictures)
        if whole_pictures:
            collect_statistics(network)
        if self.keeps_statistics:
            network.backbone.eval()


@dataclass(frozen=True)
class Learner:
    """What every step uses: the student learns from the teacher."""

    space: Workspace
    student: Network
    teacher: Teacher
    signs: Signs


def step_loss(learner: Learner, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch, and descriptors (B, M * K) of its pictures.

    Args:
        rows: (B,) row numbers of the pictures.
    """
    space, config, recipe = learner.space, learner.space.config, learner.space.recipe
    images, frames = space.source.cut(rows)
    weak = make_views(images, WEAK, recipe.input, generator, frame=frames)
    images, frames = images.repeat(2, 1, 1, 1), None if frames is None else frames.repeat(2, 1)
    small = recipe.input.scaled(config.view_scale)
    strong = make_views(images, recipe.views, small, generator, frame=frames)
    strong = cut_out(strong, config.cutout, generator)
    strong, share = mix_up(strong, config.mixup, generator) if config.mixup else (strong, None)
    with space.autocast(), fast_filter_gradients(space.forward, strong.device, space.training.bf16):
        target, own = learner.teacher.targets(rows, weak.contiguous(memory_format=torch.channels_last))
        features = space.forward(strong.contiguous(memory_format=torch.channels_last))
        logits = learner.student.head(features).float().view(-1, *target.shape[1:])
        outputs = space.network.quantized(features) if config.contrast else None
    target = target.repeat(2, 1, 1)
    loss, sure = assignment_loss(logits, target, config, share)
    learner.signs.add(logits, target, own, sure)
    if outputs:
        pair = list(zip(*(part.chunk(2) for part in outputs), strict=True))
        loss = loss + config.contrast * multi_view(pair, recipe.train.temperature, recipe.quantizer.prefix_dims)
    softened = own.clamp(min=1e-8) ** (1 / config.temperature)  # as descriptors are
    return loss, (softened / softened.sum(2, keepdim=True)).flatten(1)


def self_train(space: Workspace, heads: Heads, span: tuple[float, float], number: int = 0) -> Network:
    """Train the network by a moving average of itself, and return that average.

    Args:
        span: start and latest end of the round, in seconds of the training; it also ends with its epochs.
        number: of the round, from 0.
    Raises:
        CollapseError: one cluster of a head takes most of the pictures.
    """
    learner, run, refreshed = _learner(space, heads), _make_run(space, heads.network, span, number), 0
    space.set_train_mode(heads.network)
    space.network.head.train()
    teacher, signs = learner.teacher, learner.signs
    device, note = space.training.device, space.training.callbacks.on_note
    graph = space.recipe.train.graph and space.source.is_on(device)
    gradients = GraphedStep(
        partial(step_loss, learner), [heads.network, *_contrast_modules(space)], device, graph,
        [*teacher.network.buffers(), teacher.assignments, teacher.prior, signs.totals], note,
    )  # fmt: skip
    update = GraphedUpdate(run.part.optimizers, partial(teacher.follow, heads.network), device, graph, note)
    with run.interruptible():
        for rows, generator in run.batches():
            if (due := int(run.done * (space.config.refresh + 1))) > refreshed:
                refreshed = due
                _refresh_neighbours(space, teacher)
            loss, x = gradients(rows, generator)  # step_loss and its backward pass
            update()
            run.after_step(loss, x)
            if run.progress.step % WATCH_STEPS == 0:
                _report_signs(run, signs, number)
        if run.progress.step % WATCH_STEPS:
            _report_signs(run, signs, number)
    space.recompute_statistics(teacher.network)
    return teacher.network.eval()


def _learner(space: Workspace, heads: Heads) -> Learner:
    teacher = Teacher(heads.network, heads.assignments, heads.neighbour_ids, space.config)
    space.set_train_mode(teacher.network, whole_pictures=True)
    signs = Signs(heads.assignments.shape[1], space.config.clusters, space.training.device)
    return Learner(space, heads.network, teacher, signs)


def _contrast_modules(space: Workspace) -> list[nn.Module]:
    """Head and codebooks of the contrastive loss, which continues."""
    return [space.network.head, space.network.quantizer]


def _make_run(space: Workspace, network: Network, span: tuple[float, float], number: int) -> Run:
    count, rounds = len(space.pixels), max(1, space.config.rounds)
    recipe = replace(space.recipe, train=_own_settings(space, number))
    optimizers = make_optimizers(network, recipe, more=_contrast_modules(space))
    part = Part(
        Phase.CLUSTER, recipe, network, optimizers, count, recipe.train.batch_size, span,
        shown=(number / rounds, (number + 1) / rounds),
    )  # fmt: skip
    return Run(space.training, part, Progress(seconds=span[0]))


def _own_settings(space: Workspace, number: int) -> TrainConfig:
    """The settings of a round, in the form of those of a training; each round draws its own views."""
    config, train = space.config, space.recipe.train
    wanted = replace(space.recipe, train=replace(train, batch_size=config.batch_size))
    batch_size = choose_batch_size(replace(space.training, recipe=wanted), len(space.pixels), [])
    return replace(
        train, minutes=0.0, epochs=config.epochs, batch_size=batch_size, muon_lr=config.muon_lr, lr=config.lr, warmup=0.05,
        num_views=2, small_share=0.0, view_scale=config.view_scale, seed=(train.seed + 1000 * number) % 2**32,
    )  # fmt: skip


def _refresh_neighbours(space: Workspace, teacher: Teacher) -> None:
    """Find the neighbours again, by the features of the teacher."""
    teacher.network.eval()
    features = space.describe(teacher.network)
    space.set_train_mode(teacher.network, whole_pictures=True)
    teacher.neighbour_ids.copy_(nearest(features, teacher.neighbour_ids.shape[1]))


def _report_signs(run: Run, signs: Signs, number: int) -> None:
    values, clusters = signs.take(), run.training.recipe.cluster.clusters
    row = {"round": number + 1, "step": run.progress.step, "done": round(run.done, 4), **values}
    with (run.training.out / "clusters.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if values["largest"] > (1 + 1 / clusters) / 2:  # half of the way from an even share to all
        raise CollapseError(f"one cluster of a head holds {values['largest']:.0%} of the pictures")
