"""All that serves one index, from the start of the server to its end: nothing of it is global."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from spq.index.image_index import ImageIndex
from spq.index.shared import SharedIndex
from spq.web.server.jobs import DuplicatesJob
from spq.web.server.library import Library
from spq.web.server.pictures import Pictures
from spq.web.server.pool import Pool
from spq.web.server.prometheus import Metrics
from spq.web.server.settings import Settings
from spq.web.server.thumbnail_cache import ThumbnailCache
from spq.web.server.watch import Follower, Watcher

T = TypeVar("T")

WAITING_THUMBNAILS = 512  # a page asks for a whole screen at once, and for the next one while it scrolls
PATIENCE_THUMBNAILS = 10.0


class Service:
    """Searches have threads of their own, so that a screen of thumbnails to be made keeps none of them waiting."""

    def __init__(self, index: ImageIndex, settings: Settings) -> None:
        self.settings = settings
        self.shared = SharedIndex(index)
        pictures = Pictures(index.store.manifest.source)
        self.library = Library(self.shared, pictures, settings)
        self.thumbnails = ThumbnailCache(settings.cache, settings.cache_bytes, pictures)
        s = settings
        self.searches = Pool("search", s.workers, s.waiting, s.patience, s.timeout + 1)
        self.makers = Pool("thumbnail", s.workers, WAITING_THUMBNAILS, PATIENCE_THUMBNAILS, s.timeout + 1)
        self.metrics = Metrics()
        self.duplicates = DuplicatesJob(self.library)
        self.follower = Follower(self.library)
        self.watcher = Watcher(self.library, settings) if settings.watch else None

    async def ask(self, function: Callable[..., T], *arguments: object) -> T:
        """A question to the index, in a thread of its own.

        Raises:
            OverloadedError: as `Pool.run`; a search that SQLite takes too long for ends there, too.
        """
        return await self.searches.run(self._within_time, function, *arguments)

    async def make(self, function: Callable[..., T], *arguments: object) -> T:
        """A picture, or facts of an item: many at a time, and each of them quick."""
        return await self.makers.run(self._within_time, function, *arguments)

    def _within_time(self, function: Callable[..., T], *arguments: object) -> T:
        with self.shared.of_thread().store.within(self.settings.timeout):
            return function(*arguments)

    def start(self) -> None:
        self.follower.start()
        if self.watcher:
            self.watcher.start()

    def stop(self) -> None:
        for ending in (self.watcher, self.follower):
            if ending:
                ending.ending.set()
        self.duplicates.stop()
        for ending in (self.watcher, self.follower):
            if ending:
                ending.stop()
        self.searches.close()
        self.makers.close()
        self.shared.close()

    def sync_facts(self) -> dict[str, Any]:
        """What the status says of syncs."""
        if self.watcher:
            return self.watcher.facts()
        return {"sync": None, "sync_error": None, "last_sync": None, "new_since": None}

    def gauges(self) -> dict[str, tuple[str, float]]:
        """What the metrics say of this moment."""
        found: dict[str, tuple[str, float]] = {
            "spq_items": ("Pictures in the index.", len(self.shared.gallery.ids)),
            "spq_generation": ("Changes of the index so far.", self.shared.generation),
            "spq_thumbnails_made_total": ("Thumbnails made.", self.thumbnails.made),
            "spq_thumbnails_found_total": ("Thumbnails found on disk.", self.thumbnails.found),
        }
        for pool in (self.searches, self.makers):
            found |= {
                f"spq_{pool.name}_waiting": ("Requests that wait for a thread.", pool.queued),
                f"spq_{pool.name}_running": ("Requests that a thread works on.", pool.running),
                f"spq_{pool.name}_rejected_total": ("Requests that were sent away.", pool.rejected),
                f"spq_{pool.name}_timed_out_total": ("Requests that were given up.", pool.timed_out),
            }
        if self.watcher:
            done, total, failed = self.watcher.progress or (0, 0, 0)
            found |= {
                "spq_sync_running": ("1 while a sync is at work.", self.watcher.progress is not None),
                "spq_sync_done": ("Pictures that the sync has looked at.", done),
                "spq_sync_total": ("Pictures that it looks at.", total),
                "spq_sync_failed": ("Pictures that it could not read.", failed),
            }
        return found
