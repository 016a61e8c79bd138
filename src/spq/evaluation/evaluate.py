"""Protocol x model -> Report: mAP@N and more of the codes, with classic baselines beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spq.config import Distance
from spq.data.images import load_pixels
from spq.data.protocols import Protocol
from spq.data.sources import ImageSet
from spq.errors import DataError
from spq.evaluation import baselines as classic
from spq.evaluation.metrics import (
    mean_average_precision,
    precision_at,
    precision_recall,
    relevance,
    relevant_in_gallery,
)
from spq.index.scan import rank

if TYPE_CHECKING:
    from spq.model.artifact import Model

Progress = Callable[[str], None]
PIXEL_SIZE = 32  # of the raw-pixel baseline


@dataclass
class Report:
    """An evaluation. `map` is mAP@`map_at` of the codes; `rows` compares it with the baselines, best figures last."""

    protocol: str
    bits: int
    map: float
    map_at: int
    queries: int
    gallery: int
    distance: str
    seconds: float
    model: str
    unreadable: int
    precision: dict[int, float] = field(default_factory=dict)
    pr_curve: dict[str, list[float]] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return dict(self.__dict__)

    def table(self) -> str:
        """Aligned text."""
        lines = [
            f"{self.protocol}: {self.queries:,} queries, {self.gallery:,} in the gallery, {self.bits} bits, {self.distance}",
            f"mAP@{self.map_at}  {self.map:.4f}",
            *(f"P@{n:<6d} {value:.4f}" for n, value in self.precision.items()),
        ]
        if self.rows:
            width = max(map(len, self.rows))
            lines += ["", f"mAP@{self.map_at} of others, {self.bits} bits where they are codes:"]
            lines += [f"  {name:{width}s}  {value:.4f}" for name, value in self.rows.items()]
        return "\n".join(lines)

    def save_plots(self, folder: str | Path) -> list[Path]:
        """PR curve and P@N as PNG."""
        from matplotlib.figure import Figure  # without pyplot: no global state, no display

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        title = f"{self.protocol}, {self.bits} bits, {self.queries:,} queries"
        written = []
        curves = {
            "pr.png": (self.pr_curve["recall"], self.pr_curve["precision"], "recall", "precision"),
            "precision.png": (list(self.precision), list(self.precision.values()), "N", "P@N"),
        }
        for name, (x, y, x_label, y_label) in curves.items():
            figure = Figure(figsize=(5, 4), layout="constrained")
            axes = figure.add_subplot()
            axes.plot(x, y, color="#0072b2", marker="o" if len(x) < 20 else None)
            axes.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(0, 1))
            axes.grid(alpha=0.3)
            figure.savefig(folder / name, dpi=150)
            written.append(folder / name)
        return written


def evaluate(
    model: Model,
    protocol: Protocol,
    *,
    at: int | None = None,
    distance: Distance | None = None,
    baselines: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Rank the gallery for every query and score the rankings.

    Args:
        at: the N of mAP@N, by default the protocol's. distance: by default the model's.
        baselines: also random codes, raw-pixel PQ, PQ, OPQ, ITQ and LSH on the same descriptors, and the float cosine.
        progress: called with what is being done.
    Raises:
        DataError: no labels, or nothing readable.
    """
    say = progress or (lambda _: None)
    start = time.perf_counter()
    at = min(at or protocol.map_at, len(protocol.gallery))
    say("encoding the gallery")
    x, gallery_labels, bad_gallery = _descriptors(model, protocol.gallery)
    say("encoding the queries")
    q, query_labels, bad_queries = _descriptors(model, protocol.queries)
    say("ranking")
    name = distance or model.config.quantizer.distance
    rows = rank(model.tables(q, name), model.encode_descriptors(x), at)[1]
    relevant = relevance(query_labels, gallery_labels, rows)
    precision, recall = precision_recall(relevant, relevant_in_gallery(query_labels, gallery_labels))
    report = Report(
        protocol=protocol.name,
        bits=model.config.quantizer.bits,
        map=mean_average_precision(relevant),
        map_at=at,
        queries=len(q),
        gallery=len(x),
        distance=name,
        seconds=0.0,
        model=model.hash,
        unreadable=bad_gallery + bad_queries,
        precision=precision_at(relevant, [n for n in (1, 10, 100, 1000, 5000) if n <= at]),
        pr_curve={"precision": precision.tolist(), "recall": recall.tolist()},
    )
    if baselines:
        report.rows = _baselines(model, protocol, x, q, at, seed, query_labels, gallery_labels, say)
        report.rows[f"SPQ ({name})"] = report.map
    report.seconds = round(time.perf_counter() - start, 2)
    return report


def _baselines(
    model: Model,
    protocol: Protocol,
    x: NDArray[np.float32],
    q: NDArray[np.float32],
    at: int,
    seed: int,
    query_labels: NDArray[Any],
    gallery_labels: NDArray[Any],
    say: Progress,
) -> dict[str, float]:
    bits = -(-model.config.quantizer.bits // 4) * 4  # 4-bit sub-codes, at least as long as the model's

    def score(rows: NDArray[np.int64]) -> float:
        return mean_average_precision(relevance(query_labels, gallery_labels, rows))

    def rng() -> np.random.Generator:
        return np.random.default_rng(seed)

    say("baseline: random codes, raw pixels")
    pixels, query_pixels = (
        load_pixels(images, PIXEL_SIZE).array.reshape(-1, 3 * PIXEL_SIZE**2).astype(np.float32) / 255
        for images in (protocol.gallery, protocol.queries)
    )
    scores = {
        "random codes": score(classic.random_codes(x, q, bits, at, rng())),
        "raw-pixel PQ": score(classic.product_quantization(pixels, query_pixels, bits, at, rng())),
    }
    for name, method in classic.DESCRIPTOR_BASELINES.items():
        say(f"baseline: {name} on the same descriptors")
        scores[f"{name}, same descriptors"] = score(method(x, q, bits, at, rng()))
    say("baseline: float descriptors")
    scores["float cosine, no code"] = score(classic.float_cosine(x, q, at))
    return scores


def _descriptors(model: Model, images: ImageSet) -> tuple[NDArray[np.float32], NDArray[Any], int]:
    if images.labels is None:
        raise DataError(f"{images.name} has no labels; evaluation needs class subfolders, metadata.csv or a labelled set")
    pixels = load_pixels(images, model.config.input.size)
    if not len(pixels.array):
        raise DataError(f"none of the {len(images)} pictures in {images.name} is readable, for example: {pixels.failures[0][1]}")
    return model.embed(pixels.array), images.labels[pixels.kept], len(pixels.failures)
