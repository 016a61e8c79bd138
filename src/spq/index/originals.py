"""The original pictures of an index. They are found by the path in the index."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from spq.common.files import absolute, expanded
from spq.data.decode import load_image
from spq.data.folder import file_of
from spq.data.formats import read_file
from spq.data.image_set import MISSING, ImageSet
from spq.data.open import open_images
from spq.data.several import prefixes_of
from spq.data.source import Source
from spq.errors import DataError, ImageError
from spq.index.items import Item
from spq.model.feature_store import hash_of

Decode = Callable[[bytes, int | None], Image.Image]
LOGGED = 20  # folders and files that cannot be read, of one listing
LIST_SECONDS = 10.0  # at least, between two listings of a collection in which a picture was not found
_LOG = logging.getLogger("spq.index")


class Originals:
    """Reads originals, from any thread.

    A file of a folder is opened directly. For other collections, the first request lists the collection.
    """

    def __init__(self, origin: Source) -> None:
        self.origin = origin
        self._roots = dict(zip(prefixes_of(origin), map(expanded, origin.names), strict=True))
        self._lock = threading.Lock()
        self._images: ImageSet | None = None
        self._positions: dict[str, int] = {}
        self._listed = -LIST_SECONDS
        self._is_readable = True  # as far as the last listing says

    def open(self, item: Item) -> tuple[bytes, Decode]:
        """The current bytes of an item, and a function that decodes them.

        Errors do not name folders: a visitor of a server should not learn where the pictures are.

        Raises:
            ImageError: the picture is no longer in the collection, or cannot be read.
        """
        file = self._file(item.path)
        if file:
            return read_file(file, name=item.path), lambda data, hint: load_image(data, hint, item.path)
        images, position = self._find(item.path)
        try:
            return images.read(position), lambda data, hint: images.decode(position, data, hint)
        except ImageError:
            raise ImageError(f"cannot read {item.path}: it is missing, or its file is damaged") from None

    def unchanged(self, item: Item) -> tuple[bytes, Decode]:
        """As `open`, for a picture that is still the one of which the index has the code. No folder is listed for it.

        Raises:
            ImageError: also if its bytes have changed.
        """
        if self._file(item.path) is None and self._is_of_folder(item.path):
            raise ImageError(f"{item.path} is no longer in the collection; update the index")
        data, decode = self.open(item)
        if hash_of(data) != item.hash:
            raise ImageError(f"{item.path} has changed since it was indexed; update the index")
        return data, decode

    def location(self, path: str) -> str:
        """Where a picture is: the absolute path of its file, or that of its collection, `#`, and the id in it.

        The file may have moved since. Only people who may see folders should see it.
        """
        prefix, root = next(
            (p, root) for p, root in sorted(self._roots.items(), reverse=True) if path.startswith(f"{p}/" if p else "")
        )
        below = path[len(prefix) + 1 :] if prefix else path
        if root.is_dir():
            is_spelled = "\\" in below  # a name that is no UTF-8, or has a backslash
            return str((is_spelled and self.listed_file(path)) or absolute(root) / below)
        names = dict(zip(prefixes_of(self.origin), self.origin.names, strict=True))
        return f"{absolute(root) if root.exists() else names[prefix]}#{below}"

    def file(self, path: str) -> Path | None:
        """The file of a picture, if its collection is a folder and has it."""
        found = self._file(path)
        return absolute(found) if found else None

    def listed_file(self, path: str) -> Path | None:
        """As `file`, and also one of a name that only the list of the collection tells, such as one that is no UTF-8."""
        if found := self.file(path):
            return found
        try:
            images, position = self._find(path)
        except ImageError:
            return None
        listed = images.path(position)
        return absolute(listed) if listed else None

    def _is_of_folder(self, path: str) -> bool:
        """Whether an item belongs to a folder, and to no other kind of collection."""
        roots = [root for prefix, root in self._roots.items() if path.startswith(f"{prefix}/" if prefix else "")]
        return bool(roots) and all(Path(root).is_dir() for root in roots)

    def _file(self, path: str) -> Path | None:
        """The file of an item of a folder, without listing the folder."""
        for prefix, root in sorted(self._roots.items(), reverse=True):  # the collection without a prefix comes last
            if path.startswith(f"{prefix}/" if prefix else ""):
                below = path[len(prefix) + 1 :] if prefix else path
                if file := file_of(root, below, self.origin.rules(prefix)):
                    return file
        return None

    def _find(self, path: str) -> tuple[ImageSet, int]:
        """The listed collection, and the position of an item in it."""
        with self._lock:
            if path not in self._positions and time.monotonic() - self._listed >= LIST_SECONDS:
                self._list()
            position = self._positions.get(path)
            if self._images is not None and position is not None:
                return self._images, position
            if not self._is_readable:
                raise ImageError("the collection cannot be read; see the server log")
            if self._images is not None and self._images.why_missing(path) != MISSING:
                raise ImageError(f"{path} cannot be reached; see the server log")
            raise ImageError(f"{path} is no longer in the collection; update the index")

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
