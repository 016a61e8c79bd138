from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from spq.data import strips
from spq.data.strips import boxes, by_parts, part


@pytest.mark.parametrize("size", [(50, 40), (1, 300), (300, 1), (64, 3)])
@pytest.mark.parametrize("shrink", [1, 2, 3])
def test_a_picture_of_parts_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], shrink: int
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))
    monkeypatch.setattr(strips, "PART", 100)
    assert len(list(boxes(size))) > 1
    whole = by_parts(size, lambda box: part(image, box), shrink)
    expected = image.reduce(shrink) if shrink > 1 else image
    assert whole.tobytes() == expected.tobytes()
