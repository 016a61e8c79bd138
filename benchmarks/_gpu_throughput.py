"""Views per second of a training on a GPU, measured in the training loop, and the authors' code for comparison.

Run by `gpu_cifar10.py --throughput`. A rate is measured between two moments at which the host has waited for the GPU. The first
intervals do not count, because kernels are chosen and compiled in them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _variants import variant
from spq.config import Recipe
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.device import resolve_compile, resolve_device
from spq.model.network import Network
from spq.training import run, train
from spq.training.callbacks import TrainStatus
from spq.training.loss import multi_view

VARIANTS = (  # the first has the paper's network, batch and views; each one adds to the one before
    'paper:train.compile="off"',
    'paper:train.compile="off",train.precision="auto"',
    'paper:train.compile="off",train.precision="auto",train.channels_last=true',
    'paper:train.precision="auto",train.channels_last=true',
    'gpu:train.small_share=0.0',
    'gpu:train.small_share=1.0',
)  # fmt: skip
INTERVALS, SECONDS, SKIPPED = 6, 2.0, 2
BATCH = 256  # of the authors' code
THEIRS = "authors' code"
PASSES = ("a forward pass for each view", "one forward pass for all views")


class EnoughError(Exception):
    pass


def measure(
    images: ImageSet, device: str, official: Path | None, known: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """Yield a row for the authors' code, for each variant, and two rows that compare one forward pass with several.

    Rows in `known` are skipped. The authors' code is first, so that an error in it appears early.
    """
    if official and THEIRS not in known:
        yield [{"what": THEIRS, **rate_of_authors(images, resolve_device(device), official)}]
    for text in VARIANTS:
        if text not in known:
            yield [{"what": text, **rate_of(images, variant(text, 32, 60.0, None)[0], device)}]
    if not any(what.endswith(PASSES) for what in known):
        yield forward_passes(variant("gpu", 32, 60.0, None)[0], resolve_device(device))


def rate_of(images: ImageSet, recipe: Recipe, device: str) -> dict[str, Any]:
    """Rate of `train`, stopped long before its budget of an hour."""
    seen: list[tuple[float, int]] = []
    notes: list[str] = []

    def on_status(status: TrainStatus) -> None:
        seen.append((status.seconds, status.views))
        if len(seen) > INTERVALS + SKIPPED:
            raise EnoughError

    before, run.LOG_SECONDS = run.LOG_SECONDS, SECONDS
    torch.compiler.reset()
    try:
        with tempfile.TemporaryDirectory(prefix="spq-rate-") as folder:
            train.train(images, recipe, folder, device=device, on_status=on_status, on_note=notes.append)
    except EnoughError:
        pass
    finally:
        run.LOG_SECONDS = before
    return {**_rates(seen), "notes": notes}


def rate_of_authors(images: ImageSet, device: str, checkout: Path) -> dict[str, Any]:
    """Rate of the authors' `train_SPQ`, which `_authors.py` runs without changes."""
    try:
        from _authors import Authors, BudgetSpent
    except ImportError as error:
        raise ConfigError(f"--official {checkout} cannot be run: {error}") from None
    seen: list[tuple[float, int]] = []

    def before_step(at: Any) -> None:
        now = time.monotonic()
        if not seen or now - seen[-1][0] >= SECONDS:
            if device == "cuda":
                torch.cuda.synchronize()
            seen.append((time.monotonic(), 2 * BATCH * at.step))
        if len(seen) > INTERVALS + SKIPPED:
            raise BudgetSpent

    batch = min(BATCH, len(images) // 4)
    pixels = load_pixels(images, 32).array
    Authors(checkout).train(
        pixels, bits=32, before_step=before_step, batch_size=batch, device=device, workers=min(8, os.cpu_count() or 1)
    )
    return _rates([(seconds, views * batch // BATCH) for seconds, views in seen])


def forward_passes(recipe: Recipe, device: str, rounds: int = 6) -> list[dict[str, Any]]:
    """Compare forward and backward passes for each view alone with one pass for all views of a step, in turn.

    With one pass, batch normalization sees V * B pictures instead of B, and layers with small pictures use a GPU better.
    """
    config, torch_device = recipe.train, torch.device(device)
    torch.compiler.reset()
    network = Network(recipe).to(torch_device)
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    forward = torch.compile(network, dynamic=False) if resolve_compile(config.compile, device)[0] else network
    side = round(recipe.input.size * config.view_scale)
    generator = torch.Generator(torch_device).manual_seed(0)
    views = torch.randn(config.num_views * config.batch_size, 3, side, side, generator=generator, device=torch_device)
    if config.channels_last:
        views = views.contiguous(memory_format=torch.channels_last)
    rates: dict[str, list[float]] = {name: [] for name in PASSES}
    for turn in range(rounds + 2):
        for name, passes in zip(rates, (config.num_views, 1), strict=True):
            seconds = _seconds(lambda passes=passes: _step(forward, views.chunk(passes), config, device), device)  # type: ignore[misc]
            if turn > 1:
                rates[name].append(len(views) / seconds)
    return [{"what": f"gpu, {name}", **_spread(values), "notes": []} for name, values in rates.items()]


def _step(forward: Callable[..., Any], parts: Any, config: Any, device: str) -> None:
    with torch.autocast(device, torch.bfloat16, enabled=config.precision != "fp32" and device == "cuda"):
        outputs = [forward(part) for part in parts]
    if len(outputs) == 1:
        outputs = list(zip(*(tensor.chunk(config.num_views) for tensor in outputs[0]), strict=True))
    loss: Tensor = multi_view(outputs, config.temperature)
    loss.backward()


def _seconds(step: Callable[[], None], device: str, steps: int = 10) -> float:
    """Seconds of one step."""
    steps = steps if device == "cuda" else 1
    for _ in range(steps if device == "cuda" else 0):
        step()
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _rates(seen: list[tuple[float, int]]) -> dict[str, Any]:
    points = np.array(seen[SKIPPED:], float)
    return _spread([float(rate) for rate in np.diff(points[:, 1]) / np.diff(points[:, 0])])


def _spread(rates: list[float]) -> dict[str, Any]:
    return {
        "views_per_second": round(statistics.median(rates), 1),
        "from": round(min(rates), 1),
        "to": round(max(rates), 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Aligned text, with the speed relative to the authors' code if that was measured."""
    theirs = next((row["views_per_second"] for row in rows if row["what"] == THEIRS), 0)
    return "\n".join(
        f"{row['views_per_second']:10,.0f} views/s ({row['from']:,.0f}..{row['to']:,.0f})"
        + (f"  {row['views_per_second'] / theirs:5.1f}x" if theirs else "")
        + f"  {row['what']}" + "".join(f"; {note}" for note in row.get("notes", []))
        for row in rows
    )  # fmt: skip
