from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from spq.data.decode import load_image, to_pixels
from spq.data.open import open_images
from spq.dupes import pixels
from spq.dupes.pixels import SIDE, edited_copy, mirrored, same_picture, signatures

SAMPLE = open_images("sample:test")


def picture(position: int, tint: tuple[float, float, float] = (0.9, 0.7, 0.5)) -> Image.Image:
    """A real garment, large and in colour, on a ground that is not blown out."""
    grey = np.asarray(SAMPLE.image(position).resize((336, 448), Image.Resampling.BICUBIC), float)
    return Image.fromarray((30 + grey * 0.75 * tint).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return load_image(buffer.getvalue())


def thumbs(*images: Image.Image) -> NDArray[np.uint8]:
    return np.stack([to_pixels(image, SIDE) for image in images])


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((int(width * left), int(height * top), int(width * (1 - right)), int(height * (1 - bottom))))


PICTURES = [picture(position) for position in range(0, 40, 2)]


@pytest.mark.parametrize("quality", [30, 50, 70, 90])
def test_a_reencoded_picture_is_the_same(quality: int) -> None:
    assert same_picture(thumbs(*PICTURES), thumbs(*(jpeg(image, quality) for image in PICTURES))).all()


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.5])
def test_a_resized_picture_is_the_same(scale: float) -> None:
    size = round(336 * scale), round(448 * scale)
    assert same_picture(thumbs(*PICTURES), thumbs(*(jpeg(image.resize(size), 80) for image in PICTURES))).all()


def test_different_pictures_are_neither_the_same_nor_edited_copies_even_of_the_same_kind() -> None:
    labels = np.asarray(SAMPLE.labels)
    shirts = [picture(int(position)) for position in np.flatnonzero(labels == labels[0])[:12]]
    a, b = np.triu_indices(len(shirts), 1)
    seen = thumbs(*shirts)
    assert not same_picture(seen[a], seen[b]).any()
    assert not edited_copy(seen[a], seen[b])[0].any()


def test_a_change_in_one_place_makes_another_picture() -> None:
    for image in PICTURES[:5]:
        changed = image.copy()
        changed.paste((250, 20, 20), (160, 210, 200, 250))  # a hundredth of the picture
        assert not same_picture(thumbs(image), thumbs(changed)).any()


def test_a_shifted_frame_as_in_a_burst_is_not_the_same() -> None:
    moved = [cropped(image, 0.04, 0, 0, 0).resize(image.size) for image in PICTURES]
    assert not same_picture(thumbs(*PICTURES), thumbs(*moved)).any()


@pytest.mark.parametrize("sides", [(0.025,) * 4, (0.05, 0.05, 0, 0), (0, 0, 0.05, 0.05), (0.05,) * 4])
def test_a_cropped_copy_is_an_edited_one_whichever_comes_first(sides: tuple[float, float, float, float]) -> None:
    a, b = thumbs(*PICTURES), thumbs(*(jpeg(cropped(image, *sides), 85) for image in PICTURES))
    for first, second in ((a, b), (b, a)):
        edited, is_cropped = edited_copy(first, second)
        assert edited.mean() >= 0.9
        assert (is_cropped == edited).all()


@pytest.mark.parametrize("factor", [0.75, 1.15])
def test_a_darker_or_brighter_copy_is_an_edited_one_and_not_cropped(factor: float) -> None:
    changed = thumbs(*(jpeg(ImageEnhance.Brightness(image).enhance(factor), 85) for image in PICTURES))
    edited, is_cropped = edited_copy(thumbs(*PICTURES), changed)
    assert edited.all()
    assert not is_cropped.any()
    assert not same_picture(thumbs(*PICTURES), changed).any()


def test_another_colour_is_another_picture() -> None:
    red, blue = (thumbs(*(picture(p, tint) for p in range(10))) for tint in ((1, 0.4, 0.4), (0.4, 0.4, 1)))
    assert not same_picture(red, blue).any()
    assert not edited_copy(red, blue)[0].any()


def test_signatures_ignore_brightness_and_follow_the_mirror() -> None:
    upright = signatures(thumbs(*PICTURES))
    dark = signatures(thumbs(*(ImageEnhance.Brightness(image).enhance(0.7) for image in PICTURES)))
    np.testing.assert_allclose(upright, dark, atol=0.02)
    flipped = signatures(thumbs(*(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in PICTURES)))
    np.testing.assert_allclose(mirrored(upright), flipped, atol=1e-3)
    np.testing.assert_allclose(mirrored(mirrored(upright)), upright)
    assert np.square(signatures(thumbs(Image.new("RGB", (9, 9), "white")))).sum() == 0


def test_empty_pictures_are_the_same_if_their_colour_is() -> None:
    white, nearly, grey = (thumbs(Image.new("RGB", (50, 50), (v, v, v))) for v in (255, 254, 250))
    assert same_picture(white, nearly).all()
    assert not same_picture(white, grey).any()
    assert not edited_copy(white, grey)[0].any()  # blown out: nothing to judge by


def test_no_pairs_are_no_trouble() -> None:
    none = np.empty((0, 3, SIDE, SIDE), np.uint8)
    assert len(same_picture(none, none)) == len(edited_copy(none, none)[0]) == len(signatures(none)) == 0


def test_pooling_takes_means() -> None:
    values = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    expected = values.reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    np.testing.assert_allclose(pixels._pooled(values, 4), expected, rtol=1e-5)
