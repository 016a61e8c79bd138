"""How many threads to use, how they wait, and work on many inputs at once."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# How the threads of OpenMP wait: OMP_WAIT_POLICY counts for all of its libraries, but LLVM's and Intel's also need a block time
# of 0, because they spin for 200 ms otherwise. GNU's needs nothing more.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
OTHER_WAIT_VARIABLES = ("GOMP_SPINCOUNT", "KMP_LIBRARY")
AHEAD = 2  # inputs for each worker that are in work or whose results wait: this bounds the memory

T = TypeVar("T")
R = TypeVar("R")


_given: list[int] = []  # the count of `use_threads`, which holds for the process, as that of torch does


def wait_passively() -> bool:
    """Let the threads of OpenMP sleep while they wait, instead of spinning; return whether that was set.

    A thread that spins takes the core from the thread that it waits for, if other programs use the cores too. The libraries read
    the setting when they are loaded, so it must come before. A setting of the user stays.
    """
    is_given = any(name in os.environ for name in (*PASSIVE, *OTHER_WAIT_VARIABLES))
    if is_given or "torch" in sys.modules or "faiss" in sys.modules:
        return False
    os.environ.update(PASSIVE)
    return True


def use_threads(count: int) -> None:
    """Use this many threads from now on: here, and in torch, FAISS and BLAS.

    Call it before NumPy is loaded: its BLAS reads the number only then.
    """
    _given[:] = [count]
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(count)


def cores() -> int:
    """Return how many threads to start: the number of `use_threads`, else how many cores this process may use.

    The machine can have more cores than that.
    """
    if _given:
        return _given[0]
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
