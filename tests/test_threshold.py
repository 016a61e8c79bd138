from __future__ import annotations

import numpy as np
from PIL import Image

from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.dupes.threshold import CodedPictures, altered_copy, calibrate, code_distances, encoded_copies
from spq.model.model import Model
from spq.pq.tables import Codebooks


def large(position: int) -> Image.Image:
    grey = np.asarray(open_images("sample:test").image(position).resize((224, 280), Image.Resampling.BICUBIC), float)
    return Image.fromarray((30 + grey * 0.75).astype(np.uint8))


def test_an_altered_copy_is_drawn_from_the_generator_alone() -> None:
    first, again, other = (altered_copy(large(3), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.size != other.size or first.tobytes() != other.tobytes()
    assert altered_copy(Image.new("RGB", (1, 1)), np.random.default_rng(0)).size == (1, 1)


def test_a_picture_that_jpeg_cannot_hold_is_left_out_of_the_calibration(tiny_model: Model) -> None:
    class Strip(ImageSet):
        def image(self, position: int, size_hint: int | None = None) -> Image.Image:
            return Image.new("RGB", (2, 150_000) if position else (200, 200))

    strip = Strip("s", ["a", "b"])
    done, codes = encoded_copies(tiny_model, strip, np.arange(2), np.random.default_rng(0))
    assert (done.tolist(), codes.shape) == ([0], (1, 8))


def test_a_threshold_can_be_given_and_needs_two_pictures(tiny_model: Model) -> None:
    images = subset(open_images("sample:train"), range(20))
    codes = tiny_model.encode([images.image(position) for position in range(20)])
    pictures = CodedPictures(images, np.arange(20), codes, np.full(20, 5, np.float32))
    limit = calibrate(tiny_model, pictures, threshold=4.0)
    assert limit is not None
    assert (limit.distance, limit.copies, limit.with_neighbour) == (4.0, 20, 0.0)
    first, again, other = (calibrate(tiny_model, pictures, recall=0.5, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first is not None
    assert first.copies_found >= 0.5
    one = CodedPictures(images, np.arange(1), codes[:1], np.full(1, 5, np.float32))
    assert calibrate(tiny_model, one) is None


def test_distances_of_codes_are_sums_over_the_codebooks() -> None:
    codebooks = np.float32([[[0, 0], [3, 4]], [[0, 0], [0, 2]]])
    a, b = np.uint8([[0, 0], [0, 0], [1, 1]]), np.uint8([[1, 0], [1, 1], [1, 1]])
    assert code_distances(a, b, Codebooks(codebooks), "l2").tolist() == [5, 7, 0]
    assert code_distances(a, b, Codebooks(codebooks), "sqeuclidean").tolist() == [25, 29, 0]
    assert code_distances(a, b, Codebooks(codebooks), "dot").tolist() == [25, 29, 0]
