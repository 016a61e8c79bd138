"""The report of duplicates: it may take minutes, so it is made in the background, once for each state of the index."""

from __future__ import annotations

import threading
import time
from typing import Any

from spq.data.open import open_images
from spq.dupes.find import find_duplicates
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.web.server.library import Library
from spq.web.server.watch import Background, StoppedError, failed
from spq.web.view import told

REST = 3.0  # times as long as the last report took, before the next one is begun
RETRY_SECONDS = 60.0  # after a failure


class DuplicatesJob:
    """Starts when it is first asked for, and again when it is asked for after a change, but never for most of the time."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.progress = (0, 0)
        self._lock = threading.Lock()
        self._report: dict[str, Any] | None = None  # the last that could be made
        self._error: str | None = None  # why the last try failed
        self._generation = -1  # of the last try
        self._not_before = 0.0
        self._at_work: Background | None = None

    def ask(self) -> tuple[dict[str, Any] | None, str | None]:
        """The last report, if there is one, and else why there is none, if it was tried."""
        now = self.library.shared.generation
        with self._lock:
            is_stale = self._generation != now or self._error is not None
            if is_stale and self._at_work is None and time.monotonic() >= self._not_before:
                self.progress, self._error = (0, 0), None
                self._at_work = Background("dupes", self._work)
                self._at_work.start()
            if self._report is None:
                return None, self._error
            return {**self._report, "stale": is_stale}, None

    def stop(self) -> None:
        with self._lock:
            at_work = self._at_work
        if at_work:
            at_work.stop()

    def _work(self, thread: Background) -> None:
        generation, start = self.library.shared.generation, time.monotonic()
        report, error = None, None
        try:
            report = self._find(generation, thread)
        except StoppedError:
            raise
        except Exception as failure:
            failed("duplicates", failure)
            error = "the collection could not be compared; the server's own output says why"
        end = time.monotonic()
        with self._lock:
            self._generation, self._error, self._at_work = generation, error, None
            self._report = report or self._report
            self._not_before = end + max(REST * (end - start), RETRY_SECONDS if error else 0.0)

    def _find(self, generation: int, thread: Background) -> dict[str, Any]:
        shared = self.library.shared

        def progress(done: int, total: int) -> None:
            self.progress = (done, total)
            thread.check()

        with ImageIndex(Store.open(shared.folder), shared.model) as index:
            images = open_images(index.store.manifest.source)
            report = find_duplicates(index, images, progress=progress)
            ids = {member.id for group in report.groups for member in (group.keep, *group.others)}
            return told(report, generation, index.store.items_by_id(ids))
