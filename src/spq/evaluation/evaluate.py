"""Protocol x model -> Report: mAP@N and more of the codes, with classic baselines beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from spq.config import Distance
from spq.data.image_set import labelled
from spq.data.protocols import Protocol
from spq.errors import ConfigError
from spq.evaluation.collect import Collected, collect, order_of_ties
from spq.evaluation.comparison import Progress, add_baselines
from spq.evaluation.metrics import (
    mean_average_precision,
    precision_at,
    precision_recall,
    relevant_in_gallery,
)
from spq.evaluation.report import Report
from spq.evaluation.scoring import code_search, relevant_answers

if TYPE_CHECKING:
    from spq.model.model import Model

__all__ = ["Report", "evaluate", "order_of_ties"]
PRECISION_AT = (1, 10, 100, 1000, 5000)


def evaluate(
    model: Model,
    protocol: Protocol,
    *,
    at: int | None = None,
    distance: Distance | None = None,
    baselines: bool = False,
    seed: int = 0,
    progress: Progress = lambda _: None,
    on_stage: Callable[[str, int, int], None] = lambda *_: None,
) -> Report:
    """Rank the gallery for every query and score the rankings. Pictures without a label are left out.

    Args:
        at: the N of mAP@N, by default the protocol's. distance: by default the model's.
        baselines: also score random codes, raw-pixel PQ, PQ, OPQ, ITQ and LSH on the same descriptors (at whole bytes also PQ
            and OPQ with 256 codewords), and the float cosine. With a frozen backbone, score these on its features too.
        seed: of the baselines. progress: called with the name of each step.
        on_stage: called with (what, done, total) while pictures are read and encoded.
    Raises:
        ConfigError: `at` below 1. DataError: no labels, or no readable picture.
    """
    start = time.perf_counter()
    if at is not None and at < 1:
        raise ConfigError(f"`at` must be 1 or more, got {at}")
    gallery_set, query_set = labelled(protocol.gallery), labelled(protocol.queries)  # both, before any work
    progress("encoding the gallery")
    gallery = collect(gallery_set, model, baselines, on_stage).shuffled()
    progress("encoding the queries")
    queries = collect(query_set, model, baselines, on_stage)
    progress("ranking")
    report = _scored(model, queries, gallery, min(at or protocol.map_at, len(gallery.rows)), distance)
    report.protocol = protocol.name
    if baselines:
        add_baselines(report, model, queries, gallery, seed, progress)
    report.seconds = round(time.perf_counter() - start, 2)
    return report


def _scored(model: Model, queries: Collected, gallery: Collected, top: int, distance: Distance | None) -> Report:
    """The scores of the model's codes, in a report without a name or a time."""
    search = code_search(model, model.encode_descriptors(gallery.rows), distance)
    relevant = relevant_answers(search, queries.rows, queries.labels, gallery.labels, top)
    precision, recall = precision_recall(relevant, relevant_in_gallery(queries.labels, gallery.labels))
    return Report(
        protocol="",
        bits=model.config.quantizer.bits,
        map=mean_average_precision(relevant),
        map_at=top,
        queries=len(queries.rows),
        gallery=len(gallery.rows),
        distance=distance or model.config.quantizer.distance,
        seconds=0.0,
        model=model.hash,
        unreadable=gallery.unreadable + queries.unreadable,
        precision=precision_at(relevant, [n for n in PRECISION_AT if n <= top]),
        pr_curve={"precision": precision.tolist(), "recall": recall.tolist()},
    )
