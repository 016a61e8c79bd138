"""Why a picture is an answer: what each codebook adds to its distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """What codebook m adds.

    Attributes:
        codeword: the picture's own in this codebook. nearest: the one that is nearest to the query, in the index's distance.
        distance: of the query to `codeword`, in the index's distance; it may be negative for `dot`, and where negative examples
            outweigh the positive ones.
        share: of the sum of all parts, each without its sign; 0 where all are 0.
    """

    m: int
    codeword: int
    nearest: int
    distance: float
    share: float


def explain(table: Floats, code: NDArray[np.uint8]) -> list[Part]:
    """The parts of one distance; their `distance`s add up to that of the search.

    Args:
        table: (M, K) of the query, as the search looked codes up in it. code: (M,) of the answer.

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
