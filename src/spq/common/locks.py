"""Locks between processes, on every system: a file that one process holds. The system releases it when a process is killed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL_SECONDS = 0.05


@contextmanager
def held(path: Path, wait: float = 0) -> Iterator[None]:
    """Hold the lock of a file, which is made if it does not exist, and stays.

    If the folder of the file is replaced while this waits, the new file is locked.

    Args:
        wait: seconds to wait for another process; math.inf waits without end.
    Raises:
        BlockingIOError: another process holds it. OSError: the file cannot be written.
    """
    lock = _acquire(path, time.monotonic() + wait)
    try:
        yield
    finally:
        lock.release()


def _acquire(path: Path, end: float) -> BaseFileLock:
    from filelock import FileLock, Timeout  # slow to import

    while True:
        path.open("ab").close()  # with the permissions that other files get, so that a group can share it
        before = path.stat()
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            if time.monotonic() >= end:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path)) from None
            time.sleep(POLL_SECONDS)
            continue
        if _is_same(path, before):
            return lock
        lock.release()  # of a file that is no longer there


def _is_same(path: Path, before: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), before)
    except FileNotFoundError:
        return False
