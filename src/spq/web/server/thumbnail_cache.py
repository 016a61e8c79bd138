"""Thumbnails on disk: each is made once, and the least recently used ones are deleted to make room."""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from spq.data.rules import CACHE, CACHE_SIGNATURE
from spq.index.store import Item
from spq.model.feature_store import hash_of
from spq.web.server.pictures import Pictures
from spq.web.thumbnail import (
    make_thumbnail,
    read_sealed,
    sealed,
    thumbnail_files,
    thumbnail_name,
    thumbnail_path,
    write_thumbnail,
)

SIZES = (64, 128, 256, 512, 1024)  # few, so that clients with slightly different sizes share thumbnails
TYPE = "image/jpeg"
LOCKS = 64  # many, so that two different thumbnails rarely wait for each other
RECOUNT = 0.05  # of the limit: after so many bytes all thumbnails are counted again
SHRINK_TO = 0.8  # of the limit, when the cache has passed it
_LOG = logging.getLogger("spq.serve")


def round_size(size: int) -> int:
    """Return the size that the cache makes for a requested size.

    >>> round_size(100), round_size(256), round_size(5000)
    (128, 256, 1024)
    """
    return next((made for made in SIZES if made >= size), SIZES[-1])


class ThumbnailCache:
    """A cache in a folder. If the folder cannot be written, thumbnails are made each time. Threads and processes may share it.

    A damaged thumbnail is made again. Links inside the folder are not followed.

    Args:
        limit: bytes; 0 keeps nothing.
    Attributes:
        made: number of thumbnails made. found: number of thumbnails found on disk.
    """

    def __init__(self, folder: Path, limit: int, pictures: Pictures) -> None:
        self.folder, self.limit, self.pictures = folder, limit, pictures
        self.made = self.found = 0
        self._bytes: int | None = None  # counted when the first thumbnail is written
        self._added = 0  # bytes since they were counted
        self._writes = limit > 0
        self._lock = threading.Lock()
        self._making = [threading.Lock() for _ in range(LOCKS)]

    def get(self, item: Item, size: int) -> bytes:
        """Return the JPEG of an item, its longer side at most `size` pixels.

        Raises:
            ImageError: the thumbnail does not exist yet, and the original cannot be read.
        """
        name = thumbnail_name(item, size)
        path = thumbnail_path(self.folder, name)
        with self._making[hash(name) % len(self._making)]:  # several requests for one thumbnail make it once
            data = read_sealed(path, name)
            if data is not None:
                with suppress(OSError):
                    os.utime(path, follow_symlinks=False)  # marks it as used now
                self.found += 1
                return data
            original, decode = self.pictures.open(item)
            with self.pictures.room.hold(original, size):
                data = sealed(make_thumbnail(decode(original, size), size), name)
            self.made += 1
            if not item.hash or item.hash == hash_of(original):  # else the picture has changed and the name is wrong
                self._keep(path, data)
        return data

    def _make_folder(self) -> None:
        """Make a folder as private as the originals, with a mark by which spq and backup programs pass it over."""
        with suppress(FileExistsError):  # if it was there, it may hold more than thumbnails
            self.folder.mkdir(mode=0o700, parents=True)
            (self.folder / CACHE).write_text(CACHE_SIGNATURE, "ascii")

    def _keep(self, path: Path, data: bytes) -> None:
        if not self._writes:
            return
        try:
            self._make_folder()
            write_thumbnail(path, data)
            self._shrink(len(data))
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            if not self.folder.is_dir():
                self._stop_writing(error)  # else only this place is taken by something else
        except OSError as error:
            self._stop_writing(error)

    def _stop_writing(self, error: OSError) -> None:
        self._writes = False
        reason = error.strerror or error
        _LOG.warning("cannot write to %s: %s; thumbnails are made again for each request", self.folder, reason)

    def _shrink(self, added: int) -> None:
        with self._lock:
            self._added += added
            if self._bytes is None or self._added > RECOUNT * self.limit:  # other processes add thumbnails, too
                self._bytes, self._added = sum(size for _, size, _ in self._files()), 0
            else:
                self._bytes += added
            if self._bytes <= self.limit:
                return
            files = sorted(self._files())
            self._bytes = sum(size for _, size, _ in files)
            for _, size, path in files:
                if self._bytes <= SHRINK_TO * self.limit:
                    break
                with suppress(OSError):  # another process may have deleted it
                    path.unlink()
                self._bytes -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return (time of last use, bytes, path) of each thumbnail."""
        found = []
        for entry in thumbnail_files(self.folder):
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".jpg") and stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return found
