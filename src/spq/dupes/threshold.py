"""Calibrate the threshold of `similar`: the code distance within which pictures find altered copies of themselves."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from spq.data.decode import load_image, to_pixels
from spq.data.image_set import ImageSet
from spq.errors import ImageError
from spq.index.codebooks import decoder_of
from spq.pq.tables import Decoder, apart, between_codes

if TYPE_CHECKING:
    from spq.model.model import Model

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Codes = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # done, total

SAMPLE = 200  # pictures that are copied
RANDOM_PAIRS = 100_000


@dataclass(frozen=True)
class Threshold:
    """The code distance up to which pictures count as similar, and its estimated errors.

    Attributes:
        distance: between two codes, in the index's distance; for `dot`, see `between_codes`.
        copies: number of altered copies that were made of the collection's own pictures.
        copies_found: share of the copies within the distance of their originals.
        false_matches: share of random pairs of different pictures within it: the estimated rate of false matches.
        with_neighbour: share of pictures with a different picture within it, which is a false match or truly similar.
    """

    distance: float
    copies: int
    copies_found: float
    false_matches: float
    with_neighbour: float


@dataclass(frozen=True)
class CodedPictures:
    """N different pictures of a collection.

    Attributes:
        positions: (N,) in `images`. codes: (N, M). nearest: (N,) code distance to the nearest other picture.
    """

    images: ImageSet
    positions: Rows
    codes: Codes
    nearest: Floats


def altered_copy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A copy as people make them: up to a tenth cropped, up to 20 % darker or brighter, down to half the size, JPEG 30 to 90."""
    (left, right), (top, bottom) = (_kept(side, rng) for side in image.size)
    image = ImageEnhance.Brightness(image.crop((left, top, right, bottom))).enhance(rng.uniform(0.8, 1.2))
    scale = rng.uniform(0.5, 1)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(30, 91)))
    return load_image(buffer.getvalue())


def calibrate(
    model: Model,
    pictures: CodedPictures,
    *,
    threshold: float | None = None,
    recall: float = 0.9,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Threshold | None:
    """The distance within which `recall` of the copies lie, with its estimated errors.

    Args:
        threshold: the distance, if it is given.
        seed: of the sample, its copies and the random pairs. progress: called with (copies made, copies to make).
    Returns:
        None for fewer than two pictures.
    """
    codes, N = pictures.codes, len(pictures.positions)
    if N < 2:
        return None
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(N, min(SAMPLE, N), replace=False))
    done, copies = encoded_copies(model, pictures.images, pictures.positions[sample], rng, progress)
    decoder, distance = decoder_of(model), model.config.quantizer.distance
    own = code_distances(codes[sample[done]], copies, decoder, distance)
    limit = _quantile(own, recall) if threshold is None else threshold
    a, b = rng.integers(N, size=RANDOM_PAIRS), rng.integers(N - 1, size=RANDOM_PAIRS)
    b += b >= a  # never a picture with itself
    random = code_distances(codes[a], codes[b], decoder, distance)
    shares = [float(within(values, limit).mean()) if len(values) else 0.0 for values in (own, random, pictures.nearest)]
    return Threshold(limit, len(own), *shares)


def within(distances: Floats, limit: float) -> NDArray[np.bool_]:
    """Which distances are at most `limit` (0 or more), with some room for rounding: sums in another order differ slightly."""
    is_within: NDArray[np.bool_] = distances <= limit * (1 + 1e-5) + 1e-6
    return is_within


def code_distances(a: Codes, b: Codes, decoder: Decoder, distance: str) -> Floats:
    """The distances (P,) of pairs of codes, both (P, M), never below 0.

    Args:
        distance: of the index, see `between_codes`.
    """
    total = np.empty(len(a), np.float32)
    for start in range(0, len(a), 8192):
        part = slice(start, start + 8192)
        total[part] = apart(decoder.decode(a[part]), decoder.decode(b[part]), decoder.parts, between_codes(distance))
    return total


def encoded_copies(
    model: Model, images: ImageSet, positions: Rows, rng: np.random.Generator, progress: Progress = lambda *_: None
) -> tuple[Rows, Codes]:
    """Which of `positions` are readable, and the code of an altered copy of each."""
    size = model.config.input.size
    done, pixels = [], []
    for n, position in enumerate(positions.tolist()):
        progress(n, len(positions))
        try:
            pixels.append(to_pixels(altered_copy(images.image(position), rng), size))
            done.append(n)
        except (ImageError, OSError):  # a JPEG has no side above 65,500 pixels
            continue
    return np.array(done, np.int64), model.encode(np.array(pixels, np.uint8).reshape(-1, 3, size, size))


def _kept(side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Start and end of a random crop of one axis."""
    cut, share = rng.uniform(0, 0.1) * side, rng.uniform()
    start = round(cut * share)
    return start, max(start + 1, round(side - cut * (1 - share)))


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share, method="higher")) if len(values) else 0.0
