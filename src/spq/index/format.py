"""The files of an index folder, `manifest.json` and `items.sqlite`: their format, its migration, and the write lock."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from spq.common.files import Replacing, is_full, sync_folder, why_shut
from spq.common.locks import held
from spq.common.text import composed
from spq.config import from_dict
from spq.data.source import Source
from spq.errors import ConfigError, ModelMismatchError, StoreError
from spq.index.items import text_bytes

C = TypeVar("C", bound=sqlite3.Connection)
FORMAT = 3
METADATA_SINCE = 2  # format from which items have metadata and revisions
CTIME_SINCE = 3  # format from which items have the time of last change of the file's entry
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # the second if SQLite's message quotes a damaged schema
_NEW = ".manifest."  # a manifest that is still being written begins with this
_LOCK = ".lock"
NOT_DUPLICATES = "not-duplicates.jsonl"  # pairs that the user said are no duplicates; it outlives a change of the model

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
_TO_FORMAT_2 = (
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
_TO_FORMAT_3 = (
    "ALTER TABLE items ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0",  # 0 if it is unknown
    "PRAGMA user_version = 3",
)


@dataclass(frozen=True)
class Manifest:
    """What kind of codes an index holds."""

    format: int
    spq_version: str
    model: str  # hash of the model that made the codes
    distance: str
    num_codebooks: int
    codebook_size: int
    bits: int
    source: str = ""  # of the pictures
    more_sources: tuple[str, ...] = ()  # if there are several
    exclude: tuple[str, ...] = ()  # patterns of pictures that are left out
    include: tuple[str, ...] = ()  # patterns of pictures that are taken; all, if there are none
    follow_links: bool = False  # whether linked folders are listed
    prefixes: tuple[str, ...] = ()  # with which the paths of each source begin, if they are not the usual ones
    mounts: tuple[str, ...] = ()  # folders that are on a disk of their own
    decoder: str = ""  # versions that the last sync read pictures with; another one tries unreadable ones again

    @property
    def origin(self) -> Source:
        """Where the pictures are."""
        names = (self.source, *self.more_sources)
        return Source(names, self.exclude, self.include, self.follow_links, self.prefixes)

    def with_origin(self, origin: Source) -> Manifest:
        """The manifest of an index of other pictures."""
        return replace(
            self,
            source=origin.names[0],
            more_sources=origin.names[1:],
            exclude=origin.exclude,
            include=origin.include,
            follow_links=origin.follow_links,
            prefixes=origin.prefixes,
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index folder.

    Raises:
        StoreError: no index, a damaged manifest, or a newer format.
    """
    try:
        content = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"no index at {folder}; build one first, or check the path") from None
    except (OSError, ValueError) as error:
        if shut := why_shut(error):
            raise StoreError(f"index {folder}: manifest.json {shut}") from None
        raise StoreError(
            f"index {folder}: manifest.json is unreadable ({error}); restore it or build the index again"
        ) from None
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and (reason := newer_format(f"index {folder}", found)):
        raise StoreError(reason)
    try:
        return from_dict(Manifest, content, where=f"{folder}/manifest.json")
    except (ConfigError, TypeError) as error:
        raise StoreError(f"{error}; restore the file or build the index again") from None


def check_same_model(folder: Path, before: str, now: str) -> None:
    """Refuse to go on with an index that was given another model since it was opened.

    Raises:
        ModelMismatchError: names both hashes.
    """
    if before != now:
        raise ModelMismatchError(f"index {folder} has codes of model {now} now, not of {before}; open it again")


def newer_format(name: str, found: int) -> str:
    """Why this version cannot read a format; empty if it can."""
    return f"{name} has format {found}, this spq reads up to {FORMAT}; update spq" if found > FORMAT else ""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest in one step. With it, a folder is an index."""
    content = {key: value for key, value in asdict(manifest).items() if not (value in ((), "") or value is False)}
    with Replacing(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    sync_folder(folder)  # else a power cut may undo the rename, but not later writes


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
    if not all(name == _LOCK or name.startswith((_NEW, "items.sqlite")) for name in names):
        raise StoreError(f"{folder} exists and is not an index; give another folder")
    if "items.sqlite" in names and _holds_items(folder):
        raise StoreError(
            f"index {folder} has lost its manifest.json; restore it, or delete the folder and build the index again"
        )
    return False


def _holds_items(folder: Path) -> bool:
    """False if a creation was interrupted before the manifest was written."""
    with closing(_connect(folder, "mode=ro", Reader)) as connection:
        try:
            return bool(connection.execute("SELECT id FROM items LIMIT 1").fetchall())
        except sqlite3.OperationalError as error:
            return "no such table" not in str(error)
        except SQLITE_ERRORS:
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
            stack.enter_context(held(folder / _LOCK, wait))
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


def open_writer(folder: Path) -> sqlite3.Connection:
    """A connection for writing. The caller holds the lock. Tables are made, or migrated to this format, in one transaction."""
    if not (folder / "items.sqlite").exists():
        (folder / "items.sqlite").touch()  # SQLite would keep the group from writing, whatever the umask
    connection = _connect(folder, "mode=rwc", sqlite3.Connection)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was committed survives a power cut
        if format_of(connection) < FORMAT:
            _migrate(folder, connection)
    except BaseException:
        connection.close()
        raise
    return connection


class Reader(sqlite3.Connection):
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
    try:
        (folder / "items.sqlite").open("rb").close()
    except OSError as shut:
        if reason := why_shut(shut):
            return reason
    if full := why_full(folder, error):
        return f"cannot be written; {full}"
    if "locking protocol" in str(error):  # SQLite needs locks and shared memory, which some network shares lack
        remedy = "the disk has no locks, as some network shares; keep the index on a disk of this machine"
    return f"does not open ({error}); {remedy}"


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
    uri = f"{(folder / 'items.sqlite').absolute().as_uri()}?{options}"
    connection: C = sqlite3.connect(
        uri, uri=True, timeout=30, check_same_thread=False, isolation_level=None, factory=kind
    )
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    connection.create_function("composed", 1, _composed, deterministic=True)
    return connection


def _composed(text: bytes) -> bytes:
    """`composed` of a value in SQLite. As bytes, because text that is not UTF-8 would stop the statement."""
    return text_bytes(composed(text.decode("utf-8", "surrogateescape")))


def _migrate(folder: Path, connection: sqlite3.Connection) -> None:
    if has_index(folder) and (manifest := read_manifest(folder)).format < FORMAT:
        write_manifest(folder, replace(manifest, format=FORMAT))  # first, so that an older spq refuses the index
    with transaction(connection):
        is_new = not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchall()
        to_2 = _TO_FORMAT_2 if format_of(connection) < METADATA_SINCE else ()
        for statement in chain(_TABLES if is_new else (), to_2, _TO_FORMAT_3):
            connection.execute(statement)


def _probed(connection: C) -> C:
    """The connection, if reading works. SQLite opens the file at the first statement."""
    try:
        connection.execute("SELECT id FROM items LIMIT 1").fetchall()
    except SQLITE_ERRORS:
        connection.close()
        raise
    return connection
