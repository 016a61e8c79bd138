from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from drawn import photo
from spq.dupes.plausible import plausible
from spq.dupes.signatures import grey_thumb

WHOLE = (0, 0, 240, 160)
EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "grey": lambda i: i.convert("L").convert("RGB"),
    "darker": lambda i: ImageEnhance.Brightness(i).enhance(0.7),
    "blurred": lambda i: i.filter(ImageFilter.GaussianBlur(4)),
    "turned": lambda i: i.transpose(Image.Transpose.ROTATE_90),
    "mirrored": ImageOps.mirror,
    "cropped": lambda i: i.crop((24, 8, 230, 150)),
    "white border": lambda i: ImageOps.expand(i, 9, "white"),
    "bars at the sides": lambda i: ImageOps.expand(i, (40, 0), "black"),
    "bars above and below": lambda i: ImageOps.expand(i, (0, 23), "black"),
    "border in a border": lambda i: ImageOps.expand(ImageOps.expand(i, 8, "white"), 13, "black"),
    "turned, with a border": lambda i: ImageOps.expand(i.transpose(Image.Transpose.ROTATE_270), 12, "red"),
    "written on": lambda i: _written_on(i),
}


def _written_on(image: Image.Image) -> Image.Image:
    copy = image.copy()
    ImageDraw.Draw(copy).text((20, 60), "Best wishes", fill="white", font=ImageFont.load_default(30))
    return copy


def on_ground(seed: int) -> Image.Image:
    """A thing on a ground of one colour, whose own margins look like borders."""
    image = photo(seed).resize((120, 110))
    return ImageOps.expand(image, (70, 30, 50, 20), (235, 235, 228))


def thumbs_of(*images: Image.Image) -> NDArray[np.uint8]:
    return np.stack(list(map(grey_thumb, images)))


@pytest.mark.parametrize("how", EDITS)
@pytest.mark.parametrize("make", [photo, on_ground])
def test_a_copy_is_plausible_whichever_comes_first(make: Callable[[int], Image.Image], how: str) -> None:
    images = [make(seed) for seed in range(4)]
    thumbs = thumbs_of(*images, *map(EDITS[how], images))
    assert plausible(thumbs, np.array([(n, n + 4) for n in range(4)])).all()
    assert plausible(thumbs[::-1], np.array([(n, n + 4) for n in range(4)])).all()


def test_most_others_are_not() -> None:
    thumbs = thumbs_of(*map(photo, range(40)))
    pairs = np.stack(np.triu_indices(40, 1), 1)
    assert plausible(thumbs, pairs).mean() < 0.01


def test_the_answer_for_a_pair_does_not_depend_on_the_other_pairs() -> None:
    thumbs = thumbs_of(*map(photo, range(5)), *[edit(photo(n % 5)) for n, edit in enumerate(EDITS.values())])
    pairs = np.stack(np.triu_indices(len(thumbs), 1), 1)
    together = plausible(thumbs, pairs)
    assert together.any()
    assert not together.all()
    order = np.random.default_rng(0).permutation(len(pairs))
    np.testing.assert_array_equal(plausible(thumbs, pairs[order]), together[order])
    alone = [plausible(thumbs, pairs[n : n + 1])[0] for n in range(0, len(pairs), 7)]
    np.testing.assert_array_equal(alone, together[::7])


def test_no_pairs_have_no_answer() -> None:
    assert plausible(thumbs_of(photo(0)), np.empty((0, 2), np.int64)).shape == (0,)
