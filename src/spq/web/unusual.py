"""Which pictures of a collection are unusual: those that are far from their neighbours.

Codes do not tell. A quantizer has codewords for what the collection holds, so it gives a code of the usual kind to every picture.
The features before the quantizer tell. Indexing with a frozen backbone keeps them in a cache; those of other models are computed
from the pictures once, in the time that indexing took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import slices
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.dupes.nearest import Nearest
from spq.errors import DataError, ImageError
from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.index.verify_pictures import unchanged_pixels
from spq.model.feature_store import FeatureStore, Known, features_key
from spq.pq.projection import sample

if TYPE_CHECKING:
    from spq.model.model import Model, Precision

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Progress = Callable[[int, int], None]  # done, total

NEIGHBOUR = 10  # the one whose distance counts, so that a few copies of an unusual picture are unusual, too
COMPARED = 20_000  # pictures that all others are compared with: a sample of a larger collection, 5 kB of memory each
BATCH = 256  # pictures whose features are in memory together


class Features:
    """The features of the items of an index, of length 1: from the cache, else from the pictures.

    Args:
        reads: whether pictures may be read.
    """

    def __init__(self, index: ImageIndex, reads: bool = True) -> None:
        self._index, self._reads, self._model = index, reads, index.model
        self._caches = [_cache(self._model, precision) for precision in ("fp32", "bf16")]
        self._images: ImageSet | None = None
        self._place: dict[str, int] = {}

    def of(self, ids: Sequence[int]) -> tuple[Ids, Floats]:
        """The ids (n,) of those items whose features are known now, and these (n, F)."""
        items = self._index.store.items_by_id(ids)
        found = {id_: known.feature for id_, item in items.items() if (known := self._known(item))}
        if self._reads:
            found |= self._computed([item for id_, item in items.items() if id_ not in found])
        kept = [id_ for id_ in ids if id_ in found]
        x = (
            np.stack([found[id_] for id_ in kept])
            if kept
            else np.empty((0, self._model.network.feature_dim), np.float32)
        )
        return np.array(kept, np.int64), x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    def _known(self, item: Item) -> Known | None:
        return next((known for cache in self._caches if (known := cache.get(item.hash))), None)

    def _computed(self, items: list[Item]) -> dict[int, Floats]:
        """id -> feature (F,) of the items whose pictures can be read and are as they were."""
        if items and self._images is None:
            self._images = open_images(self._index.store.manifest.origin)
            self._place = {path: position for position, path in enumerate(self._images.ids)}
        sound, pixels = [], []
        for item in items:
            try:
                pixels.append(unchanged_pixels(item, self._images, self._place, self._model.config.input.size))  # type: ignore[arg-type]
                sound.append(item)
            except ImageError:
                continue
        if not sound:
            return {}
        features = self._model.features(np.stack(pixels))
        pairs = list(zip(sound, features, strict=True))
        self._caches[0].put((item.hash, Known(x, item.width, item.height)) for item, x in pairs if item.hash)
        return {item.id: x for item, x in pairs}


def unusual_first(ids: Ids, features: Features, progress: Progress = lambda *_: None) -> Ids:
    """Ids of the pictures (N,), the most unusual first; those that cannot be described come last, in the order of ids.

    A picture's distance from its tenth neighbour counts, among all or a sample of 20,000.

    Raises:
        DataError: no picture can be described.
    """
    if not len(ids):
        return ids
    compared = ids[sample(ids, COMPARED)]
    described, x = _described(compared, features, lambda done: progress(done, len(ids)))
    if not len(described):
        raise DataError("no picture of this index can be read; look whether its folder is there")
    index = Nearest(x)
    scores, found = [_scores(index, x)], [described]
    others = ids[~np.isin(ids, compared)]
    for part in slices(len(others), BATCH):
        progress(len(compared) + part.start, len(ids))
        more, x = features.of(others[part].tolist())
        scores.append(_scores(index, x))
        found.append(more)
    known = np.concatenate(found)
    first = known[np.lexsort((known, -np.concatenate(scores)))]
    return np.concatenate([first, np.setdiff1d(ids, known)])


def _described(ids: Ids, features: Features, progress: Callable[[int], None]) -> tuple[Ids, Floats]:
    found, parts = [], []
    for part in slices(len(ids), BATCH):
        progress(part.start)
        some, x = features.of(ids[part].tolist())
        found.append(some)
        parts.append(x)
    return (np.concatenate(found), np.concatenate(parts)) if found else (ids[:0], np.empty((0, 1), np.float32))


def _scores(index: Nearest, x: Floats) -> Floats:
    """Squared distances (n,) of features from their tenth neighbours; the first found one is the picture itself."""
    if not len(x):
        return np.empty(0, np.float32)
    distances, rows = index.search(x, NEIGHBOUR + 1)
    return np.asarray(
        np.where(rows[:, -1] < 0, np.inf, distances[:, -1]), np.float32
    )  # beyond the lists that were searched


def _cache(model: Model, precision: Precision) -> FeatureStore:
    config = model.config
    return FeatureStore(features_key(model.network.backbone, config.input, config.train.channels_last, precision))
