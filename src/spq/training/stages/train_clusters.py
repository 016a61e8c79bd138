"""Stage `cluster`: clustering heads on the trained network, rounds of self-training, and codebooks of the clusters."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from spq.config import Recipe
from spq.errors import CollapseError
from spq.model.model import Model
from spq.model.network import Network
from spq.model.quantizer import CodebookQuantizer
from spq.training.cluster_heads import choose_heads, fit_heads
from spq.training.context import Training
from spq.training.neighbours import neighbours
from spq.training.refit import refit
from spq.training.run import Stopwatch
from spq.training.stages.self_training import Heads, Workspace, self_train
from spq.training.trained import Trained, save_trained
from spq.training.view_source import ViewSource, view_source
from spq.training.views import make_views

PICTURES = 50_000  # the stage learns from at most so many, drawn at random
VIEWS = 3  # of each picture that heads learn from, beside the whole picture
CHOOSERS = 1_500  # pictures that heads are chosen by


def cluster_recipe(recipe: Recipe) -> Recipe:
    """Make the recipe of the model that the stage ends with: one layer of heads, with quantized soft assignments."""
    config = recipe.cluster
    return replace(
        recipe,
        head=replace(recipe.head, hidden=0, batch_norm=False, norm=0.0, softmax=config.temperature),
        quantizer=replace(recipe.quantizer, codeword_dim=config.clusters, distance="dot"),
    )


def train_clusters(training: Training, trained: Trained) -> Model:
    """Turn a trained network into one whose codebooks are clusterings, and save it. A stopped stage starts again.

    A round of self-training makes better features. The next round learns from new heads on these features. The callback
    `on_part` gets ("network", model), ("heads", model), ("self-training", model), ("heads 2", model) and so on.
    """
    watch = Stopwatch(training.options.clock, trained.seconds)
    (training.out / "clusters.jsonl").unlink(missing_ok=True)  # of an earlier training
    stage = ClusterStage(training, trained)
    stage.show_network()
    before_heads = watch.seconds
    heads = stage.make_heads()
    head_seconds = watch.seconds - before_heads
    stage.show("heads", heads.network)
    rounds = training.recipe.cluster.rounds if stage.is_clear(heads) else 0
    for number in range(rounds):
        now = watch.seconds
        seconds = (training.seconds - now - head_seconds * (rounds - 1 - number)) / (rounds - number)
        if seconds <= 0:
            training.callbacks.note(
                "no time is left for self-training, because the heads take too long; give more minutes"
            )
            break
        weights = copy.deepcopy(heads.network.state_dict())
        try:
            teacher = self_train(stage.space, heads, (now, now + seconds), number)
        except CollapseError as error:
            training.callbacks.note(f"the result of self-training is dropped: {error}")
            heads.network.load_state_dict(weights)
            break
        stage.show("self-training", teacher, number)
        stage.space.network.backbone.load_state_dict(teacher.backbone.state_dict())
        heads.network.load_state_dict(teacher.state_dict())
        if number < rounds - 1:  # the last heads stay: heads that have learned with the network give better codes
            heads = stage.make_heads()
            stage.show("heads", heads.network, number + 1)
    stage.fit_codebooks(heads.network)
    end = replace(training, recipe=stage.end_recipe)
    return save_trained(end, Trained(heads.network, trained.facts, watch.seconds))


class ClusterStage:
    """The steps of the stage: heads, their codebooks, and models of what there is by then.

    Args:
        trained: its network, on the training's device, is changed.
    """

    def __init__(self, training: Training, trained: Trained) -> None:
        recipe, pixels = training.recipe, training.pixels.array
        # in random order: a folder is often sorted by what its pictures show
        drawn = np.random.default_rng(recipe.train.seed).permutation(len(pixels))[:PICTURES]
        self.training, self.recipe, self.config = training, recipe, recipe.cluster
        self.end_recipe = cluster_recipe(recipe)
        forward = (
            trained.network.backbone if trained.forward is None else trained.forward
        )  # a compiled one has no truth value
        whole = torch.from_numpy(pixels[drawn]).to(training.device)
        is_larger = training.pixels.large is not None
        source = view_source(training.pixels, training.device, drawn) if is_larger else ViewSource(whole, None)
        self.space = Workspace(training, trained.network, whole, source, forward)
        self.generator = torch.Generator(training.device).manual_seed(recipe.train.seed + 1)

    def make_heads(self) -> Heads:
        """Fit clustering heads to the features of the network as it is."""
        config, count, space = self.config, self.recipe.quantizer.num_codebooks, self.space
        device, backbone = self.training.device, space.network.backbone
        space.recompute_statistics(backbone)
        space.network.eval()
        whole = space.describe(space.network)
        pool_size = PICTURES if device.type == "cuda" else None  # a CPU takes minutes for so many
        neighbour_ids = neighbours(whole.cpu().numpy(), config.neighbours, self.recipe.train.seed, device, pool_size)
        assert neighbour_ids is not None  # a recipe with this stage has neighbours
        features = torch.stack([whole, *(self._describe_views() for _ in range(VIEWS))], 1)
        layer = fit_heads(features, neighbour_ids, count * config.candidates, config, self.generator)
        layer = self._choose(layer, whole)
        network = Network(self.end_recipe, backbone).to(device)
        network.head = nn.Sequential(layer)
        with torch.no_grad():
            assignments = torch.softmax(layer(whole).view(len(whole), count, config.clusters), 2)
        return Heads(network, neighbour_ids, assignments)

    @torch.no_grad()
    def fit_codebooks(self, network: Network) -> None:
        """Fit the codebooks to the soft assignments of the pictures: k-means from pictures drawn at random. In place."""
        x = network.eval().project(self.space.describe(network, mirror=False))
        generator = torch.Generator(x.device).manual_seed(self.recipe.train.seed)
        quantizer = network.quantizer
        assert isinstance(quantizer, CodebookQuantizer)  # by the recipe
        for book, parts in zip(quantizer.codebooks, quantizer.split(x).unbind(1), strict=True):
            order = torch.randperm(max(len(x), len(book)), generator=generator, device=x.device) % len(x)
            book.copy_(parts[order[: len(book)]])
        refit(quantizer, x)

    def is_clear(self, heads: Heads) -> bool:
        """Whether heads are certain enough for self-training; learning unclear clusters makes the network worse."""
        if not self.config.rounds:
            return False
        mean, least = float(heads.assignments.max(2).values.mean()), self.config.certainty
        if mean < least:
            self.training.callbacks.note(
                f"no self-training: the clusters are not clear (mean assignment {mean:.2f}, {least} is needed)"
            )
        return mean >= least

    def show_network(self) -> None:
        """Pass the network before its clusters to `on_part`, with codebooks by k-means."""
        on_part, network = self.training.callbacks.on_part, self.space.network
        if on_part:
            self.space.recompute_statistics(network.backbone)
            model = Model(copy.deepcopy(network.eval()), self.recipe)
            features = self.space.describe(model.network, mirror=False)
            refit(model.network.quantizer, model.network.project(features))
            on_part("network", model)

    def show(self, name: str, network: Network, number: int = 0) -> None:
        """Pass a network with clustering heads to `on_part`; `number` counts the rounds from 0."""
        if on_part := self.training.callbacks.on_part:
            self.fit_codebooks(network)
            model = Model(copy.deepcopy(network), self.end_recipe)
            on_part(f"{name} {number + 1}" if number else name, model)

    def _choose(self, layer: nn.Linear, whole: Tensor) -> nn.Linear:
        """Return the layer of the heads that are kept.

        Args:
            layer: of all candidates. whole: (N, F) features.
        """
        K, count = self.config.clusters, self.recipe.quantizer.num_codebooks
        rows = torch.linspace(0, len(whole) - 1, min(CHOOSERS, len(whole)), device=whole.device).long()
        with torch.no_grad():
            order = choose_heads(torch.softmax(layer(whole[rows]).view(len(rows), -1, K), 2), count)
            kept = nn.Linear(whole.shape[1], count * K).to(whole.device)
            kept.weight.copy_(layer.weight.view(-1, K, whole.shape[1])[order].flatten(0, 1))
            kept.bias.copy_(layer.bias.view(-1, K)[order].flatten())
        return kept

    @torch.no_grad()
    def _describe_views(self) -> Tensor:
        """Compute features (N, F) of a random view of each picture."""
        parts, size = [], self.recipe.input.scaled(self.config.view_scale)
        for rows in torch.split(torch.arange(len(self.space.pixels), device=self.training.device), 1000):
            pixels, frames = self.space.source.cut(rows)
            views = make_views(pixels, self.recipe.views, size, self.generator, frame=frames)
            with self.space.autocast():
                features = self.space.network.backbone(views.contiguous(memory_format=torch.channels_last))
            parts.append(features.float())
        return torch.cat(parts)
