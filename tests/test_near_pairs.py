"""Pictures of one template that say different things, of kinds that people have in one folder: none is confirmed as a copy."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from spq.data.open import open_images
from spq.dupes.find import CONFIRMED, find_duplicates
from test_confirm import jpeg, photo, verdict

Pair = tuple[Image.Image, Image.Image]
KINDS: dict[str, Callable[[], Pair]] = {}


def kind(draw: Callable[[int], Image.Image]) -> Callable[[int], Image.Image]:
    """A kind of near pairs: its pictures of version 0 and 1."""
    KINDS[draw.__name__] = lambda: (draw(0), draw(1))
    return draw


def sheet(size: tuple[int, int], ground: object = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", size, ground)  # type: ignore[arg-type]
    return image, ImageDraw.Draw(image)


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int = 18, fill: object = "black"
) -> None:
    draw.text(at, text, fill=fill, font=ImageFont.load_default(size))  # type: ignore[arg-type]


def squares(draw: ImageDraw.ImageDraw, at: tuple[int, int], seed: int, side: int = 4, count: int = 21) -> None:
    """A square of black and white squares, as in a QR code."""
    for y, row in enumerate(np.random.default_rng(seed).integers(0, 2, (count, count))):
        for x in np.flatnonzero(row):
            place = at[0] + side * int(x), at[1] + side * y
            draw.rectangle((*place, place[0] + side - 1, place[1] + side - 1), fill="black")


@kind
def ticket(version: int) -> Image.Image:
    image, draw = sheet((420, 180), (250, 235, 200))
    write(draw, (15, 10), "CITY CONCERT HALL", 24, (120, 20, 20))
    write(draw, (15, 60), "12 June 2025  20:00")
    write(draw, (15, 110), f"Row 7  Seat {12 + version}", 22)
    squares(draw, (310, 45), 1)
    return image


@kind
def code(version: int) -> Image.Image:
    image, draw = sheet((180, 180))
    squares(draw, (6, 6), 5 + version, 8)
    return image


@kind
def settings(version: int) -> Image.Image:
    image, draw = sheet((300, 620), (18, 18, 18))
    for row in range(9):
        write(draw, (20, 60 + 60 * row), f"Option number {row + 1}", 16, (220, 220, 220))
        is_on = row in (1, 4 + version)
        draw.rounded_rectangle(
            (230, 60 + 60 * row, 274, 84 + 60 * row), 12, fill=(60, 130, 246) if is_on else (70, 70, 70)
        )
        x = 252 if is_on else 232
        draw.ellipse((x, 62 + 60 * row, x + 20, 82 + 60 * row), fill="white")
    return image


@kind
def clock_of_a_screen(version: int) -> Image.Image:
    image = settings(0)
    write(ImageDraw.Draw(image), (20, 15), f"09:4{1 + version}", 18, "white")
    return image


@kind
def slide(version: int) -> Image.Image:
    image, draw = sheet((480, 270))
    draw.rectangle((0, 0, 480, 40), fill=(0, 60, 120))
    write(draw, (15, 8), "Quarterly results", 20, "white")
    for row in range(4 + version):
        write(draw, (30, 55 + 32 * row), f"- Point {row + 1}: more words of this point")
    return image


@kind
def table(version: int) -> Image.Image:
    image, draw = sheet((480, 360))
    values = random.Random(2)
    for row in range(14):
        draw.line((0, 25 * row, 480, 25 * row), fill=(215, 215, 215))
        for column in range(6):
            value = f"{values.uniform(0, 5000):.2f}"
            write(draw, (80 * column + 6, 25 * row + 5), "987.65" if version and (row, column) == (6, 3) else value, 14)
    return image


@kind
def route(version: int) -> Image.Image:
    image, draw = sheet((420, 330), (242, 239, 233))
    places = random.Random(3)
    for _ in range(30):
        ends = [(places.randrange(420), places.randrange(330)) for _ in range(2)]
        draw.line(ends, fill="white", width=places.choice([2, 4, 6]))
    x, y = (170, 150), (190, 170)
    at = (x, y)[version]
    draw.polygon([at, (at[0] - 7, at[1] - 18), (at[0] + 7, at[1] - 18)], fill=(230, 40, 40))
    return image


@kind
def notes(version: int) -> Image.Image:
    image, draw = sheet((480, 300))
    heights = random.Random(6)
    for staff in range(3):
        for line in range(5):
            draw.line((20, 40 + 90 * staff + 8 * line, 460, 40 + 90 * staff + 8 * line), fill="black")
        for number in range(16):
            height = heights.randrange(-1, 9) + 2 * (version and (staff, number) == (1, 9))
            x, y = 40 + 26 * number, 40 + 90 * staff + 4 * height
            draw.ellipse((x, y - 4, x + 10, y + 4), fill="black")
            draw.line((x + 10, y, x + 10, y - 26), fill="black")
    return image


@kind
def clock(version: int) -> Image.Image:
    image, draw = sheet((240, 240))
    draw.ellipse((10, 10, 230, 230), outline="black", width=5)
    for length, angle, width in ((55, 3.25 + version / 6, 6), (85, 3.0 + version, 4)):
        end = 120 + length * math.sin(angle * math.pi / 6), 120 - length * math.cos(angle * math.pi / 6)
        draw.line((120, 120, *end), fill="black", width=width)
    return image


@kind
def shirt(version: int) -> Image.Image:
    image, draw = sheet((300, 300), (245, 245, 245))
    outline = [(95, 75), (125, 60), (175, 60), (205, 75), (240, 120), (214, 139), (199, 120), (199, 248), (101, 248)]
    draw.polygon([*outline, (101, 120), (86, 139), (60, 120)], fill=((190, 30, 40), (150, 25, 35))[version])
    return image


@kind
def stamp(version: int) -> Image.Image:
    image, draw = sheet((200, 240))
    draw.rectangle((10, 10, 190, 230), fill=(120, 30, 60))
    image.paste(photo(3, (130, 140)), (35, 25))
    write(draw, (20, 185), ("80", "60")[version], 34, "white")
    return image


@kind
def sprites(version: int) -> Image.Image:
    image = Image.new("RGBA", (320, 320), (0, 0, 0, 0))
    draw, colours = ImageDraw.Draw(image), random.Random(8)
    for number in range(64):
        place = number % 8 * 40 + 6, number // 8 * 40 + 6
        is_round = (number % 3 > 0) ^ (version and number == 37)
        shape = draw.ellipse if is_round else draw.rectangle
        shape((*place, place[0] + 28, place[1] + 28), fill=tuple(colours.randrange(40, 230) for _ in range(3)))
    return image


@kind
def card(version: int) -> Image.Image:
    image, draw = sheet((340, 210), (215, 230, 240))
    image.paste(photo(7, (90, 110)), (15, 70))
    write(draw, (15, 15), "IDENTITY CARD", 22, (20, 60, 120))
    write(draw, (120, 90), "MUSTER ERIKA")
    write(draw, (120, 130), f"L01X00T4{7 + version}")
    return image


@kind
def speech(version: int) -> Image.Image:
    image = photo(5, (360, 270))
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 20, 220, 90), fill="white", outline="black", width=2)
    write(draw, (62, 42), ("Where are you?", "I am here now!")[version])
    return image


@kind
def film(version: int) -> Image.Image:
    image = photo(9, (480, 270))
    ImageDraw.Draw(image).ellipse((120 + 14 * version, 150, 144 + 14 * version, 190), fill=(30, 30, 30))
    noise = np.random.default_rng(version).normal(0, 3, (270, 480, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@kind
def chat(version: int) -> Image.Image:
    image, draw = sheet((300, 560), (17, 27, 33))
    for row in range(8):
        left = 20 + 110 * (row % 2)
        draw.rounded_rectangle(
            (left, 30 + 62 * row, left + 150, 74 + 62 * row), 10, fill=((32, 44, 51), (0, 92, 75))[row % 2]
        )
        said = ("See you at eight", "See you at nine")[version] if row == 5 else f"message {row}, and more"
        write(draw, (left + 10, 42 + 62 * row), said, 13, "white")
    return image


@kind
def gauge(version: int) -> Image.Image:
    image = photo(14, (320, 240))
    draw = ImageDraw.Draw(image)
    draw.ellipse((90, 50, 230, 190), fill=(245, 245, 240), outline="black", width=4)
    for tick in range(9):
        x, y = math.cos(math.pi * tick / 8), -math.sin(math.pi * tick / 8)
        draw.line((160 + 56 * x, 120 + 56 * y, 160 + 65 * x, 120 + 65 * y), fill="black", width=2)
    angle = 0.8 * math.pi - 0.1 * math.pi * version
    draw.line((160, 120, 160 + 52 * math.cos(angle), 120 - 52 * math.sin(angle)), fill=(220, 20, 20), width=2)
    return image


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "grey": lambda image: jpeg(image.convert("L").convert("RGB")),
    "grey, half": lambda image: jpeg(ImageOps.scale(image.convert("L").convert("RGB"), 0.5)),
    "darker": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(0.8)),
    "brighter, border": lambda image: jpeg(ImageOps.expand(ImageEnhance.Brightness(image).enhance(1.15), 20, "black")),
    "mirrored": lambda image: jpeg(ImageOps.mirror(image)),
    "turned, bars": lambda image: jpeg(ImageOps.expand(image.transpose(Image.Transpose.ROTATE_90), (0, 40), "black")),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", KINDS)
def test_two_of_a_kind_are_not_confirmed_if_one_of_them_is_edited_too(name: str, edit: str) -> None:
    first, second = KINDS[name]()
    found = verdict(first, EDITS[edit](second.convert("RGB")))
    assert found.kind not in CONFIRMED, found


@pytest.mark.parametrize("kind", [chat, table, settings, ticket, slide])
def test_a_text_that_was_added_does_not_hide_what_else_changed(kind: Callable[[int], Image.Image]) -> None:
    for version in (0, 1):
        image = kind(version)
        write(ImageDraw.Draw(image), (4, image.height - 50), "copied for you", 40, (230, 40, 150))
        found = verdict(kind(0), jpeg(image, 92))
        assert (found.kind in CONFIRMED) == (version == 0), (version, found)


@pytest.mark.parametrize("name", KINDS)
def test_two_of_a_kind_are_never_confirmed_and_a_copy_is(name: str) -> None:
    first, second = KINDS[name]()
    smaller = second.resize((second.width * 4 // 5, second.height * 4 // 5), Image.Resampling.LANCZOS)
    for other in (second, smaller, *([jpeg(second, 80), jpeg(smaller, 75)] if second.mode == "RGB" else [])):
        assert verdict(first, other).kind not in CONFIRMED
    copy = jpeg(first, 80) if first.mode == "RGB" else first.resize((240, 240))
    assert verdict(first, copy).kind == "re-encoded"


def test_in_a_folder_of_all_kinds_only_copies_are_confirmed(tmp_path: Path) -> None:
    for name, make in KINDS.items():
        for version, image in enumerate(make()):
            image.save(tmp_path / f"{name}-{version}.png")
        if image.mode == "RGB":
            image.save(tmp_path / f"{name}-1-copy.jpg", quality=85)
    groups = [group for group in find_duplicates(None, open_images(tmp_path)).groups if group.is_confirmed]
    names = {tuple(sorted(member.path.split(".")[0] for member in (group.keep, *group.others))) for group in groups}
    assert names == {(f"{name}-1", f"{name}-1-copy") for name in KINDS if name != "sprites"}
