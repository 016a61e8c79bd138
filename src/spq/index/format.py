"""The files of an index folder: `items.sqlite`, its format and migration, how it is opened, and the write lock."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from spq.common.files import check_regular, is_full, why_shut
from spq.common.locks import held
from spq.common.text import composed, lowered
from spq.data.decode import first_line
from spq.errors import ModelMismatchError, StoreError
from spq.index import checksums
from spq.index.committed import COMMITTED, lacks_changes
from spq.index.connection import Connection
from spq.index.items import text_bytes
from spq.index.manifest import (
    FORMAT,
    NEW,
    SHARDED,
    Manifest,
    as_text,
    has_lost_manifest,
    newer_format,
    read_manifest,
    why_lost,
    write_manifest,
)
from spq.index.side_files import check_side_files, why_blocked

C = TypeVar("C", bound=Connection)
METADATA_SINCE = 2  # format from which items have metadata and revisions
CTIME_SINCE = 3  # format from which items have the time of last change of the file's entry
CHECKED_SINCE = 4  # format from which rows have checksums
REPAIR = "repair the index, or restore it from a backup"
SQLITE_ERRORS = (sqlite3.Error, UnicodeError, OverflowError)  # if a damaged schema is quoted, or a number is too large
LOCK = ".lock"
NOT_DUPLICATES = "not-duplicates.jsonl"  # pairs that the user said are no duplicates; it outlives a change of the model
DECISIONS, DECISIONS_LOCK = "decisions.json", "decisions.lock"  # about copies, made in the page of `spq serve`
PAIRS_BYTES = 2**28  # that file has at most; about 700,000 pairs

_TABLES = (
    """CREATE TABLE items (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- an id is never used again
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
TO_FORMAT_2 = (
    "ALTER TABLE items ADD COLUMN metadata TEXT",  # a JSON object: the collection's columns, and its label
    "ALTER TABLE items ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",  # of the change that last wrote the row
    "DROP INDEX IF EXISTS items_by_hash",
    "CREATE INDEX items_by_hash ON items (substr(hash, 1, 8))",  # as selective as the whole hash, in half the bytes
    "CREATE INDEX items_by_revision ON items (revision)",
    "CREATE INDEX items_without_code ON items (status) WHERE status = 1",
    # Removed items, so that readers can follow. Row 0 stands for older ones that are no longer listed.
    "CREATE TABLE removed (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL)",
    "CREATE INDEX removed_by_revision ON removed (revision)",
    "PRAGMA user_version = 2",
)
TO_FORMAT_3 = (
    "ALTER TABLE items ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0",  # 0 if it is unknown
    "PRAGMA user_version = 3",
)
TO_FORMAT_4 = (
    'ALTER TABLE items ADD COLUMN "check" INTEGER',  # checksum of the row, see `checksums.py`
    # One row: the key of the index and the model of the codes, which the manifest names too, a copy of the manifest, and sums
    # over the items, so that a lost one is noticed.
    """CREATE TABLE contents (
        key INTEGER NOT NULL, model TEXT NOT NULL, manifest TEXT NOT NULL,
        items INTEGER NOT NULL, encoded INTEGER NOT NULL, code_sum INTEGER NOT NULL, fact_sum INTEGER NOT NULL
    )""",
    "INSERT INTO contents VALUES (abs(random() >> 1), '', '', 0, 0, 0, 0)",
    f'UPDATE items SET "check" = {checksums.of_row()}',
    f"UPDATE contents SET (items, encoded, code_sum, fact_sum) = ({checksums.SUMS})",
    "PRAGMA user_version = 4",
)


def has_index(folder: Path) -> bool:
    """Whether the folder is an index. False if one can be made: no folder, an empty one, or an interrupted creation.

    Raises:
        StoreError: the folder holds something else.
    """
    if (folder / "manifest.json").exists():
        return True
    if not folder.exists():
        return False
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else [folder.name]
    if has_lost_manifest(folder) and _holds_items(folder):
        raise StoreError(why_lost(folder))
    if not all(name in (LOCK, COMMITTED) or name.startswith((NEW, "items.sqlite")) for name in names):
        raise StoreError(f"{folder} exists and is not an index; give another folder")
    return False


def _holds_items(folder: Path) -> bool:
    """False if a creation was interrupted before the manifest was written."""
    error: Exception | None = None
    for options in ("mode=ro", "mode=rw"):  # the second one takes back what a killed process had begun
        with closing(_connect(folder, options, Reader)) as connection:
            try:
                return bool(connection.execute("SELECT id FROM items LIMIT 1").fetchall())
            except SQLITE_ERRORS as failure:
                error = failure
        if "no such table" in str(error):
            return False
    return True


@contextmanager
def locked(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold the write lock: one writer at a time.

    Args:
        wait: seconds to wait for another process to end.
    Raises:
        StoreError: another process holds it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / LOCK, wait))
        except BlockingIOError:
            raise StoreError(
                f"another process is writing to index {folder}; try again when it ends, or set `wait`"
            ) from None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise StoreError(
                f"index {folder} cannot be written: {error.strerror}; copy it to a place that can be written"
            ) from None
        yield


def open_writer(folder: Path, manifest: Manifest | None = None, may_lack: bool = False) -> sqlite3.Connection:
    """A connection for writing. The caller holds the lock. Tables are made, or migrated to this format, in one transaction.

    Args:
        manifest: of an index that has none yet. It is written last: with a manifest, the index is complete.
    Raises:
        StoreError: the manifest is damaged, or of another database.
    """
    is_new = manifest is not None and not has_index(folder)
    manifest = replace(manifest, key="", codebooks="", model_files="") if manifest and is_new else read_manifest(folder)
    if manifest.format < FORMAT:
        manifest = replace(manifest, format=FORMAT, key="")
        write_manifest(folder, manifest)  # first, so that an older spq refuses the index
    if manifest.key and not (folder / "items.sqlite").exists():
        raise StoreError(f"index {folder} has lost its items.sqlite; {REPAIR}")
    if not (folder / "items.sqlite").exists():
        (folder / "items.sqlite").touch()  # SQLite would keep the group from writing, whatever the umask
    connection = _connect(folder, "mode=rwc", Connection)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was committed survives a power cut
        _prepare(folder, connection, manifest, is_new, may_lack)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(folder: Path, connection: Connection, manifest: Manifest, is_new: bool, may_lack: bool) -> None:
    """Bring tables to this format, give the index its key, and let the connection keep the checksums in step."""
    if manifest.key:
        check_contents(folder, connection, manifest, may_lack)
    elif format_of(connection) < CHECKED_SINCE or is_new:
        with transaction(connection):
            make_tables(connection)
            connection.execute("UPDATE contents SET model = ?", (manifest.model,))
    if not manifest.key:
        check_contents(folder, connection, manifest)
        save_manifest(folder, connection, replace(manifest, key=key_of(connection)))
    for statement in checksums.TRIGGERS:
        connection.execute(statement)


def save_manifest(folder: Path, connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Write the manifest, and its copy in the database."""
    with transaction(connection):
        connection.execute("UPDATE contents SET manifest = ?", (as_text(manifest),))
    write_manifest(folder, manifest)


def key_of(connection: sqlite3.Connection) -> str:
    """The key of the index, as its manifest writes it."""
    rows = connection.execute("SELECT key FROM contents").fetchall()
    return f"{rows[0][0]:016x}" if len(rows) == 1 and isinstance(rows[0][0], int) else ""


def check_contents(folder: Path, connection: sqlite3.Connection, manifest: Manifest, may_lack: bool = False) -> None:
    """Refuse a database that is not the one of the manifest.

    Args:
        may_lack: take it also if it lacks what was committed last.
    Raises:
        StoreError: it is of another index, or of another format, or older than the last commit.
        ModelMismatchError: its codes are of another model.
    """
    found = format_of(connection)
    if reason := newer_format(f"index {folder}: items.sqlite", found):
        raise StoreError(reason)
    if found < CHECKED_SINCE:
        if manifest.key and manifest.format >= CHECKED_SINCE:
            raise StoreError(
                f"index {folder}: items.sqlite has format {found}, its manifest.json {manifest.format}; {REPAIR}"
            )
        return  # not migrated yet
    models = [row[0] for row in connection.execute("SELECT model FROM contents LIMIT 2")]
    if models != [manifest.model]:
        named = f"codes of model {models[0]!r}" if len(models) == 1 else "no name of a model"
        raise ModelMismatchError(
            f"index {folder}: items.sqlite has {named[:60]}, its manifest.json names {manifest.model}; {REPAIR}"
        )
    if manifest.key and key_of(connection) != manifest.key:
        raise StoreError(f"index {folder}: items.sqlite is of another index than its manifest.json; {REPAIR}")
    if manifest.key and not may_lack and lacks_changes(folder, manifest.key, connection):
        raise StoreError(
            f"index {folder}: items.sqlite is old, or without its -wal: it lacks what was written last; {REPAIR}"
        )


def check_shards_are_named(folder: Path, connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Find a manifest that says nothing of the shards that the database has.

    Raises:
        StoreError: it says nothing.
    """
    if manifest.format < SHARDED <= format_of(connection):
        raise StoreError(
            f"index {folder}: items.sqlite has shards, and manifest.json is an older one that names none; update the index"
        )


class Reader(Connection):
    """A connection that cannot write."""

    assumed: tuple[Path, tuple[int, ...]] | None = None  # folder and file facts that SQLite was told never change

    def is_outdated(self) -> bool:
        """Whether files that were assumed not to change have changed. Always False inside a snapshot."""
        return self.assumed is not None and not self.in_transaction and _files(self.assumed[0]) != self.assumed[1]


def open_reader(folder: Path) -> Reader:
    """A connection for reading.

    WAL needs to write files beside the database. In a read-only folder the database is opened as immutable instead.
    """
    try:
        with suppress(OSError):  # SQLite says why
            check_regular(folder / "items.sqlite")
    except ValueError as error:
        raise StoreError(f"index {folder}: items.sqlite: {error}; {REPAIR}") from None
    try:
        return _probed(_connect(folder, "mode=ro", Reader))
    except sqlite3.OperationalError:
        files, log = _files(folder), folder / "items.sqlite-wal"
        if os.access(folder, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        reader = _probed(_connect(folder, "mode=ro&immutable=1", Reader))
        reader.assumed = folder, files
        return reader


def _files(folder: Path) -> tuple[int, ...]:
    """Facts that change whenever somebody writes to the index, or is about to."""
    try:
        status = (folder / "items.sqlite").stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, (folder / "items.sqlite-wal").exists()


def why_closed(folder: Path, error: Exception, remedy: str) -> str:
    """Say why SQLite does not open the items of an index, and what to do.

    Args:
        remedy: what helps if neither permission nor a network share is the reason.
    """
    if (folder / "items.sqlite").is_symlink() and not (folder / "items.sqlite").exists():
        return "is a link to a file that is not there; mount its disk, or delete the link and repair the index"
    try:
        check_regular(folder / "items.sqlite")
        (folder / "items.sqlite").open("rb").close()
    except FileNotFoundError:
        return f"is lost; {remedy}"
    except IsADirectoryError:
        return f"is a folder; move it away, and {REPAIR}"
    except ValueError as odd:
        return f"cannot be read: {odd}; move it away, and {REPAIR}"
    except OSError as shut:
        if reason := why_shut(shut):
            return reason
    if blocked := why_blocked(folder):
        return f"does not open: {blocked}"
    if full := why_full(folder, error):
        return f"cannot be written; {full}"
    if "locking protocol" in str(error):  # SQLite needs locks and shared memory, which some network shares lack
        remedy = "the disk has no locks, as some network shares; keep the index on a disk of this machine"
    return f"does not open ({first_line(error)}); {remedy}"


def why_full(folder: Path, error: Exception) -> str:
    """Say that the disk is full, if that is why SQLite does not write; else empty."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where in SQLite
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(folder)):
        return f"the disk is full: {folder / 'items.sqlite'}; free some space"
    return ""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit everything, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back already if the disk is full
            connection.execute("ROLLBACK")
        raise


def format_of(connection: sqlite3.Connection) -> int:
    """The format of the tables. After an interrupted migration, the manifest already has the newer format."""
    return max(1, int(connection.execute("PRAGMA user_version").fetchone()[0]))


def _connect(folder: Path, options: str, kind: type[C]) -> C:
    check_side_files(folder)
    uri = f"{(folder / 'items.sqlite').absolute().as_uri()}?{options}"
    connection: C = sqlite3.connect(
        uri, uri=True, timeout=30, check_same_thread=False, isolation_level=None, factory=kind
    )
    _prepare_text(connection)
    checksums.add_functions(connection)
    return connection


def memory_database() -> Connection:
    """An empty database in memory, which treats text as that of an index does."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    _prepare_text(connection)
    return connection


def _prepare_text(connection: sqlite3.Connection) -> None:
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    for change in (composed, lowered):
        connection.create_function(change.__name__, 1, partial(_changed, change), deterministic=True)


def _changed(change: Callable[[str], str], text: bytes) -> bytes:
    """A value in SQLite after a change. As bytes, because text that is not UTF-8 would stop the statement."""
    return text_bytes(change(text.decode("utf-8", "surrogateescape")))


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of this format, or bring older ones to it. The caller has begun a transaction."""
    is_new = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchall()
    found = format_of(connection)
    steps = {METADATA_SINCE: TO_FORMAT_2, CTIME_SINCE: TO_FORMAT_3, CHECKED_SINCE: TO_FORMAT_4}
    for statement in _TABLES if is_new else ():
        connection.execute(statement)
    for reached, statements in steps.items():
        for statement in statements if found < reached else ():
            connection.execute(statement)


def _probed(connection: C) -> C:
    """The connection, if reading works. SQLite opens the file at the first statement."""
    try:
        connection.execute("SELECT id FROM items LIMIT 1").fetchall()
    except SQLITE_ERRORS:
        connection.close()
        raise
    return connection
