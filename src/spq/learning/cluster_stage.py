"""The stage `cluster` of a training: clustering heads on the trained network, self-training, and codebooks of the clusters."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spq.config import Recipe, TrainConfig
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
from spq.learning.run import Run, TrainStatus, batch_size_for
from spq.learning.views import make_views
from spq.model.artifact import Model
from spq.model.device import resolve_precision
from spq.model.network import Network

PICTURES = 50_000  # that the stage learns from at most, drawn at random
VIEWS = 3  # of each picture that heads learn from, beside the whole picture
CHOOSERS = 1_500  # pictures by which heads are chosen
WATCH_STEPS = 100  # between two looks at a self-training
COLLAPSED = 0.5  # share of the pictures in one cluster from which a self-training is given up
OnPart = Callable[[str, Model], None]
Heads = tuple[Network, Tensor, Tensor]  # backbone with heads, (N, n) neighbours, (N, M, K) assignments


def cluster_recipe(recipe: Recipe) -> Recipe:
    """Make the recipe of the model that the stage ends with: one layer of heads, whose soft assignments are quantized."""
    config = recipe.cluster
    return replace(
        recipe,
        head=replace(recipe.head, hidden=0, batch_norm=False, norm=0.0, softmax=config.temperature),
        quantizer=replace(recipe.quantizer, codeword_dim=config.clusters, distance="dot"),
    )


class ClusterStage:
    """Turn a trained network into one whose codebooks are clusterings. A stage that was stopped begins again.

    Args:
        network: trained, on `device`; it is changed. recipe: the training's own. name: of the collection.
        state: where the network's part ended. forward: the backbone, compiled.
        on_part: called with ("network", model) before the heads and ("heads", model) before the self-training.
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
        self.network, self.recipe, self.pixels, self.name = network, recipe, pixels, name
        self.out, self.state, self.fingerprint, self.device = out, state, fingerprint, device
        self.forward: Callable[[Tensor], Tensor] = network.backbone if forward is None else forward
        self.on_status, self.on_note, self.on_part, self.tensorboard = on_status, on_note, on_part, tensorboard
        self.config, self.end_recipe = recipe.cluster, cluster_recipe(recipe)
        self.bf16 = resolve_precision(recipe.train.precision, device.type) == "bf16"
        self.generator = torch.Generator(device).manual_seed(recipe.train.seed + 1)
        everything = torch.from_numpy(pixels.array).to(device)
        drawn = torch.randperm(len(everything), generator=self.generator, device=device)[:PICTURES]
        self.data = everything if len(everything) <= PICTURES else everything[drawn]

    def run(self) -> Model:
        """Go through the stage; the model, saved."""
        begun = time.monotonic()
        network, near, bank = self.heads()
        self.state.seconds += time.monotonic() - begun
        if self.config.self_training and self._are_clear(bank):
            fallback = copy.deepcopy(network)
            try:
                network = self.self_training(network, near, bank)
            except CollapseError as error:
                self._note(f"self-training is not kept: {error}")
                network = fallback
        begun = time.monotonic()
        self.fit_codebooks(network)
        run = self._run(network, [])
        run.session_start = begun
        return run.finish(self.name, self.pixels)

    def heads(self) -> Heads:
        """Fit clustering heads to the network's features."""
        config, quantizer = self.config, self.recipe.quantizer
        backbone = self.network.backbone
        recompute_statistics(backbone, self.data, self.recipe.input, self.bf16)
        self.network.eval()
        if self.on_part:
            model = Model(copy.deepcopy(self.network), self.recipe)
            refit(model.network.quantizer, model.network.project(self._whole(model.network)))
            self.on_part("network", model)
        whole = describe_whole(backbone, self.data, self.recipe.input, self.bf16)
        graph = {"pool_size": PICTURES} if self.device.type == "cuda" else {}  # a CPU takes minutes for so many
        near = neighbours(whole.cpu().numpy(), config.neighbours, self.recipe.train.seed, self.device, **graph)
        assert near is not None
        features = torch.stack([whole, *(self._views() for _ in range(VIEWS))], 1)
        count = quantizer.num_codebooks
        layer = fit_heads(features, near, count * config.candidates, config, self.generator)
        layer = self._chosen(layer, whole)
        network = Network(self.end_recipe, backbone).to(self.device)
        network.head = nn.Sequential(layer)
        with torch.no_grad():
            bank = torch.softmax(layer(whole).view(len(whole), count, config.clusters), 2)
        if self.on_part:
            self.fit_codebooks(network)
            self.on_part("heads", Model(network, self.end_recipe))
        return network, near, bank

    def self_training(self, network: Network, near: Tensor, bank: Tensor) -> Network:
        """Train the network by a moving average of itself; returns that average.

        Raises:
            CollapseError: one cluster of a head takes most of the pictures.
        """
        config, signs, looked = self.config, Signs(self.device), 0
        teacher = Teacher(network, bank, near, config)
        before = [self.network.head, self.network.quantizer]  # of the contrastive loss that goes on
        recipe = replace(self.recipe, train=self._train_config(len(self.data)))
        optimizers = make_optimizers(network, recipe, more=before)
        run = self._run(network, optimizers, recipe)
        network.train()
        self.network.head.train()
        gradients = GraphedStep(
            partial(self._step, network, teacher, signs), [network, *before], self.device, recipe.train.graph,
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
        self.state.seconds = run.seconds
        recompute_statistics(teacher.network, self.data, recipe.input, self.bf16)
        return teacher.network

    @torch.no_grad()
    def fit_codebooks(self, network: Network) -> None:
        """Fit the codebooks to the soft assignments of the pictures: k-means from pictures drawn at random. In place."""
        x = network.eval().project(self._whole(network))
        generator = torch.Generator(x.device).manual_seed(self.recipe.train.seed)
        for book, parts in zip(network.quantizer.codebooks, network.quantizer.split(x).unbind(1), strict=True):
            drawn = torch.randint(len(x), (len(book),), generator=generator, device=x.device)
            book.copy_(parts[drawn])
        refit(network.quantizer, x)

    def _train_config(self, count: int) -> TrainConfig:
        config, train = self.config, self.recipe.train
        batch = batch_size_for(
            replace(self.recipe, train=replace(train, batch_size=config.batch_size)), count, self.name, []
        )
        return replace(
            train, minutes=0.0, epochs=config.epochs, batch_size=batch, muon_lr=config.muon_lr, lr=config.lr, warmup=0.05,
            num_views=2, small_share=0.0, view_scale=config.view_scale,
        )  # fmt: skip

    def _step(
        self, network: Network, teacher: Teacher, signs: Signs, rows: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        config, recipe, images = self.config, self.recipe, self.data[rows]
        autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=self.bf16)
        weak = make_views(images, WEAK, recipe.input, generator)
        strong = make_views(images.repeat(2, 1, 1, 1), recipe.views, recipe.input.scaled(config.view_scale), generator)
        strong = cut_out(strong, config.cutout, generator)
        with autocast():
            target, own = teacher.targets(rows, weak.contiguous(memory_format=torch.channels_last))
            features = self.forward(strong.contiguous(memory_format=torch.channels_last))
            logits = network.head(features).float().view(-1, *target.shape[1:])
            x, z = self.network.quantized(features)
        target = target.repeat(2, 1, 1)
        if config.confidence:
            loss, sure = confident_cross_entropy(logits, target, config.confidence)
        else:
            loss, sure = soft_cross_entropy(logits, target, config.sharpness)
        signs.add(logits, target, own, sure)
        if config.contrast:
            outputs = list(zip(x.chunk(2), z.chunk(2), strict=True))
            loss = loss + config.contrast * multi_view(outputs, recipe.train.temperature, recipe.quantizer.prefix_dims)
        return loss, own.flatten(1)

    def _are_clear(self, bank: Tensor) -> bool:
        """Whether heads are certain enough to be learned from: a network that follows unclear clusters loses what it knows."""
        mean, least = float(bank.max(2).values.mean()), self.config.certainty
        if mean < least:
            self._note(f"no self-training: the clusters are not clear (mean assignment {mean:.2f}, {least} is needed)")
        return mean >= least

    def _chosen(self, layer: nn.Linear, whole: Tensor) -> nn.Linear:
        """The layer of the heads that are kept."""
        K, count = self.config.clusters, self.recipe.quantizer.num_codebooks
        rows = torch.linspace(0, len(whole) - 1, min(CHOOSERS, len(whole)), device=whole.device).long()
        with torch.no_grad():
            order = choose_heads(torch.softmax(layer(whole[rows]).view(len(rows), -1, K), 2), count)
            kept = nn.Linear(whole.shape[1], count * K).to(whole.device)
            kept.weight.copy_(layer.weight.view(-1, K, whole.shape[1])[order].flatten(0, 1))
            kept.bias.copy_(layer.bias.view(-1, K)[order].flatten())
        return kept

    def _whole(self, network: Network) -> Tensor:
        """(N, F) features of the pictures, as they will be encoded."""
        return describe_whole(network.backbone, self.data, self.recipe.input, self.bf16, mirror=False)

    @torch.no_grad()
    def _views(self) -> Tensor:
        """(N, F) features of a random view of each picture."""
        parts, size = [], self.recipe.input.scaled(self.config.view_scale)
        for chunk in torch.split(self.data, 1000):
            views = make_views(chunk, self.recipe.views, size, self.generator)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                parts.append(self.network.backbone(views.contiguous(memory_format=torch.channels_last)).float())
        return torch.cat(parts)

    def _nearest(self, network: Network) -> Tensor:
        network.eval()
        features = describe_whole(network.backbone, self.data, self.recipe.input, self.bf16)
        network.train()
        return nearest(features, min(self.config.neighbours, len(features) - 1))

    def _watch(self, run: Run, signs: Signs) -> None:
        row = {"step": run.state.step, "done": round(run.done, 4), **(now := signs.taken())}
        with (self.out / "clusters.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if now["largest"] > COLLAPSED:
            raise CollapseError(f"one cluster of a head holds {now['largest']:.0%} of the pictures")

    def _note(self, text: str) -> None:
        if self.on_note:
            self.on_note(text)

    def _run(self, network: Network, optimizers: list[Optimizer], recipe: Recipe | None = None) -> Run:
        part = recipe or self.end_recipe
        run = Run(
            part, self.out, network, optimizers, self.state, part.train.batch_size, self.fingerprint, self.tensorboard,
            self.end_recipe,
        )  # fmt: skip
        run.part, run.checkpoints = "clusters", False
        begin, end = self.state.seconds, 60 * self.recipe.train.minutes or math.inf
        run.clock = begin, max(end, begin + 1e-3)  # over at once where the heads took all of the time
        return run


class Signs:
    """Label-free signs of a self-training, as means since the last look.

    confident: share of (picture, head) from which is learned. agreement: of network and teacher on these. certainty: of
    the teacher. largest: share of the largest cluster of any head. used: clusters of a head that hold a tenth of an even share.
    """

    NAMES = ("confident", "agreement", "certainty", "largest", "used")

    def __init__(self, device: torch.device) -> None:
        self.totals = torch.zeros(len(self.NAMES) + 1, device=device)  # the last one counts

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, own: Tensor, sure: Tensor) -> None:
        """Add a step: logits and targets (V * B, M, K), the teacher's assignments (B, M, K), who was confident (V * B, M)."""
        K = own.shape[2]
        hit = logits.argmax(2) == target.argmax(2)
        share = nn.functional.one_hot(own.argmax(2), K).float().mean(0)
        now = [
            sure.float().mean(),
            (hit & sure).sum() / sure.sum().clamp(min=1),
            own.max(2).values.mean(),
            share.max(),
            (share > 0.1 / K).float().sum(1).mean(),
        ]
        self.totals.add_(torch.stack([*now, torch.ones_like(now[0])]))

    def taken(self) -> dict[str, float]:
        """The means; counting begins again."""
        *sums, count = self.totals.tolist()
        self.totals.zero_()
        return {name: round(value / max(1.0, count), 4) for name, value in zip(self.NAMES, sums, strict=True)}
