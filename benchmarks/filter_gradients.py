"""Milliseconds of a training step on a CPU with AMX: gradients of filters as one product over the batch, and by oneDNN, in turn.

    spq bench filter_gradients --recipe spq --rounds 20

A step is views, forward and backward pass (all views in one pass), and update, on random pixels, at each size of the recipe's
views. Use an idle machine.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from _entrance import entrance, parser_of
from _gpu_step import new_step
from _scoring import machine
from _variants import variant
from spq.config import InputConfig, Recipe
from spq.errors import ConfigError
from spq.model.device import has_amx
from spq.training.optimizers import make_optimizers
from spq.training.stages import train_network

CPU = torch.device("cpu")
WAYS = ("one product", "oneDNN")


def measure(recipe: Recipe, view_input: InputConfig, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, by the way of the gradients; the first step of each is left out."""
    step, fast = new_step(recipe, CPU), train_network.fast_filter_gradients
    optimizers, generator = make_optimizers(step.network, recipe), torch.Generator().manual_seed(0)
    rows = torch.arange(recipe.train.batch_size)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}

    def plain(*_: object) -> AbstractContextManager[object]:
        return nullcontext()

    try:
        for _ in range(rounds + 1):
            for way, times in seconds.items():
                train_network.fast_filter_gradients = fast if way == WAYS[0] else plain
                start = time.perf_counter()
                loss, _ = train_network.step_loss(step, rows, generator, view_input, recipe.train.temperature)
                torch.autograd.backward(loss)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                times.append(time.perf_counter() - start)
    finally:
        train_network.fast_filter_gradients = fast
    return {way: times[1:] for way, times in seconds.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("filter_gradients", __doc__)
    parser.add_argument("--recipe", default="spq", help="a recipe, with changes as in `spq bench quality`")
    parser.add_argument("--rounds", type=int, default=20)
    a = parser.parse_args(arguments)
    if not has_amx():
        raise ConfigError("this CPU has no AMX, so training does not use these gradients; take another machine")
    recipe = variant(a.recipe, 64, None, 1)[0]
    recipe = replace(recipe, train=replace(recipe.train, precision="bf16"))
    print(f"{machine()}, {a.recipe}; median milliseconds of {a.rounds} steps, fastest in brackets")
    for size in sorted(recipe.view_sizes):
        found = measure(recipe, replace(recipe.input, size=size), a.rounds)
        cells = [f"{way} {statistics.median(t) * 1e3:.0f} ({min(t) * 1e3:.0f})" for way, t in found.items()]
        ratio = statistics.median(found[WAYS[1]]) / statistics.median(found[WAYS[0]])
        print(f"views of {size} px: {', '.join(cells)}, {ratio:.2f}x")
        sys.stdout.flush()


if __name__ == "__main__":
    entrance("filter_gradients", main)
