"""The pictures of an index, from its collection: found by the path in the index, never by one that a request holds."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from spq.data.decode import load_image
from spq.data.folder import file_of
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import DataError, ImageError
from spq.index.store import Item

SAFE = {  # formats that browsers show, and that hold nothing but pixels
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
Decode = Callable[[bytes, int | None], Image.Image]
AGAIN_AFTER = 10.0  # seconds: a collection that lacks a picture is not listed anew more often
_LOG = logging.getLogger("spq.serve")


class Pictures:
    """For any thread. Most files of a folder are opened right away; else the collection is listed, once one is asked for."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._root = Path(source).expanduser()
        self._lock = threading.Lock()
        self._images: ImageSet | None = None
        self._places: dict[str, int] = {}
        self._listed = -AGAIN_AFTER

    def image(self, item: Item, size_hint: int | None = None) -> Image.Image:
        """The picture, RGB and upright.

        Raises:
            ImageError: the collection no longer has it, or it cannot be read.
        """
        data, decode = self.open(item)
        return decode(data, size_hint)

    def original(self, item: Item) -> tuple[bytes, str]:
        """Its bytes and their type: as stored where browsers show that, else as PNG.

        Raises:
            ImageError: as `image`.
        """
        data, decode = self.open(item)
        try:
            with Image.open(io.BytesIO(data)) as opened:
                kind = SAFE.get(opened.format or "")
        except Exception:  # raw pixels, or damaged: whether it is a picture at all is found out below
            kind = None
        if kind:
            return data, kind
        buffer = io.BytesIO()
        decode(data, None).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"

    def open(self, item: Item) -> tuple[bytes, Decode]:
        """Bytes of an item as they are now, and how to decode them. Errors do not name folders: who may look need not know where
        they are.

        Raises:
            ImageError: as `image`.
        """
        file = file_of(self._root, item.path)
        if file:
            try:
                return file.read_bytes(), lambda data, hint: load_image(data, hint, item.path)
            except OSError as error:
                raise ImageError(f"cannot read {item.path}: {error.strerror}") from None
        images, position = self._find(item)
        try:
            return images.read(position), lambda data, hint: images.decode(position, data, hint)
        except ImageError:
            raise ImageError(f"cannot read {item.path}: it is gone, or its file is damaged") from None

    def _find(self, item: Item) -> tuple[ImageSet, int]:
        """The collection as it is listed, and an item's position in it."""
        with self._lock:
            if item.path not in self._places and time.monotonic() - self._listed >= AGAIN_AFTER:
                self._list()
            position = self._places.get(item.path)
            if self._images is None or position is None:
                raise ImageError(f"{item.path} is no longer in the collection; run spq index again")
            return self._images, position

    def _list(self) -> None:
        self._listed = time.monotonic()
        try:
            self._images = open_images(self.source)
        except DataError as error:
            _LOG.warning("%s", error)
            raise ImageError("the collection cannot be read; the server's own output says why") from None
        self._places = {path: position for position, path in enumerate(self._images.ids)}
        self._listed = time.monotonic()
