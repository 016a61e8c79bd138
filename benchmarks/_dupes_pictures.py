"""Pictures to test a search for copies on: drawn near pairs that are no copies, and copies of photos.

`make_documents` draws documents, screenshots, icons, charts, scans, bursts and so on. Pictures of one template differ in one
small thing each: a figure, a message, an object. No two of them are copies, except those that the truth names.
`COPIES` makes copies of a photo. Nothing is copied from anywhere but from the photos of SPQ_DATA, for bursts and timestamps.
"""

from __future__ import annotations

import io
import math
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Drawer = Callable[[random.Random, int], Image.Image]  # layout, number of the variant
Copy = Callable[[Image.Image, np.random.Generator], tuple[bytes, str]]
VARIANTS = 4  # of each template
UNSEEN, UNSEEN_PIXELS = 8, 2  # levels of a channel, and pixels that differ by more, that nobody sees


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def word(r: random.Random, low: int = 2, high: int = 9) -> str:
    return "".join(r.choice("aeiounrstlmdkbgp") for _ in range(r.randrange(low, high)))


def number(r: random.Random) -> str:
    return f"{r.randrange(10, 9999):,}.{r.randrange(100):02d}"


def changed_digit(text: str, v: int) -> str:
    """The text with its last digit changed, another one for each variant."""
    place = max((i for i, c in enumerate(text) if c.isdigit()), default=0)
    return text if not v else text[:place] + str((int(text[place]) + 2 * v + 1) % 10) + text[place + 1 :]


def invoice(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (620, 877), "white")
    d = ImageDraw.Draw(im)
    d.rectangle((50, 50, 200, 100), fill=(30, 60, 160))
    d.text((60, 60), word(r).upper(), fill="white", font=font(30))
    d.text((50, 150), "Invoice no. " + changed_digit(f"2024-{r.randrange(1000):03d}", v), fill="black", font=font(14))
    for k in range(8):
        d.text((50, 250 + 25 * k), f"Item {k + 1} {word(r)}", fill="black", font=font(14))
        d.text((480, 250 + 25 * k), number(r), fill="black", font=font(14))
        d.line((50, 270 + 25 * k, 570, 270 + 25 * k), fill="grey")
    return im


def chat(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (360, 780), (17, 27, 33))
    d = ImageDraw.Draw(im)
    for k in range(10 + (v > 2)):
        x = 20 if k % 2 else 130
        text = " ".join(word(r, 3, 7) for _ in range(4))
        text = text[:-3] + "xyz"[v - 1] * 2 + "." if k == 6 and v in (1, 2) else text
        d.rounded_rectangle((x, 60 + 62 * k, x + 210, 105 + 62 * k), 10, fill=(32, 44, 51) if k % 2 else (0, 92, 75))
        d.text((x + 10, 72 + 62 * k), text, fill=(233, 237, 239), font=font(13))
    return im


def icon(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    d = ImageDraw.Draw(im)
    c = r.choice([(255, 255, 255, 255), (0, 0, 0, 255), (220, 40, 40, 255), (30, 90, 200, 255)])
    box = (40, 40, 216, 216)
    shape = r.randrange(4)
    if shape == 0:
        d.ellipse(box, outline=c, width=18)
    elif shape == 1:
        d.rounded_rectangle(box, 30, fill=c)
    elif shape == 2:
        d.polygon([(128, 30), (226, 220), (30, 220)], fill=c)
    else:
        d.rectangle(box, outline=c, width=14)
    if v == 1:
        d.line((60, 60, 196, 196), fill=c if shape in (0, 3) else (0, 0, 0, 0), width=16)
    if v == 2:
        d.ellipse((180, 20, 236, 76), fill=(230, 30, 30, 255))
    if v == 3:
        im = Image.new("RGBA", im.size, (0, 0, 0, 0))
        ImageDraw.Draw(im).ellipse((70, 70, 186, 186), fill=c)
    return im


def tiny_icon(r: random.Random, v: int) -> Image.Image:
    grid = [[r.randrange(3) for _ in range(8)] for _ in range(16)]
    grid[r.randrange(16)][r.randrange(8)] += v
    colours = [tuple(r.randrange(256) for _ in range(3)) for _ in range(6)]
    im = Image.new("RGB", (16, 16))
    im.putdata([colours[grid[y][min(x, 15 - x)]] for y in range(16) for x in range(16)])
    return im


def bars_chart(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (480, 320), "white")
    d = ImageDraw.Draw(im)
    colour = tuple(r.randrange(200) for _ in range(3))
    d.line((40, 20, 40, 290, 470, 290), fill="black", width=2)
    for k in range(10):
        height = r.randrange(30, 220) + (12 * v if k == 4 else 0)
        d.rectangle((55 + 41 * k, 290 - height, 83 + 41 * k, 290), fill=colour)
        d.text((58 + 41 * k, 295), word(r, 2, 4), fill="black", font=font(10))
    return im


def line_chart(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (480, 320), "white")
    d = ImageDraw.Draw(im)
    for k in range(6):
        d.line((40, 40 + 50 * k, 470, 40 + 50 * k), fill=(220, 220, 220))
        d.text((8, 34 + 50 * k), str(500 - 100 * k), fill="black", font=font(11))
    for series in range(2):
        points = [(40 + 20 * k, r.randrange(50, 280)) for k in range(22)]
        if series and v:
            points[3 * v] = points[3 * v][0], (points[3 * v][1] + 70) % 280
        d.line(points, fill=[(200, 60, 30), (30, 90, 200)][series], width=2)
    return im


def form(r: random.Random, v: int) -> Image.Image:
    im = Image.new("L", (600, 800), 250)
    d = ImageDraw.Draw(im)
    for k in range(16):
        d.text((40, 40 + 46 * k), word(r) + " " + word(r), fill=20, font=font(14))
        d.rectangle((300, 36 + 46 * k, 322, 58 + 46 * k), outline=20)
        if (r.random() < 0.5) != (v == k - 4 and v > 0):
            d.line((303, 40 + 46 * k, 319, 55 + 46 * k), fill=20, width=2)
        d.line((340, 58 + 46 * k, 560, 58 + 46 * k), fill=120)
    return im.convert("RGB")


def ticket(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (420, 600), (245, 245, 250))
    d = ImageDraw.Draw(im)
    d.rectangle((0, 0, 420, 80), fill=tuple(r.randrange(40, 160) for _ in range(3)))
    d.text((20, 20), word(r).upper() + " LIVE", fill="white", font=font(32))
    d.text((20, 540), f"Seat {r.randrange(9)}{'ABCD'[v]}", fill="black", font=font(22))
    code = random.Random(r.randrange(10**9) + v)
    for i in range(25):
        for j in range(25):
            if code.random() < 0.5:
                d.rectangle((85 + 10 * i, 180 + 10 * j, 94 + 10 * i, 189 + 10 * j), fill="black")
    return im


def barcode(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (400, 160), "white")
    d = ImageDraw.Draw(im)
    bits = [r.random() < 0.5 for _ in range(90)]
    for k in range(7 * v):
        bits[40 + k] ^= r.random() < 0.6
    for k, bit in enumerate(bits):
        if bit:
            d.rectangle((20 + 4 * k, 10, 23 + 4 * k, 130), fill="black")
    d.text((120, 138), changed_digit("5901234123457", v), fill="black", font=font(14))
    return im


def sheet(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (720, 480), "white")
    d = ImageDraw.Draw(im)
    place = r.randrange(20), r.randrange(8)
    for i in range(20):
        for j in range(8):
            d.rectangle((j * 90, i * 24, j * 90 + 90, i * 24 + 24), outline=(210, 210, 210))
            text = number(r)
            d.text(
                (j * 90 + 8, i * 24 + 5),
                changed_digit(text, v) if (i, j) == place else text,
                fill="black",
                font=font(12),
            )
    return im


def road_map(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (500, 400), (236, 232, 220))
    d = ImageDraw.Draw(im)
    d.ellipse([r.randrange(100), r.randrange(100), r.randrange(200, 400), r.randrange(200, 300)], fill=(170, 210, 240))
    for k in range(14):
        d.line(
            [(r.randrange(500), r.randrange(400)) for _ in range(3)],
            fill="white" if k % 3 else (250, 220, 120),
            width=6,
        )
        d.text((r.randrange(450), r.randrange(380)), word(r), fill=(80, 80, 80), font=font(11))
    x, y = r.randrange(40, 400) + 25 * v, r.randrange(40, 350)
    d.ellipse((x, y, x + 14, y + 14), fill=(220, 40, 40))
    return im


def cells16(r: random.Random, v: int) -> Image.Image:
    g = np.random.default_rng(r.randrange(10**9))
    y, x = np.mgrid[0:300, 0:400] / 300
    field = 9000 + 6000 * x + 3000 * y + g.normal(0, 250, x.shape)
    for k in range(24 + v):
        cx, cy, s = g.random() * 1.33, g.random(), 0.015 + 0.02 * g.random()
        field += 14000 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * s * s)) * (k < 24 or k == 23 + v)
    return Image.fromarray(field.clip(0, 65535).astype(np.uint16))


def slice16(r: random.Random, v: int) -> Image.Image:
    g = np.random.default_rng(r.randrange(10**9))
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    field = 800.0 * ((x / 0.8) ** 2 + (y / 0.9) ** 2 < 1)
    for _ in range(8):
        a, b, s = g.uniform(-0.5, 0.5), g.uniform(-0.5, 0.5), g.uniform(0.08, 0.25) * (1 + 0.04 * v)
        field += g.uniform(-500, 900) * ((x - a) ** 2 + (y - b) ** 2 < s * s)
    noise = np.random.default_rng(v).normal(0, 25, x.shape)
    return Image.fromarray((field.clip(0, 4095) * 16 + 2000 + noise * 16).clip(0, 65535).astype(np.uint16))


def page(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (620, 877), (252, 252, 248))
    d = ImageDraw.Draw(im)
    at = r.randrange(32), r.randrange(9)
    for i in range(32):
        words = [word(r) for _ in range(9)]
        words[at[1]] = word(random.Random(v), 4, 7) if i == at[0] and v else words[at[1]]
        d.text((40, 40 + 25 * i), " ".join(words), fill=(20, 20, 20), font=font(13))
    return im


def music(r: random.Random, v: int) -> Image.Image:
    im = Image.new("L", (600, 500), 255)
    d = ImageDraw.Draw(im)
    for s in range(5):
        for line in range(5):
            d.line((20, 40 + 95 * s + 10 * line, 580, 40 + 95 * s + 10 * line), fill=0)
        for k in range(24):
            y = 35 + 95 * s + 5 * r.randrange(9) + (5 * v if (s, k) == (2, 9) else 0)
            d.ellipse((40 + 22 * k, y, 51 + 22 * k, y + 9), fill=0)
            d.line((50 + 22 * k, y + 4, 50 + 22 * k, y - 26), fill=0)
    return im.convert("RGB")


def scene(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (480, 360), tuple(r.randrange(60, 220) for _ in range(3)))
    d = ImageDraw.Draw(im)
    for k in range(26):
        x, y, a, b = r.randrange(480), r.randrange(360), r.randrange(12, 70), r.randrange(12, 70)
        colour = tuple(r.randrange(256) for _ in range(3))
        if k == 25:  # drawn last: nothing hides it
            a = b = 14
            x, y = x % 440 + 20 + (9 if v == 1 else 0), y % 320 + 20
            colour = tuple(255 - c for c in colour) if v == 2 else colour
        if not (k == 25 and v == 3):
            r.choice([d.ellipse, d.rectangle])((x - a // 2, y - b // 2, x + a // 2, y + b // 2), fill=colour)
    return im.filter(ImageFilter.GaussianBlur(0.8))


def photo(r: random.Random) -> Image.Image:
    """A photo of SPQ_DATA, or a drawn scene without it."""
    files = photo_files()
    if not files:
        return scene(r, 0)
    with Image.open(files[r.randrange(len(files))]) as image:
        return image.convert("RGB")


@cache
def photo_files() -> list[Path]:
    """Every tenth photo: documents are drawn on these, and no collection has them beside its documents."""
    return sorted(Path(os.environ.get("SPQ_DATA", "."), "objects").glob("gallery/*/*.jpg"))[::10]


def burst(r: random.Random, v: int) -> Image.Image:
    """The next photos of a burst: the camera moves by some pixels, near things move more, the sensor's noise is new."""
    image = np.asarray(photo(r), np.float32)
    h, w = image.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    depth = 1 + np.sin(x / w * 3) * np.cos(y / h * 2)
    g = np.random.default_rng(r.randrange(10**9) * 4 + v)
    dx, dy = v * g.uniform(0.6, 1.5, 2)
    moved = image[
        np.rint(y + dy * depth).clip(0, h - 1).astype(int), np.rint(x + dx * depth).clip(0, w - 1).astype(int)
    ]
    return Image.fromarray((moved + g.normal(0, 3, moved.shape)).clip(0, 255).astype(np.uint8))


def timestamp(r: random.Random, v: int) -> Image.Image:
    im = photo(r)
    text = changed_digit(f"2023-07-1{r.randrange(9)} 18:4{r.randrange(9)}", v)
    ImageDraw.Draw(im).text((im.width * 0.55, im.height - 24), text, fill=(255, 170, 40), font=font(14))
    return im


def still(r: random.Random, v: int) -> Image.Image:
    """A fixed camera: a thing moves through the picture."""
    im = photo(r)
    x = r.randrange(20, im.width // 2) + 14 * v
    y = r.randrange(20, im.height - 60)
    ImageDraw.Draw(im).ellipse((x, y, x + 26, y + 18), fill=tuple(r.randrange(256) for _ in range(3)))
    return im


def tripod(r: random.Random, v: int) -> Image.Image:
    """The same view twice: only the noise of the sensor differs."""
    g = np.random.default_rng(r.randrange(10**9) * 4 + v)
    image = np.asarray(photo(r).filter(ImageFilter.GaussianBlur(1)), np.float32)
    return Image.fromarray((image + g.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8))


def flat(r: random.Random, v: int) -> Image.Image:
    level = r.randrange(20, 230)
    values = np.full((200, 300, 3), level, np.float32)
    values += np.linspace(0, (0, 2, 4, 6)[v], 300)[None, :, None]
    return Image.fromarray(
        (values + np.random.default_rng(v).normal(0, 0.7, values.shape)).clip(0, 255).astype(np.uint8)
    )


def noise(r: random.Random, v: int) -> Image.Image:
    g = np.random.default_rng(r.randrange(10**9) * 4 + v)
    side = r.choice([25, 50, 100, 200])
    return Image.fromarray(g.integers(0, 256, (side, side, 3), np.uint8)).resize((200, 200), Image.Resampling.BICUBIC)


def strip(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (120, 2400), "white")
    d = ImageDraw.Draw(im)
    for k in range(120):
        text = f"{word(r)} {r.randrange(100, 999)}"
        d.text((6, 20 * k), changed_digit(text, v) if k == 70 else text, fill="black", font=font(12))
    return im


def chess(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (320, 320))
    d = ImageDraw.Draw(im)
    pieces = {(r.randrange(8), r.randrange(8)): (r.choice("KQRBNP"), r.randrange(2)) for _ in range(20)}
    moved = sorted(pieces)[3]
    for i in range(8):
        for j in range(8):
            d.rectangle(
                (40 * i, 40 * j, 40 * i + 39, 40 * j + 39), fill=(240, 217, 181) if (i + j) % 2 else (181, 136, 99)
            )
    for (i, j), (name, side) in pieces.items():
        i = (i + v) % 8 if (i, j) == moved else i
        d.text((40 * i + 12, 40 * j + 6), name, fill="white" if side else "black", font=font(24))
    return im


def sudoku(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (370, 370), "white")
    d = ImageDraw.Draw(im)
    for i in range(9):
        for j in range(9):
            d.rectangle((5 + 40 * i, 5 + 40 * j, 45 + 40 * i, 45 + 40 * j), outline="black", width=1)
            digit = r.randrange(10)
            digit = (digit + 2 * v) % 10 if (i, j) == (4, 6) else digit
            if digit:
                d.text((18 + 40 * i, 10 + 40 * j), str(digit), fill="black", font=font(24))
    return im


def clock(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (300, 300), (240, 240, 235))
    d = ImageDraw.Draw(im)
    d.ellipse((20, 20, 280, 280), outline="black", width=6)
    minute = r.randrange(60) + 2 * v
    for k in range(12):
        a = k * math.pi / 6
        d.text((140 + 105 * math.sin(a), 138 - 105 * math.cos(a)), str(k or 12), fill="black", font=font(18))
    for length, angle, width in ((60, minute / 720, 7), (95, minute / 60, 4)):
        a = 2 * math.pi * angle
        d.line((150, 150, 150 + length * math.sin(a), 150 - length * math.cos(a)), fill="black", width=width)
    return im


def calendar(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (420, 360), "white")
    d = ImageDraw.Draw(im)
    d.text((20, 10), word(r, 4, 9).title() + " 2024", fill=(180, 30, 30), font=font(26))
    start, marked = r.randrange(7), r.randrange(25)
    for k in range(30):
        x, y = 20 + 56 * ((k + start) % 7), 60 + 46 * ((k + start) // 7)
        if k == marked + v:
            d.ellipse((x - 6, y - 4, x + 26, y + 26), outline="red", width=2)
        d.text((x, y), str(k + 1), fill="black", font=font(18))
    return im


def settings(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (390, 700), (242, 242, 247))
    d = ImageDraw.Draw(im)
    for k in range(11):
        d.rounded_rectangle((16, 30 + 58 * k, 374, 80 + 58 * k), 10, fill="white")
        d.text((30, 45 + 58 * k), word(r).title(), fill="black", font=font(17))
        on = (r.random() < 0.5) != (v > 0 and k == 2 * v)
        d.rounded_rectangle((310, 42 + 58 * k, 358, 68 + 58 * k), 13, fill=(52, 199, 89) if on else (210, 210, 215))
        d.ellipse((334 if on else 312, 44 + 58 * k, 356 if on else 334, 66 + 58 * k), fill="white")
    return im


def grating(r: random.Random, v: int) -> Image.Image:
    y, x = np.mgrid[0:240, 0:320]
    angle, period = r.random() * math.pi, r.randrange(9, 30)
    phase = r.random() * 6 + v * 0.9
    ridges = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period + phase)
    return Image.fromarray((128 + 90 * ridges).astype(np.uint8)).convert("RGB")


def signature(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (400, 160), "white")
    g = np.random.default_rng(r.randrange(10**9))
    t = np.linspace(0, 1, 200)
    x, y = 40 + 320 * t, 80 + 0 * t
    for k in range(1, 9):
        a = g.normal(0, 22 / k**0.5, 4) * (1 + 0.05 * v * np.cos(k + np.arange(4)))
        x, y = (
            x + a[0] * np.sin(6.3 * k * t) + a[1] * np.cos(6.3 * k * t),
            y + a[2] * np.sin(6.3 * k * t) + a[3] * np.cos(6.3 * k * t),
        )
    ImageDraw.Draw(im).line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(20, 30, 120), width=2)
    return im


def dice(r: random.Random, v: int) -> Image.Image:
    im = photo(r).filter(ImageFilter.GaussianBlur(3))
    d = ImageDraw.Draw(im)
    eyes = {1: [4], 2: [0, 8], 3: [0, 4, 8], 4: [0, 2, 6, 8], 5: [0, 2, 4, 6, 8], 6: [0, 2, 3, 5, 6, 8]}
    for k in range(3):
        n, x = r.randrange(1, 6) + (v > 0 and k == 1), 20 + 70 * k
        d.rounded_rectangle((x, 40, x + 54, 94), 8, fill="white")
        for e in eyes[n]:
            d.ellipse(
                (x + 7 + 16 * (e % 3), 47 + 16 * (e // 3), x + 16 + 16 * (e % 3), 56 + 16 * (e // 3)), fill="black"
            )
    d.text((20, 110), f"round {v}", fill="white", font=font(12))
    return im


def pattern(r: random.Random, v: int) -> Image.Image:
    tile = Image.new("RGB", (32, 32), tuple(r.randrange(256) for _ in range(3)))
    ImageDraw.Draw(tile).ellipse((6, 6, 22, 26), fill=tuple(r.randrange(256) for _ in range(3)))
    im = Image.new("RGB", (320, 256))
    for x in range(0, 380, 32):
        for y in range(0, 320, 32):
            im.paste(tile, (x - 8 * v, y))
    return im


def product(r: random.Random, v: int) -> Image.Image:
    """A product in other colours, as a shop shows it."""
    g = np.random.default_rng(r.randrange(10**9))
    y, x = np.mgrid[0:360, 0:300]
    shade = 0.75 + 0.2 * np.sin(x / 40 + g.random() * 6) * np.cos(y / 55 + g.random() * 6)
    body = (np.abs(x - 150) < 90 - 20 * np.sin(y / 60)) & (y > 40) & (y < 320)
    colour = [(200, 40, 40), (40, 80, 200), (60, 150, 70), (128, 128, 128)][v]
    im = np.where(body[..., None], shade[..., None] * np.array(colour) * 1.1, 250)
    return Image.fromarray(im.clip(0, 255).astype(np.uint8))


def passport(r: random.Random, v: int) -> Image.Image:
    """Other faces in front of one ground."""
    im = Image.new("RGB", (300, 380), (r.randrange(190, 220), 212, r.randrange(200, 235)))
    d = ImageDraw.Draw(im)
    wide, skin = r.randrange(4, 50), r.randrange(-60, 20)
    d.ellipse((wide, 290, 300 - wide, 520), fill=tuple(r.randrange(20, 120) for _ in range(3)))
    d.ellipse((80, 80, 220, 280), fill=(225 + skin, 180 + skin, 150 + skin))
    d.chord((74, 60, 226, 240), 180, 360, fill=[(50, 30, 20), (120, 80, 40), (60, 35, 25), (20, 20, 20)][v])
    for x in (118, 182):
        d.ellipse((x - 9 - v, 165 - 2 * v, x + 9 + v, 178 + v), fill="white")
        d.ellipse((x - 4, 167, x + 4, 176), fill=(60, 90, 120))
    d.arc((115, 205, 185, 245), 20, 160 + 8 * v, fill=(150, 60, 60), width=5)
    return im.filter(ImageFilter.GaussianBlur(1 + 0.1 * r.random()))


def floor_plan(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (480, 360), "white")
    d = ImageDraw.Draw(im)
    d.rectangle((20, 20, 460, 340), outline="black", width=6)
    for k in range(4):
        x, y = 20 + 110 * k, r.randrange(100, 260)
        d.line((x, 20, x, 340), fill="black", width=4)
        d.line((x, y, x + 110, y), fill="black", width=4)
        gap = r.randrange(30, y - 30) + (14 * v if k == 2 else 0)
        d.rectangle((x - 3, gap, x + 3, gap + 24), fill="white")
        d.text((x + 20, 60), f"{r.randrange(6, 30)} m²", fill="black", font=font(13))
    return im


def stars(r: random.Random, v: int) -> Image.Image:
    """A field of stars in which one star moves, or a new one shines."""
    g = np.random.default_rng(r.randrange(10**9))
    y, x = np.mgrid[0:300, 0:400].astype(np.float32)
    sky = np.full((300, 400), 12, np.float32)
    for k in range(60):
        a, b, bright, size = g.uniform(10, 390), g.uniform(10, 290), g.uniform(60, 240), g.uniform(0.8, 1.8)
        a += 7 * v if k == 7 else 0
        sky += bright * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * size * size))
    return Image.fromarray(sky.clip(0, 255).astype(np.uint8)).convert("RGB")


def weather(r: random.Random, v: int) -> Image.Image:
    im = road_map(r, 0).filter(ImageFilter.GaussianBlur(2))
    d = ImageDraw.Draw(im)
    for k in range(9):
        x, y, degrees = 40 + 150 * (k % 3), 40 + 120 * (k // 3), r.randrange(10, 30)
        degrees += 3 * v if k == 4 else 0
        d.text((x, y), f"{degrees}°", fill=(20, 20, 60), font=font(26))
    return im


def meme(r: random.Random, v: int) -> Image.Image:
    """One photo with other words."""
    im = photo(r)
    d = ImageDraw.Draw(im)
    size = max(14, im.width // 12)
    words = [" ".join(word(r, 3, 7) for _ in range(3)).upper() for _ in range(VARIANTS)]
    d.text((8, 4), words[v], fill="white", font=font(size), stroke_width=2, stroke_fill="black")
    return im


def editor(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (640, 420), (30, 30, 30))
    d = ImageDraw.Draw(im)
    changed = r.randrange(22)
    for k in range(22):
        d.text((8, 8 + 18 * k), str(k + 1), fill=(110, 110, 110), font=font(12))
        x = 40 + 20 * r.randrange(4)
        for colour in ((197, 134, 192), (156, 220, 254), (206, 145, 120)):
            text = word(r, 3, 9)
            text = text[:-1] + "wxyz"[v] if k == changed and colour[0] == 156 else text
            d.text((x, 8 + 18 * k), text, fill=colour, font=font(12))
            x += 9 * len(text)
    return im


def satellite(r: random.Random, v: int) -> Image.Image:
    """Tiles beside each other, which overlap by half."""
    g = np.random.default_rng(r.randrange(10**9))
    total = np.zeros((300, 900, 3))
    for side, weight in ((8, 0.4), (30, 0.3), (150, 0.3)):
        part = Image.fromarray(g.integers(20, 200, (side // 2, side, 3), np.uint8))
        total += weight * np.asarray(part.resize((900, 300), Image.Resampling.BICUBIC))
    return Image.fromarray(total.astype(np.uint8)).crop((150 * v, 0, 150 * v + 300, 300))


def gauge(r: random.Random, v: int) -> Image.Image:
    """A photo of an instrument whose pointer moves."""
    im = photo(r).resize((320, 240)).filter(ImageFilter.GaussianBlur(2))
    d = ImageDraw.Draw(im)
    d.ellipse((90, 50, 230, 190), fill=(245, 245, 240), outline="black", width=4)
    for k in range(11):
        a = math.pi * (0.75 + 0.15 * k)
        d.line([(160 + q * math.cos(a), 120 + q * math.sin(a)) for q in (54, 64)], fill="black", width=2)
    a = math.pi * (0.75 + 1.2 * r.random() + 0.05 * v)
    d.line((160, 120, 160 + 50 * math.cos(a), 120 + 50 * math.sin(a)), fill="red", width=3)
    return im.filter(ImageFilter.GaussianBlur(0.7))


def cards(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (460, 200), (20, 110, 60))
    d = ImageDraw.Draw(im)
    for k in range(5):
        rank, x = (r.randrange(13) + (k == 2) * v) % 13, 12 + 88 * k
        d.rounded_rectangle((x, 30, x + 78, 150), 8, fill="white")
        d.text((x + 8, 36), "A23456789TJQK"[rank], fill=r.choice(["black", "red"]), font=font(24))
    return im


def traffic_light(r: random.Random, v: int) -> Image.Image:
    """A fixed camera on a street: one lamp goes out, another one lights up."""
    im = photo(r)
    d, x, y = ImageDraw.Draw(im), r.randrange(im.width - 30), r.randrange(im.height // 2)
    d.rectangle((x, y, x + 16, y + 44), fill=(20, 20, 20))
    for k, colour in enumerate(((255, 40, 30), (255, 190, 0), (40, 230, 90))):
        is_lit = k == v or (v == 3 and k < 2)
        d.ellipse((x + 3, y + 3 + 14 * k, x + 13, y + 13 + 14 * k), fill=colour if is_lit else (50, 50, 50))
    return im


def wells(r: random.Random, v: int) -> Image.Image:
    im = Image.new("RGB", (420, 290), (225, 228, 232))
    d = ImageDraw.Draw(im)
    other = r.randrange(12), r.randrange(8)
    for i in range(12):
        for j in range(8):
            shade = r.randrange(5) if (i, j) != other else r.randrange(2) + v
            colour = (240 - 10 * shade, 235 - 35 * shade, 140 - 20 * shade)
            d.ellipse((20 + 32 * i, 20 + 32 * j, 44 + 32 * i, 44 + 32 * j), fill=colour, outline=(120, 120, 120))
    return im


FAMILIES: dict[str, Drawer] = {
    f.__name__: f for f in (
        invoice, chat, icon, tiny_icon, bars_chart, line_chart, form, ticket, barcode, sheet, road_map, cells16, slice16, page,
        music, scene, burst, timestamp, still, tripod, flat, noise, strip, chess, sudoku, clock, calendar, settings, grating,
        signature, dice, pattern, product, passport, floor_plan, stars, weather, meme, editor, satellite, gauge, cards,
        traffic_light, wells,
    )
}  # fmt: skip


def make_documents(root: Path, count: int, seed: int) -> dict[str, str]:
    """Write at least `count` pictures to `root`, and return the truth: file name -> name of the picture that it shows.

    Two files are copies if their names of the picture are equal. Every sixth picture has a copy, re-encoded as JPEG or WebP.
    A variant whose difference nobody can see, as white on white or outside of the picture, shows the picture before it.
    """
    root.mkdir(parents=True, exist_ok=True)
    truth: dict[str, str] = {}
    families: dict[str, dict[str, NDArray[np.uint8]]] = {name: {} for name in FAMILIES}
    template = 0
    while len(truth) < count:
        for name, draw in FAMILIES.items():
            shown = families[name]
            for v in range(VARIANTS):
                layout = random.Random(f"{seed} {name} {template}")
                image, how = draw(layout, v), random.Random(f"{seed} {name} {template} {v}")
                picture = f"{name}-{template}-{v}"
                jpeg = image.mode == "RGB" and how.random() < 0.4
                file = f"{picture}.{'jpg' if jpeg else 'png'}"
                image.save(root / file, **({"quality": how.randrange(60, 96)} if jpeg else {}))
                pixels = np.asarray(image)
                same = [other for other, seen in shown.items() if name != "flat" and _looks_the_same(seen, pixels)]
                shown[picture] = pixels
                truth[file] = truth_of = same[0] if same else picture
                if how.random() < 1 / 6 and image.mode == "RGB" and name != "flat":
                    copy = f"{picture}-copy.{how.choice(['jpg', 'webp'])}"
                    image.save(root / copy, quality=how.randrange(50, 91))
                    truth[copy] = truth_of
        template += 1
    return truth


def _looks_the_same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    if a.shape != b.shape:
        return False
    differs = np.abs(a.astype(np.int64) - b) > UNSEEN
    return int(np.atleast_3d(differs).any(2).sum()) <= UNSEEN_PIXELS


def encoded(image: Image.Image, quality: int = 85, kind: str = "JPEG") -> tuple[bytes, str]:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue(), {"JPEG": ".jpg", "WEBP": ".webp"}[kind]


def captioned(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    copy, size = image.copy(), max(12, image.width // 14)
    place = int(rng.integers(5, image.width // 3)), int(rng.integers(5, image.height - 2 * size))
    colour = [(255, 255, 255), (0, 0, 0), (255, 220, 0), (220, 30, 30)][int(rng.integers(4))]
    ImageDraw.Draw(copy).text(
        place,
        ["Hello from the sea", "Happy birthday!", "SALE 50 %", "my holiday"][int(rng.integers(4))],
        fill=colour,
        font=font(size),
    )
    return copy


def watermarked(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    size = max(14, image.width // 8)
    place = int(rng.integers(0, image.width // 3)), int(rng.integers(0, image.height - 2 * size))
    ImageDraw.Draw(layer).text(place, "© studio", fill=(255, 255, 255, int(rng.integers(90, 180))), font=font(size))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = image.size
    return image.crop((round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom))))


def resized(image: Image.Image, scale: float, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)


def bordered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    colour = tuple(int(c) for c in rng.choice([(255, 255, 255), (0, 0, 0), (200, 30, 60), (120, 120, 120)]))
    return ImageOps.expand(image, round(image.width * float(rng.uniform(0.02, 0.1))), colour)


def barred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    w, h = image.size
    return ImageOps.expand(image, (0, round(h * 0.15)) if rng.random() < 0.5 else (round(w * 0.15), 0), (0, 0, 0))


_T = Image.Transpose
COPIES: dict[str, Copy] = {
    "q90": lambda i, r: encoded(i, 90),
    "q60": lambda i, r: encoded(i, 60),
    "q30": lambda i, r: encoded(i, 30),
    "webp": lambda i, r: encoded(i, 70, "WEBP"),
    "half": lambda i, r: encoded(resized(i, 0.5)),
    "quarter": lambda i, r: encoded(resized(i, 0.25, Image.Resampling.BILINEAR), 90),
    "grey": lambda i, r: encoded(i.convert("L").convert("RGB")),
    "text": lambda i, r: encoded(captioned(i, r)),
    "watermark": lambda i, r: encoded(watermarked(i, r)),
    "border": lambda i, r: encoded(bordered(i, r)),
    "bars": lambda i, r: encoded(barred(i, r)),
    "turned 90": lambda i, r: encoded(i.transpose(_T.ROTATE_90)),
    "turned 180": lambda i, r: encoded(i.transpose(_T.ROTATE_180)),
    "turned 270": lambda i, r: encoded(i.transpose(_T.ROTATE_270)),
    "mirrored": lambda i, r: encoded(i.transpose(_T.FLIP_LEFT_RIGHT)),
    "crop 10 %": lambda i, r: encoded(cropped(i, 0.1, 0.1, 0.1, 0.1)),
    "crop uneven": lambda i, r: encoded(cropped(i, *(r.dirichlet([1, 1]) * 0.2)[[0, 0]], *(r.uniform(0, 0.1, 2)))),
    "brighter": lambda i, r: encoded(ImageEnhance.Brightness(i).enhance(1.2)),
    "darker": lambda i, r: encoded(ImageEnhance.Brightness(i).enhance(0.8)),
    "mirrored, half": lambda i, r: encoded(resized(i.transpose(_T.FLIP_LEFT_RIGHT), 0.5)),
    "cropped, q60": lambda i, r: encoded(cropped(i, 0.05, 0.08, 0.1, 0.03), 60),
    "border, brighter": lambda i, r: encoded(bordered(ImageEnhance.Brightness(i).enhance(1.15), r)),
    "grey, half": lambda i, r: encoded(resized(i.convert("L").convert("RGB"), 0.5)),
}  # "the same bytes" needs no maker
