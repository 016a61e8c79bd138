"""The time of each piece of a training step, and the gradients of compiled and recorded steps compared with a plain step."""

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
from spq.model.device import resolve_precision
from spq.model.network import Network
from spq.training.compiled import compile_backbone
from spq.training.graphed import GraphedStep
from spq.training.loss import multi_view
from spq.training.losses import Criterion
from spq.training.optimizers import make_optimizers
from spq.training.stages.train_network import Learner, step_loss, try_out
from spq.training.view_source import ViewSource
from spq.training.views import make_views

STEPS = 6  # timed, after the same number of steps that are not


def eager_rates(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Views per second of the backbone's forward and backward pass without compiling, at each size of views and of the input."""
    step = new_step(recipe, device)
    count = recipe.train.batch_size * recipe.train.num_views
    rates = {}
    for size in sorted({*recipe.view_sizes, recipe.input.size}):
        x = torch.randn(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        rates[f"{count} views of {size} px"] = round(count / timed(partial(backbone, step, x), device)[1])
    return rates


def pieces(recipe: Recipe, device: torch.device) -> dict[str, tuple[float, float]]:
    """Seconds of each piece of a step: until the host has launched it, and until the device has finished it."""
    step = new_step(recipe, device)
    train, generator = recipe.train, torch.Generator(device).manual_seed(0)
    rows = torch.arange(train.batch_size, device=device)
    optimizers = make_optimizers(step.network, recipe)
    view_input = recipe.input.scaled(train.view_scale)
    views = make_views(step.source.take(rows).repeat(train.num_views, 1, 1, 1), recipe.views, view_input, generator)
    views = views.contiguous(memory_format=torch.channels_last)
    x, z = (part.detach().requires_grad_() for part in step.describe(views))

    def loss() -> None:
        outputs = list(zip(x.chunk(train.num_views), z.chunk(train.num_views), strict=True))
        torch.autograd.backward(multi_view(outputs, train.temperature, recipe.quantizer.prefix_dims))

    def whole() -> None:
        value, _ = step_loss(step, rows, generator, view_input, recipe.train.temperature)
        torch.autograd.backward(value)

    work: dict[str, Callable[[], Any]] = {
        "views": lambda: make_views(
            step.source.take(rows).repeat(train.num_views, 1, 1, 1), recipe.views, view_input, generator
        ),
        "backbone": lambda: backbone(step, views),
        "loss": loss,
        "all gradients": whole,
        **{type(optimizer).__name__: optimizer.step for optimizer in optimizers},
    }
    return {name: timed(each, device) for name, each in work.items()}


def ways(recipe: Recipe, device: torch.device, on_note: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Milliseconds of the gradients of a step, and their difference from those of a plain step, for each way to run it.

    Without CUDA nothing is compiled or recorded. A second plain step shows the usual difference: a GPU does not always
    add in the same order.
    """
    cuda, rows = device.type == "cuda", torch.arange(recipe.train.batch_size, device=device)
    recipe = replace(recipe, train=replace(recipe.train, compile="on" if cuda else "off", small_share=0.0))
    view_input = recipe.input.scaled(recipe.train.view_scale)
    out: dict[str, dict[str, float]] = {}
    first: Tensor | None = None
    for compiled in (False, True):
        step, begun = new_step(recipe, device), time.monotonic()
        if compiled:
            views = recipe.train.batch_size * recipe.train.num_views
            forward = compile_backbone(step.network, recipe, partial(try_out, step, views), on_note)
            step = replace(step, forward=forward)
        seconds = time.monotonic() - begun
        for name, recorded in (("plain", False), ("plain again", False), ("recorded", True)):
            run = GraphedStep(partial(step_loss, step), [step.network], device, recorded, on_note=on_note)

            def gradients(run: GraphedStep = run) -> None:
                run(rows, torch.Generator(device).manual_seed(7), view_input, recipe.train.temperature)

            gradients()
            found = torch.cat([p.grad.flatten().float() for p in step.network.parameters() if p.grad is not None])
            first = found.clone() if first is None else first
            host, both = timed(gradients, device)
            out[f"compiled, {name}" if compiled else name] = {
                "ms of the host": round(1000 * host, 2), "ms": round(1000 * both, 2),
                "difference": float((found - first).norm() / first.norm()), "seconds to make": round(seconds, 1),
            }  # fmt: skip
            del run, gradients
        del step
    return out


def new_step(recipe: Recipe, device: torch.device) -> Learner:
    """A step of an untrained network on random pictures."""
    torch.manual_seed(0)
    recipe = replace(recipe, train=replace(recipe.train, one_pass=True))
    network = Network(recipe).to(device, memory_format=torch.channels_last).train()
    S = recipe.input.size
    data = torch.randint(0, 256, (recipe.train.batch_size, 3, S, S), dtype=torch.uint8, device=device)
    bf16 = resolve_precision(recipe.train.precision, device.type) == "bf16"
    source, criterion = ViewSource(data, None), Criterion(None, network, len(data))
    return Learner(recipe, network, network.backbone, source, None, criterion, bf16)


def backbone(step: Learner, x: Tensor) -> None:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=step.bf16):
        out = step.network.backbone(x)
    torch.autograd.backward(out.float().square().mean())


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Median seconds of a call: until the host continues, and until the device has finished."""
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
