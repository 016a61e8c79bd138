from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from spq.dupes.differences import Differences, differences


def page(last: str = "4") -> Image.Image:
    image = Image.new("RGB", (240, 160), "white")
    draw = ImageDraw.Draw(image)
    for line in range(7):
        draw.text(
            (10, 10 + 20 * line),
            f"Item {line} costs 12.{line}{last if line == 3 else 4}",
            fill="black",
            font=ImageFont.load_default(13),
        )
    return image


def planes(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def compare(a: Image.Image, b: Image.Image) -> Differences:
    return differences(planes(a), planes(b))


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_a_codec_makes_no_difference_on_text(quality: int) -> None:
    found = compare(page(), jpeg(page(), quality))
    assert found.agrees
    assert found.evidence > 100


@pytest.mark.parametrize("digit", list("0123567"))
def test_one_other_digit_differs_and_its_place_is_shown(digit: str) -> None:
    found = compare(page(), jpeg(page(digit), 60))
    assert not found.agrees
    assert found.share < 0.1
    x, y, width, height = found.region()
    assert x * 240 < 115 < (x + width) * 240
    assert y * 160 < 78 < (y + height) * 160
    assert width * height < 0.05


def test_another_colour_of_the_same_brightness_differs() -> None:
    a, b = page(), page()
    ImageDraw.Draw(a).ellipse((180, 60, 200, 80), fill=(200, 40, 40))
    ImageDraw.Draw(b).ellipse((180, 60, 200, 80), fill=(40, 115, 60))
    assert not compare(a, b).agrees


def dotted(colour: tuple[int, int, int]) -> Image.Image:
    """A grey page with grain, and one dot in a strong colour on it."""
    grain = np.random.default_rng(0).normal(0, 6, (160, 240, 1))
    image = Image.fromarray((np.asarray(page(), np.float32) * 0.8 + 20 + grain).clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((181, 61, 187, 67), fill=colour)
    return image


@pytest.mark.parametrize("colour", [(220, 30, 40), (30, 60, 220), (240, 200, 0)])
def test_a_codec_may_drop_what_a_small_dot_has_of_colour_but_the_dot_is_not_to_change(
    colour: tuple[int, int, int],
) -> None:
    for quality in (75, 85):
        assert compare(dotted(colour), jpeg(dotted(colour), quality)).agrees
    other = tuple(255 - level for level in colour)
    assert not compare(dotted(colour), jpeg(dotted(other), 85)).agrees  # type: ignore[arg-type]


def test_without_a_codec_a_faint_colour_is_a_difference() -> None:
    a, b = page(), page()
    ImageDraw.Draw(b).ellipse((180, 60, 200, 80), fill=(255, 252, 225))
    assert not compare(a, b).agrees


def test_a_sharper_copy_is_made_equal_before_the_comparison() -> None:
    soft = page().resize((120, 80), Image.Resampling.BILINEAR)
    sharp = page().resize((120, 80), Image.Resampling.LANCZOS)
    assert compare(soft, sharp).agrees


def test_two_exposures_share_no_grain_and_a_copy_does() -> None:
    random = np.random.default_rng(0)
    view = np.tile(np.linspace(60, 180, 200)[None, None], (3, 150, 1))
    first, second = (view + random.normal(0, 4, (1, 150, 200)) for _ in range(2))
    assert differences(first.astype(np.float32), second.astype(np.float32)).grain < 0.2
    copy = jpeg(Image.fromarray(first.transpose(1, 2, 0).astype(np.uint8)), 70)
    assert differences(first.astype(np.float32), planes(copy)).grain > 0.5


def shot(seed: int, scene: int) -> Image.Image:
    """A smooth view with the noise of one exposure."""
    down, across = np.mgrid[0:200, 0:300]
    view = 120 + 40 * np.sin(across / 60 + scene) + 30 * np.cos(down / 45 + 2 * scene)
    noise = np.random.default_rng([seed, scene]).normal(0, 6, (200, 300, 3))
    return Image.fromarray((view[..., None] + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("scene", range(3))
@pytest.mark.parametrize("quality", [60, 75, 90])
def test_two_exposures_are_no_copies_although_a_codec_has_removed_the_finest_noise(scene: int, quality: int) -> None:
    first, second = shot(1, scene), shot(2, scene)
    for other in (first, jpeg(first, 80)):
        assert not compare(other, jpeg(second, quality)).is_one_exposure
        assert compare(other, jpeg(other, quality)).is_one_exposure


def test_a_difference_is_the_same_from_both_sides() -> None:
    a, b = compare(page(), jpeg(page("8"), 80)), compare(jpeg(page("8"), 80), page())
    np.testing.assert_allclose(a.ratio, b.ratio, rtol=1e-3, atol=1e-3)


def test_pictures_smaller_than_a_window_are_compared_too() -> None:
    small = np.random.default_rng(1).integers(0, 256, (3, 5, 3)).astype(np.float32)
    assert differences(small, small).worst == 0
    assert differences(small, 255 - small).worst > 1
