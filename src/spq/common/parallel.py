"""How many cores may be used, and work on many inputs at once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2  # inputs for each worker that are in work or whose results wait: this bounds the memory

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many cores this process may use. They can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slices(count: int, size: int) -> Iterator[slice]:
    """Split 0..count into parts of at most `size`.

    >>> list(slices(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def map_in_order(
    work: Callable[[T], R],
    inputs: Iterable[T],
    workers: int,
    stopped: threading.Event,
    start: Callable[[], None] | None = None,
) -> Generator[R, None, None]:
    """Run `work` on each input in threads, and yield the results in the order of the inputs.

    The threads are at most `AHEAD * workers` inputs ahead of the consumer, so memory stays bounded. When the generator
    ends, is closed, or raises, it sets `stopped`, drops the inputs that wait, and waits for the threads.

    Args:
        inputs: read only as fast as results are taken.
        stopped: `work` should look at it now and then, and end early when it is set.
        start: called once in each new thread.
    Raises:
        Exception: what `work` or `inputs` raises, at the position of its input.
    """
    ahead = deque[Future[R]]()
    pool = ThreadPoolExecutor(workers, "spq-worker", initializer=start)
    try:
        for value in inputs:
            if len(ahead) == AHEAD * workers:
                yield ahead.popleft().result()
            ahead.append(pool.submit(work, value))
        while ahead:
            yield ahead.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` values; the last may be shorter.

    >>> list(batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    batch: list[T] = []
    for value in values:
        batch.append(value)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
