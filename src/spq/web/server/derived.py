"""What is computed from all codes in the background: once for each state of the index, from the first request on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from spq.index.gallery import Gallery
from spq.index.image_index import ImageIndex
from spq.index.shared import SharedIndex
from spq.web.server.background import Background, StoppedError, log_failure
from spq.web.server.problems import ComputingError, ProblemError

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # stage, done, total
Of = Callable[[Gallery], object]
Make = Callable[[Gallery, ImageIndex, T | None, Progress], T]  # given what was made before

REST = 3.0  # the pause before it is made again, as a multiple of the time that it took
RETRY_SECONDS = 60.0  # after a failure


class Derived(Generic[T]):
    """Makes a value when it is first requested, and again when it is requested after codes have changed.

    Until the new one is ready, requests get the old one.
    """

    def __init__(self, name: str, stage: str, shared: SharedIndex, make: Make[T], of: Of = lambda g: g.scan) -> None:
        """Args: name: of the thread. stage: the first one. of: what the value depends on; by default the codes."""
        self._name, self._first, self._shared, self._make = name, stage, shared, make
        self._lock = threading.Lock()
        self._value: T | None = None
        self._depends_on = of
        self._of: object = None  # of what the value was made, or the last try failed
        self._error = ""
        self._not_before = 0.0
        self._progress = (stage, 0, 0)
        self._thread: Background | None = None
        self._is_ended = False

    def get(self) -> tuple[T, bool]:
        """The value, and whether it is made of the codes of now.

        Raises:
            ComputingError: there is none yet. ProblemError: it could not be made.
        """
        with self._lock:
            is_new = self._of == self._depends_on(self._shared.gallery) and not self._error
            if not is_new and not self._is_ended and self._thread is None and time.monotonic() >= self._not_before:
                self._progress, self._error = (self._first, 0, 0), ""
                self._thread = Background(self._name, self._work)
                self._thread.start()
            if self._value is not None:
                return self._value, is_new
            if self._error:
                raise ProblemError(503, self._error, {"Retry-After": f"{RETRY_SECONDS:.0f}"})
            raise ComputingError(*self._progress)

    def stop(self) -> None:
        with self._lock:
            thread, self._is_ended = self._thread, True
        if thread:
            thread.stop()

    def _work(self, thread: Background) -> None:
        gallery, start = self._shared.gallery, time.monotonic()
        value, error = None, ""

        def progress(stage: str, done: int, total: int) -> None:
            self._progress = (stage, done, total)
            thread.check()

        try:
            with self._shared.open() as index:
                value = self._make(gallery, index, self._value, progress)
        except StoppedError:
            raise
        except Exception as failure:
            log_failure(self._name, failure)
            error = f"{self._name}: this failed; see the server log"
        end = time.monotonic()
        with self._lock:
            self._of, self._error, self._thread = self._depends_on(gallery), error, None
            self._value = self._value if value is None else value
            self._not_before = end + max(REST * (end - start), RETRY_SECONDS if error else 0.0)
