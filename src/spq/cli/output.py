"""Messages on stderr. Data goes to stdout."""

from __future__ import annotations

import sys

from spq.common.text import printable


def note(text: str) -> None:
    """Print lines on stderr, unless the text is empty."""
    if text:
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def fail(message: str, status: int) -> int:
    """Print an error as one line on stderr; returns the exit status."""
    note(f"spq: {printable(message)}")
    return status
