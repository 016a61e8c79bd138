"""The pictures of an index, from its collection: found by the path in the index, never by one that a request holds."""

from __future__ import annotations

import io
import threading
import time

from PIL import Image

from spq.data.sources import ImageSet, open_images
from spq.errors import DataError, ImageError
from spq.index.store import Item

SAFE = {  # formats that every browser shows, and that hold nothing but pixels
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
AGAIN_AFTER = 10.0  # seconds: a collection that lacks a picture is not listed anew more often


class Pictures:
    """Lists the collection when a picture is first asked for, and again when one is missing. For any thread."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._images: ImageSet | None = None
        self._places: dict[str, int] = {}
        self._listed = -AGAIN_AFTER

    def take(self, images: ImageSet) -> None:
        """The collection as it was just listed by someone else."""
        places = {path: position for position, path in enumerate(images.ids)}
        self._images, self._places, self._listed = images, places, time.monotonic()

    def read(self, item: Item) -> bytes:
        """Its bytes as stored.

        Raises:
            ImageError: the collection no longer has it.
        """
        images, position = self._find(item)
        return images.read(position)

    def image(self, item: Item, size_hint: int | None = None) -> Image.Image:
        """The picture, RGB and upright.

        Raises:
            ImageError: the collection no longer has it, or it cannot be read.
        """
        images, position = self._find(item)
        return images.image(position, size_hint)

    def original(self, item: Item) -> tuple[bytes, str]:
        """Its bytes and their type: as stored where browsers show that, else as PNG.

        Raises:
            ImageError: as `image`.
        """
        data = self.read(item)
        try:
            with Image.open(io.BytesIO(data)) as opened:
                kind = SAFE.get(opened.format or "")
        except Exception:  # of raw pixels, or damaged: whether it is a picture at all is decided below
            kind = None
        if kind:
            return data, kind
        buffer = io.BytesIO()
        self.image(item).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"

    def _find(self, item: Item) -> tuple[ImageSet, int]:
        with self._lock:
            if item.path not in self._places and time.monotonic() - self._listed >= AGAIN_AFTER:
                try:
                    self.take(open_images(self.source))
                except DataError as error:
                    self._listed = time.monotonic()
                    raise ImageError(f"the collection is not there: {error}") from None
            position = self._places.get(item.path)
            if self._images is None or position is None:
                raise ImageError(f"{item.path} is no longer in the collection; run spq index again")
            return self._images, position
