"""A thread beside the server, and the log of its failures."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from spq.errors import SPQError

_LOG = logging.getLogger("spq.serve")


class StoppedError(Exception):
    """The server ends. What was committed is kept."""


class Background:
    """A thread of lower priority. `ending` is set when the server ends."""

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
        """Raise an error if the server ends.

        Raises:
            StoppedError: the server ends.
        """
        if self.ending.is_set():
            raise StoppedError

    def _run(self) -> None:
        with suppress(AttributeError, OSError):  # on Linux each thread has a priority, and its own threads inherit it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            self._work(self)
        except StoppedError:
            pass
        except Exception:  # such as an import while Python ends
            if not self.ending.is_set():
                raise


def log_failure(what: str, error: Exception, before: str = "") -> str:
    """Log why work in the background failed, and return the reason in one line.

    An internal error does not end the work either: the next try may succeed.

    Args:
        before: the reason of the last failure. The same reason is logged only once.
    """
    if isinstance(error, SPQError | OSError):
        reason = str(error) if isinstance(error, SPQError) else f"{error.strerror or error}"
        if reason != before:
            _LOG.warning("%s: %s", what, reason)
        return reason
    reason = f"internal error: {type(error).__name__}"
    if reason != before:
        _LOG.error("%s: internal error", what, exc_info=error)
    return reason
