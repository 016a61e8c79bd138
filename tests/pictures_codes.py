"""Codes of real pictures, and queries for them."""

from __future__ import annotations

import numpy as np

from spq.data.open import open_images
from spq.model.model import Model
from spq.pq.tables import distance_tables

CodesOfPictures = tuple[np.ndarray, np.ndarray, np.ndarray]


def codes_of_pictures(model: Model, distance: str) -> CodesOfPictures:
    """Codes (20,000, 8) of descriptors of 2,000 real pictures with a little noise, tables of 50 others, codebooks."""
    sample, rng = open_images("sample:train"), np.random.default_rng(0)
    x = model.embed([sample.image(i) for i in range(2050)])
    near = np.tile(x[50:], (10, 1))
    near += rng.normal(size=near.shape).astype(np.float32) * 0.3 * x.std()
    tables = distance_tables(x[:50], model.codebooks, distance)
    return model.encode_descriptors(near), tables, model.codebooks
