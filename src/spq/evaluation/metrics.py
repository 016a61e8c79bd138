"""Retrieval metrics on relevance arrays (queries, k), best answer first: AP@N, AP@R, P@N and precision-recall curves.

Ties are no matter of this file: whoever ranks decides them. `spq.evaluation.collect.TIES` says how an evaluation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spq.errors import DataError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

CELLS = 4_000_000  # entries of an array (queries, k) that are in work at once, which bounds the memory


def relevance(
    query_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic], rows: NDArray[np.signedinteger[Any]]
) -> Bools:
    """Compute which ranked gallery images are relevant to their query.

    Args:
        query_labels, gallery_labels: (Q,) and (N,) class numbers, or (Q, L) and (N, L) bool. Multi-label images are
            relevant to each other when they share a label.
        rows: (Q, k) gallery rows, best first.
    Returns:
        (Q, k) bool.
    Raises:
        DataError: one side is single-label and the other multi-label, or both differ in the number of labels.
    """
    _check_labels(query_labels, gallery_labels)
    if query_labels.ndim == 1:
        return np.asarray(gallery_labels[rows] == query_labels[:, None])
    out = np.empty(rows.shape, bool)
    for query, labels in enumerate(query_labels):  # one at a time: (Q, k, L) would be L times as large as the result
        out[query] = (gallery_labels[rows[query]] & labels).any(1)
    return out


def _check_labels(query_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic]) -> None:
    if query_labels.ndim != gallery_labels.ndim or query_labels.shape[1:] != gallery_labels.shape[1:]:
        raise DataError(
            f"labels of shapes {query_labels.shape} and {gallery_labels.shape} do not compare; use the same classes"
        )


def matching(query_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic]) -> Bools:
    """Compute which gallery images are relevant to each query: (Q, N) bool, in gallery order.

    Args and errors are those of `relevance`.
    """
    _check_labels(query_labels, gallery_labels)
    if query_labels.ndim == 1:
        return np.asarray(gallery_labels == query_labels[:, None])
    return np.asarray(query_labels.astype(np.float32) @ gallery_labels.T.astype(np.float32) > 0)


def average_precision_at_k(relevant: Bools) -> Floats:
    """Compute AP of each ranking over the hits inside the top k (the deep-hashing convention).

    Over the whole gallery, where k = N, it is the usual AP.

    Args:
        relevant: (Q, k) bool, relevance of each ranked gallery image.
    Returns:
        (Q,) float in [0, 1]; 0 where a query has no hit.

    >>> average_precision_at_k(np.array([[True, False, True, False]]))
    array([0.83333333])
    """
    return Hits.of(relevant).average_precision()


def average_precision_at_r(relevant: Bools, total: NDArray[np.int64]) -> Floats:
    """Compute AP at R, where R is the number of images relevant to a query (MAP@R of Musgrave et al., ECCV 2020).

    The sum of the precision at each hit inside the top R is divided by R, also if fewer than R are hits.

    Args:
        relevant: (Q, k) bool, with k at least the largest R. total: (Q,) R of each query.
    Returns:
        (Q,) float in [0, 1]; 0 where R is 0.

    >>> average_precision_at_r(np.array([[True, False, True, False]]), np.array([2]))
    array([0.5])
    """
    return Hits.of(relevant).average_precision_at_r(total)


@dataclass(frozen=True)
class Hits:
    """The relevant answers of some rankings, for several averages of the same ones.

    Attributes:
        queries: Q. query, rank: (H,) of each hit; ranks begin at 1. precision: (H,) of the answers up to the hit.
    """

    queries: int
    query: NDArray[np.int64]
    rank: NDArray[np.int64]
    precision: Floats

    @classmethod
    def of(cls, relevant: Bools) -> Self:
        """The hits of relevance (Q, k)."""
        query, rank = np.nonzero(relevant)
        before = np.concatenate([[0], np.bincount(query, minlength=len(relevant)).cumsum()])[query]
        return cls(len(relevant), query, rank + 1, (np.arange(len(query)) - before + 1) / (rank + 1))

    def average_precision(self, k: int | None = None) -> Floats:
        """AP over the hits inside the top k, by default all: (Q,)."""
        query, precision = self.query, self.precision
        if k is not None:
            inside = self.rank <= k
            query, precision = query[inside], precision[inside]
        found = np.bincount(query, minlength=self.queries)
        return np.bincount(query, precision, self.queries) / np.maximum(found, 1)

    def average_precision_at_r(self, total: NDArray[np.int64]) -> Floats:
        """AP at R = total: (Q,)."""
        inside = self.rank <= total[self.query]
        return np.bincount(self.query[inside], self.precision[inside], self.queries) / np.maximum(total, 1)


def mean_average_precision(relevant: Bools) -> float:
    """Compute mAP@k of relevance (Q, k); 0 without queries."""
    parts = [average_precision_at_k(relevant[part]) for part in query_chunks(*relevant.shape)]
    return float(np.concatenate(parts).mean()) if parts else 0.0


def precision_at(relevant: Bools, ns: Sequence[int]) -> dict[int, float]:
    """Compute the mean share of relevant images among the top n, for each n up to k.

    >>> precision_at(np.array([[True, False, True, False]]), [1, 2, 4])
    {1: 1.0, 2: 0.5, 4: 0.5}
    """
    return {n: float(relevant[:, :n].mean()) for n in ns if n <= relevant.shape[1]}


def curve_ranks(k: int, points: int = 200) -> NDArray[np.int64]:
    """Ranks 1..k, or about `points` of them, spaced evenly on a log scale."""
    return np.arange(1, k + 1) if k <= points else np.unique(np.geomspace(1, k, points).round().astype(np.int64))


def precision_recall(relevant: Bools, total: NDArray[np.int64], points: int = 200) -> tuple[Floats, Floats]:
    """Compute precision and recall at ranks 1..k, averaged over queries, at up to `points` ranks spaced evenly on a log scale.

    Args:
        relevant: (Q, k) bool. total: (Q,) relevant images in the whole gallery; queries without any are left out.
    Returns:
        precision and recall, each (points,); zeros if no query has relevant images.
    """
    k = relevant.shape[1]
    ranks = curve_ranks(k, points)
    precision, recall = np.zeros(len(ranks)), np.zeros(len(ranks))
    for part in query_chunks(len(relevant), k):
        has_relevant = total[part] > 0
        hits = relevant[part][has_relevant].cumsum(1, dtype=np.int32)[:, ranks - 1]
        precision += (hits / ranks).sum(0)
        recall += (hits / total[part][has_relevant, None]).sum(0)
    queries = max(int((total > 0).sum()), 1)
    return precision / queries, recall / queries


def relevant_in_gallery(query_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic]) -> NDArray[np.int64]:
    """Count the gallery images that are relevant to each query: (Q,)."""
    if query_labels.ndim == 1:
        values, counts = np.unique(gallery_labels, return_counts=True)
        table = dict(zip(values.tolist(), counts.tolist(), strict=True))
        return np.array([table.get(label, 0) for label in query_labels.tolist()], np.int64)
    gallery, out = gallery_labels.astype(np.float32).T, np.empty(len(query_labels), np.int64)
    for part in query_chunks(len(query_labels), len(gallery_labels)):
        out[part] = (query_labels[part].astype(np.float32) @ gallery > 0).sum(1)
    return out


def query_chunks(queries: int, k: int) -> Iterator[slice]:
    """Slices of queries with up to `CELLS` entries of a (queries, k) array each, but at least one query.

    >>> list(query_chunks(5, 1_000_000))
    [slice(0, 4, None), slice(4, 5, None)]
    """
    step = max(1, CELLS // max(k, 1))
    return (slice(start, min(start + step, queries)) for start in range(0, queries, step))
