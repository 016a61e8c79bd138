"""Retrieval metrics on relevance arrays: mAP@N in the deep-hashing convention, P@N and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spq.errors import DataError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def relevance(query_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic], rows: NDArray[np.int64]) -> Bools:
    """Which ranked gallery images are relevant to their query.

    Args:
        query_labels, gallery_labels: (Q,) and (N,) class numbers, or (Q, L) and (N, L) bool. Multi-label images are
            relevant to each other when they share a label.
        rows: (Q, k) gallery rows, best first.
    Returns:
        (Q, k) bool.
    Raises:
        DataError: one side is single-label and the other multi-label, or with another number of labels.
    """
    if query_labels.ndim != gallery_labels.ndim or query_labels.shape[1:] != gallery_labels.shape[1:]:
        raise DataError(f"labels of shapes {query_labels.shape} and {gallery_labels.shape} do not compare; use the same classes")
    if query_labels.ndim == 1:
        return np.asarray(gallery_labels[rows] == query_labels[:, None])
    # one query at a time: (Q, k, L) would be 24 times as large as the answer
    return np.stack([(gallery_labels[row] & labels).any(1) for row, labels in zip(rows, query_labels, strict=True)])


def average_precision_at_k(relevant: Bools) -> Floats:
    """AP of each ranking over the hits *inside* the top k (the deep-hashing convention).

    Args:
        relevant: (Q, k) bool, relevance of each ranked gallery image.
    Returns:
        (Q,) float in [0, 1]; 0 where a query has no hit.

    >>> average_precision_at_k(np.array([[True, False, True, False]]))
    array([0.83333333])
    """
    hits = relevant.cumsum(1)
    precision = hits / np.arange(1, relevant.shape[1] + 1)
    found = hits[:, -1] if relevant.shape[1] else np.zeros(len(relevant))
    return np.asarray((precision * relevant).sum(1) / np.maximum(found, 1))


def mean_average_precision(relevant: Bools, chunk: int = 1000) -> float:
    """mAP@k of (Q, k) relevance, in chunks of queries so that memory stays small."""
    parts = [average_precision_at_k(relevant[start : start + chunk]) for start in range(0, len(relevant), chunk)]
    return float(np.concatenate(parts).mean()) if parts else 0.0


def precision_at(relevant: Bools, ns: Sequence[int]) -> dict[int, float]:
    """Mean share of relevant images among the top n, for each n up to k.

    >>> precision_at(np.array([[True, False, True, False]]), [1, 2, 4])
    {1: 1.0, 2: 0.5, 4: 0.5}
    """
    return {n: float(relevant[:, :n].mean()) for n in ns if n <= relevant.shape[1]}


def precision_recall(relevant: Bools, total: NDArray[np.int64], points: int = 200) -> tuple[Floats, Floats]:
    """Precision and recall at ranks 1..k, averaged over queries, thinned to about `points` ranks.

    Args:
        relevant: (Q, k) bool. total: (Q,) relevant images in the whole gallery; queries without any are left out.
    Returns:
        precision and recall, each (points,).
    """
    k = relevant.shape[1]
    ranks = np.unique(np.geomspace(1, k, min(points, k)).round().astype(int))
    asked = total > 0
    hits = relevant[asked].cumsum(1, dtype=np.int32)[:, ranks - 1]
    return (hits / ranks).mean(0), (hits / total[asked, None]).mean(0)


def relevant_in_gallery(query_labels: NDArray[np.generic], gallery_labels: NDArray[np.generic]) -> NDArray[np.int64]:
    """(Q,) how many gallery images are relevant to each query."""
    if query_labels.ndim == 1:
        values, counts = np.unique(gallery_labels, return_counts=True)
        table = dict(zip(values.tolist(), counts.tolist(), strict=True))
        return np.array([table.get(label, 0) for label in query_labels.tolist()], np.int64)
    gallery = gallery_labels.astype(np.float32)
    chunks = [(chunk.astype(np.float32) @ gallery.T > 0).sum(1) for chunk in np.array_split(query_labels, len(query_labels) // 256 + 1)]
    return np.concatenate(chunks).astype(np.int64)
