"""Threads beside the server: one follows the index on disk, one keeps the index in step with its collection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import SPQError
from spq.index.manifest import read_manifest
from spq.index.shared import SharedIndex
from spq.index.sync import SyncReport
from spq.web.server.background import Background, StoppedError, log_failure
from spq.web.server.edition import Editions
from spq.web.server.settings import Settings

FOLLOW_SECONDS = 0.5
LOGGED = 20  # remarks on a collection that go into the log
DUTY = 20  # checks of the collection take at most 1/20 of the time, however large it is
_LOG = logging.getLogger("spq.serve")


class Follower(Background):
    """Loads what other processes write to the index, so that no search has to wait for it."""

    def __init__(self, editions: Editions) -> None:
        super().__init__("follow", self._follow)
        self.editions = editions

    def _follow(self, _: Background) -> None:
        pause, reason = 0.0, ""
        while not self.ending.wait(pause):
            start = time.monotonic()
            try:
                if not self.editions.renew(self.editions.now):
                    with self.editions.use() as edition:
                        edition.prepare()
                        edition.shared.refresh()
                reason = ""
            except Exception as error:
                reason = log_failure("the index is served as it was", error, reason)
            pause = max(FOLLOW_SECONDS, 5 * (time.monotonic() - start))


class Watcher(Background):
    """Checks the collection regularly, and syncs the index when something has changed.

    Attributes:
        progress: (done, total, failed) of a running sync.
        last: counts and time of the last sync that found changes.
        since: generation before that sync.
    """

    def __init__(self, editions: Editions, settings: Settings) -> None:
        super().__init__("watch", self._watch)
        self.editions, self.settings = editions, settings
        self.progress: tuple[int, int, int] | None = None
        self.last: dict[str, Any] | None = None
        self.since: int | None = None
        self._reason = ""  # why the last check failed
        self._known: int | None = None  # the state of the collection that is in the index
        self._known_to: SharedIndex | None = None
        self._remarks: list[tuple[str, str]] = []

    def facts(self) -> dict[str, Any]:
        """Return what the status says about syncs."""
        progress = self.progress
        # visitors from other machines should not learn the names of folders
        error = self._reason if self.settings.is_local else self._reason and "it failed; see the server log"
        sync = progress and {"done": progress[0], "total": progress[1], "failed": progress[2], "running": True}
        return {"sync": sync, "sync_error": error or None, "last_sync": self.last, "new_since": self.since}

    def _watch(self, _: Background) -> None:
        pause = 0.0
        while not self.ending.wait(pause):
            pause = self.settings.watch_seconds
            try:
                pause = max(pause, DUTY * self._check())
                self._reason = ""
            except StoppedError:
                raise
            except Exception as error:
                self._reason = log_failure("watch", error, self._reason)
            finally:
                self.progress = None

    def _check(self) -> float:
        """Sync if the collection has changed. Return the seconds that the check alone took."""
        with self.editions.use() as edition:
            return self._check_of(edition.shared)

    def _check_of(self, shared: SharedIndex) -> float:
        start = time.monotonic()
        images = open_images(read_manifest(shared.folder).origin)
        state = _state(images, self.check)
        if images.remarks != self._remarks:
            self._remarks = images.remarks
            for file, remark in images.remarks[:LOGGED]:
                _LOG.info("note: %s: %s", file, remark)
        seconds = time.monotonic() - start
        if state == self._known and shared is self._known_to:
            return seconds
        self._known_to = shared
        before = shared.generation
        with shared.open(wait=30) as index:
            self.progress = (0, 0, 0)
            report = index.sync(images, progress=self._progress)
        settled = {
            *(path for path, _ in images.unopened),
            *report.unmounted,
        }  # the state tells if one of them comes back
        self._known = (
            state if all(path in settled for path, _ in report.unseen) else None
        )  # others may be readable soon
        if report.added or report.changed or report.removed or report.renamed or report.described:
            self._note(report, before)
            shared.refresh()
        return seconds

    def _progress(self, done: int, total: int, failed: int) -> None:
        self.progress = (done, total, failed)
        self.check()

    def _note(self, report: SyncReport, before: int) -> None:
        counts = {name: getattr(report, name) for name in ("added", "changed", "removed", "renamed")}
        self.last = {**counts, "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")}
        self.since = before
        bad = f"; {len(report.failed)} unreadable, the first is {report.failed[0][0]}" if report.failed else ""
        _LOG.info("synced: %s%s", ", ".join(f"{count} {name}" for name, count in counts.items()), bad)


def _state(images: ImageSet, check: Callable[[], None]) -> int:
    """Return a number that changes when a picture or its metadata changes. It needs one `stat` per picture."""
    state = hash((tuple(images.ids), None if images.labels is None else images.labels.tobytes()))
    state ^= hash(tuple((name, *values) for name, values in images.metadata.items()))
    for position in range(len(images)):
        if position % 1000 == 0:
            check()
        try:
            state = hash((state, images.status(position)))
        except SPQError:
            state = hash((state, None))
    return state
