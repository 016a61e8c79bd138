"""Small pictures, made once and kept on disk under the hash of the original's bytes, the least recently used ones dropped."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from PIL import Image

from spq.index.encode import hash_of
from spq.index.store import Item
from spq.web.server.pictures import Pictures

SIZES = (64, 128, 256, 512, 1024)  # few, so that no two clients have the same picture made twice
TYPE = "image/jpeg"
QUALITY = 85
LOCKS = 64  # two thumbnails that are made at the same time hardly share one
KEPT = 0.8  # of the limit, once it is passed
_LOG = logging.getLogger("spq.serve")


def rounded(size: int) -> int:
    """The size that is made where `size` is asked for.

    >>> rounded(100), rounded(256), rounded(5000)
    (128, 256, 1024)
    """
    return next((made for made in SIZES if made >= size), SIZES[-1])


def key(item: Item, size: int) -> str:
    """Names the thumbnail: other bytes or another size, another key."""
    content = item.hash or f"{item.id} {item.path} {item.size} {item.mtime_ns}".encode("utf-8", "surrogateescape")
    return f"{hashlib.blake2b(content, digest_size=16).hexdigest()}-{size}"


class Thumbnails:
    """A cache in a folder; one that cannot be written to is done without. For any thread, and for several processes.

    Args:
        limit: bytes; 0 keeps nothing.
    """

    def __init__(self, folder: Path, limit: int, pictures: Pictures) -> None:
        self.folder, self.limit, self.pictures = folder, limit, pictures
        self.made = self.found = 0
        self._bytes: int | None = None  # known when the first is written
        self._writes = limit > 0
        self._lock = threading.Lock()
        self._making = [threading.Lock() for _ in range(LOCKS)]

    def get(self, item: Item, size: int) -> bytes:
        """The JPEG of an item, its longer side at most `size` pixels.

        Raises:
            ImageError: there is none yet, and the original cannot be read.
        """
        name = key(item, size)
        path = self.folder / name[:2] / f"{name}.jpg"
        with self._making[hash(name) % len(self._making)]:  # whoever wants the same one waits for it
            with suppress(OSError):
                data = path.read_bytes()
                os.utime(path)  # used just now
                self.found += 1
                return data
            original, decode = self.pictures.open(item)
            data = self._make(decode(original, size), size)
            self.made += 1
            if not item.hash or item.hash == hash_of(original):  # else it has changed since: it is not of this name
                self._keep(path, data)
        return data

    @staticmethod
    def _make(image: Image.Image, size: int) -> bytes:
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    def _keep(self, path: Path, data: bytes) -> None:
        if not self._writes:
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # they show what the originals show
            path.parent.mkdir(exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
            self._shrink(len(data))
        except OSError as error:
            self._writes = False
            _LOG.warning("thumbnails are made anew each time: %s: %s", self.folder, error.strerror or error)
            with suppress(OSError):
                temporary.unlink()

    def _shrink(self, added: int) -> None:
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._files())
            else:
                self._bytes += added
            if self._bytes <= self.limit:
                return
            files = sorted(self._files())
            self._bytes = sum(size for _, size, _ in files)
            for _, size, path in files:
                if self._bytes <= KEPT * self.limit:
                    break
                with suppress(OSError):  # another process may have been quicker
                    path.unlink()
                self._bytes -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of each."""
        found = []
        for path in self.folder.glob("??/*.jpg"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found
