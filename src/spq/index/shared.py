"""An index for many threads: codes and model once in memory, a connection to the store for each thread.

SQLite's connections and the row cursors on them are not for several threads at a time, codes and model are. A search takes
the codes as they were at the last `refresh`, without waiting for a lock or reading anything of the store but its answers:
while another process writes, one thread follows it, and all others go on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from spq.index.gallery import Gallery, follow
from spq.index.image_index import ImageIndex
from spq.index.store import Store

if TYPE_CHECKING:
    from spq.model.model import Model

TOP = 20  # answers of a usual search: for many more, the scan goes another way
T = TypeVar("T")

FILTERS = 8  # `where` expressions whose rows are kept: a result that is scrolled through is asked for again and again


class Recent(Generic[T]):
    """The values that were asked for last, for any thread. Two that want the same one at once may both make it."""

    def __init__(self, kept: int) -> None:
        self._kept, self._lock = kept, threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made where it is not there. The key has to name all that the value depends on."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._kept:
                self._values.popitem(last=False)
        return value


class SharedIndex:
    """Made of an open index, whose folder it reads. `close()` it when no thread uses it any more."""

    def __init__(self, index: ImageIndex) -> None:
        self._root, self.folder = index, index.store.folder
        self._store = Store.open(
            index.store.folder
        )  # of `refresh` alone: its numbers mean nothing on other connections
        self._views: list[_View] = []
        self._local = threading.local()
        self._refreshing, self._loading, self._noting = threading.Lock(), threading.Lock(), threading.Lock()
        self._rows: Recent[NDArray[np.int64]] = Recent(FILTERS)
        self.gallery = self._ready(follow(self._store, index._scan))

    @property
    def generation(self) -> int:
        """Grows with every change of the index, over restarts too. It is that of the codes in memory."""
        return max(self.gallery.revision, 0)

    @property
    def model(self) -> Model:
        """Loaded once, whoever asks first."""
        with self._loading:
            return self._root.model

    def mine(self) -> ImageIndex:
        """The index for the calling thread: with a connection of its own, all else shared."""
        view: _View | None = getattr(self._local, "view", None)
        if view is None:
            view = self._local.view = _View(self)
            with self._noting:
                self._views.append(view)
        return view

    def refresh(self, stale: Gallery | None = None) -> bool:
        """Read what has changed in the store; returns whether anything has.

        Args:
            stale: where the codes in memory are already others than these, nothing is read.
        """
        with self._refreshing:
            before = self.gallery
            if stale is None or before is stale:
                now = follow(self._store, self._root._scan, before)
                self.gallery = now if now.scan is before.scan else self._ready(now)
            return self.gallery is not before

    def rows(self, view: ImageIndex, gallery: Gallery, where: str) -> NDArray[np.int64]:
        """Rows of a filter; those of the last few filters are kept."""
        return self._rows.get((gallery.version, where), lambda: ImageIndex._rows(view, gallery, where))

    def _ready(self, gallery: Gallery) -> Gallery:
        """With all made that its first search would otherwise make: this thread has the time."""
        if len(gallery.ids):
            gallery.scan.search(self._root._tables_of(gallery.scan.code(0)[None]), TOP)
        return gallery

    def close(self) -> None:
        for view in self._views:
            view.close()
        self._store.close()


class _View(ImageIndex):
    def __init__(self, shared: SharedIndex) -> None:
        super().__init__(Store.open(shared.folder))
        self._shared = shared
        self._codebooks = shared._root.codebooks

    @property
    def model(self) -> Model:
        return self._shared.model

    def _gallery(self, stale: Gallery | None = None) -> Gallery:
        if stale is not None:
            self._shared.refresh(stale)
        return self._shared.gallery

    def _rows(self, gallery: Gallery, where: str) -> NDArray[np.int64]:
        return self._shared.rows(self, gallery, where)
