"""The stage `cluster` of a training: clustering heads on the trained network's features, self-training, codes of its clusters."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spq.config import ClusterConfig, Recipe
from spq.data.images import Pixels
from spq.errors import CollapseError
from spq.learning.checkpoint import State
from spq.learning.cluster import (
    WEAK,
    Teacher,
    choose_heads,
    confident_cross_entropy,
    cut_out,
    describe_whole,
    fit_heads,
    nearest,
    recompute_statistics,
    soft_cross_entropy,
)
from spq.learning.graphed import GraphedStep
from spq.learning.loss import multi_view
from spq.learning.neighbours import neighbours
from spq.learning.optimizers import make_optimizers
from spq.learning.refit import refit
from spq.learning.run import Run, TrainStatus
from spq.learning.views import make_views
from spq.model.artifact import Model
from spq.model.device import resolve_precision
from spq.model.network import Network

VIEWS = 3  # of each picture that heads learn from, beside the whole picture
GRAPH = 60_000  # pictures of the graph of neighbours on a GPU
SAMPLE = 1500  # pictures by which heads are chosen
WATCH_STEPS = 100  # between two looks at a self-training
OnPart = Callable[[str, Model], None]


def cluster_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the model that the stage ends with: one layer of heads, whose soft assignments are quantized."""
    c = recipe.cluster
    return replace(
        recipe,
        head=replace(recipe.head, hidden=0, batch_norm=False, norm=0.0, softmax=c.temperature),
        quantizer=replace(recipe.quantizer, codeword_dim=c.clusters, distance="dot"),
    )


class ClusterStage:
    """What the parts of the stage share.

    Args:
        network: trained; it is changed. recipe: the training's own. seconds: share of the clock, start and end in seconds of
            training. forward: the backbone, compiled.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        pixels: Pixels,
        name: str,
        out: Path,
        state: State,
        *,
        fingerprint: str,
        device: torch.device,
        forward: Callable[[Tensor], Tensor] | None = None,
        on_status: Callable[[TrainStatus], None] | None = None,
        on_note: Callable[[str], None] | None = None,
        on_part: OnPart | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.before, self.recipe, self.pixels, self.name, self.out, self.state = (
            network,
            recipe,
            pixels,
            name,
            out,
            state,
        )
        self.fingerprint, self.device, self.forward = fingerprint, device, forward
        self.on_status, self.on_note, self.on_part, self.tensorboard = on_status, on_note, on_part, tensorboard
        self.bf16 = resolve_precision(recipe.train.precision, device.type) == "bf16"
        self.data = torch.from_numpy(pixels.array).to(device)
        self.generator = torch.Generator(device).manual_seed(recipe.train.seed + 1)
        self.config: ClusterConfig = recipe.cluster
        self.end_recipe = cluster_recipe(recipe)

    def run(self) -> Model:
        """The trained model, saved."""
        begun = time.monotonic()
        network = self.heads()
        self.state.seconds += time.monotonic() - begun
        self.state.began = self.state.seconds
        if self.config.self_training:
            before = copy.deepcopy(network)
            try:
                network = self.self_training(network)
            except CollapseError as error:
                if self.on_note:
                    self.on_note(f"self-training is not kept: {error}")
                network = before
        self.fit_codebooks(network)
        run = self._run(network, [])
        run.session_start = time.monotonic()
        return run.finish(self.name, self.pixels)

    def heads(self) -> Network:
        """Backbone and clustering heads, which are made of the backbone's features."""
        config = self.config
        recompute_statistics(self.before.backbone, self.data, self.recipe.input, self.bf16)
        self.before.eval()
        if self.on_part:
            model = Model(copy.deepcopy(self.before), self.recipe)
            refit(model.network.quantizer, model.network.project(self._whole(model.network)))
            self.on_part("network", model)
        whole = describe_whole(self.before.backbone, self.data, self.recipe.input, self.bf16)
        view_input = self.recipe.input.scaled(config.view_scale)
        describe = partial(self._features_of_views, view_input)
        features = torch.stack([whole, *(describe() for _ in range(VIEWS))], 1)
        pool = {"pool_size": GRAPH} if self.device.type == "cuda" else {}
        found = neighbours(whole.cpu().numpy(), config.neighbours, self.recipe.train.seed, self.device, **pool)
        assert found is not None
        self.near = found
        M = self.recipe.quantizer.num_codebooks
        layer = self._chosen(fit_heads(features, self.near, M * config.candidates, config, self.generator), whole, M)
        network = Network(self.end_recipe, self.before.backbone).to(self.device)
        network.head = nn.Sequential(layer)
        with torch.no_grad():
            network.quantizer.codebooks.copy_(torch.eye(config.clusters).expand_as(network.quantizer.codebooks))
            self.bank = torch.softmax(layer(whole).view(len(whole), M, config.clusters), 2)
        network.eval()
        if self.on_part:
            self.fit_codebooks(network)
            self.on_part("heads", Model(network, self.end_recipe))
        return network

    def _chosen(self, layer: nn.Linear, whole: Tensor, count: int) -> nn.Linear:
        """The layer of the heads that are kept."""
        K, rows = self.config.clusters, torch.linspace(0, len(whole) - 1, min(SAMPLE, len(whole))).long()
        assigned = torch.softmax(layer(whole[rows.to(whole.device)]).view(len(rows), -1, K), 2)
        order = choose_heads(assigned, count)
        kept = nn.Linear(whole.shape[1], count * K).to(whole.device)
        with torch.no_grad():
            kept.weight.copy_(layer.weight.view(-1, K, whole.shape[1])[order].flatten(0, 1))
            kept.bias.copy_(layer.bias.view(-1, K)[order].flatten())
        return kept

    def _whole(self, network: Network) -> Tensor:
        """(N, F) features of the pictures, as they are encoded."""
        return describe_whole(network.backbone, self.data, self.recipe.input, self.bf16, mirror=False)

    def _features_of_views(self, view_input: Any) -> Tensor:
        parts = []
        for chunk in torch.split(self.data, 1000):
            views = make_views(chunk, self.recipe.views, view_input, self.generator)
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                parts.append(self.before.backbone(views.contiguous(memory_format=torch.channels_last)).float())
        return torch.cat(parts)

    def self_training(self, network: Network) -> Network:
        """The network taught by a moving average of itself; that average."""
        config, recipe = self.config, self.recipe
        teacher = Teacher(network, self.bank, self.near, config)
        part = replace(
            recipe.train, minutes=0.0, epochs=max(1, config.epochs), batch_size=config.batch_size, muon_lr=config.muon_lr,
            lr=config.lr, warmup=0.05, num_views=2, small_share=0.0, view_scale=config.view_scale,
        )  # fmt: skip
        contrast = self.before
        parameters = nn.ModuleList([network, contrast.head, contrast.quantizer])
        optimizers = make_optimizers(parameters, replace(recipe, train=part))  # type: ignore[arg-type]
        run = self._run(network, optimizers, replace(recipe, train=part))
        looked, signs = 0, Signs(self.device)
        network.train()
        contrast.head.train()
        gradients = GraphedStep(
            partial(self._step, network, contrast, teacher, signs), parameters, self.device, recipe.train.graph,
            [*teacher.network.buffers(), teacher.bank, teacher.prior, signs.totals], self.on_note,
        )  # fmt: skip
        with run.interruptible():
            for rows, generator in run.batches(len(self.data), self.device):
                if (look := int(run.done * (config.refresh + 1))) > looked:
                    looked = look
                    teacher.near.copy_(self._nearest(teacher.network))
                loss, x = gradients(rows, generator)
                for optimizer in optimizers:
                    optimizer.step()
                teacher.follow(network)
                run.after_step(loss, x, self.on_status, None)
                if run.state.step % WATCH_STEPS == 0:
                    self._watch(run, signs)
        recompute_statistics(teacher.network, self.data, recipe.input, self.bf16)
        return teacher.network

    def _step(
        self,
        network: Network,
        contrast: Network,
        teacher: Teacher,
        signs: Signs,
        rows: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        config, recipe, images = self.config, self.recipe, self.data[rows]
        autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=self.bf16)
        weak = make_views(images, WEAK, recipe.input, generator).contiguous(memory_format=torch.channels_last)
        with autocast():
            target, own = teacher.targets(rows, weak)
        strong = make_views(images.repeat(2, 1, 1, 1), recipe.views, recipe.input.scaled(config.view_scale), generator)
        strong = cut_out(strong, config.cutout, generator).contiguous(memory_format=torch.channels_last)
        with autocast():
            features = (network.backbone if self.forward is None else self.forward)(strong)
            logits = network.head(features).float().view(-1, *target.shape[1:])
            x = contrast.project(features)
        target = target.repeat(2, 1, 1)
        if config.confidence:
            loss, sure = confident_cross_entropy(logits, target, config.confidence)
        else:
            loss, sure = soft_cross_entropy(logits, target, config.sharpness)
        signs.add(logits, target, own, sure)
        if config.contrast:
            outputs = list(zip(x.chunk(2), contrast.quantizer(x).chunk(2), strict=True))
            loss = loss + config.contrast * multi_view(outputs, recipe.train.temperature, recipe.quantizer.prefix_dims)
        return loss, own.flatten(1)

    def _nearest(self, network: Network) -> Tensor:
        network.eval()
        found = nearest(describe_whole(network.backbone, self.data, self.recipe.input, self.bf16), self.near.shape[1])
        network.train()
        return found

    def _watch(self, run: Run, signs: Signs) -> None:
        now = signs.taken()
        row = {"step": run.state.step, "done": round(run.done, 4), **now}
        with (self.out / "clusters.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.on_note:
            self.on_note("clusters: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()))
        if now["largest"] > 0.5:
            raise CollapseError(
                f"one cluster of a head holds {now['largest']:.0%} of the pictures; raise cluster.balance"
            )

    @torch.no_grad()
    def fit_codebooks(self, network: Network) -> None:
        """K-means of the soft assignments in each codebook, begun at those of pictures drawn at random."""
        x = network.eval().project(self._whole(network))
        C = network.quantizer.codebooks
        for book, sub_vectors in zip(C, network.quantizer.split(x).unbind(1), strict=True):
            book.copy_(sub_vectors[torch.randperm(len(x), generator=self.generator, device=x.device)[: len(book)]])
        refit(network.quantizer, x)

    def _run(self, network: Network, optimizers: list[Any], recipe: Recipe | None = None) -> Run:
        run = Run(
            recipe or self.end_recipe, self.out, network, optimizers, self.state, self.config.batch_size, self.fingerprint,
            self.tensorboard, self.end_recipe,
        )  # fmt: skip
        run.checkpoints = False
        end = 60 * self.recipe.train.minutes or math.inf
        run.clock = self.state.began, max(end, self.state.began + 1e-3)  # at once over where the heads took all of it
        return run


class Signs:
    """Label-free signs of a self-training, means since the last look.

    confident: share of (picture, head) from which is learned. agreement: of network and teacher on these. certainty: of
    the teacher. largest: share of the largest cluster of a head. used: clusters that hold a tenth of an even share, by head.
    """

    NAMES = ("confident", "agreement", "certainty", "largest", "used")

    def __init__(self, device: torch.device) -> None:
        self.totals = torch.zeros(len(self.NAMES) + 1, device=device)  # the last counts

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, own: Tensor, sure: Tensor) -> None:
        K = own.shape[2]
        hit = logits.argmax(2) == target.argmax(2)
        share = nn.functional.one_hot(own.argmax(2), K).float().mean(0)
        now = [
            sure.float().mean(),
            (hit & sure).sum() / sure.sum().clamp(min=1),
            own.max(2).values.mean(),
            share.max(1).values.max(),
            (share > 0.1 / K).float().sum(1).mean(),
        ]
        self.totals.add_(torch.stack([*now, torch.ones_like(now[0])]))

    def taken(self) -> dict[str, float]:
        *sums, count = self.totals.tolist()
        self.totals.zero_()
        return {name: round(value / max(1.0, count), 4) for name, value in zip(self.NAMES, sums, strict=True)}
