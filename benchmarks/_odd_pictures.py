"""Ten pictures that belong into no collection of photos: pages, screens, plots, noise and cards, drawn the same each time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

SIDE = 400
Rng = np.random.Generator


def odd_pictures() -> list[tuple[str, Image.Image]]:
    """Return (name, picture) of the ten."""
    return [(draw.__name__.removeprefix("_"), draw(np.random.default_rng(n))) for n, draw in enumerate(DRAWN)]


def _canvas(color: str | tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (SIDE, SIDE), color)
    return picture, ImageDraw.Draw(picture)


def _letter(rng: Rng) -> Image.Image:
    picture, draw = _canvas("white")
    draw.text((40, 30), "Invoice 2024-0317", fill="black", font_size=22)
    for y in range(80, 370, 14):
        draw.text(
            (40, y),
            " ".join(["lorem", "ipsum", "dolor", "sit", "amet"][: rng.integers(2, 6)]),
            fill="black",
            font_size=11,
        )
    return picture


def _receipt(rng: Rng) -> Image.Image:
    picture, draw = _canvas((90, 90, 95))
    draw.rectangle((130, 5, 270, 395), fill=(250, 248, 240))
    for y in range(20, 380, 13):
        draw.text((140, y), "item", fill="black", font_size=9)
        draw.text((235, y), f"{rng.uniform(1, 90):.2f}", fill="black", font_size=9)
    return picture


def _terminal(rng: Rng) -> Image.Image:
    picture, draw = _canvas((12, 14, 18))
    for y in range(10, 390, 15):
        draw.text((10, y), f"$ make test  # {rng.integers(10**9)} passed", fill=(90, 230, 120), font_size=12)
    return picture


def _window(rng: Rng) -> Image.Image:
    picture, draw = _canvas((225, 228, 235))
    draw.rectangle((0, 0, 400, 40), fill=(45, 100, 200))
    draw.rectangle((0, 40, 90, 400), fill=(60, 65, 75))
    for y in range(60, 380, 45):
        draw.rectangle((110, y, 110 + int(rng.integers(120, 270)), y + 28), fill="white", outline=(160, 165, 175))
    return picture


def _noise(rng: Rng) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))


def _test_card(rng: Rng) -> Image.Image:
    picture, draw = _canvas("black")
    for n, color in enumerate(("white", "yellow", "cyan", "lime", "magenta", "red", "blue")):
        draw.rectangle((n * 57, 0, n * 57 + 57, 300), fill=color)
    return picture


def _chart(rng: Rng) -> Image.Image:
    picture, draw = _canvas("white")
    draw.line([(40, 20), (40, 360), (390, 360)], fill="black", width=2)
    for color in ("red", "blue", "green"):
        line = np.cumsum(rng.normal(0, 12, 34)) + 190
        draw.line([(45 + 10 * n, float(y)) for n, y in enumerate(line)], fill=color, width=3)
    return picture


def _checkerboard(rng: Rng) -> Image.Image:
    return Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((50, 50))).astype(np.uint8) * 255).convert(
        "RGB"
    )


def _scanned_code(rng: Rng) -> Image.Image:
    return Image.fromarray(np.kron(rng.integers(0, 2, (33, 33)), np.ones((12, 12))).astype(np.uint8) * 255).convert(
        "RGB"
    )


def _night_sky(rng: Rng) -> Image.Image:
    picture, draw = _canvas((3, 4, 14))
    for x, y in rng.integers(0, SIDE, (300, 2)).tolist():
        draw.point((x, y), fill="white")
    return picture


DRAWN: list[Callable[[Rng], Image.Image]] = [
    _letter, _receipt, _terminal, _window, _noise, _test_card, _chart, _checkerboard, _scanned_code, _night_sky,
]  # fmt: skip
