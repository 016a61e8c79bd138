"""The files that SQLite keeps beside `items.sqlite`: what keeps it from opening them, and what to do about that."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from spq.errors import StoreError

SUFFIXES = ("-wal", "-shm", "-journal")


def side_files(folder: Path) -> list[Path]:
    """The places of these files. If `items.sqlite` is a link, they are beside what it links to."""
    database = os.path.realpath(folder / "items.sqlite")
    return [Path(database + suffix) for suffix in SUFFIXES]


def odd_side_files(folder: Path) -> list[Path]:
    """Those that are no regular file, but a link, a pipe or a folder. Nothing in them belongs to the index."""
    return [file for file in side_files(folder) if _is_odd(file)]


def _is_odd(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def why_blocked(folder: Path, access: int = os.R_OK) -> str:
    """Say which side file keeps SQLite from opening the database, and what to do; empty if none does.

    No file is opened here: closing it would release the locks that SQLite has on it in this process.

    Args:
        access: what must be allowed, os.R_OK or os.W_OK.
    """
    for file in odd_side_files(folder):
        return f"{file} is not a regular file; repair the index"
    for file in side_files(folder):
        if os.path.lexists(file) and not os.access(file, access):
            what = "written" if access & os.W_OK else "read"
            return f"{file} cannot be {what}: Permission denied; give yourself permission"
    return ""


def clear_odd(path: Path) -> bool:
    """Delete what is in the place of a file and is not a regular file. Returns whether something was there.

    Raises:
        StoreError: it is a folder with files in it, or it cannot be deleted.
    """
    if not _is_odd(path):
        return False
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            path.rmdir()
        else:
            path.unlink()
    except OSError as error:
        raise StoreError(f"{path} is not a regular file, and stays ({error.strerror}); move it away") from None
    return True
