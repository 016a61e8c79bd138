"""The server's log on stderr: what clients send cannot command a terminal, add lines, or fill a disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

from spq.common.text import printable

LINES, SECONDS = 20, 60.0  # messages of each kind that are written in so many seconds


class ServerLog(logging.StreamHandler[TextIO]):
    """Writes the first messages of each kind (logger and level) in each minute, and then how many it left out."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self.clock = clock
        self.setFormatter(_Printable())
        self._kinds: dict[
            tuple[str, int], tuple[float, int]
        ] = {}  # kind -> start of its minute, and messages since then

    def emit(self, record: logging.LogRecord) -> None:
        kind, now = (record.name, record.levelno), self.clock()
        start, count = self._kinds.get(kind, (now, 0))
        if now - start >= SECONDS:
            if count > LINES:
                super().emit(_summary(record, count - LINES))
            start, count = now, 0
        self._kinds[kind] = (start, count + 1)
        if count < LINES:
            super().emit(record)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        first = printable(record.getMessage())
        if not record.exc_info:
            return f"spq: {first}"
        return "\n".join(["spq: " + first, *map(printable, self.formatException(record.exc_info).split("\n"))])


def _summary(record: logging.LogRecord, count: int) -> logging.LogRecord:
    text = f"{count:,} more messages of {record.name} ({record.levelname.lower()}) were left out"
    return logging.LogRecord(record.name, record.levelno, "", 0, text, None, None)
