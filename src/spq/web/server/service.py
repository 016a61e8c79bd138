"""The parts of a server for one index, from its start to its end. Nothing is global."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from spq.errors import ShardsMissingError, SPQError, StoreError, TimeLimitError
from spq.index.image_index import ImageIndex
from spq.index.shards.placement import ShardCounts
from spq.web.server.background import log_failure
from spq.web.server.edition import Edition, Editions, Newer
from spq.web.server.explore import Explore
from spq.web.server.kept_pictures import KeptPictures, Uploads
from spq.web.server.library import Library
from spq.web.server.peers import Peers
from spq.web.server.pool import Pool
from spq.web.server.prometheus import Metrics, Value
from spq.web.server.schemas import Ask
from spq.web.server.settings import Settings
from spq.web.server.watch import Follower, Watcher

if TYPE_CHECKING:
    from spq.web.server.connections import Connections

T = TypeVar("T")
A = TypeVar("A", bound=Ask)
P = ParamSpec("P")

TOLD_SECONDS = 1.0  # between two notes for other replicas
TRIES = 3  # of an answer, when each time another index takes the place of the one that is asked
WAITING_THUMBNAILS = 512  # a page requests a whole screen at once, and the next one while it scrolls
PATIENCE_THUMBNAILS = 10.0


class Service:
    """The index of now, its threads, caches and background jobs.

    Searches have their own threads, so that they never wait for thumbnails. Those by uploads, which are decoded first, have
    others, so that they never keep the searches by id waiting.
    """

    def __init__(
        self, index: ImageIndex, settings: Settings, newer: Newer | None = None, peers: Peers | None = None
    ) -> None:
        s = self.settings = settings
        self.peers = peers
        self.editions = Editions(index, settings, newer)
        self.searches = Pool("search", s.search_threads, s.waiting, s.patience, s.timeout + 1)
        self.uploads = Pool("upload", s.workers, s.waiting, s.patience, s.timeout + 1)
        self.pictures_pool = Pool("thumbnail", s.workers, WAITING_THUMBNAILS, PATIENCE_THUMBNAILS, s.timeout + 1)
        self.originals = Pool("original", s.workers, s.waiting, PATIENCE_THUMBNAILS, s.timeout + 1)
        self.pools = (self.searches, self.uploads, self.pictures_pool, self.originals)
        self.metrics = Metrics()
        self.kept = KeptPictures(s.max_kept)
        self.is_warming = self.is_ending = False
        self.connections: Connections | None = None  # unless another server runs the app
        self.follower = Follower(self.editions)
        self.watcher = Watcher(self.editions, settings) if settings.watch else None

    async def run_search(self, ask: Callable[Concatenate[Library, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a query of the index in a search thread.

        Raises:
            OverloadedError: as `Pool.run`. TimeLimitError: SQLite needed too long.
        """
        return await self.searches.run(lambda: self._answer(lambda of: ask(of.library, *arguments, **named)))

    async def run_explore(self, ask: Callable[Concatenate[Explore, P], T], *arguments: P.args, **named: P.kwargs) -> T:
        """As `run_search`, of what concerns the whole collection."""
        return await self.searches.run(lambda: self._answer(lambda of: ask(of.explore, *arguments, **named)))

    async def run_query(self, ask: Callable[[Library, Uploads, A], T], uploads: Uploads, asked: A) -> T:
        """Run a query of the index with uploads, or without any. Descriptors of pictures that are kept are mostly known.

        Raises:
            As `run_search`.
        """
        is_new = uploads.positive or uploads.negative or (asked.pictures and asked.box)
        pool = self.uploads if is_new else self.searches
        return await pool.run(lambda: self._answer(lambda of: ask(of.library, uploads, asked)))

    async def run_short(self, ask: Callable[[Edition], T]) -> T:
        """Get a thumbnail or the facts of an item. Many may run at a time, and each of them is quick."""
        return await self.pictures_pool.run(lambda: self._answer(ask))

    async def run_original(self, ask: Callable[[Edition], T]) -> T:
        """Get an original, which may be large, so that thumbnails do not wait for it."""
        return await self.originals.run(lambda: self._answer(ask))

    def _answer(self, ask: Callable[[Edition], T]) -> T:
        """The answer of one edition, and of no other. If the index was replaced meanwhile, that of the new one."""
        for left in reversed(range(TRIES)):
            with self.editions.use() as edition:
                try:
                    with edition.shared.of_thread().store.within(self.settings.timeout):
                        return ask(edition)
                except (TimeLimitError, ShardsMissingError):
                    raise
                except (StoreError, FileNotFoundError):  # shards of an old index may be gone
                    if not left or not self._is_old(edition):
                        raise
        raise AssertionError

    def _is_old(self, edition: Edition) -> bool:
        """Whether another edition has taken the place of this one, which is looked at now."""
        try:
            return self.editions.renew(edition, is_request=True)
        except (SPQError, OSError) as error:
            log_failure("the index is served as it was", error)
            return False

    def warm(self) -> None:
        """Load the network, so that no search has to wait for it.

        Raises:
            ModelError, StoreError: it does not load, and no newer index has taken its place.
        """
        with self.editions.use() as edition:
            try:
                edition.library.warm()
            except StoreError:
                if not self._is_old(edition):
                    raise
        self.is_warming = False

    @property
    def is_ready(self) -> bool:
        """Whether a search would be answered at once.

        A server stays ready when shards are missing later: others would miss the same ones.
        """
        placement = self.editions.now.shared.placement
        is_held = placement is None or placement.has_been_whole
        return is_held and not (self.is_warming or self.is_ending)

    def start(self) -> None:
        self.follower.start()
        if self.watcher:
            self.watcher.start()

    def stop(self) -> None:
        self.is_ending = True
        for thread in (self.watcher, self.follower):
            if thread:
                thread.ending.set()
        for thread in (self.watcher, self.follower):
            if thread:
                thread.stop()
        for pool in self.pools:
            pool.close()
        self.editions.close()

    def sync_facts(self) -> Mapping[str, Any]:
        """Return what the status says about syncs."""
        if self.watcher:
            return {"watching": True, **self.watcher.facts()}
        told = self.peers.sync() if self.peers and self.peers.number else None
        return told or {"watching": False, "sync": None, "sync_error": None, "last_sync": None, "new_since": None}

    def metrics_text(self) -> str:
        """Return all counts as text, those of other replicas included."""
        own = self.metrics.text(self.gauges())
        return self.peers.metrics(own) if self.peers else own

    async def tell_peers(self) -> None:
        """Note the counts for the other replicas, as long as the server runs."""
        while self.peers:
            self.peers.write(self.metrics.text(self.gauges()), self.sync_facts())
            await asyncio.sleep(TOLD_SECONDS)

    def gauges(self) -> dict[str, tuple[str, Value]]:
        """Return the current values for the metrics: name -> (help, value)."""
        now = self.editions.now
        found: dict[str, tuple[str, Value]] = {
            "spq_items": ("Pictures in the index.", len(now.shared.gallery)),
            "spq_generation": ("Changes of the index so far.", now.shared.generation),
            "spq_thumbnails_made_total": ("Thumbnails made.", now.thumbnails.made),
            "spq_thumbnails_found_total": ("Thumbnails found on disk.", now.thumbnails.found),
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
        return found | _of_shards(now.shared.shard_counts())


def _of_shards(shards: Sequence[ShardCounts]) -> dict[str, tuple[str, Value]]:
    """The values of each shard; none for an index without shards. What only holders know is left out without them."""

    def each(value: Callable[[ShardCounts], float]) -> Value:
        return {(("shard", s.name), *((("holder", str(s.holder)),) if s.is_held else ())): value(s) for s in shards}

    found = {
        "spq_shard_items": (
            "Pictures in a shard, without those that were changed or removed.",
            each(lambda s: s.items),
        ),
        "spq_shard_tombstones": (
            "Pictures of a shard that were changed or removed since.",
            each(lambda s: s.tombstones),
        ),
    }
    if any(shard.is_held for shard in shards):
        found |= {
            "spq_shard_up": ("1 while the holder of a shard can search it.", each(lambda s: s.is_up)),
            "spq_shard_searches_total": ("Searches of a shard, failed ones included.", each(lambda s: s.searches)),
            "spq_shard_failures_total": (
                "Searches that its holder did not answer in time, or was down for.",
                each(lambda s: s.failures),
            ),
            "spq_shard_seconds_total": ("Seconds until its holder answered, summed.", each(lambda s: s.seconds)),
        }
    return found if shards else {}
