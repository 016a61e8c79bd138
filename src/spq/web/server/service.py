"""The parts of a server for one index, from its start to its end. Nothing is global."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from spq.index.image_index import ImageIndex
from spq.index.shared import SharedIndex
from spq.web.server.decoding import DecodeRoom
from spq.web.server.jobs import DuplicatesJob
from spq.web.server.library import Library, Uploads
from spq.web.server.pictures import Pictures
from spq.web.server.pool import Pool
from spq.web.server.prometheus import Metrics
from spq.web.server.settings import Settings
from spq.web.server.thumbnail_cache import ThumbnailCache
from spq.web.server.watch import Follower, Watcher

if TYPE_CHECKING:
    from spq.web.server.connections import Connections

T = TypeVar("T")

WAITING_THUMBNAILS = 512  # a page requests a whole screen at once, and the next one while it scrolls
PATIENCE_THUMBNAILS = 10.0


class Service:
    """The library, its threads, caches and background jobs.

    Searches have their own threads, so that they never wait for thumbnails. Those by uploads, which are decoded first, have
    others, so that they never keep the searches by id waiting.
    """

    def __init__(self, index: ImageIndex, settings: Settings) -> None:
        self.settings = settings
        self.shared = SharedIndex(index)
        pictures = Pictures(index.store.manifest.origin, DecodeRoom(settings.max_decoded))
        self.library = Library(self.shared, pictures, settings)
        self.thumbnails = ThumbnailCache(settings.cache, settings.cache_bytes, pictures)
        s = settings
        self.searches = Pool("search", s.workers, s.waiting, s.patience, s.timeout + 1)
        self.uploads = Pool("upload", s.workers, s.waiting, s.patience, s.timeout + 1)
        self.pictures_pool = Pool("thumbnail", s.workers, WAITING_THUMBNAILS, PATIENCE_THUMBNAILS, s.timeout + 1)
        self.originals = Pool("original", s.workers, s.waiting, PATIENCE_THUMBNAILS, s.timeout + 1)
        self.pools = (self.searches, self.uploads, self.pictures_pool, self.originals)
        self.metrics = Metrics()
        self.connections: Connections | None = None  # unless another server runs the app
        self.duplicates = DuplicatesJob(self.library)
        self.follower = Follower(self.library)
        self.watcher = Watcher(self.library, settings) if settings.watch else None

    async def run_search(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a query of the index in a search thread.

        Raises:
            OverloadedError: as `Pool.run`. TimeLimitError: SQLite needed too long.
        """
        return await self.searches.run(self._within_time, function, *arguments)

    async def run_query(self, function: Callable[..., T], uploads: Uploads, *arguments: object) -> T:
        """Run a query of the index with uploads, or without any.

        Raises:
            As `run_search`.
        """
        pool = self.uploads if uploads.positive or uploads.negative else self.searches
        return await pool.run(self._within_time, function, uploads, *arguments)

    async def run_short(self, function: Callable[..., T], *arguments: object) -> T:
        """Get a thumbnail or the facts of an item. Many may run at a time, and each of them is quick."""
        return await self.pictures_pool.run(self._within_time, function, *arguments)

    async def run_original(self, function: Callable[..., T], *arguments: object) -> T:
        """Get an original, which may be large, so that thumbnails do not wait for it."""
        return await self.originals.run(self._within_time, function, *arguments)

    def _within_time(self, function: Callable[..., T], *arguments: object) -> T:
        with self.shared.of_thread().store.within(self.settings.timeout):
            return function(*arguments)

    def start(self) -> None:
        self.follower.start()
        if self.watcher:
            self.watcher.start()

    def stop(self) -> None:
        for thread in (self.watcher, self.follower):
            if thread:
                thread.ending.set()
        self.duplicates.stop()
        for thread in (self.watcher, self.follower):
            if thread:
                thread.stop()
        for pool in self.pools:
            pool.close()
        self.shared.close()

    def sync_facts(self) -> dict[str, Any]:
        """Return what the status says about syncs."""
        if self.watcher:
            return self.watcher.facts()
        return {"sync": None, "sync_error": None, "last_sync": None, "new_since": None}

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Return the current values for the metrics: name -> (help, value)."""
        found: dict[str, tuple[str, float]] = {
            "spq_items": ("Pictures in the index.", len(self.shared.gallery)),
            "spq_generation": ("Changes of the index so far.", self.shared.generation),
            "spq_thumbnails_made_total": ("Thumbnails made.", self.thumbnails.made),
            "spq_thumbnails_found_total": ("Thumbnails found on disk.", self.thumbnails.found),
        }
        for pool in self.pools:
            found |= {
                f"spq_{pool.name}_waiting": ("Requests that wait for a thread.", pool.queued),
                f"spq_{pool.name}_running": ("Requests in work.", pool.running),
                f"spq_{pool.name}_rejected_total": ("Requests rejected because of load.", pool.rejected),
                f"spq_{pool.name}_timed_out_total": ("Requests that took too long.", pool.timed_out),
            }
        if self.connections:
            found |= {
                "spq_connections": ("Open connections.", len(self.connections.open)),
                "spq_connections_ended_total": ("Connections that were too slow.", self.connections.ended),
                "spq_connections_refused_total": ("Connections that found no room.", self.connections.refused),
            }
        if self.watcher:
            done, total, failed = self.watcher.progress or (0, 0, 0)
            found |= {
                "spq_sync_running": ("1 while a sync runs.", self.watcher.progress is not None),
                "spq_sync_done": ("Pictures that the sync has checked.", done),
                "spq_sync_total": ("Pictures that the sync will check.", total),
                "spq_sync_failed": ("Pictures that the sync could not read.", failed),
            }
        return found
