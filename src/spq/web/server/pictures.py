"""The original pictures, as the server gives them out. They are found by the path in the index, never by a path in a request."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from spq.data.source import Source
from spq.data.work import MAX_PIXELS
from spq.index.originals import Originals
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
