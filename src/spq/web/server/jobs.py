"""The report of duplicates. It may take minutes, so it is made in the background, once for each state of the index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spq.data.open import open_images
from spq.dupes.find import READING, STAGES, Options, find_duplicates
from spq.index.image_index import ImageIndex
from spq.web.server.background import Background, StoppedError, log_failure
from spq.web.server.library import Library
from spq.web.server.report_file import ReportFile, state_of
from spq.web.view import report_json

REST = 3.0  # the pause before the next report, as a multiple of the time that the last one took
RETRY_SECONDS = 60.0  # after a failure
WAITING = "waiting for another process of this server, which compares the pictures"
LOOK_SECONDS = 1.0  # between two looks for its report
SURE_SECONDS, SURE_SHARE = 5.0, 0.03  # of a stage, before the rest of it is estimated
Apart = Callable[[], frozenset[frozenset[str]]]


@dataclass(frozen=True)
class Progress:
    """What is done now. since: when the stage began, on the monotonic clock."""

    stage: str = READING
    done: int = 0
    total: int = 0
    since: float = 0.0

    def facts(self, now: float) -> dict[str, Any]:
        """As the API gives it. `remaining`: seconds until the end of the stage, None while that cannot be told."""
        seconds, share = now - self.since, self.done / max(self.total, 1)
        is_sure = seconds >= SURE_SECONDS and share >= SURE_SHARE and self.done < self.total
        return {
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "step": STAGES.index(self.stage) + 1 if self.stage in STAGES else 1,
            "steps": len(STAGES),
            "remaining": round(seconds * (1 - share) / share, 1) if is_sure else None,
        }


class DuplicatesJob:
    """Makes the report when it is first requested, and again when it is requested after a change of the index.

    It is kept on disk, so a server that is started again has it at once. Pauses between reports keep most of the time free for
    searches.

    Args:
        apart: returns the pairs of hashes that the user called no duplicates.
    """

    def __init__(self, library: Library, file: ReportFile, apart: Apart = frozenset) -> None:
        self.library, self.file, self._apart = library, file, apart
        self.progress = Progress()
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
                self.progress, self._error = Progress(since=time.monotonic()), None
                self._thread = Background("dupes", self._work)
                self._thread.start()
            if self._report is None:
                return None, self._error
            return {**self._report, "stale": is_stale}, None

    def facts(self) -> dict[str, Any]:
        """How far the report is, as the API gives it."""
        return self.progress.facts(time.monotonic())

    def stop(self) -> None:
        with self._lock:
            thread, self._is_ended = self._thread, True
        if thread:
            thread.stop()

    def _work(self, thread: Background) -> None:
        generation, start = self.library.shared.generation, time.monotonic()
        report, error = None, None
        try:
            report = self._found(generation, thread)
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

    def _found(self, generation: int, thread: Background) -> dict[str, Any]:
        """The report that is kept, or a new one. Of several processes, one compares."""
        with self.library.shared.open() as index:
            state = state_of(index.store)
            while True:
                if kept := self._kept(state, generation):
                    return kept
                with self.file.making() as is_mine:
                    if is_mine and (kept := self._kept(state, generation)):
                        return kept
                    if is_mine:
                        report = self._compared(index, generation, thread)
                        self.file.write(state, report)
                        return report
                self._note(WAITING, 0, 0)
                if thread.ending.wait(LOOK_SECONDS):
                    raise StoppedError

    def _kept(self, state: str, generation: int) -> dict[str, Any] | None:
        found = self.file.read()
        if found is None:
            return None
        if found[0] == state:
            return {**found[1], "generation": generation}
        with self._lock:
            self._report = self._report or found[1]  # an old one is better than none, and is shown as such
        return None

    def _compared(self, index: ImageIndex, generation: int, thread: Background) -> dict[str, Any]:
        def progress(what: str, done: int, total: int) -> None:
            self._note(what, done, total)
            thread.check()

        images = open_images(index.store.manifest.origin)
        report = find_duplicates(index, images, Options(apart=self._apart()), progress=progress)
        ids = {member.id for group in report.groups for member in (group.keep, *group.others)}
        return report_json(report, generation, index.store.items_by_id(ids))

    def _note(self, stage: str, done: int, total: int) -> None:
        before = self.progress
        since = before.since if before.stage == stage else time.monotonic()
        self.progress = Progress(stage, done, total, since)
