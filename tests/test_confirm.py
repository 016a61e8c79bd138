from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from drawn import photo
from spq.data.decode import load_image
from spq.data.open import open_images
from spq.dupes.confirm import Verdict, judge

CONFIRMED = ("re-encoded", "edited")


def rgba(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGBA"))


def verdict(a: Image.Image, b: Image.Image) -> Verdict:
    return judge(rgba(a), rgba(b))


def jpeg(image: Image.Image, quality: int = 85) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return load_image(buffer.getvalue())


def invoice(number: str, total: str) -> Image.Image:
    image = Image.new("RGB", (420, 594), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 30, 140, 70), fill=(30, 60, 160))
    draw.text((30, 100), f"Invoice {number}", fill="black", font=ImageFont.load_default(14))
    for line in range(8):
        draw.text((30, 150 + 30 * line), f"Item {line + 1}", fill="black", font=ImageFont.load_default(12))
        draw.line((30, 170 + 30 * line, 390, 170 + 30 * line), fill="grey")
    draw.text((300, 420), total, fill="black", font=ImageFont.load_default(14))
    return image


T = Image.Transpose
EDITS = {
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(T.FLIP_LEFT_RIGHT),
    "turned 90": lambda image: image.transpose(T.ROTATE_270),  # Pillow turns to the left
    "turned 180": lambda image: image.transpose(T.ROTATE_180),
    "turned 270": lambda image: image.transpose(T.ROTATE_90),
    "cropped": lambda image: image.crop((24, 16, 216, 144)),
    "border added": lambda image: ImageOps.expand(image, (0, 30, 0, 30), "black"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "mirrored, cropped": lambda image: image.transpose(T.FLIP_LEFT_RIGHT).crop((10, 10, 230, 150)),
}


@pytest.mark.parametrize(("seed", "border"), [(1, 3), (2, 4), (5, 6)])
def test_a_thin_border_is_found_although_the_picture_without_it_nearly_fits(seed: int, border: int) -> None:
    image = photo(seed, (480, 320))
    assert verdict(image, jpeg(ImageOps.expand(image, border, "white"))) == Verdict("edited", "border added")


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize("make", [photo, lambda: invoice("17", "19.90")])
def test_other_bytes_are_the_same_picture(make, quality: int) -> None:  # type: ignore[no-untyped-def]
    assert verdict(make(), jpeg(make(), quality)) == Verdict("re-encoded", "re-encoded")


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.7])
def test_another_size_is_the_same_picture(scale: float) -> None:
    copy = jpeg(photo().resize((round(240 * scale), round(160 * scale)), Image.Resampling.BICUBIC))
    assert verdict(photo(), copy) == Verdict("re-encoded", "resized")


@pytest.mark.parametrize("note", list(EDITS))
def test_an_edited_copy_is_found_and_its_edit_is_named(note: str) -> None:
    found = verdict(photo(), jpeg(EDITS[note](photo())))
    assert (found.kind, found.note) == ("edited", note)


@pytest.mark.parametrize("width", [7, 12, 19])
@pytest.mark.parametrize("colour", ["white", (200, 30, 60)])
def test_a_border_is_taken_off_in_whole_pixels(width: int, colour: str) -> None:
    image = photo(3, (200, 260))
    ImageDraw.Draw(image).rectangle((0, 200, 200, 260), fill=(250, 250, 250))  # a ground like the border
    ImageDraw.Draw(image).text((20, 220), "a text on it", fill="black", font=ImageFont.load_default(16))
    found = verdict(image, jpeg(ImageOps.expand(image, width, colour)))
    assert (found.kind, found.note) == ("edited", "border added")


@pytest.mark.parametrize("codec", ["JPEG", "WEBP"])
@pytest.mark.parametrize("total", ["19.90", "1,204.55"])
def test_a_codec_is_worse_on_pages_but_another_figure_is_worse_still(codec: str, total: str) -> None:
    page, other = invoice("2024-117", total), invoice("2024-117", total[:-1] + "8")
    for quality in (50, 75):
        buffer = io.BytesIO()
        page.save(buffer, codec, quality=quality)
        copy = load_image(buffer.getvalue())
        assert verdict(page, copy).kind == "re-encoded"
        assert verdict(other, copy).kind == "almost"


def test_a_coloured_text_does_not_make_a_grey_picture_coloured() -> None:
    image = photo(2).convert("L").convert("RGB")
    copy = image.copy()
    ImageDraw.Draw(copy).text((20, 90), "SALE 50 %", fill=(230, 40, 40), font=ImageFont.load_default(22))
    assert verdict(image, copy).note == "text added"


def test_invoices_of_one_template_are_almost_the_same_and_the_place_is_shown() -> None:
    found = verdict(invoice("17", "19.90"), jpeg(invoice("17", "870.00")))
    assert (found.kind, found.note) == ("almost", "differs here")
    assert found.region is not None
    x, y, width, height = found.region
    assert x * 420 < 320 < (x + width) * 420
    assert y * 594 < 428 < (y + height) * 594
    assert verdict(invoice("17", "19.90"), invoice("18", "19.90")).kind == "almost"


def test_alpha_counts_whatever_the_ink() -> None:
    for ink in ((255, 255, 255), (0, 0, 0), (90, 90, 90)):
        images = [Image.new("RGBA", (128, 128), (*ink, 0)) for _ in range(2)]
        ImageDraw.Draw(images[0]).ellipse((15, 15, 112, 112), fill=(*ink, 255))
        ImageDraw.Draw(images[1]).rectangle((25, 25, 102, 102), fill=(*ink, 255))
        assert verdict(*images).kind not in CONFIRMED
        assert verdict(images[0], images[0].resize((64, 64))).kind == "re-encoded"


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (200, 150), (9, 900)])
def test_empty_pictures_confirm_nothing(size: tuple[int, int]) -> None:
    white, nearly = Image.new("RGB", size, "white"), Image.new("RGB", size, (254, 255, 254))
    assert verdict(white, nearly) == verdict(white, white) == Verdict("", "")
    clear = Image.new("RGBA", size, (10, 200, 30, 0))
    assert verdict(clear, clear).kind == ""


def test_a_moved_view_is_no_copy_though_most_of_it_is_the_same() -> None:
    wide = photo(3, (260, 170))
    assert verdict(wide.crop((0, 0, 240, 160)), wide.crop((12, 6, 252, 166))).kind not in CONFIRMED


def test_a_small_disc_is_not_a_large_one() -> None:
    small, large = Image.new("RGB", (100, 100), "white"), Image.new("RGB", (100, 100), "white")
    ImageDraw.Draw(small).ellipse((35, 35, 65, 65), fill="red")
    ImageDraw.Draw(large).ellipse((10, 10, 90, 90), fill="red")
    assert verdict(small, large).kind not in CONFIRMED


def test_another_colour_of_one_template_is_no_copy() -> None:
    red, blue = (ImageOps.colorize(photo(4).convert("L"), "black", colour) for colour in ("#e04040", "#4060e0"))
    assert verdict(red, blue).kind not in CONFIRMED


def test_long_strips_and_tiny_icons_are_compared() -> None:
    for size in ((40, 1600), (16, 16), (12, 3)):
        image = photo(5, size)
        assert verdict(image, image.transpose(T.FLIP_LEFT_RIGHT).transpose(T.FLIP_LEFT_RIGHT)).kind == "re-encoded"
        assert verdict(image, photo(6, size)).kind not in CONFIRMED


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.sampled_from(["itself", "other", *EDITS]), st.integers(30, 95))
def test_a_verdict_is_the_same_from_both_sides_and_a_jpeg_of_a_picture_is_a_copy(
    seed: int, how: str, quality: int
) -> None:
    image = photo(seed, (180, 120))
    other = photo(seed + 1, (180, 120)) if how == "other" else EDITS.get(how, lambda i: i)(image)
    there, back = verdict(image, jpeg(other, quality)), verdict(jpeg(other, quality), image)
    assert there.kind == back.kind
    if how == "itself":
        assert there.kind == "re-encoded"
    if how == "other":
        assert there.kind == ""


@pytest.mark.parametrize("case", range(20))
def test_a_changed_figure_on_a_photo_is_never_confirmed(case: int) -> None:
    random = np.random.default_rng(case)
    first, second = random.choice(10, 2, replace=False)
    images = [photo(case), photo(case)]
    for image, digit in zip(images, (first, second), strict=True):
        ink = ["white", "black", (255, 255, 0)][case % 3]
        ImageDraw.Draw(image).text((30, 130), f"18:0{digit}:57", fill=ink, font=ImageFont.load_default(12 + case % 9))
    changed = np.abs(np.asarray(images[0], np.int16) - np.asarray(images[1])).max(2)
    assert (changed > 60).sum() >= 4
    for other in (images[1], jpeg(images[1], 75)):
        assert verdict(images[0], other).kind == "almost"


def test_views_that_overlap_by_half_are_no_crops() -> None:
    wide = photo(9, (480, 160))
    tiles = [wide.crop((left, 0, left + 240, 160)) for left in (0, 120, 240)]
    assert {verdict(tiles[0], other).kind for other in tiles[1:]} == {""}


def test_different_pictures_of_few_pixels_are_no_copies_and_their_own_jpegs_are() -> None:
    images = open_images("sample:test")
    tints = np.random.default_rng(0).uniform(0.4, 1, (60, 3))
    grey = [np.asarray(images.image(n), float) for n in range(60)]
    pictures = [
        np.dstack([each * tint, np.full((28, 28), 255)]).astype(np.uint8)
        for each, tint in zip(grey, tints, strict=True)
    ]
    found = [judge(a, b).kind for n, a in enumerate(pictures) for b in pictures[:n]]
    assert not {"re-encoded", "edited"}.intersection(found)
    for picture in pictures[:10]:
        buffer = io.BytesIO()
        Image.fromarray(picture[..., :3]).save(buffer, "JPEG", quality=90)
        copy = np.asarray(Image.open(buffer).convert("RGBA"))
        assert judge(picture, copy).kind == "re-encoded"
