"""What lies in an index folder, `manifest.json` and `items.sqlite`: their format, how it is migrated, who may write."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

from spq.config import from_dict
from spq.errors import ConfigError, StoreError

C = TypeVar("C", bound=sqlite3.Connection)
FORMAT = 2
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # the second where SQLite's message quotes a damaged schema
_NEW = ".manifest."  # start of the name of a manifest that is still being written
_LOCK = ".lock"

_TABLES = (
    """CREATE TABLE items (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an id is never given twice
        path TEXT NOT NULL UNIQUE,
        hash BLOB,                             -- of the picture's bytes
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        width INTEGER,
        height INTEGER,
        status INTEGER NOT NULL,               -- 0 encoded, 1 unreadable
        reason TEXT,
        code BLOB                              -- M bytes, one sub-code each
    )""",
)
_TO_FORMAT_2 = (
    "ALTER TABLE items ADD COLUMN metadata TEXT",  # a JSON object: the collection's columns, and its label
    "ALTER TABLE items ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",  # number of the change that last wrote the row
    "DROP INDEX IF EXISTS items_by_hash",
    "CREATE INDEX items_by_hash ON items (substr(hash, 1, 8))",  # as good as the whole hash, in half the bytes
    "CREATE INDEX items_by_revision ON items (revision)",
    "CREATE INDEX items_without_code ON items (status) WHERE status = 1",
    # What was dropped, so that readers can follow. Row 0 stands for older ones that are no longer listed.
    "CREATE TABLE removed (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL)",
    "CREATE INDEX removed_by_revision ON removed (revision)",
    "PRAGMA user_version = 2",
)


@dataclass(frozen=True)
class Manifest:
    """What the codes of an index are."""

    format: int
    spq_version: str
    model: str  # hash of the model that made the codes
    distance: str
    num_codebooks: int
    codebook_size: int
    bits: int
    source: str = ""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder.

    Raises:
        StoreError: no index there, damaged, or of a newer format.
    """
    try:
        content = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no index at {folder}; make one with spq index IMAGES --model MODEL --out {folder}") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"index {folder}: manifest.json is unreadable ({error}); restore it or index anew") from None
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise StoreError(f"index {folder} has format {content['format']}, this spq reads up to {FORMAT}; update spq")
    try:
        return from_dict(Manifest, content, where=f"{folder}/manifest.json")
    except (ConfigError, TypeError) as error:
        raise StoreError(f"{error}; restore the file or index anew") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """The folder becomes an index here, in one step."""
    temporary = folder / f"{_NEW}{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(manifest), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "manifest.json")
    handle = os.open(folder, os.O_RDONLY)  # or a power cut may undo the renaming, but not what is written afterwards
    os.fsync(handle)
    os.close(handle)


def has_index(folder: Path) -> bool:
    """Whether there is an index; False where one may be made: no folder, an empty one, or what a killed creation left.

    Raises:
        StoreError: the folder holds something else.
    """
    if (folder / "manifest.json").exists():
        return True
    if not folder.exists():
        return False
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else [folder.name]
    if not all(name == _LOCK or name.startswith((_NEW, "items.sqlite")) for name in names):
        raise StoreError(f"{folder} exists and is not an index; give another --out")
    if "items.sqlite" in names and _holds_items(folder):
        raise StoreError(f"index {folder} has lost its manifest.json; restore it, or delete the folder and index anew")
    return False


def _holds_items(folder: Path) -> bool:
    """False where a creation was killed before the manifest was in place."""
    with closing(_connect(folder, "mode=ro", Reader)) as connection:
        try:
            return bool(connection.execute("SELECT id FROM items LIMIT 1").fetchall())
        except sqlite3.OperationalError as error:
            return "no such table" not in str(error)
        except SQLITE_ERRORS:
            return True


@contextmanager
def locked(folder: Path, wait: float = 0) -> Iterator[None]:
    """The right to write: one writer at a time.

    Args:
        wait: seconds to wait for another process to end.
    Raises:
        StoreError: another process has it.
    """
    end = time.monotonic() + wait
    with (folder / _LOCK).open("ab") as lock:
        while not _taken(lock):
            if time.monotonic() >= end:
                raise StoreError(f"another process is writing to index {folder}; wait for it to end, or give --wait")
            time.sleep(0.05)
        yield


def _taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when a process is killed
    except BlockingIOError:
        return False
    return True


def open_writer(folder: Path) -> sqlite3.Connection:
    """A connection that writes, for the holder of the lock. Tables are made, or brought to this format, at one blow."""
    connection = _connect(folder, "mode=rwc", sqlite3.Connection)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was reported done survives a power cut
        if format_of(connection) < FORMAT:
            _migrate(folder, connection)
    except BaseException:
        connection.close()
        raise
    return connection


class Reader(sqlite3.Connection):
    """A connection that cannot write."""

    taken_as: tuple[Path, tuple[int, ...]] | None = None  # the folder, and the files that SQLite is told never change

    def is_outdated(self) -> bool:
        """Whether files that were taken as unchanging are others by now. Not between two questions of one snapshot."""
        return self.taken_as is not None and not self.in_transaction and _files(self.taken_as[0]) != self.taken_as[1]


def open_reader(folder: Path) -> Reader:
    """WAL keeps files beside the database; who may not write there, and on read-only media, has to do without."""
    try:
        return _probed(_connect(folder, "mode=ro", Reader))
    except sqlite3.OperationalError:
        files, log = _files(folder), folder / "items.sqlite-wal"
        if os.access(folder, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        reader = _probed(_connect(folder, "mode=ro&immutable=1", Reader))
        reader.taken_as = folder, files
        return reader


def _files(folder: Path) -> tuple[int, ...]:
    """What changes whenever somebody writes to the index, or is about to."""
    try:
        status = (folder / "items.sqlite").stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, (folder / "items.sqlite-wal").exists()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has already undone it
            connection.execute("ROLLBACK")
        raise


def format_of(connection: sqlite3.Connection) -> int:
    """The format of the tables. That of the manifest runs ahead of it where a migration was cut off."""
    return max(1, int(connection.execute("PRAGMA user_version").fetchone()[0]))


def _connect(folder: Path, options: str, kind: type[C]) -> C:
    uri = f"{(folder / 'items.sqlite').absolute().as_uri()}?{options}"
    connection: C = sqlite3.connect(
        uri, uri=True, timeout=30, check_same_thread=False, isolation_level=None, factory=kind
    )
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return connection


def _migrate(folder: Path, connection: sqlite3.Connection) -> None:
    if has_index(folder) and (manifest := read_manifest(folder)).format < FORMAT:
        write_manifest(
            folder, replace(manifest, format=FORMAT)
        )  # first, to keep out an spq that knows the old one only
    with transaction(connection):
        is_new = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchall()
        for statement in (*(_TABLES if is_new else ()), *_TO_FORMAT_2):
            connection.execute(statement)


def _probed(connection: C) -> C:
    """The connection, if it can be read from: SQLite opens a file at the first question."""
    try:
        connection.execute("SELECT id FROM items LIMIT 1").fetchall()
    except SQLITE_ERRORS:
        connection.close()
        raise
    return connection
