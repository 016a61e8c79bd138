"""mAP@N as the field writes it down, one rank at a time. Truth for the tests."""

from __future__ import annotations

from collections.abc import Sequence


def average_precision(relevant: Sequence[bool], N: int) -> float:
    hits, total = 0, 0.0
    for rank, is_hit in enumerate(relevant[:N], 1):
        if is_hit:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0.0


def mean_average_precision(
    distances: Sequence[Sequence[float]], query_labels: Sequence[set[int]], gallery_labels: Sequence[set[int]], N: int
) -> float:
    """Labels are sets; two images are relevant to each other when they share one. Ties go by gallery order."""
    total = 0.0
    for row, labels in zip(distances, query_labels, strict=True):
        order = sorted(range(len(row)), key=lambda j, row=row: (row[j], j))
        total += average_precision([bool(labels & gallery_labels[j]) for j in order], N)
    return total / len(query_labels)
