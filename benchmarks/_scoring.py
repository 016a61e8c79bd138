"""Shared by the quality benchmarks: protocols, scores of a model, and points of a training."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spq.config import DISTANCES, Distance
from spq.data.decode import load_pixels
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import Protocol, custom_protocol, load_protocol
from spq.evaluation.baselines import Search, descriptor_baselines, float_cosine, train_codebooks, unit
from spq.evaluation.evaluate import order_of_ties
from spq.evaluation.metrics import (
    mean_average_precision,
    precision_at,
    precision_recall,
    relevant_in_gallery,
)
from spq.evaluation.scoring import code_search, held_out_protocol, relevant_answers
from spq.model.model import Model, Precision
from spq.training.refit import refit
from spq.training.trained import FIT_IMAGES

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Data:
    """Pixels (N, 3, S, S) uint8 and labels (N,) of a protocol whose gallery is the training set."""

    protocol: Protocol
    gallery: NDArray[np.uint8]
    gallery_labels: NDArray[np.int64]
    queries: NDArray[np.uint8]
    query_labels: NDArray[np.int64]

    @property
    def name(self) -> str:
        return self.protocol.name

    @property
    def training(self) -> NDArray[np.uint8]:
        return self.gallery

    @property
    def map_at(self) -> int:
        return min(self.protocol.map_at, len(self.gallery))


def choose_protocol(images: str, test: bool) -> Protocol:
    """The final protocol of a labelled training set if `test`, else one for choices, which uses no test picture."""
    if not test:
        return held_out_protocol(open_images(images))
    kind = images.removesuffix(":train")
    return load_protocol("cifar10-spq") if kind == "cifar10" else custom_protocol(images, f"{kind}:test")


def load_data(protocol: Protocol, size: int, queries: int | None = None) -> Data:
    """Decode the pictures of a protocol.

    The gallery is shuffled, always in the same way. Answers at the same distance are ranked in gallery order, which in a folder
    would be that of the classes.

    Args:
        size: side in pixels. queries: use only this many, the first of a fixed random order.
    """
    query_images = protocol.queries
    if queries:
        query_images = subset(query_images, np.sort(np.random.default_rng(0).permutation(len(query_images))[:queries]))
    parts: list[Any] = []
    gallery = subset(protocol.gallery, order_of_ties(len(protocol.gallery)))
    for images in (gallery, query_images):
        pixels = load_pixels(images, size)
        assert images.labels is not None
        parts += [pixels.array, images.labels[pixels.kept]]
    return Data(protocol, *parts)


def map_of(model: Model, data: Data, distance: Distance) -> float:
    """mAP@N of the codes of a model."""
    codes = model.encode(data.gallery)
    return mean_average_precision(relevant(code_search(model, codes, distance), model.embed(data.queries), data))


def finish(model: Model, x: Floats, *, pq: bool) -> None:
    """Fit the codebooks to gallery descriptors x, as the end of a training does.

    Args:
        pq: fit k-means codebooks, for a training without codebooks.
    """
    quantizer, config, sample = model.network.quantizer, model.config.quantizer, x[:: 1 + len(x) // FIT_IMAGES]
    if pq:
        codebooks = train_codebooks(sample, config.num_codebooks, np.random.default_rng(0), config.codebook_size)
        quantizer.codebooks.data.copy_(torch.from_numpy(codebooks))
    elif model.config.train.refit:
        refit(quantizer, torch.from_numpy(sample))


def measure(
    model: Model,
    data: Data,
    *,
    pq: bool = False,
    refitted: bool = True,
    everything: bool = False,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Scores of a model, or of a point of a training.

    Args:
        pq: fit k-means codebooks first. refitted: the codebooks are already those of the end of the training.
        everything: also other distances, classic codes on the same descriptors, float cosine, P@N and the PR curve.
    Returns:
        `map` with the distance of the model. With `everything` also `lengths`, the mAP of shorter codes of the model.
    """
    x, q = (model.embed(images, precision=precision) for images in (data.gallery, data.queries))
    if pq or not refitted:
        finish(model, x, pq=pq)
    codes, own = model.encode_descriptors(x), model.config.quantizer.distance
    hits = relevant(code_search(model, codes), q, data)
    scores: dict[str, Any] = {"map": _rounded(mean_average_precision(hits))}
    if not everything:
        return scores
    if shorter := model.config.quantizer.lengths[:-1]:
        scores["lengths"] = {str(bits): _rounded(_truncated_map(model, bits, x, q, data)) for bits in shorter}
    total = relevant_in_gallery(data.query_labels, data.gallery_labels)
    precision, recall = precision_recall(hits, total, points=30)
    scores["precision"] = {str(n): _rounded(p) for n, p in precision_at(hits, (1, 10, 100, 1000)).items()}
    scores["pr"] = {"precision": [_rounded(p) for p in precision], "recall": [_rounded(r) for r in recall]}
    searches: dict[str, Callable[[], Search]] = {
        **{other: partial(code_search, model, codes, other) for other in DISTANCES if other != own},
        "float cosine": lambda: float_cosine(x),
    }
    bits = model.config.quantizer.bits
    classic = descriptor_baselines(bits) if bits % 4 == 0 else {}
    # descriptors may have any length in the loss, which would distort squared distances
    rows, query_rows = (x, q) if model.config.head.norm else (unit(x), unit(q))
    for name, fit in classic.items():
        searches[name] = lambda fit=fit: fit(rows, bits, np.random.default_rng(0))  # type: ignore[misc]
    scores["others"] = {
        name: _rounded(mean_average_precision(relevant(make(), query_rows if name in classic else q, data)))
        for name, make in searches.items()
    }
    return scores


def _truncated_map(model: Model, bits: int, x: Floats, q: Floats, data: Data) -> float:
    """mAP@N of the first `bits` of the codes, from descriptors of the whole codes."""
    short = model.truncate(bits)
    D = short.config.quantizer.dim
    return mean_average_precision(relevant(code_search(short, short.encode_descriptors(x[:, :D])), q[:, :D], data))


def relevant(search: Search, q: Floats, data: Data) -> Bools:
    """(Q, top) relevance of a search's answers."""
    return relevant_answers(search, q, data.query_labels, data.gallery_labels, data.map_at)


def new_point(out: Path) -> None:
    """Keep `out/checkpoints/last.pt` as a point of the curve, as a link, which takes no time."""
    last, folder = out / "checkpoints" / "last.pt", out / "points"
    if last.exists():
        folder.mkdir(exist_ok=True)
        kept = folder / f"{last.stat().st_mtime_ns}.pt"
        if not kept.exists():
            os.link(last, kept)


def points(out: Path) -> Iterator[dict[str, Any]]:
    """The checkpoints of the curve in order of time, each step once."""
    seen = set()
    for path in sorted((out / "points").glob("*.pt")):
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["step"] not in seen:
            seen.add(content["step"])
            yield content


def machine(device: str = "cpu") -> str:
    """Number of threads and name of the CPU, or name of the GPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{torch.get_num_threads()} threads, {(names or [platform.processor() or platform.machine()])[0]}"


def _rounded(value: float) -> float:
    return round(float(value), 4)
