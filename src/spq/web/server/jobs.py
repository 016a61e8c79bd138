"""The report of duplicates. It may take minutes, so it is made in the background, once for each state of the index."""

from __future__ import annotations

import threading
import time
from typing import Any

from spq.data.open import open_images
from spq.dupes.find import READING, find_duplicates
from spq.web.server.background import Background, StoppedError, log_failure
from spq.web.server.library import Library
from spq.web.view import report_json

REST = 3.0  # the pause before the next report, as a multiple of the time that the last one took
RETRY_SECONDS = 60.0  # after a failure


class DuplicatesJob:
    """Makes the report when it is first requested, and again when it is requested after a change of the index.

    Pauses between reports keep most of the time free for searches.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.progress = (READING, 0, 0)  # stage, done, total
        self._lock = threading.Lock()
        self._report: dict[str, Any] | None = None  # the last successful one
        self._error: str | None = None  # why the last try failed
        self._generation = -1  # of the last try
        self._not_before = 0.0
        self._thread: Background | None = None
        self._is_ended = False

    def report(self) -> tuple[dict[str, Any] | None, str | None]:
        """Return the last report or None, and, if there is no report, why the last try failed."""
        now = self.library.shared.generation
        with self._lock:
            is_stale = self._generation != now or self._error is not None
            if is_stale and not self._is_ended and self._thread is None and time.monotonic() >= self._not_before:
                self.progress, self._error = (READING, 0, 0), None
                self._thread = Background("dupes", self._work)
                self._thread.start()
            if self._report is None:
                return None, self._error
            return {**self._report, "stale": is_stale}, None

    def stop(self) -> None:
        with self._lock:
            thread, self._is_ended = self._thread, True
        if thread:
            thread.stop()

    def _work(self, thread: Background) -> None:
        generation, start = self.library.shared.generation, time.monotonic()
        report, error = None, None
        try:
            report = self._find(generation, thread)
        except StoppedError:
            raise
        except Exception as failure:
            log_failure("duplicates", failure)
            error = "the collection could not be compared; see the server log"
        end = time.monotonic()
        with self._lock:
            self._generation, self._error, self._thread = generation, error, None
            self._report = report or self._report
            self._not_before = end + max(REST * (end - start), RETRY_SECONDS if error else 0.0)

    def _find(self, generation: int, thread: Background) -> dict[str, Any]:
        shared = self.library.shared

        def progress(what: str, done: int, total: int) -> None:
            self.progress = (what, done, total)
            thread.check()

        with shared.open() as index:
            images = open_images(index.store.manifest.origin)
            report = find_duplicates(index, images, progress=progress)
            ids = {member.id for group in report.groups for member in (group.keep, *group.others)}
            return report_json(report, generation, index.store.items_by_id(ids))
