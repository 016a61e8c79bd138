"""The files that SQLite keeps beside `items.sqlite`: what keeps it from opening them, and what to do about that.

`-wal` and `-journal` are parts of the database: they hold changes that are not in `items.sqlite` yet, or what it was before.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from spq.errors import StoreError

SUFFIXES = ("-wal", "-shm", "-journal")
KEPT = "items.sqlite.damaged"
NEW, WHOLE = "items.sqlite.new", "items.sqlite.new.whole"  # while it is made, and when it is complete


def side_files(folder: Path) -> list[Path]:
    """The places of these files. If `items.sqlite` is a link, they are beside what it links to."""
    database = os.path.realpath(folder / "items.sqlite")
    return [Path(database + suffix) for suffix in SUFFIXES]


def odd_side_files(folder: Path) -> list[Path]:
    """Those that are no regular file, but a link, a pipe or a folder. SQLite would write into some of them."""
    return [file for file in side_files(folder) if _is_odd(file)]


def check_side_files(folder: Path) -> None:
    """Refuse to open a database beside such files.

    Raises:
        StoreError: there is one.
    """
    for file in odd_side_files(folder):
        raise StoreError(f"index {folder}: {file.name} is not a regular file; repair the index")


def mend_odd(file: Path) -> str:
    """Put a file in the place of a link to it, and delete all else that is no regular file. Returns what was done, or nothing.

    Raises:
        StoreError: it is a folder with files in it, or it cannot be deleted.
    """
    if not file.name.endswith("-shm") and file.is_symlink() and file.is_file():
        target = file.resolve()
        try:
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=".") as place:
                shutil.copyfile(target, copy := Path(place) / file.name)
                copy.replace(file)
        except OSError as error:
            raise StoreError(f"{file} is a link to {target}, which cannot be copied: {error.strerror}") from None
        return "the file that it linked to is in its place now"
    return "deleted, as it was not a regular file" if clear_odd(file) else ""


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


def swap(folder: Path) -> None:
    """Put the new database in the place of the damaged one, which is kept with the files beside it.

    If the damaged one is a link, these are beside what it links to, and stay there.
    """
    database, is_link = folder / "items.sqlite", (folder / "items.sqlite").is_symlink()
    if not os.path.lexists(database):
        for file in side_files(folder):  # they would change the new one
            file.unlink(missing_ok=True)
        (folder / NEW).replace(database)
        return
    for suffix in SUFFIXES:  # of an earlier one
        (folder / f"{KEPT}{suffix}").unlink(missing_ok=True)
    (folder / NEW).replace(folder / WHOLE)
    database.replace(folder / KEPT)
    if not is_link:
        _move_side_files(folder)
    (folder / WHOLE).replace(database)


def continue_swap(folder: Path) -> None:
    """Go on with a swap that was killed after the damaged database was moved."""
    if os.path.lexists(folder / WHOLE) and not os.path.lexists(folder / "items.sqlite"):
        _move_side_files(folder)
        (folder / WHOLE).replace(folder / "items.sqlite")


def _move_side_files(folder: Path) -> None:
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            (folder / f"items.sqlite{suffix}").replace(folder / f"{KEPT}{suffix}")
