from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from spq.data.open import open_images
from spq.dupes.canvas import luminance
from spq.dupes.overlay import TURNS, turned
from spq.dupes.signatures import SIDE, coarse, fine, resized, trimmed, windows


def pictures(count: int = 6) -> list[Image.Image]:
    sample = open_images("sample:test")
    return [sample.image(n).resize((200, 240), Image.Resampling.BICUBIC) for n in range(count)]


def grey(images: list[Image.Image]) -> np.ndarray:
    small = [np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images]
    return luminance(np.concatenate([each.transpose(2, 0, 1) for each in small]).astype(np.float32))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).sum(-1).max())


@pytest.mark.parametrize("turn", range(TURNS))
def test_a_turned_or_mirrored_picture_is_near_in_one_of_the_eight_turns(turn: int) -> None:
    originals = pictures()
    copies = []
    for image in originals:
        copy = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn >= 4 else image
        copies.append(copy.rotate(-90 * (turn % 4), expand=True))
    assert apart(coarse(turned(grey(originals), turn)), coarse(grey(copies))) < 0.01


def test_brightness_hardly_changes_a_signature_and_an_empty_picture_is_near_zero() -> None:
    values = grey(pictures())
    assert apart(coarse(values), coarse(values * 0.6 + 20)) < 0.02
    assert np.abs(coarse(np.full((1, SIDE, SIDE), 200, np.float32))).max() < 1e-3


def test_a_border_of_one_colour_is_trimmed_and_a_picture_without_one_is_not() -> None:
    noise = [np.random.default_rng(n).integers(0, 255, (9, 7, 3), np.uint8) for n in range(3)]
    originals = [Image.fromarray(values).resize((100, 120), Image.Resampling.BICUBIC) for values in noise]
    framed = []
    for image, colour in zip(originals, ("black", "white", "#804020"), strict=True):
        canvas = Image.new("RGB", (image.width + 40, image.height + 60), colour)
        canvas.paste(image, (20, 30))
        framed.append(canvas)
    rows, inside = trimmed(grey(framed))
    assert rows.tolist() == [0, 1, 2]
    assert apart(coarse(inside), coarse(grey(originals))) < 0.1
    assert len(trimmed(grey(originals))[0]) == 0
    assert len(trimmed(np.full((1, SIDE, SIDE), 9, np.float32))[0]) == 0  # nothing would be left


@pytest.mark.parametrize("box", [(10, 12, 190, 228), (0, 0, 180, 216), (20, 24, 200, 240)])
def test_a_crop_by_a_tenth_is_near_to_a_window_of_its_original(box: tuple[int, int, int, int]) -> None:
    originals = pictures()
    cropped = coarse(grey([image.crop(box) for image in originals]))
    best = np.min([np.square(coarse(window) - cropped).sum(1) for window in windows(grey(originals))], axis=0)
    assert best.max() < 0.05


def test_fine_signatures_tell_pages_of_one_template_apart() -> None:
    rng = np.random.default_rng(0)
    pages = []
    for _ in range(2):
        page = np.full((256, 256), 255, np.uint8)
        for line in range(20, 240, 12):
            page[line : line + 6, 16 : int(rng.integers(60, 240))] = 40
        pages.append(Image.fromarray(page))
    written = pages[0].copy()
    written.paste(90, (20, 200, 180, 230))
    values = fine(grey([*pages, written]))
    assert apart(values[0], values[2]) < apart(values[0], values[1])


def test_areas_are_means() -> None:
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    np.testing.assert_allclose(resized(values, 1), values.mean((1, 2)).reshape(1, 1, 1))
    np.testing.assert_allclose(resized(np.ones((1, 58, 58), np.float32), 8), 1, rtol=1e-5)
