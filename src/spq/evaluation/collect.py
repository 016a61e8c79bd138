"""Describe the pictures of a collection for an evaluation: each is decoded once, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.common.parallel import slices
from spq.data.decode import load_pixels, to_pixels
from spq.data.image_set import ImageSet
from spq.errors import DataError
from spq.evaluation.baselines import unit
from spq.pq.ties import tie_keys

if TYPE_CHECKING:
    from spq.model.model import Model

PIXEL_SIZE = 32  # side for the raw-pixel baseline, or the model's own input size if that is smaller
TIES = "answers at the same distance are ranked in one fixed random order of the gallery"
BATCHES = 8  # that the model encodes between two reports of progress
BATCH_BYTES = 100_000_000  # of pixels in memory at once: 50,000 pictures of 224 x 224 would take 7.5 GB


@dataclass(frozen=True)
class Collected:
    """The readable pictures of a collection.

    Attributes:
        rows: (N, D) descriptors. labels: as an `ImageSet` has them. kept: (N,) their positions in the collection.
        pixels: (N, 3 s s) uint8 for the raw-pixel baseline; empty without baselines.
        features: (N, F) of length 1, of a frozen backbone; None without one, or without baselines.
    """

    rows: NDArray[Any]
    labels: NDArray[Any]
    unreadable: int = 0
    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))
    features: NDArray[np.float32] | None = None
    kept: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def shuffled(self) -> Collected:
        """The same pictures in `order_of_ties`."""
        order = order_of_ties(len(self.rows))
        pixels, features = self.pixels, self.features
        return replace(
            self, rows=self.rows[order], labels=self.labels[order], pixels=pixels[order] if len(pixels) else pixels,
            features=None if features is None else features[order], kept=self.kept[order],
        )  # fmt: skip


def order_of_ties(N: int) -> NDArray[np.int64]:
    """The order of the N pictures of a gallery by a fixed hash of their numbers, which are the ids that a new index gives them.

    Answers at the same distance are ranked in this order, as by `spq.pq.ties` in a search. In the order of the collection,
    codes that are all equal would seem to find the first class.
    """
    return tie_keys(np.arange(1, N + 1)).argsort()


def collect(
    images: ImageSet, model: Model, for_baselines: bool, on_stage: Callable[[str, int, int], None] = lambda *_: None
) -> Collected:
    """Describe the pictures of a collection in which every picture has a label, as `labelled` returns it.

    Args:
        for_baselines: also keep pixels, and the features of a frozen backbone.
        on_stage: called with (what, done, total).
    Raises:
        DataError: no readable picture.
    """
    assert images.labels is not None
    labels, parts, failures = images.labels, _Parts(), list[tuple[int, str]]()
    size = model.config.input.size
    step = max(1, BATCH_BYTES // (3 * size**2))
    for start in range(0, len(images), step):
        positions = range(start, min(start + step, len(images)))

        def report(what: str, done: int, start: int = start) -> None:
            on_stage(f"{what} {images.name}", start + done, len(images))

        pixels = load_pixels(images, size, positions=positions, progress=partial(report, "reading"))
        parts.add(model, pixels.array, for_baselines, partial(report, "encoding"))
        parts.kept.append(pixels.kept)
        failures += pixels.failures
    if len(failures) == len(images):
        example = f", for example: {failures[0][1]}" if failures else "; give another collection"
        raise DataError(f"none of the {len(images)} pictures in {images.name} is readable{example}")
    kept = np.concatenate(parts.kept)
    collected = Collected(np.concatenate(parts.rows), labels[kept], len(failures), kept=kept)
    if parts.raw:
        collected = replace(collected, pixels=np.concatenate(parts.raw))
    if parts.features:
        collected = replace(collected, features=unit(np.concatenate(parts.features)))
    return collected


@dataclass
class _Parts:
    """What was collected so far, batch by batch."""

    rows: list[NDArray[np.float32]] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    raw: list[NDArray[np.uint8]] = field(default_factory=list)
    kept: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self, model: Model, pixels: NDArray[np.uint8], for_baselines: bool, progress: Callable[[int], None]
    ) -> None:
        for part in slices(len(pixels), BATCHES * model.batch_size):
            if for_baselines and model.config.train.frozen:  # once through the backbone
                self.features.append(model.features(pixels[part]))
                self.rows.append(model.project(self.features[-1]))
            else:
                self.rows.append(model.embed(pixels[part]))
            if for_baselines:
                self.raw.append(raw_pixels(pixels[part]))
            progress(part.stop)


def raw_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3, S, S) -> (N, 3 s s): the pixels that the model sees, with a side s of at most PIXEL_SIZE."""
    side = min(pixels.shape[-1], PIXEL_SIZE)
    out = np.empty((len(pixels), 3, side, side), np.uint8)
    for row, picture in zip(out, pixels, strict=True):
        row[:] = to_pixels(Image.fromarray(picture.transpose(1, 2, 0)), side)
    return out.reshape(len(out), 3 * side**2)
