"""One index for many threads: codes and model once in memory, one connection to the store for each thread.

Codes and model can serve several threads at once; SQLite's connections and cursors cannot. A search takes the codes as they
were at the last `refresh`. It waits for no lock, and reads nothing of the store but its answers. While another process
writes, one thread follows it, and all others go on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from spq.errors import StoreError
from spq.index.gallery import Gallery, Matched, ShardedGallery, follow
from spq.index.image_index import ImageIndex
from spq.index.manifest import SHARDED, Manifest, check_same_model, read_manifest
from spq.index.shards.open_store import open_store
from spq.index.shards.placement import Placement, ShardCounts
from spq.index.store import Store
from spq.pq.spread import SpreadScan

if TYPE_CHECKING:
    from spq.model.model import Model

TOP = 20  # answers of a usual search; for many more, the scan may take another method
PATIENCE = 5.0  # seconds that a search waits while newer codes are read
FILTERS_KEPT = 8  # filters whose rows are kept: each page of a result has the same filter
T = TypeVar("T")


class Recent(Generic[T]):
    """The most recently used values, for any thread. Two threads that need the same one at once may both make it."""

    def __init__(self, kept: int) -> None:
        self._kept, self._lock = kept, threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if it is not there. The key must name everything that the value depends on."""
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
    """Made from an open index. `close()` it when no thread uses it any more.

    Args:
        placement: of holders, which have the codes of shards instead of this process. It is closed with the index.
    """

    def __init__(self, index: ImageIndex, placement: Placement | None = None) -> None:
        self._copy, self.folder, self.placement = index.model_copy, index.store.folder, placement
        self._identity = _identity(self.folder)
        self._store = open_store(self.folder)  # for `refresh` only: its version numbers belong to this connection
        self._opened: list[ImageIndex] = []
        self._ready: list[Store] = []  # opened ahead
        self._local = threading.local()
        self._refreshing, self._noting = threading.Lock(), threading.Lock()
        self._rows: Recent[Matched] = Recent(FILTERS_KEPT)
        try:
            self.gallery = self._warmed(follow(self._store, self._copy.make_scan, placement=placement))
        except BaseException:
            self.close()
            raise

    @property
    def generation(self) -> int:
        """The revision of the codes in memory. It grows with every change of the index, also across restarts."""
        return max(self.gallery.revision, 0)

    @property
    def manifest(self) -> Manifest:
        """The manifest, as it was opened."""
        return self._copy.manifest

    @property
    def model_hash(self) -> str:
        """The hash of the model that made the codes."""
        return self._copy.manifest.model

    @property
    def model(self) -> Model:
        """The model, loaded once for all threads."""
        return self._copy.model

    @property
    def can_embed(self) -> bool:
        """Whether pictures can be described, see `ModelCopy.can_embed`."""
        return self._copy.can_embed

    def is_another(self) -> bool:
        """Whether the index has to be opened again.

        It was replaced by another one, perhaps with codes of another model, its items were moved into shards, or its pictures
        are looked for elsewhere now.
        """
        manifest, known = read_manifest(self.folder), self._copy.manifest
        has_shards = manifest.format >= SHARDED and not self._store.reads_shards
        return (manifest.model, manifest.origin) != (known.model, known.origin) or has_shards or self._is_replaced()

    def _is_replaced(self) -> bool:
        return _identity(self.folder) not in (self._identity, None)

    def of_thread(self) -> ImageIndex:
        """The index for the calling thread: it has its own connection and shares everything else."""
        index: ImageIndex | None = getattr(self._local, "index", None)
        if index is None:
            with self._noting:
                store = self._ready.pop() if self._ready else None
            index = self._local.index = ImageIndex(store or self._open_store(), self._copy, self)
            with self._noting:
                self._opened.append(index)
        return index

    def prepare(self, threads: int) -> None:
        """Open the store for so many threads ahead. They can read on when another index has taken the place of this one."""
        while len(self._ready) + len(self._opened) < threads:
            store = self._open_store()
            with self._noting:
                self._ready.append(store)

    def open(self, wait: float = 0) -> ImageIndex:
        """The index with a store and codes of its own, such as to write to it. The caller closes it.

        Args:
            wait: seconds to wait while another process writes.
        Raises:
            ModelMismatchError: an index of another model has taken its place.
        """
        return ImageIndex(self._open_store(wait), self.model)

    def _open_store(self, wait: float = 0) -> Store:
        store = open_store(self.folder, wait)
        try:
            check_same_model(self.folder, self._copy.manifest.model, store.manifest.model)
            if self._is_replaced():
                raise StoreError(f"index {self.folder} was replaced by another one; open it again")
        except StoreError:
            store.close()
            raise
        return store

    def refresh(self, stale: Gallery | None = None) -> bool:
        """Read what has changed in the store; returns whether anything has.

        Args:
            stale: read nothing if the codes in memory are already newer than these.
        """
        with self._refreshing:
            return self._refreshed(stale)

    def _refreshed(self, stale: Gallery | None) -> bool:
        before = self.gallery
        if stale is None or before is stale:
            now = follow(self._store, self._copy.make_scan, before, self.placement)
            self.gallery = now if now.scan is before.scan else self._warmed(now)
        return self.gallery is not before

    def latest(self, stale: Gallery | None = None) -> Gallery:
        """The codes in memory. They are newer than `stale`, if that is given and nobody reads them for longer than PATIENCE."""
        if stale is not None and self._refreshing.acquire(timeout=PATIENCE):
            try:
                self._refreshed(stale)
            finally:
                self._refreshing.release()
        return self.gallery

    def rows(self, store: Store, gallery: Gallery, where: str) -> Matched:
        """Rows that a filter matches; those of the last few filters are kept."""
        return self._rows.get((gallery.version, where), lambda: gallery.rows_where(store, where))

    def shard_counts(self) -> list[ShardCounts]:
        """What is known of each shard; nothing of an index without shards."""
        if self.placement:
            return self.placement.shards()
        gallery = self.gallery
        if not isinstance(gallery, ShardedGallery):
            return []
        dead = [len(rows) for rows in gallery.scan.dead]
        return [ShardCounts(n, len(p.ids) - d, d) for (n, p), d in zip(gallery.shards.items(), dead, strict=False)]

    def _warmed(self, gallery: Gallery) -> Gallery:
        """Prepare what the first search would otherwise have to prepare."""
        scan = gallery.scan.here if isinstance(gallery.scan, SpreadScan) else gallery.scan
        if len(scan):
            x = self._copy.decoder.decode(scan.code(0)[None])
            scan.search(self._copy.tables(x), TOP)
        return gallery

    def close(self) -> None:
        for store in (*self._ready, *(index.store for index in self._opened)):
            store.close()
        self._store.close()
        if self.placement:
            self.placement.close()


def _identity(folder: Path) -> tuple[int, int] | None:
    """What stays the same as long as the database of an index is not replaced; None while there is none."""
    try:
        status = (folder / "items.sqlite").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
