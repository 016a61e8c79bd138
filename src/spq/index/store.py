"""The truth of an index: a folder with `manifest.json` and `items.sqlite`. FAISS structures are made from it, never kept.

An item and its code are one row, so no crash can part them. SQLite in WAL mode lets readers go on while one writer writes;
a second writer is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spq.config import from_dict
from spq.errors import ConfigError, StoreError

FORMAT = 1
OK, UNREADABLE = 0, 1
_NEW = ".manifest."  # start of the name of a manifest that is still being written

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
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
);
CREATE INDEX IF NOT EXISTS items_by_hash ON items (hash);
"""

# A file name may hold bytes that are not UTF-8, which sqlite3 refuses as str: text goes in as bytes and is cast.
_PUT = (
    "INSERT INTO items (path, hash, size, mtime_ns, width, height, status, reason, code) "
    "VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?) "
    "ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, size = excluded.size, mtime_ns = excluded.mtime_ns, "
    "width = excluded.width, height = excluded.height, status = excluded.status, reason = excluded.reason, "
    "code = excluded.code"
)


_COLUMNS = "path, size, mtime_ns, hash, width, height, code, reason, id"  # as `_item` takes them


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


@dataclass(frozen=True)
class Item:
    """A picture of the collection, with its code (M,) uint8, or the reason why it has none."""

    path: str
    size: int
    mtime_ns: int
    hash: bytes = b""
    width: int = 0
    height: int = 0
    code: NDArray[np.uint8] | None = None
    reason: str = ""
    id: int = 0


class Store:
    """One index folder, open for reading at any time. `put` and `remove` work inside `with store.writing():`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._writer: sqlite3.Connection | None = None
        try:
            self._reader = _reader(folder)
        except sqlite3.Error as error:
            raise StoreError(f"index {folder}: items.sqlite does not open ({error}); run spq index again") from None

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Self:
        """A new, empty index. What a killed `create` left is completed; an index that is there is opened as it is.

        Raises:
            StoreError: the folder holds something else.
        """
        if not (folder / "manifest.json").exists():
            if folder.exists() and not (folder.is_dir() and all(f.name.startswith(_NEW) for f in folder.iterdir())):
                raise StoreError(f"{folder} exists and is not an index; give another --out")
            folder.mkdir(parents=True, exist_ok=True)
            _write_manifest(folder, manifest)
        try:
            writer = _writer(folder)
            writer.executescript(_SCHEMA)
            writer.close()
        except sqlite3.Error as error:
            raise StoreError(
                f"index {folder}: items.sqlite does not open ({error}); try again, or delete {folder}"
            ) from None
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """An index that is there, for reading: nothing is written, and the folder may be read-only.

        Raises:
            StoreError: no index, a damaged one, or one of a newer format.
        """
        return cls(folder, read_manifest(folder))

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write: one writer at a time.

        Raises:
            StoreError: another process has it.
        """
        with (self.folder / ".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when a process is killed
            except BlockingIOError:
                raise StoreError(f"another process is writing to index {self.folder}; wait for it to end") from None
            self._writer = _writer(self.folder)
            try:
                yield
            finally:
                with suppress(sqlite3.Error):  # shrink the log where that is possible without waiting for readers
                    self._writer.execute("PRAGMA busy_timeout = 0")
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._writer.close()
                self._writer = None

    def put(self, items: Iterable[Item]) -> None:
        """Insert items, or replace those of the same path, in one transaction. A path that is there keeps its id."""
        self._transaction(_PUT, (_row(item) for item in items))

    def remove(self, paths: Iterable[str]) -> None:
        """Drop items by path, in one transaction."""
        self._transaction("DELETE FROM items WHERE path = CAST(? AS TEXT)", ((_bytes(path),) for path in paths))

    def set_source(self, source: str) -> None:
        """Where the pictures are, for those who show them."""
        if source != self.manifest.source:
            self.manifest = replace(self.manifest, source=source)
            _write_manifest(self.folder, self.manifest)

    def stats(self) -> dict[str, tuple[int, int]]:
        """path -> (size, mtime_ns) of all items, readable or not."""
        rows = self._select("SELECT path, size, mtime_ns FROM items")
        return {path: (size, mtime_ns) for path, size, mtime_ns in rows}

    def items_by_hash(self, hashes: Iterable[bytes]) -> dict[bytes, Item]:
        """One encoded item for each of the hashes that are known."""
        found = (self._first("hash = ? AND status = 0", value) for value in set(hashes) if value)
        return {item.hash: item for item in found if item}

    def item(self, path: str) -> Item | None:
        """The item of a path."""
        return self._first("path = CAST(? AS TEXT)", _bytes(path))

    def items(self) -> Iterator[Item]:
        """All items that have a code, by id."""
        rows = self._select(f"SELECT {_COLUMNS} FROM items WHERE status = 0 ORDER BY id")
        return (_item(row) for row in rows)

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that have no code."""
        return self._select("SELECT path, reason FROM items WHERE status = 1 ORDER BY id")

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """ids (N,), ascending, and codes (N, M)."""
        rows = self._select("SELECT id, code FROM items WHERE status = 0 ORDER BY id")
        M, K = self.manifest.num_codebooks, self.manifest.codebook_size
        codes = np.frombuffer(b"".join(row[1] or b"" for row in rows), np.uint8)
        if any(len(row[1] or b"") != M for row in rows) or codes.max(initial=0) >= K:
            raise StoreError(f"index {self.folder} holds codes that are not {M} numbers below {K}; index anew")
        return np.array([row[0] for row in rows], np.int64), codes.reshape(len(rows), M)

    def paths(self, ids: Iterable[int]) -> dict[int, str]:
        """id -> path, of the ids that are there."""
        rows = (row for i in ids for row in self._select("SELECT id, path FROM items WHERE id = ?", int(i)))
        return dict(rows)

    def version(self) -> int:
        """Changes whenever anyone has changed the items."""
        return int(self._select("PRAGMA data_version")[0][0])

    def __len__(self) -> int:
        return int(self._select("SELECT count(*) FROM items WHERE status = 0")[0][0])

    def _select(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"index {self.folder} could not be read ({error}); index anew if that stays") from None

    def _first(self, where: str, value: bytes) -> Item | None:
        rows = self._select(f"SELECT {_COLUMNS} FROM items WHERE {where} LIMIT 1", value)
        return _item(rows[0]) if rows else None

    def _transaction(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        writer = self._writer
        assert writer is not None, "outside of `with store.writing()`"
        try:
            writer.execute("BEGIN IMMEDIATE")
            try:
                writer.executemany(statement, rows)
            except BaseException:
                writer.execute("ROLLBACK")
                raise
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"index {self.folder}: writing failed ({error}); this step is undone") from None


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


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """The folder becomes an index here, in one step."""
    temporary = folder / f"{_NEW}{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(manifest), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "manifest.json")


def _connect(folder: Path, options: str) -> sqlite3.Connection:
    uri = f"{(folder / 'items.sqlite').absolute().as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return connection


def _writer(folder: Path) -> sqlite3.Connection:
    connection = _connect(folder, "mode=rwc")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was reported done survives a power cut
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _reader(folder: Path) -> sqlite3.Connection:
    """A connection that cannot write. WAL keeps files beside the database; on read-only media it has to do without."""
    try:
        return _probed(_connect(folder, "mode=ro"))
    except sqlite3.OperationalError:
        log = folder / "items.sqlite-wal"
        if os.access(folder, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        return _probed(_connect(folder, "mode=ro&immutable=1"))


def _probed(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The connection, if it can be read from: SQLite opens a file at the first question."""
    try:
        connection.execute("SELECT id FROM items LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _row(item: Item) -> tuple[object, ...]:
    facts = (item.hash, item.size, item.mtime_ns, item.width, item.height)
    status, code = (UNREADABLE, None) if item.code is None else (OK, item.code.tobytes())
    return _bytes(item.path), *facts, status, _bytes(item.reason) if item.reason else None, code


def _item(row: tuple[Any, ...]) -> Item:
    path, size, mtime_ns, digest, width, height, code, reason, id_ = row
    numbers = None if code is None else np.frombuffer(code, np.uint8)
    return Item(path, size, mtime_ns, digest, width, height, numbers, reason or "", id_)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
