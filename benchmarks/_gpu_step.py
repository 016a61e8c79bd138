"""Where the time of a training step goes, and whether a recorded step gives the gradients of one that is not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spq.config import Recipe
from spq.learning.graphed import GraphedStep
from spq.learning.loss import multi_view
from spq.learning.optimizers import make_optimizers
from spq.learning.train import _Step
from spq.learning.views import make_views
from spq.model.network import Network

STEPS = 6  # timed, after as many that are not


def eager_rates(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Views per second of the backbone's forward and backward pass, not compiled, at each size of the views and at 32 px."""
    step = new_step(recipe, device)
    count = recipe.train.batch_size * recipe.train.num_views
    rates = {}
    for size in sorted({*recipe.view_sizes, recipe.input.size}):
        x = torch.randn(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        rates[f"{count} views of {size} px"] = round(count / timed(partial(backbone, step, x), device)[1])
    return rates


def pieces(recipe: Recipe, device: torch.device) -> dict[str, tuple[float, float]]:
    """Milliseconds of each piece of a step: until the host has launched it, and until the device has done it."""
    step = new_step(recipe, device)
    train, generator = recipe.train, torch.Generator(device).manual_seed(0)
    rows = torch.arange(train.batch_size, device=device)
    optimizers = make_optimizers(step.network, recipe)
    views = make_views(step.data[rows].repeat(train.num_views, 1, 1, 1), recipe.views, step.views, generator)
    views = views.contiguous(memory_format=torch.channels_last)
    x, z = (part.detach().requires_grad_() for part in step.described(views))

    def loss() -> None:
        outputs = list(zip(x.chunk(train.num_views), z.chunk(train.num_views), strict=True))
        torch.autograd.backward(multi_view(outputs, train.temperature, recipe.quantizer.prefix_dims))

    def whole() -> None:
        value, _ = step(rows, generator)
        torch.autograd.backward(value)

    work: dict[str, Callable[[], Any]] = {
        "views": lambda: make_views(
            step.data[rows].repeat(train.num_views, 1, 1, 1), recipe.views, step.views, generator
        ),
        "backbone": lambda: backbone(step, views),
        "loss": loss,
        "all gradients": whole,
        **{type(optimizer).__name__: optimizer.step for optimizer in optimizers},
    }
    return {name: timed(each, device) for name, each in work.items()}


def graphed(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Relative difference of the gradients of a recorded step from those of the same step not recorded, and milliseconds of both.

    The difference of two runs that are not recorded stands beside it: on a GPU sums are not always added in one order.
    """
    step, rows = new_step(recipe, device), torch.arange(recipe.train.batch_size, device=device)
    found, out = [], {}
    for name, on in (("once", False), ("again", False), ("recorded", True)):
        run = GraphedStep(step, [step.network], device, on)

        def gradients(run: GraphedStep = run) -> None:
            run(rows, torch.Generator(device).manual_seed(7), 0)

        gradients()
        found.append(
            torch.cat([p.grad.flatten().float() for p in step.network.parameters() if p.grad is not None]).clone()
        )
        out[f"ms, {name}"] = round(1000 * timed(gradients, device)[1], 2)
    norm = found[0].norm()
    out["difference again"], out["difference recorded"] = (float((f - found[0]).norm() / norm) for f in found[1:])
    return out


def new_step(recipe: Recipe, device: torch.device) -> _Step:
    """A step of an untrained network on random pictures."""
    torch.manual_seed(0)
    recipe = replace(recipe, train=replace(recipe.train, one_pass=True))
    network = Network(recipe).to(device, memory_format=torch.channels_last).train()
    S = recipe.input.size
    data = torch.randint(0, 256, (recipe.train.batch_size, 3, S, S), dtype=torch.uint8, device=device)
    step = _Step(network, recipe, data, None, None)
    step.views = recipe.input.scaled(recipe.train.view_scale)
    return step


def backbone(step: _Step, x: Tensor) -> None:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=step.bf16):
        out = step.network.backbone(x)
    torch.autograd.backward(out.float().square().mean())


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Median seconds of a call: until the host goes on, and until the device is done."""
    host, both = [], []
    for _ in range(2 * STEPS):
        wait(device)
        begun = time.perf_counter()
        work()
        host.append(time.perf_counter() - begun)
        wait(device)
        both.append(time.perf_counter() - begun)
    return statistics.median(host[STEPS:]), statistics.median(both[STEPS:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
