"""The original pictures of an index. They are found by the path in the index, never by a path in a request."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from spq.common.files import expanded
from spq.data.decode import load_image
from spq.data.folder import file_of
from spq.data.formats import read_file
from spq.data.image_set import MISSING, ImageSet
from spq.data.open import open_images
from spq.data.several import prefixes_of
from spq.data.source import Source
from spq.data.work import MAX_PIXELS
from spq.errors import DataError, ImageError
from spq.index.store import Item
from spq.web.server.decoding import DecodeRoom

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
LOGGED = 20  # folders and files that cannot be read, of one listing
LIST_SECONDS = 10.0  # at least, between two listings of a collection in which a picture was not found
_LOG = logging.getLogger("spq.serve")


class Pictures:
    """Reads originals, from any thread.

    A file of a folder is opened directly. For other collections, the first request lists the collection.

    Attributes:
        room: to be held while a picture is decoded.
    """

    def __init__(self, origin: Source, room: DecodeRoom | None = None) -> None:
        self.origin, self.room = origin, room or DecodeRoom(MAX_PIXELS)
        self._roots = dict(zip(prefixes_of(origin), map(expanded, origin.names), strict=True))
        self._lock = threading.Lock()
        self._images: ImageSet | None = None
        self._positions: dict[str, int] = {}
        self._listed = -LIST_SECONDS
        self._is_readable = True  # as far as the last listing says

    @contextmanager
    def image(self, item: Item) -> Iterator[Image.Image]:
        """Yield the picture, RGB and upright.

        Raises:
            ImageError: the picture is no longer in the collection, or cannot be read.
        """
        data, decode = self.open(item)
        with self.room.hold(data):
            yield decode(data, None)

    def original(self, item: Item) -> tuple[bytes, str]:
        """Return bytes and media type: as stored if browsers can show the format, else as PNG.

        Raises:
            ImageError: as `image`.
        """
        data, decode = self.open(item)
        try:
            with Image.open(io.BytesIO(data)) as opened:
                kind = SAFE.get(opened.format or "")
        except Exception:  # raw pixels, or damaged: `decode` below decides
            kind = None
        if kind:
            return data, kind
        buffer = io.BytesIO()
        with self.room.hold(data):
            decode(data, None).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"

    def open(self, item: Item) -> tuple[bytes, Decode]:
        """Return the current bytes of an item, and a function that decodes them.

        Errors do not name folders: a visitor should not learn where the pictures are.

        Raises:
            ImageError: as `image`.
        """
        file = self._file(item.path)
        if file:
            return read_file(file, name=item.path), lambda data, hint: load_image(data, hint, item.path)
        images, position = self._find(item)
        try:
            return images.read(position), lambda data, hint: images.decode(position, data, hint)
        except ImageError:
            raise ImageError(f"cannot read {item.path}: it is missing, or its file is damaged") from None

    def _file(self, path: str) -> Path | None:
        """Return the file of an item of a folder, without listing the folder."""
        for prefix, root in sorted(self._roots.items(), reverse=True):  # the collection without a prefix comes last
            if path.startswith(f"{prefix}/" if prefix else ""):
                below = path[len(prefix) + 1 :] if prefix else path
                if file := file_of(root, below, self.origin.rules(prefix)):
                    return file
        return None

    def _find(self, item: Item) -> tuple[ImageSet, int]:
        """Return the listed collection, and the position of an item in it."""
        with self._lock:
            if item.path not in self._positions and time.monotonic() - self._listed >= LIST_SECONDS:
                self._list()
            position = self._positions.get(item.path)
            if self._images is not None and position is not None:
                return self._images, position
            if not self._is_readable:
                raise ImageError("the collection cannot be read; see the server log")
            if self._images is not None and self._images.why_missing(item.path) != MISSING:
                raise ImageError(f"{item.path} cannot be reached; see the server log")
            raise ImageError(f"{item.path} is no longer in the collection; update the index")

    def _list(self) -> None:
        try:
            self._images = open_images(self.origin)
        except DataError as error:
            _LOG.warning("%s", error)
            self._is_readable = False
            return
        finally:
            self._listed = time.monotonic()
        self._is_readable = True
        for path, reason in [*self._images.unlisted, *self._images.aside.absent][:LOGGED]:
            _LOG.warning("%s: %s", path, reason)
        self._positions = {path: position for position, path in enumerate(self._images.ids)}
