"""Work on large pictures part by part, so that intermediate pictures take little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from PIL import Image

PART = 2**20  # pixels of a part
Box = tuple[int, int, int, int]  # left, top, right, bottom


def boxes(size: tuple[int, int], step: int = 1) -> Iterator[Box]:
    """Divide a picture into boxes of about `PART` pixels, whose left and top are multiples of `step`.

    >>> list(boxes((3, 2)))
    [(0, 0, 3, 2)]
    """
    width, height = size
    columns = min(width, max(step, PART // step * step))
    rows = max(step, PART // columns // step * step)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


def by_parts(size: tuple[int, int], part_of: Callable[[Box], Image.Image], shrink: int = 1) -> Image.Image:
    """Put a picture together from its parts.

    Args:
        part_of: makes the part of a box, in the size of the box.
        shrink: width and height are divided by it, with averages.
    """
    whole: Image.Image | None = None
    width, height = -(-size[0] // shrink), -(-size[1] // shrink)
    for box in boxes(size, shrink):
        part = part_of(box)
        part = part.reduce(shrink) if shrink > 1 else part
        if part.size == (width, height):
            return part
        whole = whole or Image.new(part.mode, (width, height))
        whole.paste(part, (box[0] // shrink, box[1] // shrink))
    assert whole
    return whole


def part(image: Image.Image, box: Box) -> Image.Image:
    """Return a part of a picture; the picture itself, if the part is all of it."""
    return image if box == (0, 0, *image.size) else image.crop(box)
