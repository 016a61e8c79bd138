"""The main loop: backbone, head and codebooks learn together from random views of the pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from spq.config import InputConfig, Recipe
from spq.model.model import Model
from spq.model.network import Network
from spq.training.checkpoint import Phase, Progress
from spq.training.compiled import Forward, compile_backbone
from spq.training.context import Training, choose_batch_size
from spq.training.filter_gradients import fast_filter_gradients
from spq.training.gathered import gather_with_gradient, shared_statistics
from spq.training.graphed import GraphedStep, GraphedUpdate
from spq.training.loss import Outputs
from spq.training.losses import Criterion
from spq.training.moving_targets import MovingTargets
from spq.training.neighbours import neighbours, positive_rows
from spq.training.optimizers import make_optimizers
from spq.training.own_views import Views, call_views
from spq.training.processes import ALONE, Processes
from spq.training.run import Part, Run
from spq.training.trained import Trained
from spq.training.view_source import ViewSource, view_source
from spq.training.views import make_views


@dataclass(frozen=True)
class Learner:
    """What every step uses.

    Attributes:
        source: what views are cut from. neighbour_ids: (N, n), where neighbours are positives.
        forward: the backbone, compiled or not. bf16: compute it in bfloat16.
        own_views: those of the caller, instead of the recipe's.
    """

    recipe: Recipe
    network: Network
    forward: Forward
    source: ViewSource
    neighbour_ids: Tensor | None
    criterion: Criterion
    bf16: bool
    targets: MovingTargets | None = None
    processes: Processes = ALONE
    own_views: Views | None = None

    def views(self, rows: Tensor, view_input: InputConfig, generator: torch.Generator, count: int) -> Tensor:
        """Make views (B, 3, S, S) of pictures: parts of `count` rows, one after the other.

        Several processes draw all of them, and each makes those of its own rows in each part.
        """
        drawn, frames = None, self.source.frames_of(rows)
        if self.processes.several:
            own = torch.arange(len(rows), device=rows.device).view(-1, count)[:, self.processes.own(count)].flatten()
            rows, drawn = rows[own], (len(rows), own)
        pixels = self.source.take(rows)
        if self.own_views:
            views = call_views(self.own_views, pixels, generator, view_input, self.processes.rank)
        else:
            views = make_views(pixels, self.recipe.views, view_input, generator, drawn, frames)
        return views.contiguous(memory_format=torch.channels_last) if self.recipe.train.channels_last else views

    def describe(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) views -> descriptors and their soft quantizations, (B, D) each."""
        with (
            torch.autocast(views.device.type, torch.bfloat16, enabled=self.bf16),
            shared_statistics(self.processes),
            fast_filter_gradients(self.forward, views.device, self.bf16),
        ):
            return self.network.quantized(self.forward(views))

    def loss(self, rows: Tensor, views: list[Tensor], outputs: Outputs, temperature: float) -> Tensor:
        """Compute the loss of the views of a batch, from their descriptors and quantizations.

        With several processes, views and outputs are those of this one, and the result is its share of the loss.

        Args:
            rows: (B,) of the whole batch.
        """
        several, size = self.processes.several, len(outputs[0][0]) * self.processes.count
        own = self.processes.own(size) if several else None
        if self.targets is None:
            outputs = gather_with_gradient(outputs, self.processes) if several else outputs
            return self.criterion(outputs, rows, temperature, own)
        with shared_statistics(self.processes):
            with torch.autocast(views[0].device.type, torch.bfloat16, enabled=self.bf16):
                seen = _by_view([self.targets.outputs(view) for view in views], len(outputs))
            seen = gather_with_gradient(seen, self.processes) if several else seen
            if self.criterion.is_own:
                outputs = gather_with_gradient(outputs, self.processes) if several else outputs
                return self.criterion(outputs, rows, temperature, own, seen)
            return self.targets.loss(outputs, seen, temperature, own.start if own else 0) / self.processes.count


def step_loss(
    learner: Learner, rows: Tensor, generator: torch.Generator, view_input: InputConfig, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch, and the descriptors (B, D) of its first views; of several processes, the own part of both.

    Args:
        rows: (B,) row numbers of the pictures of the whole batch. view_input: the input at the size of the views.
        temperature: of the loss.
    """
    recipe, num_views = learner.recipe, learner.recipe.train.num_views
    shown = positive_rows(rows, learner.neighbour_ids, num_views, generator)
    batches = [torch.cat(shown)] if recipe.train.one_pass else shown
    views = [learner.views(batch, view_input, generator, len(rows)) for batch in batches]
    outputs = _by_view([learner.describe(view) for view in views], num_views)
    return learner.loss(rows, views, outputs, temperature), outputs[0][0]


def _by_view(outputs: Outputs, num_views: int) -> Outputs:
    """Split the outputs of one pass by view."""
    if len(outputs) == num_views:
        return outputs
    return list(zip(*(part.chunk(num_views) for part in outputs[0]), strict=True))


def train_network(training: Training, network: Network) -> tuple[Training, Trained]:
    """Train the network, from the checkpoint if there is one.

    Returns:
        the training, with the minutes that its deadline leaves, and the trained network.
    """
    learner, part, progress = _prepare(training, network)
    training = training.with_deadline(progress.seconds)
    part = replace(part, recipe=training.recipe, seconds=(0.0, training.network_seconds))
    run = Run(training, part, progress)
    targets, device, note = part.targets, training.device, training.callbacks.on_note
    graph = training.recipe.train.graph and learner.source.is_on(device) and not training.processes.several
    modules = [
        network,
        *([targets] if targets else []),
        *([learner.criterion.module] if learner.criterion.is_own else []),
    ]
    gradients = GraphedStep(partial(step_loss, learner), modules, device, graph, on_note=note)
    follow = partial(targets.follow, network) if targets else None
    update = GraphedUpdate(part.optimizers, follow, device, graph, note)
    with run.interruptible():
        for rows, generator in run.batches():
            loss, x = gradients(rows, generator, run.view_input, run.temperature)  # step_loss and its backward pass
            loss = training.processes.sum_gradients(gradients.parameters, loss)
            update()
            run.after_step(loss, x)
    if targets:
        network.load_state_dict(targets.average.state_dict())
    return training, Trained(network, run.network_facts, run.watch.seconds, learner.forward)


def _prepare(training: Training, network: Network) -> tuple[Learner, Part, Progress]:
    """Set up the steps: neighbours, optimizers, weights of the checkpoint, the compiled backbone."""
    recipe, device, checkpoint, pixels = training.recipe, training.device, training.checkpoint, training.pixels
    batch_size = choose_batch_size(training, len(pixels.array), pixels.failures)
    neighbour_ids = training.processes.from_first(partial(_find_neighbours, training, network))
    targets = MovingTargets(network, recipe).to(device) if recipe.train.target_momentum else None
    criterion = Criterion(training.options.loss, network.to(device), len(pixels.array))
    more = [targets.predictor] if targets and not criterion.is_own else []
    optimizers = make_optimizers(network, recipe, more=more, of_loss=criterion.parameters())
    progress = checkpoint.restore(network, optimizers, criterion) if checkpoint else Progress()
    if targets and checkpoint and checkpoint.targets:
        targets.load_state_dict(checkpoint.targets)
    training.processes.copy_first(network, targets, criterion.module)
    network.train()
    if targets:
        targets.train()
    # a pretrained backbone keeps its batch statistics: those of small batches are worse
    network.backbone.train(recipe.train.backbone_lr_scale == 1)
    learner = Learner(
        recipe, network, network.backbone, view_source(pixels, device), neighbour_ids,
        criterion, training.bf16, targets, training.processes, training.options.views,
    )  # fmt: skip
    part = Part(
        Phase.NETWORK, recipe, network, optimizers, len(pixels.array), batch_size, neighbour_ids=neighbour_ids,
        targets=targets, criterion=criterion, processes=training.processes,
    )  # fmt: skip
    return replace(learner, forward=_forward(training, learner, batch_size)), part, progress


def _forward(training: Training, learner: Learner, batch_size: int) -> Forward:
    """Return the backbone, compiled where that is wanted and possible: not with sums over processes inside of it."""
    recipe, note = training.recipe, training.callbacks.note
    if training.processes.several:
        if recipe.train.graph or recipe.train.compile == "on":
            note("with several processes, steps are neither compiled nor recorded as CUDA graphs")
        return learner.forward
    shown = batch_size * (recipe.train.num_views if recipe.train.one_pass else 1)
    return compile_backbone(learner.network, recipe, partial(try_out, learner, shown), note)


def try_out(learner: Learner, count: int, forward: Forward, size: int) -> None:
    """Run a forward and a backward pass of a backbone on `count` random views of a size."""
    views = torch.rand(count, 3, size, size, device=learner.network.device)
    if learner.recipe.train.channels_last:
        views = views.contiguous(memory_format=torch.channels_last)
    x, z = replace(learner, forward=forward).describe(views)
    torch.autograd.backward(x.sum() + z.sum())


def _find_neighbours(training: Training, network: Network) -> Tensor | None:
    """Find neighbours by the features before training, or take those of the checkpoint; None if the recipe wants none."""
    recipe, device = training.recipe, training.device
    if not recipe.train.neighbours:
        return None
    if training.checkpoint:
        assert training.checkpoint.neighbour_ids is not None
        return training.checkpoint.neighbour_ids.to(device)
    model = Model(network.to(device), recipe)
    features = model.features(training.pixels.array, precision="bf16" if training.bf16 else "fp32")
    return neighbours(features, recipe.train.neighbours, recipe.train.seed, device)
