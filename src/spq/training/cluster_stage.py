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

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spq.config import Recipe, TrainConfig
from spq.data.decode import Pixels
from spq.errors import CollapseError
from spq.model.device import resolve_precision
from spq.model.model import Model
from spq.model.network import Network
from spq.training.checkpoint import State
from spq.training.cluster import (
    WEAK,
    Teacher,
    choose_heads,
    collect_statistics,
    confident_cross_entropy,
    cut_out,
    describe_whole,
    fit_heads,
    nearest,
    recompute_statistics,
    soft_cross_entropy,
)
from spq.training.graphed import GraphedStep
from spq.training.loss import multi_view
from spq.training.neighbours import neighbours
from spq.training.optimizers import make_optimizers
from spq.training.refit import refit
from spq.training.run import Run, TrainStatus, batch_size_for
from spq.training.views import make_views

PICTURES = 50_000  # the stage learns from at most so many, drawn at random
VIEWS = 3  # of each picture that heads learn from, beside the whole picture
CHOOSERS = 1_500  # pictures by which heads are chosen
WATCH_STEPS = 100  # between two looks at a self-training
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
        on_part: called with ("network", model), ("heads", model), ("self-training", model), ("heads 2", model) and so on.
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
        # in random order: a folder is often sorted by what its pictures show
        drawn = np.random.default_rng(recipe.train.seed).permutation(len(pixels.array))[:PICTURES]
        self.data = torch.from_numpy(pixels.array[drawn]).to(device)
        self.end = 60 * recipe.train.minutes or math.inf  # of the whole training, in its seconds
        self.keeps_statistics = recipe.train.backbone_lr_scale != 1  # a pretrained backbone, as in the network's part

    def run(self) -> Model:
        """Go through the stage and return the saved model.

        A round of self-training makes better features. The next round learns from new heads on these features.
        """
        begun, seconds_before = time.monotonic(), self.state.seconds

        def spent() -> None:
            self.state.seconds = seconds_before + time.monotonic() - begun

        (self.out / "clusters.jsonl").unlink(missing_ok=True)  # of an earlier training
        self._show_network()
        at = time.monotonic()
        network, near, bank = self.heads()
        took = time.monotonic() - at
        self._show("heads", network)
        spent()
        rounds = self.config.rounds if self.config.rounds and self._are_clear(bank) else 0
        for number in range(rounds):
            seconds = (self.end - self.state.seconds) / (rounds - number) - took  # heads follow each round
            if seconds <= 0:
                self._note("no time is left for self-training: the heads take too long; give more minutes")
                break
            before = copy.deepcopy(network.state_dict())
            try:
                trained = self.self_training(network, near, bank, seconds, number)
            except CollapseError as error:
                self._note(f"self-training is not kept: {error}")
                network.load_state_dict(before)
                break
            self._show("self-training", trained, number)
            self.network.backbone.load_state_dict(trained.backbone.state_dict())
            network, near, bank = self.heads()
            self._show("heads", network, number + 1)
            spent()
        begun = time.monotonic()
        self.fit_codebooks(network)
        self.tensorboard = False  # nothing more is to be drawn
        run = self._run(network, [])
        run.session_start = begun
        return run.finish(self.name, self.pixels)

    def heads(self) -> Heads:
        """Fit clustering heads to the features of the network as it is."""
        config, count, backbone = self.config, self.recipe.quantizer.num_codebooks, self.network.backbone
        self._recompute_statistics(backbone)
        self.network.eval()
        whole = describe_whole(backbone, self.data, self.recipe.input, self.bf16)
        graph = {"pool_size": PICTURES} if self.device.type == "cuda" else {}  # a CPU takes minutes for so many
        near = neighbours(whole.cpu().numpy(), config.neighbours, self.recipe.train.seed, self.device, **graph)
        assert near is not None
        features = torch.stack([whole, *(self._views() for _ in range(VIEWS))], 1)
        layer = fit_heads(features, near, count * config.candidates, config, self.generator)
        layer = self._chosen(layer, whole)
        network = Network(self.end_recipe, backbone).to(self.device)
        network.head = nn.Sequential(layer)
        with torch.no_grad():
            bank = torch.softmax(layer(whole).view(len(whole), count, config.clusters), 2)
        return network, near, bank

    def self_training(
        self, network: Network, near: Tensor, bank: Tensor, seconds: float = math.inf, number: int = 0
    ) -> Network:
        """Train the network by a moving average of itself; returns that average.

        Args:
            seconds: that it may take; it also ends with its epochs. number: of the round, from 0.
        Raises:
            CollapseError: one cluster of a head takes most of the pictures.
        """
        config, looked = self.config, 0
        signs = Signs(bank.shape[1], config.clusters, self.device)
        teacher = Teacher(network, bank, near, config)
        self._train_mode(teacher.network, whole_pictures=True)
        before = [self.network.head, self.network.quantizer]  # of the contrastive loss that goes on
        recipe = replace(self.recipe, train=self._train_config(len(self.data), number))
        optimizers = make_optimizers(network, recipe, more=before)
        self.state.step = 0
        run = self._run(network, optimizers, recipe)
        run.clock = self.state.seconds, self.state.seconds + seconds
        rounds = max(1, self.config.rounds)
        run.span = number / rounds, (number + 1) / rounds
        self._train_mode(network)
        self.network.head.train()
        gradients = GraphedStep(
            partial(self._step, network, teacher, signs), [network, *before], self.device, recipe.train.graph,
            [*teacher.network.buffers(), teacher.bank, teacher.prior, signs.totals], self.on_note,
        )  # fmt: skip
        try:
            with run.interruptible():
                for rows, generator in run.batches(len(self.data), self.device):
                    if (look := int(run.done * (config.refresh + 1))) > looked:
                        looked = look
                        teacher.near.copy_(self._nearest(teacher.network, near.shape[1]))
                    loss, x = gradients(rows, generator)
                    for optimizer in optimizers:
                        optimizer.step()
                    teacher.follow(network)
                    run.after_step(loss, x, self.on_status, None)
                    if run.state.step % WATCH_STEPS == 0:
                        self._watch(run, signs, number)
                if run.state.step % WATCH_STEPS:
                    self._watch(run, signs, number)
        finally:
            self.state.seconds = run.seconds
        self._recompute_statistics(teacher.network)
        return teacher.network.eval()

    @torch.no_grad()
    def fit_codebooks(self, network: Network) -> None:
        """Fit the codebooks to the soft assignments of the pictures: k-means from pictures drawn at random. In place."""
        x = network.eval().project(self._whole(network))
        generator = torch.Generator(x.device).manual_seed(self.recipe.train.seed)
        for book, parts in zip(network.quantizer.codebooks, network.quantizer.split(x).unbind(1), strict=True):
            order = torch.randperm(max(len(x), len(book)), generator=generator, device=x.device) % len(x)
            book.copy_(parts[order[: len(book)]])
        refit(network.quantizer, x)

    def _train_config(self, count: int, number: int) -> TrainConfig:
        """What a round goes by; each round draws views of its own."""
        config, train = self.config, self.recipe.train
        batch = batch_size_for(
            replace(self.recipe, train=replace(train, batch_size=config.batch_size)), count, self.name, []
        )
        return replace(
            train, minutes=0.0, epochs=config.epochs, batch_size=batch, muon_lr=config.muon_lr, lr=config.lr, warmup=0.05,
            num_views=2, small_share=0.0, view_scale=config.view_scale, seed=(train.seed + 1000 * number) % 2**32,
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
            outputs = self.network.quantized(features) if config.contrast else None
        target = target.repeat(2, 1, 1)
        if config.confidence:
            loss, sure = confident_cross_entropy(logits, target, config.confidence)
        else:
            loss, sure = soft_cross_entropy(logits, target, config.sharpness)
        signs.add(logits, target, own, sure)
        if outputs:
            pair = list(zip(*(part.chunk(2) for part in outputs), strict=True))
            loss = loss + config.contrast * multi_view(pair, recipe.train.temperature, recipe.quantizer.prefix_dims)
        softened = own.clamp(min=1e-8) ** (1 / config.temperature)  # as descriptors are
        return loss, (softened / softened.sum(2, keepdim=True)).flatten(1)

    def _are_clear(self, bank: Tensor) -> bool:
        """Whether heads are certain enough to learn from; learning unclear clusters makes the network worse."""
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

    def _train_mode(self, network: Network, whole_pictures: bool = False) -> None:
        """Training mode; for the teacher, who sees whole pictures, of batch statistics alone."""
        network.train(not whole_pictures)
        if whole_pictures:
            collect_statistics(network)
        if self.keeps_statistics:
            network.backbone.eval()

    def _nearest(self, network: Network, count: int) -> Tensor:
        network.eval()
        features = describe_whole(network.backbone, self.data, self.recipe.input, self.bf16)
        self._train_mode(network, whole_pictures=True)
        return nearest(features, count)

    def _watch(self, run: Run, signs: Signs, number: int) -> None:
        row = {"round": number + 1, "step": run.state.step, "done": round(run.done, 4), **(now := signs.taken())}
        with (self.out / "clusters.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if now["largest"] > (1 + 1 / self.config.clusters) / 2:  # half of the way from an even share to all
            raise CollapseError(f"one cluster of a head holds {now['largest']:.0%} of the pictures")

    def _recompute_statistics(self, network: nn.Module) -> None:
        if not self.keeps_statistics:
            recompute_statistics(network, self.data, self.recipe.input, self.bf16)

    def _show_network(self) -> None:
        """Hand out the network before its clusters, with codebooks by k-means."""
        if self.on_part:
            self._recompute_statistics(self.network.backbone)
            model = Model(copy.deepcopy(self.network.eval()), self.recipe)
            refit(model.network.quantizer, model.network.project(self._whole(model.network)))
            self.on_part("network", model)

    def _show(self, name: str, network: Network, number: int = 0) -> None:
        if self.on_part:
            self.fit_codebooks(network)
            model = Model(copy.deepcopy(network), self.end_recipe)
            self.on_part(f"{name} {number + 1}" if number else name, model)

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
        return run


class Signs:
    """Label-free signs of a self-training, as means since the last look.

    confident: share of (picture, head) from which is learned. agreement: of network and teacher on these. certainty: of
    the teacher. largest: share of the largest cluster of any head. used: clusters of a head that hold a tenth of an even share.
    """

    def __init__(self, heads: int, clusters: int, device: torch.device) -> None:
        self.shape = heads, clusters
        self.totals = torch.zeros(4 + heads * clusters, device=device)  # count, three means, shares of clusters

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, own: Tensor, sure: Tensor) -> None:
        """Add a step: logits and targets (V * B, M, K), the teacher's assignments (B, M, K), who was confident (V * B, M)."""
        K = own.shape[2]
        hit = logits.argmax(2) == target.argmax(2)
        share = nn.functional.one_hot(own.argmax(2), K).float().mean(0)
        agreement = (hit & sure).sum() / sure.sum().clamp(min=1)
        means = torch.stack([torch.ones_like(agreement), sure.float().mean(), agreement, own.max(2).values.mean()])
        self.totals.add_(torch.cat([means, share.flatten()]))

    def taken(self) -> dict[str, float]:
        """The means; counting begins again."""
        totals = self.totals.cpu() / self.totals[0].clamp(min=1).cpu()
        self.totals.zero_()
        share = totals[4:].view(self.shape)
        named = dict(zip(("confident", "agreement", "certainty"), totals[1:4], strict=True))
        named |= {"largest": share.max(), "used": (share > 0.1 / self.shape[1]).float().sum(1).mean()}
        return {name: round(float(value), 4) for name, value in named.items()}
