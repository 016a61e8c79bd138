"""How unusual each picture of a collection is: how far it is, by code, from its neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.dupes.nearest import Nearest
from spq.pq.projection import sample
from spq.pq.tables import Decoder

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # done, total

NEIGHBOUR = 10  # the one whose distance counts: a few copies of an unusual picture are unusual, too
COMPARED = 100_000  # pictures that all others are compared with; a sample of a larger collection
BATCH = 4096  # pictures whose descriptors are in memory together


def unusualness(
    ids: NDArray[np.integer], codes: Codes, decoder: Decoder, progress: Progress = lambda *_: None
) -> Floats:
    """Distances (N,) of N pictures from their tenth neighbour among at most 100,000 pictures.

    Descriptors that the codes stand for are compared. Codes are coarse, so pictures of an unusual code may share it by chance:
    of equal distances, the rarer code counts as the more unusual one.

    Args:
        ids: (N,) of the pictures, which choose the sample. codes: (N, M).
    """
    if not len(codes):
        return np.empty(0, np.float32)
    index = Nearest(decoder.decode(codes[sample(ids, COMPARED)]))
    found = np.empty(len(codes), np.float32)
    for part in slices(len(codes), BATCH):
        progress(part.start, len(codes))
        distances, rows = index.search(decoder.decode(codes[part]), NEIGHBOUR + 1)  # the first is the picture itself
        distances[rows < 0] = np.inf  # beyond the lists that were searched
        found[part] = np.sqrt(np.maximum(distances[:, -1], 0))
    return found


def unusual_first(ids: NDArray[np.integer], scores: Floats) -> NDArray[np.int64]:
    """The ids (N,), the most unusual first, ties in the order of ids."""
    return np.asarray(ids, np.int64)[np.argsort(-scores, kind="stable")]
