"""The last revision that was committed, in a file beside the database, so that a database that lacks it is noticed.

SQLite takes a database without its `items.sqlite-wal` as it is, without the changes in there. A repair says in the file that the
database lacks something until all is encoded again.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from spq.common.files import read_regular

COMMITTED = ".committed"
_OF = "ifnull((SELECT max(revision) FROM {} WHERE revision < 9e18), 0)"  # text of a damaged row is above all numbers
LAST_REVISION = f"SELECT CAST(max({_OF.format('items')}, {_OF.format('removed')}) AS INTEGER)"
_LACKS = 2**63 - 1  # no revision is as large
_BYTES = 64  # of the file
_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def note_committed(folder: Path, key: str, writer: sqlite3.Connection) -> None:
    """Write down the revision of an index with this key, after a commit. Where that fails, only a check is missing."""
    with suppress(OSError):
        _note(folder, key, writer.execute(LAST_REVISION).fetchone()[0])


def note_lacking(folder: Path, key: str) -> None:
    """Write down that the database lacks something, whatever its revision is.

    Raises:
        OSError: it cannot be written.
    """
    _note(folder, key, _LACKS)


def lacks_changes(folder: Path, key: str, reader: sqlite3.Connection) -> bool:
    """Whether a database with this key is older than what was committed."""
    try:
        noted, revision = read_regular(folder / COMMITTED, _BYTES).decode().split()
        return noted == key and int(revision) > reader.execute(LAST_REVISION).fetchone()[0]
    except (OSError, ValueError):
        return False


def _note(folder: Path, key: str, revision: int) -> None:
    file = os.open(folder / COMMITTED, _FLAGS, 0o666)
    try:
        os.write(file, f"{key} {revision}".ljust(_BYTES - 1).encode() + b"\n")
        os.truncate(file, _BYTES)
    finally:
        os.close(file)
