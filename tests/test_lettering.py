from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from drawn import photo
from spq.dupes.differences import differences
from spq.dupes.lettering import is_photo, lettering

PLACE = (20, 70)


def written(image: Image.Image, text: str, colour: tuple[int, int, int], opacity: int = 255) -> Image.Image:
    layer = Image.new("RGBA", image.size)
    ImageDraw.Draw(layer).text(PLACE, text, fill=(*colour, opacity), font=ImageFont.load_default(22))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def planes(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, np.float32).transpose(2, 0, 1)


def note(a: Image.Image, b: Image.Image) -> str:
    x, y = planes(a), planes(b)
    return lettering(x, y, differences(x, y))


@pytest.mark.parametrize(
    ("colour", "opacity"), [((255, 255, 255), 255), ((0, 0, 0), 255), ((255, 230, 0), 255), ((255, 255, 255), 130)]
)
def test_a_text_over_a_photo_is_seen_from_both_sides(colour: tuple[int, int, int], opacity: int) -> None:
    plain = photo()
    copy = written(plain, "Hello from here", colour, opacity)
    assert note(plain, copy) == "text added"
    assert note(copy, plain) == "text removed"


@pytest.mark.parametrize("texts", [("12:45:07 Monday", "12:48:07 Monday"), ("2023-07-11 18:42", "2023-07-14 09:15")])
def test_another_text_is_not_a_text_added(texts: tuple[str, str]) -> None:
    first, second = (written(photo(1), text, (255, 160, 40)) for text in texts)
    assert note(first, second) == ""


def drawing(ink: str) -> Image.Image:
    """Lines and a little text on white."""
    image = Image.new("RGB", (240, 160), "white")
    draw = ImageDraw.Draw(image)
    for k in range(9):
        draw.ellipse((20 + 22 * k, 20 + 5 * k, 50 + 22 * k, 60 + 6 * k), outline=ink, width=2)
    draw.text((12, 140), "one two three", fill=ink, font=ImageFont.load_default(13))
    return image


@pytest.mark.parametrize(("ink", "colour"), [("black", (220, 30, 30)), ("navy", (255, 180, 0)), ("red", (0, 90, 200))])
def test_a_text_in_a_new_ink_is_seen_on_a_drawing_too(ink: str, colour: tuple[int, int, int]) -> None:
    plain = drawing(ink)
    copy = written(plain, "SALE 50 %", colour)
    assert not is_photo(planes(plain))
    assert note(plain, copy) == "text added"
    assert note(copy, plain) == "text removed"


@pytest.mark.parametrize(("ink", "colour"), [("black", (0, 0, 0)), ("navy", (0, 0, 128)), ("red", (240, 10, 10))])
def test_a_further_line_in_the_ink_of_a_drawing_changes_what_it_says(ink: str, colour: tuple[int, int, int]) -> None:
    assert note(drawing(ink), written(drawing(ink), "one more line", colour)) == ""


@pytest.mark.parametrize(
    ("first", "second"), [("7 pieces", "9 pieces"), ("open today", "closed"), ("SALE 20 %", "SALE")]
)
def test_other_words_in_a_colour_of_their_own_are_not_a_text_added(first: str, second: str) -> None:
    for colour in ((220, 30, 30), (0, 120, 60)):
        images = [written(drawing("black"), text, colour) for text in (first, second)]
        assert note(*images) == note(*images[::-1]) == ""


@pytest.mark.parametrize("inks", [("black", "navy"), ((20, 20, 20), (0, 70, 60)), ((90, 20, 20), (200, 20, 160))])
def test_a_signature_in_another_ink_is_not_a_text_added(inks: tuple[object, object]) -> None:
    images = []
    for ink in inks:
        image = Image.new("RGB", (500, 700), "white")
        draw = ImageDraw.Draw(image)
        for line in range(8):
            draw.text((40, 40 + 50 * line), f"Field {line}: ________", fill="black", font=ImageFont.load_default(16))
        points = np.random.default_rng(1).integers(560, 620, 18)
        draw.line([(260 + 10 * k, int(y)) for k, y in enumerate(points)], fill=ink, width=4)  # type: ignore[arg-type]
        images.append(image)
    assert note(*images) == note(*images[::-1]) == ""


def test_a_text_on_a_shaded_floor_is_not_on_a_label() -> None:
    down, across = np.mgrid[0:160, 0:240]
    shade = 190 + 20 * np.sin(across / 40) + 12 * np.cos(down / 25)
    floor = np.repeat(shade[..., None], 3, axis=2)
    floor[:, ::60] = floor[::80] = 90
    plain = Image.fromarray(floor.astype(np.uint8))
    assert note(plain, written(plain, "SALE 50 %", (180, 40, 40))) == "text added"


@pytest.mark.parametrize("step", [14, 22])
def test_a_thing_that_moves_behind_branches_is_not_a_text(step: int) -> None:
    images = []
    for place in (90, 90 + step):
        image = photo(6)
        draw = ImageDraw.Draw(image)
        draw.ellipse((place, 72, place + 26, 90), fill=(70, 100, 140))
        for k in range(14):
            draw.line((70 + 7 * k, 60, 74 + 7 * k, 100), fill=(40, 40, 30), width=1)
        images.append(image)
    assert note(*images) == ""


def test_an_object_is_not_a_text() -> None:
    plain, other = photo(2), photo(2)
    ImageDraw.Draw(other).ellipse((60, 50, 110, 90), fill=(250, 250, 250))
    assert note(plain, other) == ""


def test_a_page_is_no_photo_and_a_text_on_it_changes_what_it_says() -> None:
    page = Image.new("RGB", (240, 160), "white")
    for line in range(3):
        ImageDraw.Draw(page).text((20, 8 + 20 * line), "one two three", fill="black", font=ImageFont.load_default(14))
    assert not is_photo(planes(page))
    assert is_photo(planes(photo()))
    assert note(page, written(page, "four", (0, 0, 0))) == ""


def labelled(image: Image.Image, text: str, label: str, size: int) -> Image.Image:
    """The picture with a text on a plate, tag or board, or on nothing."""
    copy, width = image.copy(), round(0.7 * size * 9)
    draw = ImageDraw.Draw(copy)
    if label:
        draw.rounded_rectangle((30, 60, 34 + width, 66 + round(size * 1.4)), 4, fill=label)
    ink = {"white": "black", "yellow": "red", "black": "white"}.get(label, "white")
    draw.text((36, 62), text, fill=ink, font=ImageFont.load_default(size))
    return copy


OTHER_TEXTS = {
    "a scoreboard": ("HOME 2:0", "HOME 3:1", "black"),
    "a plate": ("AB 1234", "AB 9876", "white"),
    "an empty plate": ("AB 1234", "", "white"),
    "a price": ("19.99", "24.50", "yellow"),
    "a name tag": ("Anna Meier", "John Ott", "white"),
    "subtitles": ("Come with me!", "We must go.", ""),
    "more words": ("SALE", "SALE 50% NOW", ""),
}


@pytest.mark.parametrize("name", list(OTHER_TEXTS))
@pytest.mark.parametrize(("seed", "size"), [(3, 15), (4, 17), (5, 19)])
def test_another_text_in_its_place_is_not_a_text_added(name: str, seed: int, size: int) -> None:
    before, after, label = OTHER_TEXTS[name]
    images = [labelled(photo(seed), text, label, size) for text in (before, after)]
    assert note(images[0], images[1]) == note(images[1], images[0]) == ""


@pytest.mark.parametrize("case", range(20))
def test_changed_figures_of_a_timestamp_are_not_a_text_added(case: int) -> None:
    random = np.random.default_rng(case)
    digits = [str(digit) for digit in random.integers(0, 10, 14)]
    changed = digits.copy()
    for place in random.choice(14, 1 + case % 3, replace=False):
        changed[place] = str((int(digits[place]) + random.integers(1, 10)) % 10)
    colour = [(255, 160, 40), (255, 255, 255), (0, 0, 0), (255, 230, 0)][case % 4]
    texts = ["{}{}{}{}-{}{}-{}{} {}{}:{}{}:{}{}".format(*figures) for figures in (digits, changed)]
    images = []
    for text in texts:
        image = photo(case)
        ImageDraw.Draw(image).text((20, 125), text, fill=colour, font=ImageFont.load_default(12 + case % 8))
        images.append(image)
    assert note(*images) == ""


def test_the_direction_is_right_on_rough_and_on_smooth_grounds() -> None:
    for ground in (photo(8), photo(8).resize((60, 40)).resize((240, 160))):
        for colour in ((255, 255, 255), (0, 0, 0)):
            copy = written(ground, "on a mountain", colour)
            assert note(ground, copy) == "text added"
            assert note(copy, ground) == "text removed"
