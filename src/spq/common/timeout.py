"""Wait for an answer of the network for some seconds, and no longer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def answer_within(seconds: float, ask: Callable[[], T]) -> T:
    """Return what `ask` returns. A resolver of names may wait for a minute and knows no timeout, so `ask` runs in a thread.

    Raises:
        TimeoutError: it takes longer; the thread ends with the program. Any error of `ask`.

    >>> answer_within(1, lambda: 2)
    2
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return answers[0]
