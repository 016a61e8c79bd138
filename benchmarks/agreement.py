"""Does our training equal the authors' training? Loss curves from the same initial weights and the same views.

    spq bench agreement SPQ --steps 200 --batch-size 16

The authors' `train_SPQ` runs first. The benchmark keeps its initial weights and every view that its network sees. At each step
our network gets the weights from before the step, and must give the same loss and the same gradient. Then our `train` runs
recipe `paper` in fp32 from the same initial weights and views, with the constant learning rate of the authors' first ten epochs.
Rounding errors grow during training. For comparison, our training runs once more from weights that differ in the seventh digit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from _authors import Authors, BudgetSpent, Training, our_state
from _entrance import entrance, parser_of
from _scoring import machine
from spq.api import with_options
from spq.config import Recipe, load_recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.model.network import Network
from spq.training.loss import multi_view
from spq.training.losses import CrossQuantized
from spq.training.train import train

State = dict[str, Tensor]


class Shadow:
    """Repeats each step of the authors with our network. Weights and views are the same, so loss and gradient must be too."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.network = recipe, Network(recipe)
        self.before: State = {}
        self.losses: list[float] = []
        self.gradients: list[float] = []  # |theirs - ours| / |theirs| over all weights, for each step

    def follow(self, network: nn.Module, views: list[Tensor]) -> None:
        """Repeat a step of the authors, then keep their new weights. Before the first step there are no views."""
        if views:
            self.network.load_state_dict(self.before)
            self.network.zero_grad()
            loss = multi_view([self.network(view) for view in views], self.recipe.train.temperature)
            loss.backward()  # type: ignore[no-untyped-call]
            self.losses.append(loss.item())
            grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
            theirs = our_state(grads, self.recipe)
            mine = {name: p.grad for name, p in self.network.named_parameters() if p.grad is not None}
            assert theirs.keys() == mine.keys()
            apart = sum((theirs[name] - mine[name]).square().sum().item() for name in mine)
            self.gradients.append((apart / sum(g.square().sum().item() for g in theirs.values())) ** 0.5)
        self.before = {name: t.clone() for name, t in our_state(network.state_dict(), self.recipe).items()}


def theirs(
    authors: Authors, images: ImageSet, recipe: Recipe, steps: int
) -> tuple[list[float], State, list[Tensor], Shadow]:
    """Train with the authors' code.

    Returns:
        losses (steps,), initial weights under our names, the 2 * steps views (B, 3, S, S), and the comparison of each step.
    """
    losses: list[float] = []
    views: list[Tensor] = []
    initial: State = {}
    shadow = Shadow(recipe)

    def on_network(network: nn.Module) -> None:
        initial.update({name: t.clone() for name, t in our_state(network.state_dict(), recipe).items()})
        network.register_forward_pre_hook(lambda _, inputs: views.append(inputs[0].detach().clone()))

    def before_step(training: Training) -> None:
        shadow.follow(training.network, views[-2:])
        if training.step >= steps:
            raise BudgetSpent

    pixels = load_pixels(images, recipe.input.size).array
    authors.train(
        pixels, bits=recipe.quantizer.bits, batch_size=recipe.train.batch_size, seed=recipe.train.seed,
        before_step=before_step, on_network=on_network, on_loss=lambda loss: losses.append(loss.item()),
    )  # fmt: skip
    return losses, initial, views, shadow


def ours(images: ImageSet, recipe: Recipe, initial: State, views: list[Tensor]) -> list[float]:
    """Losses of our `train` from these weights, on these views."""
    losses: list[float] = []

    def network_of(recipe: Recipe, *own: nn.Module | None) -> Network:
        network = Network(recipe, *own)
        network.load_state_dict(initial)
        return network

    class Watched(CrossQuantized):
        def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
            value = super().forward(x, z, rows, own)
            losses.append(value.item())
            return value

    with (
        mock.patch("spq.training.start.Network", network_of),
        mock.patch("spq.training.stages.train_network.make_views", side_effect=views),
        tempfile.TemporaryDirectory(prefix="spq-agreement-") as folder,
    ):
        train(images, recipe, folder, device="cpu", loss=Watched())
    return losses


def nudged(state: State, seed: int = 0) -> State:
    """The weights, each changed by about one part in ten million."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: t * (1 + 1e-7 * torch.randn(t.shape, generator=generator)) if t.is_floating_point() else t
        for name, t in state.items()
    }


def windows(difference: NDArray[np.float64]) -> dict[str, float]:
    """Mean absolute difference in parts of the curve."""
    edges = [0, *(edge for edge in (10, 50, 100) if edge < len(difference)), len(difference)]
    return {f"{a + 1}-{b}": float(difference[a:b].mean()) for a, b in pairwise(edges)}


def main() -> None:
    parser = parser_of("agreement", __doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    authors = Authors(a.checkout)
    source = open_images(a.images)
    per_epoch = min(a.steps, len(source) // a.batch_size)
    epochs = -(-a.steps // per_epoch)  # rounded up
    images = subset(source, range(per_epoch * a.batch_size))
    recipe = with_options(load_recipe("paper"), bits=a.bits, epochs=epochs, seed=a.seed)
    recipe = replace(recipe, train=replace(recipe.train, batch_size=a.batch_size, schedule="constant"))
    their_losses, initial, views, shadow = theirs(authors, images, recipe, epochs * per_epoch)
    print("authors' training finished, our training starts", file=sys.stderr)
    our_losses = ours(images, recipe, initial, views)
    print("our training finished, our training from changed weights starts", file=sys.stderr)
    nudged_losses = ours(images, recipe, nudged(initial), views)
    curves = [np.array(losses) for losses in (their_losses, our_losses, nudged_losses)]
    apart, yardstick = windows(abs(curves[0] - curves[1])), windows(abs(curves[2] - curves[1]))
    in_step = {"loss": float(abs(curves[0] - shadow.losses).max()), "gradient": max(shadow.gradients)}
    ends = f"{curves[0][-1]:.4f} theirs, {curves[1][-1]:.4f} ours"
    print(f"{len(views) // 2} steps, batch {a.batch_size}: loss {curves[0][0]:.4f} -> {ends}")
    together = f"losses at most {in_step['loss']:.1e} apart, gradients {in_step['gradient']:.1e} (relative)"
    print(f"each step from the authors' weights: {together}")
    print("separate trainings, mean absolute difference of the losses:")
    for part, value in apart.items():
        print(f"  steps {part:8s} theirs - ours {value:.1e}; ours - ours from changed weights {yardstick[part]:.1e}")
    if a.json:
        report = {
            "commit": authors.commit, "steps": len(views) // 2, "batch_size": a.batch_size, "bits": a.bits, "seed": a.seed,
            "images": a.images, "machine": machine(), "in_step": in_step,
            "difference": apart, "nudged": yardstick,
            "theirs": their_losses, "ours": our_losses,
        }  # fmt: skip
        a.json.write_text(json.dumps(report) + "\n", "utf-8")


if __name__ == "__main__":
    entrance("agreement", main)
