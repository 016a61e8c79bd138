from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from spq.data.decode import load_image, to_pixels
from spq.data.open import open_images
from spq.dupes import confirm as module
from spq.dupes.confirm import confirm
from spq.dupes.pixels import SIDE, signatures


def pictures() -> list[Image.Image]:
    """An original, a JPEG of it, a mirrored, a cropped and a darker one, and a different picture."""
    sample = open_images("sample:test")
    grey = np.asarray(sample.image(0).resize((224, 280), Image.Resampling.BICUBIC), float)
    original = Image.fromarray((30 + grey * 0.75 * (0.9, 0.7, 0.5)).astype(np.uint8))
    buffer = io.BytesIO()
    original.save(buffer, "JPEG", quality=40)
    return [
        original,
        load_image(buffer.getvalue()),
        original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        original.crop((7, 9, 215, 268)),
        ImageEnhance.Brightness(original).enhance(0.8),
        sample.image(1).resize((224, 280)),
    ]


@pytest.mark.parametrize("batch", [1, 256])
def test_each_pair_is_the_same_picture_an_edited_one_or_another_one(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    thumbs = np.stack([to_pixels(picture, SIDE) for picture in pictures()])
    found = confirm(thumbs, signatures(thumbs), np.array([[0, other] for other in range(1, 6)]))
    assert found.is_same.tolist() == [True, False, False, False, False]
    assert found.notes == ["", "mirrored", "cropped", "brightness changed", ""]


def test_no_pairs_have_no_result() -> None:
    thumbs = np.zeros((2, 3, SIDE, SIDE), np.uint8)
    found = confirm(thumbs, signatures(thumbs), np.empty((0, 2), np.int64))
    assert (len(found.is_same), found.notes) == (0, [])
