from __future__ import annotations

import numpy as np

from spq.dupes import canvas
from spq.dupes.canvas import canvases, laid_together, luminance
from spq.dupes.overlay import Overlay


def rgba(colour: tuple[int, int, int], alpha: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 4), (*colour, alpha), np.uint8)


def test_opaque_pictures_have_one_ground_and_others_two() -> None:
    assert [len(c.grounds) for c in canvases(rgba((9, 8, 7), 255), rgba((1, 2, 3), 255))] == [1, 1]
    seen, opaque = canvases(rgba((200, 100, 0), 128), rgba((1, 2, 3), 255))
    assert seen.grounds[0][0, 0].tolist() == [100, 50, 0]  # over black
    assert seen.grounds[1][0, 0].tolist() == [227, 177, 127]  # over white
    assert np.array_equal(opaque.grounds[0], opaque.grounds[1])


def test_ink_of_any_colour_differs_from_a_transparent_ground() -> None:
    for ink in ((255, 255, 255), (0, 0, 0), (128, 128, 128)):
        picture = rgba(ink, 0)
        picture[10:20, 10:20, 3] = 255
        grey = canvases(picture, picture)[0].grey.astype(int)
        assert abs(grey[15, 15] - grey[0, 0]) > 40


def test_large_pictures_are_compared_at_a_bounded_size(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(canvas, "MOST_PIXELS", 600)
    large, small = canvases(rgba((5, 5, 5), 255, (80, 120)), rgba((5, 5, 5), 255, (20, 30)))
    assert large.grey.shape == (20, 30)
    assert (large.scale, small.scale) == (0.25, 1)


def test_pictures_are_laid_together_at_the_size_of_the_smaller_one() -> None:
    steps = np.tile(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (40, 1, 4))
    steps[..., 3] = 255
    a, b = canvases(steps, np.ascontiguousarray(steps[:, 10:50]))
    x, y = laid_together(a, b, Overlay(0, (10, 0, 50, 40), (0, 0, 40, 40)))
    assert np.array_equal(x, y)
    x, y = laid_together(a, b, Overlay(0, (0, 0, 60, 40), (0, 0, 20, 20)))
    assert x.shape == y.shape == (3, 20, 20)
    np.testing.assert_allclose(luminance(x)[0], x[0], rtol=1e-4)
