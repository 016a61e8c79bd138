"""Messages on stderr, and text on stdout. Names in them cannot command a terminal. JSON needs no care: it spells them out."""

from __future__ import annotations

import sys

from spq.common.text import printable


def note(text: str) -> None:
    """Print lines on stderr, unless the text is empty."""
    if text:
        sys.stderr.write(_lines(text) + "\n")  # in one piece, as a signal may come after it
        sys.stderr.flush()


def show(text: str) -> None:
    """Print lines on stdout."""
    print(_lines(text))


def fail(message: str, status: int) -> int:
    """Print an error as one line on stderr; returns the exit status."""
    note(f"spq: {printable(message)}")
    return status


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
