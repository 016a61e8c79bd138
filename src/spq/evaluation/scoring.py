"""Score a search against labels, also with training pictures as queries, so that no test picture is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spq.config import Distance
from spq.data.image_set import ImageSet, labelled, subset
from spq.data.protocols import Protocol
from spq.errors import DataError
from spq.evaluation.baselines import Search
from spq.evaluation.metrics import query_chunks, relevance
from spq.pq.sums import Ranking, rank

if TYPE_CHECKING:
    from spq.model.model import Model

HELD_OUT = 5000  # training pictures that become queries; at most a tenth of a smaller set


def held_out_protocol(images: ImageSet, queries: int = HELD_OUT, seed: int = 0, map_at: int = 1000) -> Protocol:
    """A protocol for choices: some training pictures are the queries, the others are trained on and are the gallery.

    Args:
        images: a labelled training set.
        queries: how many pictures to hold out; at most a tenth of the set.
        seed: of their choice.
    Raises:
        DataError: no labels, or fewer than 10 pictures.
    """
    images = labelled(images)
    count = min(queries, len(images) // 10)
    if not count:
        raise DataError(f"{images.name} has {len(images)} labelled pictures, too few to hold some out; give 10 or more")
    order = np.random.default_rng(seed).permutation(len(images))
    rest = subset(images, np.sort(order[count:]))
    return Protocol(f"{images.name}, {count:,} held out", subset(images, np.sort(order[:count])), rest, rest, map_at)


def code_search(model: Model, codes: NDArray[np.uint8], distance: Distance | None = None) -> Search:
    """The search of descriptors (Q, D) among codes (N, M) of a model: exact, on the model's device.

    Args:
        distance: by default the model's.
    """
    rank_codes, name = ranker(model), distance or model.config.quantizer.distance
    return lambda queries, top: rank_codes(model.tables(queries, name), codes, top)[1]


def relevant_answers(
    search: Search, queries: NDArray[Any], query_labels: NDArray[Any], gallery_labels: NDArray[Any], top: int
) -> NDArray[np.bool_]:
    """Which answers of a search are relevant to their query: (Q, top) bool, for the functions of `metrics`.

    The queries are searched in chunks: whole rankings as row numbers would take 8 times the memory.

    Args:
        search: queries (Q, D), top -> gallery rows (Q, top). top: at most the size of the gallery.
    """
    relevant = np.empty((len(queries), top), bool)
    for part in query_chunks(*relevant.shape):
        relevant[part] = relevance(query_labels[part], gallery_labels, search(queries[part], top))
    return relevant


def ranker(model: Model) -> Callable[..., Ranking]:
    """`rank`, on a GPU if the model is on one."""
    if model.device.type != "cuda":
        return rank
    from spq.evaluation import on_gpu

    return partial(on_gpu.rank, device=model.device)
