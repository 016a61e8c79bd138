from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from spq.dupes.canvas import canvases
from spq.dupes.edits import colours, fitted_tone, frame_notes, grey_versions, is_grey, turn_note
from spq.dupes.overlay import Overlay


def colourful(seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(20, 200, (8, 12, 3), np.uint8)).resize((120, 80), Image.Resampling.BICUBIC)


def planes(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)


def test_grey_is_told_from_colour_and_every_way_to_grey_is_known() -> None:
    image = colourful()
    assert is_grey(planes(image.convert("L")))
    assert not is_grey(planes(image))
    closest = [np.abs(grey - planes(image.convert("L"))).max() for grey in grey_versions(planes(image))]
    assert min(closest) < 1.5


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda image: ImageEnhance.Brightness(image).enhance(1.2), "brighter"),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.7), "darker"),
        (lambda image: ImageEnhance.Color(image).enhance(0.6), "colours changed"),
        (lambda image: image.point(lambda v: round(106 + (v - 106) * 0.75)), "contrast changed"),
    ],
)
def test_a_slight_change_of_colour_is_undone_and_named(change, note: str) -> None:  # type: ignore[no-untyped-def]
    x, y = planes(colourful()), planes(change(colourful()))
    tone = fitted_tone(x, y)
    assert tone.is_slight
    assert np.abs(tone(x) - y).mean() < 2
    assert tone.note(x) == note


def test_no_change_has_no_name_and_a_negative_is_not_slight() -> None:
    x = planes(colourful())
    assert fitted_tone(x, x).note(x) == ""
    assert not fitted_tone(x, 255 - x).is_slight
    assert not fitted_tone(x, x[[2, 0, 1]]).is_slight


def test_a_drawing_has_few_colours() -> None:
    drawing = np.zeros((3, 50, 50), np.float32)
    drawing[:, 10:20] = 255
    assert colours(drawing) == 2
    assert colours(planes(colourful())) > 10


def test_turns_are_named_clockwise_as_seen_from_the_first_picture() -> None:
    assert [turn_note(turn) for turn in range(5)] == ["", "turned 270", "turned 180", "turned 90", "mirrored"]


def notes(
    first: np.ndarray, second: np.ndarray, a: tuple[int, ...], b: tuple[int, ...], is_photo: bool
) -> list[str] | None:
    alpha = [np.concatenate([p, np.full((*p.shape[:2], 1), 255, np.uint8)], 2) for p in (first, second)]
    return frame_notes(*canvases(*alpha), Overlay(0, a, b), lambda: is_photo)  # type: ignore[arg-type]


def test_the_frame_tells_crops_from_borders_and_from_another_view() -> None:
    view = np.asarray(colourful())
    framed = np.pad(view, ((10, 10), (10, 10), (0, 0)))
    whole, inside = (0, 0, 120, 80), (10, 10, 130, 90)
    assert notes(view, framed, whole, inside, True) == ["border added"]
    assert notes(framed, view, inside, whole, True) == ["border removed"]
    assert notes(view, view[5:, 5:], (5, 5, 120, 80), (0, 0, 115, 75), True) == ["cropped"]
    assert notes(view[5:, 5:], view, (0, 0, 115, 75), (5, 5, 120, 80), True) == ["less cropped"]
    assert notes(view[:, :100], view[:, 20:], (20, 0, 100, 80), (0, 0, 80, 80), True) is None
    plain = np.pad(view, ((0, 0), (30, 30), (0, 0)), constant_values=250)
    moved = notes(plain[:, :150], plain[:, 30:], (30, 0, 150, 80), (0, 0, 120, 80), True)
    assert moved is None  # the camera moved over a plain ground
    cropped = notes(view, np.pad(view[:, 20:], ((15, 15), (0, 0), (0, 0))), (20, 0, 120, 80), (0, 15, 100, 95), True)
    assert cropped == ["cropped", "border added"]
    small = np.zeros_like(view)
    small[20:60, 30:90] = view[::2, ::2]
    assert notes(view, small, whole, (30, 20, 90, 60), False) is None  # a small disc is not a large one
    assert notes(view, small, whole, (30, 20, 90, 60), True) == ["border added"]


@pytest.mark.parametrize("seed", [0, 4])
def test_what_ends_at_the_edges_of_the_picture_is_a_frame_and_what_goes_on_is_content(seed: int) -> None:
    view = np.asarray(colourful(seed).resize((240, 160), Image.Resampling.BICUBIC))
    bars = np.asarray(Image.fromarray(view).resize((240, 320)).filter(ImageFilter.GaussianBlur(12))).copy()
    bars[80:240] = view
    assert notes(view, bars, (0, 0, 240, 160), (0, 80, 240, 240), True) == ["frame added"]
    assert notes(bars, view, (0, 80, 240, 240), (0, 0, 240, 160), True) == ["frame removed"]
    lines = np.pad(
        np.pad(view, ((9, 9), (9, 9), (0, 0)), constant_values=0), ((20, 20), (20, 20), (0, 0)), constant_values=255
    )
    assert notes(view, lines, (0, 0, 240, 160), (29, 29, 269, 189), True) == ["border added"]
    assert notes(view, view[20:140], (0, 20, 240, 140), (0, 0, 240, 120), True) == ["cropped"]


@pytest.mark.parametrize("ground", ["white", "black"])
def test_a_border_with_writing_on_it_is_a_frame_also_if_it_goes_on_from_the_ground_of_the_picture(ground: str) -> None:
    view = Image.new("RGB", (240, 160), ground)
    view.paste(colourful().resize((120, 80)), (60, 40))
    for sides, inside in (((0, 0, 240, 220), (0, 0, 240, 160)), ((0, 0, 340, 300), (50, 50, 290, 210))):
        print_ = Image.new("RGB", sides[2:], ground)
        print_.paste(view, inside[:2])
        plain, line = print_.copy(), print_.copy()
        ImageDraw.Draw(line).rectangle((2, 2, sides[2] - 3, sides[3] - 3), outline="grey")
        ImageDraw.Draw(print_).text((30, sides[3] - 30), "summer 2019", fill="grey")
        for framed, note in ((plain, "border"), (line, "border"), (print_, "frame")):
            pair = np.asarray(view), np.asarray(framed)
            assert notes(*pair, (0, 0, 240, 160), inside, True) == [f"{note} added"]
            assert notes(*pair[::-1], inside, (0, 0, 240, 160), True) == [f"{note} removed"]


def test_blurred_bars_of_nearly_the_colour_of_the_picture_are_a_frame() -> None:
    shades = np.asarray(colourful().resize((240, 160), Image.Resampling.BICUBIC), np.float32)
    view = (
        (128 + (shades - 128) / 2 + np.random.default_rng(0).normal(0, 4, (160, 240, 1))).clip(0, 255).astype(np.uint8)
    )
    large = Image.fromarray(view).resize((240, 320), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(12))
    bars = np.asarray(large).copy()
    bars[80:240] = view
    assert notes(view, bars, (0, 0, 240, 160), (0, 80, 240, 240), True) == ["frame added"]
    assert notes(view, view[20:140], (0, 20, 240, 140), (0, 0, 240, 120), True) == ["cropped"]
