"""Scores of whole rankings, some queries at a time: what is kept is a few numbers for each query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spq.evaluation.metrics import Bools, Floats, Hits, curve_ranks

RANKS = (1, 10, 100, 1000, 5000)  # of P@N and recall@N


class Scorer:
    """Collects the scores of rankings.

    A query without relevant images in the gallery scores 0 in each metric, and is left out of the precision-recall curve.

    Args:
        at: the N of AP@N, at most `depth`. depth: k, the length of the rankings. gallery: N, the size of the gallery.
    """

    def __init__(self, at: int, depth: int, gallery: int, ranks: Sequence[int] = RANKS) -> None:
        self.at, self.depth, self.gallery = at, depth, gallery
        self.ranks = sorted({n for n in (*ranks, at) if n <= depth})
        self._parts: list[dict[str, Floats]] = []
        self._found = np.zeros((2, depth))  # hits at each rank, and shares of what is relevant, summed over queries
        self._counted = 0

    def add(self, relevant: Bools, total: NDArray[np.int64]) -> None:
        """Score some queries.

        Args:
            relevant: (q, k) relevance of ranked images. total: (q,) relevant images in the whole gallery.
        """
        hits = Hits.of(relevant)
        scores = {"map": hits.average_precision(self.at)}
        if self.depth == self.gallery:
            scores["map_all"] = hits.average_precision()
        if self.depth == self.gallery or int(total.max(initial=0)) <= self.depth:
            scores["map_r"] = hits.average_precision_at_r(total)
        for n in self.ranks:
            found = relevant[:, :n].sum(1)
            scores[f"precision@{n}"] = found / n
            scores[f"recall@{n}"] = found / np.maximum(total, 1)
        self._parts.append({**scores, "relevant": total.astype(np.float64)})
        self._found[0] += np.bincount(hits.rank - 1, minlength=self.depth)
        self._found[1] += np.bincount(hits.rank - 1, 1 / total[hits.query], self.depth)
        self._counted += int((total > 0).sum())

    def scores(self) -> dict[str, Floats]:
        """(Q,) of each query by metric: map, map_all, map_r, precision@N, recall@N, and `relevant`, its relevant images.

        `map_all` needs whole rankings, and `map_r` rankings as long as the most relevant images of a query.
        """
        names = [name for name in self._parts[0] if all(name in part for part in self._parts)] if self._parts else []
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}

    def curve(self, points: int = 200) -> dict[str, list[float]]:
        """Precision and recall averaged over queries, exact at up to `points` ranks spaced evenly on a log scale."""
        ranks = curve_ranks(self.depth, points)
        hits, shares = self._found.cumsum(1)[:, ranks - 1] / max(self._counted, 1)
        return {"ranks": ranks.tolist(), "precision": (hits / ranks).tolist(), "recall": shares.tolist()}
