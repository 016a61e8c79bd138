"""Pictures that several tests draw."""

from __future__ import annotations

import numpy as np
from PIL import Image


def photo(seed: int = 0, size: tuple[int, int] = (240, 160)) -> Image.Image:
    """Soft shades with some texture, as photos have."""
    random = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for side, weight in ((3, 0.5), (12, 0.3), (50, 0.2)):
        part = Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
        total += weight * np.asarray(part.resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(total.astype(np.uint8))
