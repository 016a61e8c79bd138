"""The end of a training: measure the model, write down the facts and save the model folder."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spq.common.parallel import slices
from spq.model.model import Model
from spq.model.network import Network
from spq.model.quantizer import Quantizer
from spq.training import fidelity
from spq.training.budget import Ending, Stopwatch
from spq.training.context import LEAST, Training, TrainOptions
from spq.training.environment import environment
from spq.training.health import measure
from spq.training.refit import ITERATIONS as REFIT_ITERATIONS
from spq.training.refit import refit

FIT_IMAGES = 20_000  # about how many pictures are described again at the end
LEAST_PICTURES = 1000  # that are described even if the minutes are over
DESCRIBING_SHARE = 0.2  # of the minutes at most
TRIED_PICTURES, TRIED_ITERATIONS = 32, 2  # how many estimate the time that all of them take


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        facts: views, steps and epochs that the network learned from.
        seconds: time spent so far.
        forward: the backbone, compiled where that is possible.
    """

    network: Network
    facts: dict[str, float]
    seconds: float
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True)
class Sample:
    """Pictures that the model is measured on.

    Attributes:
        descriptors: (N, D).
        read_pixels: takes row numbers of the sample; returns the pixels of the pictures that are still readable, and which
            rows these are (bool).
        images: number of pictures that the training learned from. unreadable: number of the others.
    """

    descriptors: NDArray[np.float32]
    read_pixels: Callable[[NDArray[np.int64]], tuple[NDArray[np.uint8], NDArray[np.bool_]]]
    images: int
    unreadable: int


def save_trained(training: Training, trained: Trained) -> Model:
    """Measure the model on the pictures themselves, not on views, and save it."""
    array = training.pixels.array
    sample = np.arange(0, len(array), _sample_step(training, training.budget.ending))
    x = _describe(training, trained.network, sample)

    def read_pixels(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return array[sample[rows]], np.ones(len(rows), bool)

    found = Sample(x, read_pixels, len(array), len(training.pixels.failures))
    return save_measured(training, trained, found, training.budget.watch)


def _sample_step(training: Training, ending: Ending) -> int:
    """Return n to describe every n-th picture: about FIT_IMAGES, or as many as the minutes allow."""
    count = len(training.pixels.array)
    step = 1 + count // FIT_IMAGES
    if training.counts_ending and ending.per_picture > 0:
        left = training.limit - training.budget.watch.seconds - ending.rest
        affordable = min(left, DESCRIBING_SHARE * training.limit) / ending.per_picture
        step = max(step, math.ceil(count / max(LEAST_PICTURES, affordable)))
    return step


def _describe(training: Training, network: Network, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute descriptors (N, D) of the whole pictures at some rows, on the device that trained."""
    model, progress = Model(network, training.recipe), training.callbacks.stage("describing pictures", len(rows))
    parts = []
    for part in slices(len(rows), 4 * model.batch_size):
        parts.append(model.embed(training.pixels.array[rows[part]]))
        progress(part.stop)
    return np.concatenate(parts)


def estimate_ending(training: Training, network: Network) -> Ending:
    """Estimate how long `save_trained` will take, by doing a small part of it. The network does not change."""
    array = training.pixels.array
    with _same_modes(network):
        model, pixels = Model(network, training.recipe), array[:TRIED_PICTURES]
        model.embed(pixels)  # libraries prepare themselves
        watch = Stopwatch(training.options.clock)
        x = model.embed(pixels)
        per_picture = watch.elapsed / len(pixels)
    count = math.ceil(len(array) / _sample_step(training, Ending(per_picture)))

    def read_pixels(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return pixels[rows], np.ones(len(rows), bool)

    rest = estimate_measuring(training, network, Sample(x, read_pixels, len(array), 0), count)
    return Ending(per_picture, count, rest)


@torch.no_grad()
def estimate_measuring(training: Training, network: Network, some: Sample, count: int) -> float:
    """Estimate the seconds that `save_measured` will take on a sample of `count` pictures, from some of them."""
    clock, recipe = training.options.clock, training.recipe
    quantizer, size = copy.deepcopy(network.quantizer).to("cpu"), len(some.descriptors)
    many = torch.from_numpy(some.descriptors)[torch.arange(min(count, fidelity.PICTURES)) % size]
    queries = min(fidelity.QUERIES, len(many))
    rows = np.arange(min(TRIED_PICTURES, size, queries))
    watch = Stopwatch(clock)
    with _same_modes(network):
        fidelity.describe_copies(network.eval(), some.read_pixels(rows)[0], recipe.input, len(rows))
    seconds = watch.elapsed * queries / len(rows)
    few, more = (_seconds_to_measure(many, rows[:n], quantizer, clock) for n in (1, len(rows)))
    seconds += few + max(0.0, more - few) * (queries - 1) / max(
        len(rows) - 1, 1
    )  # part of the time is the same for any number
    if recipe.train.refit:
        watch = Stopwatch(clock)
        refit(quantizer, many, TRIED_ITERATIONS)
        more = (
            1.0 if recipe.quantizer.is_given else REFIT_ITERATIONS / TRIED_ITERATIONS
        )  # one of the caller fits at once
        seconds += watch.elapsed * more * count / len(many)
    return seconds


def _seconds_to_measure(
    x: torch.Tensor, rows: NDArray[np.int64], quantizer: Quantizer, clock: Callable[[], float]
) -> float:
    watch = Stopwatch(clock)
    fidelity.measure_fidelity(x, x[rows], rows, quantizer)
    return watch.elapsed


@contextmanager
def _same_modes(network: Network) -> Iterator[None]:
    """Restore the training mode of each module at the end."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def save_measured(training: Training, trained: Trained, sample: Sample, watch: Stopwatch) -> Model:
    """Refit the codebooks if the recipe wants it, measure the model on a sample, and save it.

    Args:
        watch: its seconds become the minutes of the training.
    """
    recipe, network, x = training.recipe, trained.network, sample.descriptors
    rows = fidelity.evenly_spaced(len(x), fidelity.PICTURES)
    altered = _altered_copies(training, network, sample, rows) if training.options.measure and len(x) >= LEAST else None
    network.to("cpu")
    if recipe.train.refit:
        progress = training.callbacks.stage("fitting codebooks", REFIT_ITERATIONS)
        refit(network.quantizer, torch.from_numpy(x), progress=progress)
    progress = training.callbacks.stage("measuring codes", len(recipe.quantizer.lengths))
    health = measure(Model(network, recipe).encode_descriptors(x), x, recipe.quantizer.codebook_size)
    codes = (
        fidelity.measure_fidelity(torch.from_numpy(x[rows]), *altered, network.quantizer, progress) if altered else []
    )
    facts = {
        "images": sample.images,
        "unreadable": sample.unreadable,
        "source": training.images.name,
        **({"protocol": training.images.protocol} if training.images.protocol else {}),
        **({"sample": training.options.sample} if training.options.sample else {}),
        **trained.facts,
        "minutes": round(watch.seconds / 60, 2),
        "seconds": round(watch.seconds, 1),
        "seed": recipe.train.seed,
        **_own_facts(training.options),
        "environment": environment(training.device, training.bf16, training.processes.count),
        "health": asdict(health),
        "codes": [asdict(report) for report in codes],
    }
    model = Model(network, recipe, facts)
    model.save(training.out)
    return model


def _own_facts(options: TrainOptions) -> dict[str, Any]:
    """The caller's own parts, and single numbers that its loss has learned, such as a temperature."""
    named = options.loss.named_parameters() if isinstance(options.loss, nn.Module) else ()
    numbers = {name: round(p.item(), 6) for name, p in named if p.numel() == 1}
    facts = {"parts": options.parts, "loss_parameters": numbers}
    return {name: fact for name, fact in facts.items() if fact}


def _altered_copies(
    training: Training, network: Network, sample: Sample, rows: NDArray[np.int64]
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Describe altered copies (Q, D) of pictures of the sample, and return which of `rows` they are of (Q,)."""
    originals = fidelity.evenly_spaced(len(rows), fidelity.QUERIES)
    pixels, readable = sample.read_pixels(rows[originals])
    batch_size = Model(network, training.recipe).batch_size
    return fidelity.describe_copies(network, pixels, training.recipe.input, batch_size), originals[readable]
