"""The nearest of many vectors, in a time that does not grow with the square of their number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Progress = Callable[[int, int], None]  # done, total

EXACT_BELOW = 4_000  # vectors: up to here, all of them are compared
LISTS = 4.0  # times the square root of the number of vectors
PROBED = 8  # lists that a search reads; a copy is nearly always in the first one
BATCH = 1024  # queries at a time


class Nearest:
    """Vectors (N, d) in lists of similar ones. A search compares a query with the vectors of the nearest lists.

    Lists and probed lists are chosen so that the time of N searches grows with N to the power 1.5.
    """

    def __init__(self, vectors: Floats) -> None:
        import faiss

        flat: Any = faiss.IndexFlatL2(vectors.shape[1])
        self.index, self._coarse = flat, flat
        if len(vectors) > EXACT_BELOW:
            lists = round(LISTS * math.sqrt(len(vectors)))
            self.index = faiss.IndexIVFFlat(flat, vectors.shape[1], lists)
            self.index.cp.min_points_per_centroid = 1  # many vectors may be equal
            self.index.cp.niter = 8
            self.index.nprobe = PROBED
            cast(Any, self.index).train(np.ascontiguousarray(vectors[:: max(1, len(vectors) // (40 * lists))]))
        self.index.add(vectors)

    def search(self, queries: Floats, top: int, progress: Progress = lambda *_: None) -> tuple[Floats, Rows]:
        """Squared distances (Q, top) and rows (Q, top), nearest first; row -1 where the lists hold fewer."""
        top = min(top, self.index.ntotal)
        distances, rows = np.empty((len(queries), top), np.float32), np.empty((len(queries), top), np.int64)
        for part in slices(len(queries), BATCH):
            progress(part.start, len(queries))
            distances[part], rows[part] = self.index.search(np.ascontiguousarray(queries[part]), top)
        return distances, rows
