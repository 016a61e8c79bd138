from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from spq.data.decode import load_pixels, to_pixels
from spq.data.image_set import Subset, subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.evaluation import metrics
from spq.evaluation.baselines import product_quantization
from spq.evaluation.collect import order_of_ties, raw_pixels
from spq.evaluation.evaluate import evaluate
from spq.model.model import Model


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    gallery = subset(open_images("sample:train"), range(1000))
    return Protocol("small", subset(open_images("sample:test"), range(100)), gallery, gallery, 100)


def test_raw_pixels_are_those_of_the_model_with_a_side_of_at_most_32() -> None:
    pixels = load_pixels(open_images("sample:test"), 64, positions=range(3)).array
    picture = Image.fromarray(np.ascontiguousarray(pixels[2].transpose(1, 2, 0)))
    np.testing.assert_array_equal(raw_pixels(pixels)[2].reshape(3, 32, 32), to_pixels(picture, 32))
    assert raw_pixels(pixels[:0]).shape == (0, 3 * 32 * 32)
    np.testing.assert_array_equal(raw_pixels(pixels[:, :, :20, :20]), pixels[:, :, :20, :20].reshape(3, -1))


def test_each_picture_is_decoded_once_also_for_the_raw_pixel_baseline(
    tiny_model: Model, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    original = Subset.image
    monkeypatch.setattr(Subset, "image", lambda *a: (looked_at.append(a[1]), original(*a))[1])
    rows = evaluate(tiny_model, protocol, baselines=True).rows
    assert len(looked_at) == 1100
    gallery = subset(protocol.gallery, order_of_ties(1000))
    parts = [load_pixels(images, 28).array.reshape(len(images), -1) for images in (gallery, protocol.queries)]
    found = product_quantization(parts[0], 32, np.random.default_rng(0))(parts[1], 100)
    relevant = metrics.relevance(protocol.queries.labels, gallery.labels, found)
    assert rows["raw-pixel PQ"] == metrics.mean_average_precision(relevant)
