from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spq.dupes.differences import differences
from spq.dupes.lettering import is_photo, lettering

PLACE = (20, 70)


def photo(seed: int = 0) -> Image.Image:
    """Soft shades with some texture, as photos have."""
    random = np.random.default_rng(seed)
    total = np.zeros((160, 240, 3))
    for side, weight in ((3, 0.5), (12, 0.3), (50, 0.2)):
        part = Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))
        total += weight * np.asarray(part.resize((240, 160), Image.Resampling.BICUBIC))
    return Image.fromarray(total.astype(np.uint8))


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
