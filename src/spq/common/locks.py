"""Locks between processes, on every system: a file that one process holds. The system releases it when a process is killed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spq.common.files import check_regular

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL_SECONDS = 0.05


@contextmanager
def held(path: Path, wait: float = 0, stays: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made if it does not exist.

    If the file or its folder is replaced while this waits, the new file is locked.

    Args:
        wait: seconds to wait for another process; math.inf waits without end.
        stays: whether the file stays at the end.
    Raises:
        BlockingIOError: another process holds it. OSError: the file cannot be written, or the disk has no locks.
    """
    lock = _acquire(path, time.monotonic() + wait)
    try:
        yield
    finally:
        if not stays:
            with suppress(OSError):  # Windows removes no open file
                path.unlink()
        lock.release()


def _acquire(path: Path, end: float) -> BaseFileLock:
    from filelock import FileLock, Timeout  # slow to import

    while True:
        _check_place(path)
        path.open("ab").close()  # with the permissions that other files get, so that a group can share it
        try:
            before = path.stat()
        except FileNotFoundError:  # its holder has just removed it
            continue
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            if time.monotonic() >= end:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path)) from None
            time.sleep(POLL_SECONDS)
            continue
        except NotImplementedError:  # a network share
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(path)) from None
        if _is_same(path, before):
            return lock
        lock.release()  # of a file that is no longer there


def _check_place(path: Path) -> None:
    """Refuse a folder, a pipe, which would wait for a reader, and a link, which would make a file somewhere else."""
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        check_regular(path)
    except FileNotFoundError:
        pass
    except (ValueError, IsADirectoryError) as error:
        what = "it is a folder" if isinstance(error, IsADirectoryError) else error
        raise OSError(errno.EINVAL, f"no lock file: {what}; delete it", str(path)) from None


def _is_same(path: Path, before: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), before)
    except FileNotFoundError:
        return False
