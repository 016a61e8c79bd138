"""Pictures as they are compared: of bounded size, over one ground or two, cut and turned as an overlay says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.dupes.overlay import Box, Overlay, turned

Floats = NDArray[np.float32]

# Larger pictures are compared at this many pixels: an A4 page of 2,480 x 3,508 at 0.6 of its size, where a figure of 20 pixels
# still has 12. Time and memory are bounded so.
MOST_PIXELS = 3_000_000
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as Pillow


@dataclass(frozen=True)
class Canvas:
    """A picture at the size of comparison.

    Attributes:
        grounds: (H, W, 3) uint8, once if the picture is opaque, else over black and over white: only pictures with equal
            colours and equal alpha agree over both. scale: of the size of the file.
    """

    grounds: tuple[NDArray[np.uint8], ...]
    scale: float

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """Luminance (H, W). Black ink on transparent ground and white ink on it both differ from their ground."""
        images = [np.asarray(Image.fromarray(ground).convert("L")) for ground in self.grounds]
        if len(images) == 1:
            return images[0]
        black, white = (image.astype(np.float32) for image in images)
        return np.rint(0.6 * black + 0.4 * (255 - (white - black))).astype(np.uint8)

    def turned(self, turn: int) -> Canvas:
        return Canvas(tuple(turned(g.transpose(2, 0, 1), turn).transpose(1, 2, 0) for g in self.grounds), self.scale)


def canvases(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[Canvas, Canvas]:
    """Both pictures (H, W, 4) as they are compared: over two grounds if one of them is not opaque."""
    is_opaque = all(int(picture[..., 3].min()) == 255 for picture in (first, second))
    return _canvas(first, is_opaque), _canvas(second, is_opaque)


def _canvas(picture: NDArray[np.uint8], is_opaque: bool) -> Canvas:
    height, width = picture.shape[:2]
    scale = min(1.0, (MOST_PIXELS / (width * height)) ** 0.5)
    image = Image.fromarray(picture)
    image = image.convert("RGB") if is_opaque else image
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if is_opaque:
        return Canvas((np.asarray(image),), scale)
    rgba = np.asarray(image)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    black = rgba[..., :3] * alpha
    return Canvas(tuple(np.rint(black + ground * (1 - alpha)).astype(np.uint8) for ground in (0, 255)), scale)


def cut(canvas: Canvas, box: Box, size: tuple[int, int]) -> Floats:
    """The box of a picture at `size` (width, height): (3 or 6, height, width)."""
    parts = []
    for ground in canvas.grounds:
        image = Image.fromarray(ground)
        if (box[2] - box[0], box[3] - box[1]) == size and all(edge == int(edge) for edge in box):
            image = image.crop(box)
        else:
            image = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=4.0)
        parts.append(np.asarray(image, np.float32).transpose(2, 0, 1))
    return np.ascontiguousarray(np.concatenate(parts))  # planes one after the other: three times as fast from here on


def laid_together(first: Canvas, second: Canvas, overlay: Overlay) -> tuple[Floats, Floats]:
    """What both pictures show of the shared part, (3 or 6, h, w) each, at the size of the smaller one. `second` is turned."""
    sides = [(box[2] - box[0], box[3] - box[1]) for box in (overlay.first, overlay.second)]
    size = max(1, round(min(sides[0][0], sides[1][0]))), max(1, round(min(sides[0][1], sides[1][1])))
    return cut(first, overlay.first, size), cut(second, overlay.second, size)


def luminance(planes: Floats) -> Floats:
    """(3 or 6, h, w) -> (1 or 2, h, w)."""
    return in_grey(planes, LUMA)


def in_grey(planes: Floats, weights: Floats) -> Floats:
    """Weighted sums of the colours of (3 or 6, h, w): (1 or 2, h, w)."""
    grey: Floats = (weights @ planes.reshape(-1, 3, planes[0].size)).reshape(-1, *planes.shape[1:])
    return grey
