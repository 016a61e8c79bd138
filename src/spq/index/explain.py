"""Explain a distance: what each codebook adds to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """What codebook m adds.

    Attributes:
        codeword: the picture's codeword in this codebook.
        nearest: the codeword that is nearest to the query, in the index's distance.
        distance: of the query to `codeword`, in the index's distance. It may be negative for `dot`, or if negative pictures
            outweigh the positive ones.
        share: of the sum of all parts, each without its sign; 0 if all are 0.
    """

    m: int
    codeword: int
    nearest: int
    distance: float
    share: float


def explain(table: Floats, code: NDArray[np.uint8]) -> list[Part]:
    """The parts of one distance. Their `distance`s add up to the distance that the search gives.

    Args:
        table: (M, K), of the query. code: (M,), of the answer.

    >>> [(part.codeword, part.nearest, part.distance, part.share) for part in explain(
    ...     np.float32([[3, 4], [0, 1]]), np.uint8([0, 1]))]
    [(0, 0, 3.0, 0.75), (1, 0, 1.0, 0.25)]
    """
    M = len(table)
    distances = table[np.arange(M), code].astype(np.float64)
    size = np.abs(distances).sum() or 1.0
    nearest = table.argmin(1)
    return [
        Part(m, int(code[m]), int(nearest[m]), float(distances[m]), float(abs(distances[m]) / size)) for m in range(M)
    ]
