"""The end of a training: measure the model, write down the facts and save the model folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from spq.model.model import Model
from spq.model.network import Network
from spq.training import fidelity
from spq.training.context import Training
from spq.training.health import measure
from spq.training.refit import refit
from spq.training.run import Stopwatch

FIT_IMAGES = 20_000  # about how many pictures are described again at the end


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
    watch = Stopwatch(training.options.clock, trained.seconds)
    array = training.pixels.array
    sample = array[:: 1 + len(array) // FIT_IMAGES]
    x = Model(trained.network, training.recipe).embed(sample)  # on the device that trained

    def read_pixels(rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return sample[rows], np.ones(len(rows), bool)

    return save_measured(training, trained, Sample(x, read_pixels, len(array), len(training.pixels.failures)), watch)


def save_measured(training: Training, trained: Trained, sample: Sample, watch: Stopwatch) -> Model:
    """Refit the codebooks if the recipe wants it, measure the model on a sample, and save it.

    Args:
        watch: its seconds become the minutes of the training.
    """
    recipe, network, x = training.recipe, trained.network, sample.descriptors
    batch_size = Model(network, recipe).batch_size
    rows = fidelity.evenly_spaced(len(x), fidelity.PICTURES)
    originals = fidelity.evenly_spaced(len(rows), fidelity.QUERIES)
    pixels, readable = sample.read_pixels(rows[originals])
    originals = originals[readable]
    copies = fidelity.describe_copies(network, pixels, recipe.input, batch_size)
    network.to("cpu")
    if recipe.train.refit:
        refit(network.quantizer, torch.from_numpy(x))
    health = measure(Model(network, recipe).encode_descriptors(x), x, recipe.quantizer.codebook_size)
    codes = fidelity.measure_fidelity(torch.from_numpy(x[rows]), copies, originals, network.quantizer)
    facts = {
        "images": sample.images,
        "unreadable": sample.unreadable,
        "source": training.images.name,
        **trained.facts,
        "minutes": round(watch.seconds / 60, 2),
        "seed": recipe.train.seed,
        "health": asdict(health),
        "codes": [asdict(report) for report in codes],
    }
    model = Model(network, recipe, facts)
    model.save(training.out)
    return model
