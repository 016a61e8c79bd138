"""Check the pictures of an index: that their files are those that were encoded, and give the codes that are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import batches
from spq.data.decode import to_pixels
from spq.data.image_set import CHANGED, ImageSet
from spq.data.open import open_images
from spq.errors import DataError, ImageError, ModelError, StoreError
from spq.index.items import Item
from spq.index.model_copy import ModelCopy
from spq.index.store import Store
from spq.model.feature_store import hash_of

if TYPE_CHECKING:
    from spq.model.model import Model

BATCH = 64  # pictures that are encoded together


def picture_faults(folder: Path) -> Iterator[str]:
    """Read, hash, decode and encode the picture of each item, and compare. One line for each that differs."""
    try:
        with Store.open(folder) as store:
            images, model = open_images(store.manifest.origin), ModelCopy(folder, store.manifest).model
            place = {path: position for position, path in enumerate(images.ids)}
            for items in batches(store.items(), BATCH):
                yield from _faults_of(items, images, place, model)
    except (DataError, StoreError, ModelError) as error:
        yield f"the pictures cannot be checked: {error}"


def _faults_of(items: Sequence[Item], images: ImageSet, place: dict[str, int], model: Model) -> Iterator[str]:
    size = model.config.input.size
    sound, pixels = [], []
    for item in items:
        try:
            pixels.append(unchanged_pixels(item, images, place, size))
            sound.append(item)
        except ImageError as error:
            yield f"item {item.id} ({item.path}): {error}"
    if sound:
        for item, code in zip(sound, model.encode(np.stack(pixels)), strict=True):
            differing = int((code != item.code).sum())
            if 2 * differing > len(code):  # rounding changes a number here and there
                yield f"item {item.id} ({item.path}): {differing} of {len(code)} numbers of its code are not the model's"


def unchanged_pixels(item: Item, images: ImageSet, place: dict[str, int], size: int) -> NDArray[np.uint8]:
    """Read the picture of an item, and return its pixels (3, S, S).

    Args:
        place: path -> position of all pictures.
    Raises:
        ImageError: it cannot be read, or is not the one that was encoded.
    """
    if item.path not in place:
        raise ImageError(images.why_missing(item.path))
    position = place[item.path]
    if images.stat(position) != (item.size, item.mtime_ns):
        raise ImageError(CHANGED)
    data = images.read(position)
    if item.hash and hash_of(data) != item.hash:
        raise ImageError("its picture has other bytes than it had, though size and time are the same; restore the file")
    return to_pixels(images.decode(position, data, size), size)
