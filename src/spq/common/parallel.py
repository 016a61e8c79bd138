"""How many threads and processes there are, how threads wait, and work on many inputs at once."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
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

    The machine can have more cores than that, and a container may use fewer than it sees.
    """
    return _given[0] if _given else _allowed()


def end_at_once_if_threads_work(status: int) -> None:
    """End the process if a thread still works in the background, such as the start of a network that nobody waits for.

    Python would stop that thread where it is; inside of a library, this aborts the process with a message of its own.
    """
    if any(thread.daemon and thread is not threading.current_thread() for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def launched() -> tuple[int, int]:
    """Return rank and number of the processes that `torchrun` has started together; (0, 1) for a process of its own."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def keep_to_quota() -> bool:
    """Let other libraries start as many threads as a container may use; return whether that was set.

    Without it they start one for each core of the machine, and the system stops all of them most of the time. They read the
    number when they are loaded, so it must come before. A setting of the user stays.
    """
    if _allowed() == _visible() or any(name in os.environ for name in THREAD_VARIABLES):
        return False
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(_allowed())))
    return True


def cpu_quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the time that Linux gives to this container, in cores; infinite if there is no limit.

    The nearest limit of this process and of the groups above it counts: `cpu.max`, in older systems `cpu.cfs_quota_us`.

    Args:
        groups: where the groups are mounted. own: the file that names the groups of this process.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        return math.inf
    limits = [math.inf]
    for _, kinds, path in lines:
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = groups / "cpu" if kinds else groups
        folder = top / path.strip("/")  # inside a container it may not exist, and the top is its own group
        limits += [_limit(group) for group in (folder, *folder.parents) if top in (group, *group.parents)]
    return min(limits)


def _limit(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text("utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # ValueError: the quota is `max`
        return math.inf


@cache
def _allowed() -> int:
    return max(1, math.ceil(min(_visible(), cpu_quota())))


def _visible() -> int:
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
