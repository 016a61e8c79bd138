"""Merge the distance tables of several query pictures into one table.

With positives q_i of weights w_i, J negatives n_j of weights v_j, and D the index's distance, a picture x gets

    P(x) = sum_i w_i D(q_i, x) / sum_i w_i               the mean distance to the query pictures
    d(x) = P(x) + 1/J sum_j v_j (P(x) - D(n_j, x))       plus how much nearer x is to the negatives

A weighted sum of distance tables is a distance table, so the exact scan can search with it. One positive alone keeps its own
distance. A picture as far from the negatives as from the positives keeps P(x), so a threshold means the same with and without
negatives. A picture farther from the negatives gets a smaller d(x), which may be below 0. All D are in the unit of the
gallery's descriptors, normalised or not: nothing is rescaled.

For `sqeuclidean` this ranks by the distance to the point p + v (p - n), as Rocchio (1971) moves a query. For `dot`, d(x) is the
distance to that point. For `l2`, no sub-code comes nearer to the query than that of the positive itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spq.index.request import SearchRequest

Floats = NDArray[np.float32]


def merged_tables(request: SearchRequest, tables: Floats) -> Floats:
    """One table for each query, (Q, M, K), from those of `query_pictures` (N, M, K)."""
    groups = request.groups
    if len(tables) == len(groups) and request.weights is None:
        return tables  # one picture each
    *positive, negative = np.split(tables, np.cumsum([len(group) for group in groups]))
    weights = [request.weights_of(group) for group in groups]
    return np.stack([combined(part, negative, w) for part, w in zip(positive, weights, strict=True)])


def combined(positive: Floats, negative: Floats, weights: NDArray[np.float64]) -> Floats:
    """One table (M, K) of the positives' (P, M, K) and the negatives' (J, M, K), by the formula above.

    Args:
        weights: (P + J,), as `SearchRequest.weights_of` gives them.
    """
    P, J = len(positive), len(negative)
    toward = np.einsum("p,pmk->mk", weights[:P] / weights[:P].sum(), positive.astype(np.float64))
    if J:
        away = weights[P:] / J
        toward = (1 + away.sum()) * toward - np.einsum("j,jmk->mk", away, negative.astype(np.float64))
    table: Floats = toward.astype(np.float32)
    return table
