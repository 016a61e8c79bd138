"""The frame of an animation that stands for it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from spq.data.deep import has_contrast, is_deep, with_whole_planes
from spq.data.work import decoding_bytes, memory_limit

ANIMATED = {"GIF", "WEBP", "PNG", "AVIF", "TIFF", "FLI"}  # the further pictures of MPO, ICO or PSD are something else
MAX_FRAMES = 256  # frames that are looked at; files can hold millions
MAX_WORK = 64_000_000  # pixels of all frames that are looked at, after the first
COPIES = 13  # bytes for each pixel of the first frame and of those that are looked at after it
EMPTY = 16  # levels of 255; a frame with less contrast shows nothing
NOISE = (0.1, 99.9)  # percentiles that the contrast lies between, so that single pixels do not count


def shown_frame(image: Image.Image, max_pixels: int) -> Image.Image:
    """Return the first frame that is not empty, loaded. If all are, the first frame.

    Many animations fade in from black, so their first frames are all the same. Frames are looked at in their order, up to
    `MAX_FRAMES` and `MAX_WORK`; defects in frames after the one that is shown do not matter.
    """
    if image.format in ANIMATED and image.tell():
        image.seek(0)
    image.load()
    knows_count = image.format in ("PNG", "WEBP", "AVIF")  # GIF and TIFF would go through all of the file for it
    if image.format not in ANIMATED or (knows_count and image.n_frames < 2) or contrast(image) >= EMPTY:  # type: ignore[attr-defined]
        return image
    first_bytes = COPIES * image.width * image.height
    if first_bytes > memory_limit(max_pixels):
        return image
    first, work = image.copy(), 0  # a copy, because looking for more frames can fail, and changes the picture
    try:
        for number in range(1, MAX_FRAMES):
            image.seek(number)
            with_whole_planes(image)
            area = image.width * image.height
            work += area
            needed = decoding_bytes(image, b"", image.size)
            if work > MAX_WORK or area > max_pixels or first_bytes + needed > memory_limit(max_pixels):
                break
            image.load()
            if contrast(image) >= EMPTY:
                return image
    except Exception:  # EOFError at the end; errors of any type where a frame is damaged
        pass
    return first


def contrast(image: Image.Image) -> int:
    """Return how far the levels of a picture lie apart, 0 to 255, in its most different channel, without small details."""
    if is_deep(image):
        return 255 if has_contrast(image) else 0
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    few = image.resize((min(image.width, 512), min(image.height, 512)), Image.Resampling.NEAREST)  # quick in any mode
    small = few.convert("RGBA" if has_alpha else "RGB").resize((64, 64), Image.Resampling.BOX)
    if has_alpha:
        small = Image.alpha_composite(Image.new("RGBA", small.size, "grey"), small)
    low, high = np.percentile(np.asarray(small.convert("RGB")), NOISE, axis=(0, 1))
    return int((high - low).max())
