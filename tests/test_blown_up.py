from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from spq.dupes.blown_up import Enlargement, enlargement

LANCZOS, BICUBIC = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC


def is_blown_up(large: Image.Image, small: Image.Image) -> bool:
    return enlargement(large, small).is_certain


def scene(seed: int, blur: float) -> Image.Image:
    """Shapes with a fine texture, as a photo has; `blur` makes it soft."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (640, 480), tuple(rng.integers(60, 200, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, w, h = (int(v) for v in rng.integers(0, (640, 480, 160, 120)))
        draw.ellipse((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()))
    texture = rng.normal(0, 8, (480, 640, 1))
    return Image.fromarray(np.clip(np.asarray(image) + texture, 0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(blur)
    )


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("quality", [60, 90])
@pytest.mark.parametrize(("share", "blur"), [(0.5, 0.4), (0.7, 0.4), (0.6, 0.5)])
def test_a_real_original_is_not_blown_up_and_an_enlargement_is(share: float, blur: float, quality: int) -> None:
    original = scene(quality // 90, blur)
    small = jpeg(original.resize((round(640 * share), round(480 * share)), LANCZOS), quality)
    assert not is_blown_up(original, small)
    assert not is_blown_up(jpeg(original, 92), small)
    for factor, how in ((2, BICUBIC), (1.5, LANCZOS), (3, BICUBIC)):
        size = round(small.width * factor), round(small.height * factor)
        assert is_blown_up(jpeg(small.resize(size, how), 95), small)


@pytest.mark.parametrize("sharpening", [(3, 100), (2, 100), (2, 150)])
def test_an_enlargement_that_was_sharpened_is_a_doubt_and_a_sharp_original_is_not(sharpening: tuple[int, int]) -> None:
    for seed in range(1, 3):
        original = scene(seed, 0.4)
        small = jpeg(original.resize((320, 240), LANCZOS), 90)
        enlarged = small.resize((640, 480), BICUBIC).filter(ImageFilter.UnsharpMask(*sharpening))
        assert enlargement(jpeg(enlarged, 92), small) == Enlargement(is_likely=True)
        sharpened = original.filter(ImageFilter.UnsharpMask(*sharpening))
        assert enlargement(jpeg(sharpened, 92), small) == enlargement(original, small) == Enlargement()


@pytest.mark.parametrize("quality", [60, 90])
def test_a_soft_original_is_never_called_blown_up(quality: int) -> None:
    for seed in range(3):
        original = scene(seed, 1.8)
        small = jpeg(original.resize((320, 240), LANCZOS), quality)
        assert not is_blown_up(original, small)
        assert not is_blown_up(jpeg(original, 90), small)


def test_an_enlargement_of_a_smaller_copy_has_less_detail_than_a_larger_one() -> None:
    original = scene(3, 0.5)
    tiny = jpeg(original.resize((240, 180), LANCZOS), 70)
    assert is_blown_up(jpeg(tiny.resize((1280, 960), BICUBIC), 95), original)


@pytest.mark.parametrize("sizes", [((64, 64), (64, 64)), ((9, 9), (4, 4)), ((500, 3), (250, 2))])
def test_pictures_of_one_size_or_of_few_pixels_are_not_blown_up(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    assert not is_blown_up(*(Image.new("RGB", size, "red") for size in sizes))
    assert not is_blown_up(Image.new("RGB", (400, 300)), Image.new("RGB", (200, 150)))  # nothing is in them
