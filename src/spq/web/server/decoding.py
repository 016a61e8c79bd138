"""How many pixels the server decodes at a time, so that its memory does not depend on what clients send at once."""

from __future__ import annotations

import ctypes
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from PIL import Image

from spq.data.decode import pixel_limit, quiet
from spq.web.server.problems import BUSY, OverloadedError

WAIT_SECONDS = 10.0
LARGE = 4_000_000  # pixels; the allocator would keep the memory of such pictures, in each thread


class DecodeRoom:
    """Room for a number of pixels. A picture waits until the others leave enough; a larger one is decoded alone.

    Args:
        most: pixels.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, data: bytes, size_hint: int | None = None, limit: int | None = None) -> Iterator[None]:
        """Hold the room of a picture while it is decoded and used.

        Args:
            size_hint, limit: as `size_hint` and `max_pixels` of `load_image`.
        Raises:
            OverloadedError: others need the room for too long.
        """
        pixels = min(decoded_pixels(data, size_hint, limit or pixel_limit()), self.most)
        with self._changed:
            if not self._changed.wait_for(lambda: self.used + pixels <= self.most, WAIT_SECONDS):
                raise OverloadedError(BUSY)
            self.used += pixels
        try:
            yield
        finally:
            if pixels >= LARGE:
                _return_memory()
            with self._changed:
                self.used -= pixels
                self._changed.notify_all()


def _return_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def decoded_pixels(data: bytes, size_hint: int | None, limit: int) -> int:
    """Return how many pixels `load_image` decodes, from the header alone; `limit` if the header does not say it."""
    try:
        with quiet(), Image.open(io.BytesIO(data)) as opened:
            if size_hint:
                opened.draft("RGB", (size_hint, size_hint))  # a JPEG is decoded at a fraction of its size
            return min(opened.width * opened.height, limit)
    except Exception:  # on damaged bytes, decoders raise errors of any type
        return limit
