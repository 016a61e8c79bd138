"""Features of pictures and of views that the caller's own code makes: in memory, computed again in each training.

A cache on disk would not notice that the code has changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spq.common.parallel import slices
from spq.data.image_set import ImageSet
from spq.training.features import CHUNK, FeatureExtractor, Features, Progress, check_cache_room, pictures_hash
from spq.training.pixel_memory import larger_side


def fresh_features(
    images: ImageSet, extractor: FeatureExtractor, feature_dim: int, progress: Progress | None = None
) -> Features:
    """Return the features of all pictures and of `train.cached_views` views of each, as `cached_features` does."""
    extractor = replace(extractor, large=larger_side(images, extractor.recipe.input.size))
    count, views = len(images), extractor.recipe.train.cached_views
    check_cache_room((count, 1 + views, feature_dim))
    extractor.backbone.eval()
    array, failures = np.zeros((count, 1 + views, feature_dim), np.float32), list[tuple[int, str]]()
    for rows in slices(count, CHUNK):
        pixels, features = extractor.describe_positions(images, range(rows.start, rows.stop), views)
        if len(features):
            array[pixels.kept] = features
        failures += pixels.failures
        if progress:
            progress(rows.stop)
    kept = np.setdiff1d(np.arange(count), [position for position, _ in failures])
    return Features(array[kept] if failures else array, kept, failures, "", pictures_hash(images), False)
