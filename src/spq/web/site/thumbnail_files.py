"""Thumbnails as files of a site, made with all cores, one page of pictures per thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

from spq.common.parallel import cores, map_in_order
from spq.data.image_set import CHANGED, ImageSet
from spq.errors import ImageError
from spq.index.store import Item
from spq.web.thumbnail import make_thumbnail, read_sealed, sealed, thumbnail_name, thumbnail_path, write_thumbnail


@dataclass(frozen=True)
class Written:
    """A page of items. Each has the name of its thumbnail, or "" and the reason why it has none."""

    items: Sequence[Item]
    names: Sequence[str]
    reasons: Sequence[str]
    new: int  # thumbnails that did not exist before


class ThumbnailWriter:
    """Writes `folder`/ab/<name>.jpg. A whole file is not made again, so an interrupted export continues.

    Args:
        images: the collection that was indexed.
        size: pixels of the longer side.
    """

    def __init__(self, images: ImageSet, folder: Path, size: int, workers: int | None = None) -> None:
        self.images, self.folder, self.size = images, folder, size
        self.workers = workers or cores()
        self.positions = {path: position for position, path in enumerate(images.ids)}
        self._stopped = threading.Event()

    def write(self, pages: Iterable[Sequence[Item]]) -> Generator[Written, None, None]:
        """Yield each page, in order, when its thumbnails are on the disk."""
        self._stopped.clear()
        return map_in_order(self._write_page, pages, self.workers, self._stopped)

    def _write_page(self, items: Sequence[Item]) -> Written:
        names, reasons, new = [], [], 0
        for item in items:
            if self._stopped.is_set():
                raise CancelledError
            name, reason = thumbnail_name(item, self.size), ""
            try:
                new += self._write_one(item, name)
            except ImageError as error:
                name, reason = "", str(error)
            names.append(name)
            reasons.append(reason)
        return Written(items, names, reasons, new)

    def _write_one(self, item: Item, name: str) -> bool:
        """Return whether the thumbnail is new."""
        path = thumbnail_path(self.folder, name)
        if read_sealed(path, name) is not None:
            return False
        position = self.positions.get(item.path)
        if position is None:
            raise ImageError(self.images.why_missing(item.path))
        if self.images.stat(position) != (item.size, item.mtime_ns):
            raise ImageError(CHANGED)
        data = make_thumbnail(self.images.image(position, self.size), self.size)
        write_thumbnail(path, sealed(data, name), clear=True)
        return True
