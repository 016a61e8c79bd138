"""Protocol x model -> Report: mAP@N and more of the codes, with classic baselines beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.config import Distance
from spq.data.decode import load_pixels, to_pixels
from spq.data.image_set import ImageSet
from spq.data.protocols import Protocol
from spq.errors import ConfigError, DataError
from spq.evaluation import baselines as classic
from spq.evaluation.metrics import (
    mean_average_precision,
    precision_at,
    precision_recall,
    relevance_of_answers,
    relevant_in_gallery,
)
from spq.pq.sums import Ranking, rank

if TYPE_CHECKING:
    from spq.model.model import Model

Progress = Callable[[str], None]
PIXEL_SIZE = 32  # of the raw-pixel baseline, or the model's own where that is smaller
NOTABLE = 0.003  # mAP by which classic codes must be better to be recommended; two seeds differ by as much
BATCH_BYTES = 100_000_000  # of pixels in memory at once: 50,000 pictures of 224 x 224 would be 7.5 GB


@dataclass
class Report:
    """An evaluation.

    Attributes:
        map: mAP@`map_at` of the codes; map_at is at most the number of readable gallery pictures.
        seconds: all of it: decoding, encoding, ranking, and the baselines where asked for.
        model: hash of the model.
        precision: P@N by N. pr_curve: `precision` and `recall` at the same ranks.
        rows: mAP@`map_at` by method, with the baselines; empty without. notes: what to know when comparing them.
    """

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
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return dict(self.__dict__)

    def table(self) -> str:
        """Aligned text."""
        lines = [
            f"{self.protocol}: {self.queries:,} queries, {self.gallery:,} in the gallery, {self.bits} bits, "
            f"{self.distance}",
            f"mAP@{self.map_at}  {self.map:.4f}",
            *(f"P@{n:<6d} {value:.4f}" for n, value in self.precision.items()),
        ]
        if self.rows:
            width = max(map(len, self.rows))
            lines += ["", f"mAP@{self.map_at} of others, {self.bits} bits where they are codes:"]
            lines += [f"  {name:{width}s}  {value:.4f}" for name, value in self.rows.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def save_plots(self, folder: str | Path) -> list[Path]:
        """PR curve (`pr.png`) and P@N (`precision.png`); returns their paths."""
        from matplotlib.figure import Figure  # without pyplot: no global state, no display

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        title = f"{self.protocol}, {self.bits} bits, {self.queries:,} queries"
        written = []
        curves: dict[str, tuple[list[Any], list[float], str, str]] = {
            "pr.png": (self.pr_curve["recall"], self.pr_curve["precision"], "recall", "precision"),
            "precision.png": (list(self.precision), list(self.precision.values()), "N", "P@N"),
        }
        for name, (x, y, x_label, y_label) in curves.items():
            figure = Figure(figsize=(5, 4), layout="constrained")
            axes = figure.add_subplot()
            axes.plot(x, y, color="#0072b2", marker="o" if len(x) < 20 else None)
            axes.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(0, 1))
            axes.set_xscale("log" if x_label == "N" else "linear")
            axes.grid(alpha=0.3)
            figure.savefig(folder / name, dpi=150)
            written.append(folder / name)
        return written


def order_of_ties(N: int) -> NDArray[np.int64]:
    """The order of a gallery's pictures in which answers at the same distance are ranked: always this one of N."""
    return np.random.default_rng(0).permutation(N)


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
        baselines: also random codes, raw-pixel PQ, PQ, OPQ, ITQ and LSH on the same descriptors (at whole bytes PQ and OPQ with
            256 codewords, too), and the float cosine; with a frozen backbone these on its features as well.
        seed: of the baselines. progress: called with what is being done.
    Raises:
        ConfigError: `at` below 1. DataError: no labels, or nothing readable.
    """
    say, start = progress or (lambda _: None), time.perf_counter()
    if at is not None and at < 1:
        raise ConfigError(f"mAP@{at} looks at no answer; give at least 1")
    for images in (protocol.gallery, protocol.queries):
        _check_labels(images)  # both before any work
    say("encoding the gallery")
    gallery = _collect(protocol.gallery, model, baselines).shuffled()
    say("encoding the queries")
    queries = _collect(protocol.queries, model, baselines)
    say("ranking")
    name, top = distance or model.config.quantizer.distance, min(at or protocol.map_at, len(gallery.rows))
    codes = model.encode_descriptors(gallery.rows)
    ranked = _ranker(model)
    relevant = _relevant(lambda q, top: ranked(model.tables(q, name), codes, top)[1], queries, gallery, top)
    precision, recall = precision_recall(relevant, relevant_in_gallery(queries.labels, gallery.labels))
    report = Report(
        protocol=protocol.name,
        bits=model.config.quantizer.bits,
        map=mean_average_precision(relevant),
        map_at=top,
        queries=len(queries.rows),
        gallery=len(gallery.rows),
        distance=name,
        seconds=0.0,
        model=model.hash,
        unreadable=gallery.unreadable + queries.unreadable,
        precision=precision_at(relevant, [n for n in (1, 10, 100, 1000, 5000) if n <= top]),
        pr_curve={"precision": precision.tolist(), "recall": recall.tolist()},
    )
    if baselines:
        del relevant
        _add_baselines(report, model, queries, gallery, seed, say)
    report.seconds = round(time.perf_counter() - start, 2)
    return report


@dataclass(frozen=True)
class _Collected:
    """rows: (N, D) descriptors of the readable pictures. labels: theirs, as an `ImageSet` has them.

    pixels: (N, 3 s s) uint8, what the raw-pixel baseline sees of them, where it is asked for. features: (N, F) of length 1,
    those of a frozen backbone, where they are asked for.
    """

    rows: NDArray[Any]
    labels: NDArray[Any]
    unreadable: int = 0
    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))
    features: NDArray[np.float32] | None = None

    def shuffled(self) -> _Collected:
        """In an order that says nothing of labels: answers at the same distance come in the order of the gallery, so that in
        one sorted by class codes that are all alike would seem to find the first class."""
        order = order_of_ties(len(self.rows))
        pixels, features = self.pixels, self.features
        return replace(
            self, rows=self.rows[order], labels=self.labels[order], pixels=pixels[order] if len(pixels) else pixels,
            features=None if features is None else features[order],
        )  # fmt: skip


def _add_baselines(
    report: Report, model: Model, queries: _Collected, gallery: _Collected, seed: int, say: Progress
) -> None:
    """Fill in `rows`, and `notes` where codes differ in more than how they were made."""
    bits, dim, top = -(-report.bits // 4) * 4, gallery.rows.shape[1], report.map_at
    if bits != report.bits:
        report.notes.append(f"baselines have {bits} bits, a multiple of their 4-bit sub-codes")
    if bits > dim:
        report.notes.append(f"ITQ has {bits - dim} of its {bits} bits from random directions: {dim} dimensions")

    def add(name: str, fit: classic.Fit, queries: _Collected, gallery: _Collected) -> None:
        search = fit(gallery.rows, bits, np.random.default_rng(seed))
        report.rows[name] = mean_average_precision(_relevant(search, queries, gallery, top))

    say("baseline: random codes, raw pixels")
    add("random codes", classic.random_codes, queries, gallery)
    add("raw-pixel PQ", classic.product_quantization, *(replace(part, rows=part.pixels) for part in (queries, gallery)))
    if not model.config.head.norm:
        report.notes.append(
            "PQ, OPQ, ITQ and LSH code the descriptors at length 1; those of this model have free lengths"
        )
        queries, gallery = (replace(part, rows=classic.unit(part.rows)) for part in (queries, gallery))
    for name, fit in classic.descriptor_baselines(bits).items():
        say(f"baseline: {name} on the same descriptors")
        add(f"{name}, same descriptors", fit, queries, gallery)
    say("baseline: float descriptors")
    add("float cosine, no code", lambda x, bits, rng: classic.float_cosine(x), queries, gallery)
    if queries.features is not None and gallery.features is not None:
        frozen = replace(queries, rows=queries.features), replace(gallery, rows=gallery.features)
        for name, fit in classic.descriptor_baselines(bits).items():
            say(f"baseline: {name} on the frozen backbone's features")
            add(f"{name}, backbone's features", fit, *frozen)
        add("float cosine, backbone's features", lambda x, bits, rng: classic.float_cosine(x), *frozen)
    report.notes += _better(report, model.config.train.refit)
    report.rows[f"SPQ ({report.distance})"] = report.map


def _better(report: Report, refitted: bool) -> list[str]:
    """What to tell a user whose trained codes are behind classic ones of the same descriptors or features."""
    methods = tuple(f"{name}, " for name in classic.descriptor_baselines(8))
    rivals = {name: value for name, value in report.rows.items() if name.startswith(methods)}
    best = max(rivals, key=rivals.__getitem__)
    if rivals[best] <= report.map + NOTABLE:
        return []
    refit = "" if refitted else ", refit the codebooks ([train] refit = true)"
    return [
        f"{best}: {rivals[best]:.4f} is better than the trained codes' {report.map:.4f}; train longer{refit}, or take the "
        "classic method"
    ]


def _ranker(model: Model) -> Callable[..., Ranking]:
    """`rank`, on a GPU where the model is on one."""
    if model.device.type != "cuda":
        return rank
    from spq.evaluation import on_gpu

    return partial(on_gpu.rank, device=model.device)


def _relevant(search: classic.Search, queries: _Collected, gallery: _Collected, top: int) -> NDArray[np.bool_]:
    """(Q, top) relevance of a search's answers."""
    return relevance_of_answers(search, queries.rows, queries.labels, gallery.labels, top)


def _raw(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 3, S, S) -> (N, 3 s s): what the model sees, with a side s of at most PIXEL_SIZE."""
    side = min(pixels.shape[-1], PIXEL_SIZE)
    out = np.empty((len(pixels), 3, side, side), np.uint8)
    for row, picture in zip(out, pixels, strict=True):
        row[:] = to_pixels(Image.fromarray(picture.transpose(1, 2, 0)), side)
    return out.reshape(len(out), 3 * side**2)


def _collect(images: ImageSet, model: Model, with_pixels: bool) -> _Collected:
    """The descriptors of the pictures, which are decoded once, batch by batch."""
    size = model.config.input.size
    labels, step = _check_labels(images), max(1, BATCH_BYTES // (3 * size**2))
    frozen = with_pixels and model.config.train.frozen
    parts: list[NDArray[np.float32]] = []
    features: list[NDArray[np.float32]] = []
    raw: list[NDArray[np.uint8]] = []
    kept: list[NDArray[np.int64]] = []
    failures: list[tuple[int, str]] = []
    for start in range(0, len(images), step):
        pixels = load_pixels(images, size, positions=range(start, min(start + step, len(images))))
        if frozen:  # once through the backbone
            features.append(model.features(pixels.array))
        parts.append(model.project(features[-1]) if frozen else model.embed(pixels.array))
        if with_pixels:
            raw.append(_raw(pixels.array))
        kept.append(pixels.kept)
        failures += pixels.failures
    if len(failures) == len(images):
        example = f", for example: {failures[0][1]}" if failures else "; give another collection"
        raise DataError(f"none of the {len(images)} pictures in {images.name} is readable{example}")
    collected = _Collected(np.concatenate(parts), labels[np.concatenate(kept)], len(failures))
    if with_pixels:
        collected = replace(collected, pixels=np.concatenate(raw))
    if frozen:
        collected = replace(collected, features=classic.unit(np.concatenate(features)))
    return collected


def _check_labels(images: ImageSet) -> NDArray[Any]:
    if images.labels is None:
        raise DataError(
            f"{images.name} has no labels; evaluation needs class subfolders, metadata.csv or a labelled set"
        )
    return images.labels
