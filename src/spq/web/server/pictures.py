"""The original pictures, as the server gives them out. They are found by the path in the index, never by a path in a request."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from spq.data.formats import kind_of
from spq.data.source import Source
from spq.data.walk import PICTURE
from spq.data.work import MAX_PIXELS
from spq.errors import ImageError
from spq.index.originals import Decode, Originals
from spq.index.store import Item
from spq.model.feature_store import hash_of
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
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif"}  # others are named after the format


class Pictures(Originals):
    """Reads originals, from any thread.

    Attributes:
        room: to be held while a picture is decoded.
    """

    def __init__(self, origin: Source, room: DecodeRoom | None = None) -> None:
        super().__init__(origin)
        self.room = room or DecodeRoom(MAX_PIXELS)

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
        kind = SAFE.get(_format_of(data))
        return (data, kind) if kind else (self._png(data, decode), "image/png")

    def download(self, item: Item) -> tuple[bytes, str]:
        """Return bytes as stored, and what the name of the picture needs at its end to be one of a picture file.

        Pictures that are no file of their own, such as rows of an array, become PNG.

        Raises:
            ImageError: as `image`; also if its file is another one now, which is no picture.
        """
        data, decode = self.open(item)
        name = _format_of(data)
        if kind_of(item.path) == PICTURE:
            if not name and hash_of(data) != item.hash:
                raise ImageError(f"{item.path} is no picture any more; update the index")
            return data, ""
        if name:
            return data, SUFFIXES.get(name, f".{name.lower()}")
        return self._png(data, decode), ".png"

    def _png(self, data: bytes, decode: Decode) -> bytes:
        buffer = io.BytesIO()
        with self.room.hold(data):
            decode(data, None).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def _format_of(data: bytes) -> str:
    """The format of a picture by its first bytes, as Pillow calls it; nothing for raw pixels, or if it is damaged."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.format or ""
    except Exception:
        return ""
