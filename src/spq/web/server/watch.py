"""While serving: follow what others write to the index, and with `--watch` write what has changed in the collection."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import SPQError
from spq.index.image_index import ImageIndex
from spq.index.store import Store, read_manifest
from spq.index.sync import SyncReport
from spq.web.server.library import Library
from spq.web.server.settings import Settings

FOLLOW_SECONDS = 0.5
DUTY = 20  # a look at the collection takes at most a twentieth of the time, however large it is
_LOG = logging.getLogger("spq.serve")


class StoppedError(Exception):
    """The server ends; what was committed is kept."""


class Background:
    """A thread of lower priority that is told when the server ends."""

    def __init__(self, name: str, work: Callable[[Background], None]) -> None:
        self.ending = threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"spq-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        self.ending.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def check(self) -> None:
        """
        Raises:
            StoppedError: the server ends.
        """
        if self.ending.is_set():
            raise StoppedError

    def _run(self) -> None:
        with suppress(
            AttributeError, OSError
        ):  # on Linux a thread has a priority of its own, and its threads inherit it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        with suppress(StoppedError):
            self._work(self)


def failed(what: str, error: Exception, before: str = "") -> str:
    """Say once, on the server's output, why work in the background failed; returns the reason in one line.

    A mistake of ours does not end the work either: the next try may do better.
    """
    if isinstance(error, SPQError | OSError):
        reason = str(error) if isinstance(error, SPQError) else f"{error.strerror or error}"
        if reason != before:
            _LOG.warning("%s: %s", what, reason)
        return reason
    reason = f"a mistake of spq: {type(error).__name__}"
    if reason != before:
        _LOG.error("%s: a mistake of spq", what, exc_info=error)
    return reason


class Follower(Background):
    """Keeps codes in memory in step with the store, so that no search has to."""

    def __init__(self, library: Library) -> None:
        super().__init__("follow", self._follow)
        self.library = library

    def _follow(self, _: Background) -> None:
        pause, told = FOLLOW_SECONDS, ""
        while not self.ending.wait(pause):
            start = time.monotonic()
            try:
                self.library.shared.refresh()
                told = ""
            except Exception as error:
                told = failed("following the index", error, told)
            pause = max(FOLLOW_SECONDS, 5 * (time.monotonic() - start))


class Watcher(Background):
    """Looks at the collection again and again, and syncs the index where anything differs.

    Attributes:
        progress: (done, total, failed) of a sync at work. last: what the last one that found changes did, and its time.
        since: generation before the last sync that found changes.
    """

    def __init__(self, library: Library, settings: Settings) -> None:
        super().__init__("watch", self._watch)
        self.library, self.settings = library, settings
        self.progress: tuple[int, int, int] | None = None
        self.last: dict[str, Any] | None = None
        self.since: int | None = None
        self._reason = ""  # why the last look failed
        self._known: int | None = None

    def facts(self) -> dict[str, Any]:
        """For the status."""
        progress = self.progress
        # who may look at pictures from elsewhere need not know in which folders they are
        error = self._reason if self.settings.is_local else self._reason and "it failed; the server's output says why"
        sync = progress and {"done": progress[0], "total": progress[1], "failed": progress[2], "running": True}
        return {"sync": sync, "sync_error": error or None, "last_sync": self.last, "new_since": self.since}

    def _watch(self, _: Background) -> None:
        pause = 0.0
        while not self.ending.wait(pause):
            pause = self.settings.watch_seconds
            try:
                pause = max(pause, DUTY * self._look())
                self._reason = ""
            except StoppedError:
                raise
            except Exception as error:
                self._reason = failed("watch", error, self._reason)
            finally:
                self.progress = None

    def _look(self) -> float:
        """Sync where that is due; returns the seconds that looking alone took."""
        shared, start = self.library.shared, time.monotonic()
        images = open_images(read_manifest(shared.folder).source)
        state = _state(images, self.check)
        seconds = time.monotonic() - start
        if state == self._known:
            return seconds
        before = shared.generation
        with ImageIndex(Store.open(shared.folder, wait=30), shared.model) as index:
            self.progress = (0, 0, 0)
            report = index.sync(images, progress=self._progress)
        self._known = state if set(report.unseen) <= set(images.unopened) else None  # the others may be seen next time
        if report.added or report.changed or report.removed or report.renamed or report.described:
            self._note(report, before)
        return seconds

    def _progress(self, done: int, total: int, failed: int) -> None:
        self.progress = (done, total, failed)
        self.check()

    def _note(self, report: SyncReport, before: int) -> None:
        counts = {name: getattr(report, name) for name in ("added", "changed", "removed", "renamed")}
        self.last = {**counts, "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")}
        self.since = before
        self.library.shared.refresh()
        _LOG.info("synced: %s", ", ".join(f"{count} {name}" for name, count in counts.items()))


def _state(images: ImageSet, check: Callable[[], None]) -> int:
    """A number that differs when any picture does; one `stat` each. Metadata counts, too."""
    state = hash((tuple(images.ids), None if images.labels is None else images.labels.tobytes()))
    state ^= hash(tuple((name, *values) for name, values in images.metadata.items()))
    for position in range(len(images)):
        if position % 1000 == 0:
            check()
        try:
            state = hash((state, images.stat(position)))
        except SPQError:
            state = hash((state, None))
    return state
