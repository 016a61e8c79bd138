from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from spq.dupes.overlay import TURNS, content_box, laid_starts, overlays, picture_box, start_fits, start_scores, turned


def picture(seed: int = 0, size: tuple[int, int] = (180, 120)) -> NDArray[np.uint8]:
    """Blurred noise of several scales, with no symmetry."""
    random = np.random.default_rng(seed)
    total = np.zeros(size[::-1])
    for side in (4, 9, 30):
        part = Image.fromarray(random.integers(0, 256, (side, side), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        total += np.asarray(part) / 3
    return np.asarray(Image.fromarray(total.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7)))


@pytest.mark.parametrize("turn", range(TURNS))
def test_every_turn_is_found(turn: int) -> None:
    first = picture()
    second = next(
        np.ascontiguousarray(turned(first, t))
        for t in range(TURNS)
        if np.array_equal(turned(turned(first, t), turn), first)
    )
    found = next(overlays(first, second))
    assert found.turn == turn
    np.testing.assert_allclose(found.first, (0, 0, 180, 120), atol=1)
    np.testing.assert_allclose(found.second, (0, 0, 180, 120), atol=1)


@pytest.mark.parametrize("box", [(18, 12, 162, 108), (0, 0, 150, 110), (30, 5, 180, 120), (10, 0, 170, 96)])
def test_a_crop_is_found_to_half_a_pixel_whichever_comes_first(box: tuple[int, int, int, int]) -> None:
    first = picture(1)
    second = np.ascontiguousarray(first[box[1] : box[3], box[0] : box[2]])
    np.testing.assert_allclose(next(overlays(first, second)).first, box, atol=0.6)
    np.testing.assert_allclose(next(overlays(second, first)).second, box, atol=0.6)


@pytest.mark.parametrize("border", [(20, 20, 20, 20), (0, 30, 0, 30), (45, 0, 0, 0), (3, 40, 25, 1)])
def test_a_border_on_any_side_is_found(border: tuple[int, int, int, int]) -> None:
    first = picture(2)
    second = np.asarray(ImageOps.expand(Image.fromarray(first), border, 0))
    expected = border[0], border[1], border[0] + 180, border[1] + 120
    np.testing.assert_allclose(content_box(second), expected, atol=1)
    np.testing.assert_allclose(next(overlays(first, second)).second, expected, atol=0.6)


def test_a_border_in_a_border_is_left_out_and_an_empty_picture_is_all_content() -> None:
    image = Image.fromarray(picture(3))
    twice = ImageOps.expand(ImageOps.expand(image, 10, 255), 7, 0)
    np.testing.assert_allclose(content_box(np.asarray(twice)), (17, 17, 197, 137), atol=1)
    assert content_box(np.zeros((30, 20), np.uint8)) == (0, 0, 20, 30)


def test_a_change_in_one_place_does_not_move_the_overlay() -> None:
    first = picture(4)
    second = first.copy()
    second[40:65, 60:90] = 250
    np.testing.assert_allclose(next(overlays(first, second)).second, (0, 0, 180, 120), atol=0.6)


def test_scores_of_starts_are_correlations_of_what_is_inside_both() -> None:
    side, places = 16, (np.arange(16) + 0.5) / 8 - 1
    x, y = (np.random.default_rng(n).uniform(0, 255, (side, side)).astype(np.float32) for n in (0, 1))
    scores = start_scores(x[None], laid_starts(y[None])[0]).reshape(TURNS, -1)
    for turn in range(TURNS):
        other = turned(y, turn)
        for number, (down, shift_down, across, shift_across, _, _) in enumerate(start_fits().tolist()):
            rows, columns = ((s * places + t + 1) * 8 - 0.5 for s, t in ((down, shift_down), (across, shift_across)))
            inside = [np.flatnonzero((axis >= -0.5 - 1e-5) & (axis <= side - 0.5 + 1e-5)) for axis in (rows, columns)]
            laid = np.array([[_bilinear(other, r, c) for c in columns[inside[1]]] for r in rows[inside[0]]])
            expected = np.corrcoef(x[np.ix_(*inside)].ravel(), laid.ravel())[0, 1]
            assert scores[turn, number] == pytest.approx(expected, abs=2e-3)


def _bilinear(picture: NDArray[np.float32], row: float, column: float) -> float:
    """The value at a place between pixels, by hand."""
    row, column = (min(max(place, 0), len(picture) - 1) for place in (row, column))
    top, left = int(row), int(column)
    bottom, right = min(top + 1, len(picture) - 1), min(left + 1, len(picture) - 1)
    a, b = row - top, column - left
    above = (1 - b) * picture[top, left] + b * picture[top, right]
    below = (1 - b) * picture[bottom, left] + b * picture[bottom, right]
    return float((1 - a) * above + a * below)


@pytest.mark.parametrize("seed", [1, 6])
def test_what_is_put_around_a_picture_is_no_part_of_its_box(seed: int) -> None:
    view = picture(seed, (64, 64)).astype(np.float32)
    assert picture_box(view) == (0, 0, 64, 64)
    captioned = np.full((64, 64), 250, np.float32)
    captioned[16:] = view[16:] * 0.6
    captioned[5:11, 4:60:3] = 10  # strokes
    assert picture_box(captioned) == (0, 16, 64, 64)
    assert picture_box(captioned.T) == (16, 0, 64, 64)
    bars = np.asarray(Image.fromarray(view.astype(np.uint8)).filter(ImageFilter.GaussianBlur(6)), np.float32).copy()
    bars[20:44] = np.random.default_rng(seed).integers(0, 255, (24, 64))
    left, top, right, bottom = picture_box(bars)
    assert (left, right) == (0, 64)
    assert abs(top - 20) <= 1
    assert abs(bottom - 44) <= 1
