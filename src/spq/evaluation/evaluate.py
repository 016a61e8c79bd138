"""Protocol x model -> Report: mAP@N and more of the codes, with classic baselines beside them.

The whole gallery is ranked for each query, some queries at a time, so that the memory does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from spq.config import Distance
from spq.data.image_set import ImageSet, labelled
from spq.data.protocols import Protocol
from spq.errors import ConfigError
from spq.evaluation.collect import Collected, collect, order_of_ties
from spq.evaluation.comparison import Progress, add_baselines
from spq.evaluation.metrics import matching, query_chunks
from spq.evaluation.rankings import Rankings
from spq.evaluation.report import Report
from spq.evaluation.scorer import Scorer
from spq.evaluation.scoring import ranker

if TYPE_CHECKING:
    from spq.model.model import Model

__all__ = ["Report", "evaluate", "order_of_ties"]
Stage = Callable[[str, int, int], None]


def evaluate(
    model: Model,
    protocol: Protocol,
    *,
    at: int | None = None,
    distance: Distance | None = None,
    baselines: bool = False,
    seed: int = 0,
    rankings: int = 0,
    progress: Progress = lambda _: None,
    on_stage: Stage = lambda *_: None,
) -> Report:
    """Rank the whole gallery for every query and score the rankings. Pictures without a label are left out.

    Answers at the same distance are ranked in one fixed random order of the gallery (`order_of_ties`), so that a gallery sorted
    by class gains nothing.

    Args:
        at: the N of mAP@N, by default the protocol's. distance: by default the model's.
        baselines: also score random codes, raw-pixel PQ, PQ, OPQ, ITQ and LSH on the same descriptors (at whole bytes also PQ
            and OPQ with 256 codewords), and the float cosine. With a frozen backbone, score these on its features too.
        seed: of the baselines. rankings: keep this many answers of each query in `report.rankings`.
        progress: called with the name of each step.
        on_stage: called with (what, done, total) while pictures are read and encoded, and queries ranked.
    Raises:
        ConfigError: `at` below 1. DataError: no labels, or no readable picture.
    """
    start = time.perf_counter()
    at = protocol.map_at if at is None else at
    if not isinstance(at, int | np.integer) or isinstance(at, bool) or at < 1:
        raise ConfigError(f"`at` must be 1 or more, got {at}")
    model.tables(np.zeros((1, model.config.quantizer.dim), np.float32), distance)  # refuses one that it does not serve
    gallery_set, query_set = labelled(protocol.gallery), labelled(protocol.queries)  # both, before any work
    progress("encoding the gallery")
    gallery = collect(gallery_set, model, baselines, on_stage).shuffled()
    progress("encoding the queries")
    queries = collect(query_set, model, baselines, on_stage)
    progress("ranking")
    ranked = _Ranked(model, queries, gallery, distance or model.config.quantizer.distance)
    facts = {
        "protocol": protocol.name, "split": protocol.split, "split_seed": protocol.split_seed,
        "bits": model.config.quantizer.bits, "distance": ranked.distance, "model": model.hash,
        "unreadable": gallery.unreadable + queries.unreadable,
    }  # fmt: skip
    report = Report.of(ranked.score(at, rankings, on_stage), seconds=0.0, **facts)
    if rankings:
        query_ids, gallery_ids = _readable_ids(query_set, queries), _readable_ids(gallery_set, gallery)
        report.rankings = ranked.rankings(query_ids, gallery_ids, {**facts, "map_at": report.map_at})
    if baselines:
        add_baselines(report, model, queries, gallery, seed, progress)
    report.seconds = round(time.perf_counter() - start, 2)
    return report


class _Ranked:
    """The rankings of a model's codes, and the first answers of each query."""

    def __init__(self, model: Model, queries: Collected, gallery: Collected, distance: Distance) -> None:
        self.model, self.queries, self.gallery, self.distance = model, queries, gallery, distance

    def score(self, at: int, keep: int, on_stage: Stage) -> Scorer:
        """Score whole rankings, and keep the first answers of each."""
        Q, N = len(self.queries.rows), len(self.gallery.rows)
        rank, codes = ranker(self.model), self.model.encode_descriptors(self.gallery.rows)
        scorer, keep = Scorer(min(at, N), N, N), min(keep, N)
        self.rows, self.distances = np.empty((Q, keep), np.int32), np.empty((Q, keep), np.float32)
        for part in query_chunks(Q, N):
            distances, rows = rank(self.model.tables(self.queries.rows[part], self.distance), codes, N)
            matches = matching(self.queries.labels[part], self.gallery.labels)
            scorer.add(np.take_along_axis(matches, rows, 1), matches.sum(1))
            self.rows[part], self.distances[part] = rows[:, :keep], distances[:, :keep]
            on_stage("ranking", part.stop, Q)
        return scorer

    def rankings(self, query_ids: list[str], gallery_ids: list[str], facts: dict[str, object]) -> Rankings:
        """The kept answers, as positions in the gallery before it was shuffled."""
        order = order_of_ties(len(self.gallery.rows))
        labels = np.empty_like(self.gallery.labels)
        labels[order] = self.gallery.labels
        ids = np.array(query_ids, np.str_), np.array(gallery_ids, np.str_)
        return Rankings(order.astype(np.int32)[self.rows], self.distances, self.queries.labels, labels, *ids, facts)


def _readable_ids(images: ImageSet, collected: Collected) -> list[str]:
    return [images.ids[position] for position in np.sort(collected.kept)]
