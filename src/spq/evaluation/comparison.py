"""Classic codes beside a model's: the rows and notes of a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spq.evaluation import baselines
from spq.evaluation.collect import Collected
from spq.evaluation.metrics import query_chunks, relevant_in_gallery
from spq.evaluation.report import Report
from spq.evaluation.scorer import Scorer
from spq.evaluation.scoring import relevant_answers

if TYPE_CHECKING:
    from spq.model.model import Model

NOTABLE = 0.003  # mAP by which a classic code must be better to be recommended; two seeds differ by as much
Progress = Callable[[str], None]


def add_baselines(
    report: Report, model: Model, queries: Collected, gallery: Collected, seed: int, progress: Progress
) -> None:
    """Fill in `rows` and `baselines` of a report, and `notes` where methods differ in more than their codes.

    Args:
        seed: of each method's random numbers.
    """
    bits, dim = -(-report.bits // 4) * 4, gallery.rows.shape[1]
    if bits != report.bits:
        report.notes.append(f"baselines have {bits} bits, a multiple of their 4-bit sub-codes")
    if bits > dim:
        report.notes.append(f"ITQ has {bits - dim} of its {bits} bits from random directions: {dim} dimensions")
    scores = _Scores(report, bits, seed)
    progress("baseline: random codes, raw pixels")
    scores.add("random codes", baselines.random_codes, queries, gallery)
    pixels = [replace(part, rows=part.pixels) for part in (queries, gallery)]
    scores.add("raw-pixel PQ", baselines.product_quantization, *pixels)
    _add_descriptor_baselines(scores, model, queries, gallery, progress)
    if queries.features is not None and gallery.features is not None:
        frozen = replace(queries, rows=queries.features), replace(gallery, rows=gallery.features)
        for name, fit in baselines.descriptor_baselines(bits).items():
            progress(f"baseline: {name} on the frozen backbone's features")
            scores.add(f"{name}, backbone's features", fit, *frozen)
        scores.add("float cosine, backbone's features", _float_cosine, *frozen)
    report.notes += better_method(report, model.config.train.refit)
    report.rows[f"SPQ ({report.distance})"] = report.map


def better_method(report: Report, is_refitted: bool) -> list[str]:
    """A note for a user whose trained codes are worse than classic ones of the same descriptors or features."""
    methods = tuple(f"{name}, " for name in baselines.descriptor_baselines(8))
    rivals = {name: value for name, value in report.rows.items() if name.startswith(methods)}
    best = max(rivals, key=rivals.__getitem__)
    if rivals[best] <= report.map + NOTABLE:
        return []
    refit = "" if is_refitted else ", refit the codebooks ([train] refit = true)"
    return [
        f"{best}: {rivals[best]:.4f} is better than the trained codes' {report.map:.4f}; train longer{refit}, or take the "
        "classic method"
    ]


class _Scores:
    """Fits methods and scores them. bits: of each code, a multiple of 4. seed: of each method."""

    def __init__(self, report: Report, bits: int, seed: int) -> None:
        self.report, self.bits, self.seed = report, bits, seed

    def add(self, name: str, fit: baselines.Fit, queries: Collected, gallery: Collected) -> None:
        search, at = fit(gallery.rows, self.bits, np.random.default_rng(self.seed)), self.report.map_at
        relevant = relevant_answers(search, queries.rows, queries.labels, gallery.labels, at)
        scorer, total = Scorer(at, at, len(gallery.labels)), relevant_in_gallery(queries.labels, gallery.labels)
        for part in query_chunks(*relevant.shape):
            scorer.add(relevant[part], total[part])
        about = {key: getattr(self.report, key) for key in ("protocol", "split", "split_seed", "unreadable")}
        bits = 32 * gallery.rows.shape[1] if name.startswith("float") else self.bits
        self.report.baselines[name] = rival = Report.of(
            scorer, **about, bits=bits, distance="", seconds=0.0, model=f"{self.report.model}, {name}"
        )
        self.report.rows[name] = rival.map


def _add_descriptor_baselines(
    scores: _Scores, model: Model, queries: Collected, gallery: Collected, progress: Progress
) -> None:
    if not model.config.head.norm:
        scores.report.notes.append(
            "PQ, OPQ, ITQ and LSH code the descriptors at length 1; those of this model have free lengths"
        )
        queries, gallery = (replace(part, rows=baselines.unit(part.rows)) for part in (queries, gallery))
    for name, fit in baselines.descriptor_baselines(scores.bits).items():
        progress(f"baseline: {name} on the same descriptors")
        scores.add(f"{name}, same descriptors", fit, queries, gallery)
    progress("baseline: float descriptors")
    scores.add("float cosine, no code", _float_cosine, queries, gallery)


def _float_cosine(gallery: baselines.Floats, bits: int, rng: np.random.Generator) -> baselines.Search:
    return baselines.float_cosine(gallery)
