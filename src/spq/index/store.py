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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from spq.config import from_dict
from spq.errors import ConfigError, StoreError

FORMAT = 1
OK, UNREADABLE = 0, 1

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
"""


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
    """One index folder. Readers open it at any time; changes go through `writing()`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        try:
            self.connection = sqlite3.connect(
                folder / "items.sqlite", timeout=30, check_same_thread=False, isolation_level=None
            )
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")  # what was reported done survives a power cut
            self.connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(
                f"index {folder}: items.sqlite does not open ({error}); restore it or index anew"
            ) from None

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Self:
        """A new, empty index.

        Raises:
            StoreError: the folder holds something else.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreError(f"{folder} exists and is not an index; give another --out")
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder, manifest)
        temporary = folder / f".manifest.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(manifest), indent=2) + "\n", "utf-8")
        temporary.replace(folder / "manifest.json")
        return store

    @classmethod
    def open(cls, folder: Path) -> Self:
        """An index that is there.

        Raises:
            StoreError: no index, a damaged one, or one of a newer format.
        """
        return cls(folder, read_manifest(folder))

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write: one process at a time.

        Raises:
            StoreError: another process has it.
        """
        with self._lock_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"index {self.folder} is being written by another process; wait for it to end"
                ) from None
            yield

    def put(self, items: Iterable[Item]) -> None:
        """Insert items, or replace those of the same path, in one transaction. A path that is there keeps its id."""
        rows: list[tuple[object, ...]] = [
            (i.path, i.hash, i.size, i.mtime_ns, i.width, i.height, UNREADABLE if i.code is None else OK, i.reason or None,
             None if i.code is None else i.code.tobytes())
            for i in items
        ]  # fmt: skip
        self._transaction(
            "INSERT INTO items (path, hash, size, mtime_ns, width, height, status, reason, code) VALUES (?,?,?,?,?,?,?,?,?) "
            "ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, size = excluded.size, mtime_ns = excluded.mtime_ns, "
            "width = excluded.width, height = excluded.height, status = excluded.status, reason = excluded.reason, "
            "code = excluded.code",
            rows,
        )

    def remove(self, paths: Iterable[str]) -> None:
        """Drop items by path, in one transaction."""
        self._transaction("DELETE FROM items WHERE path = ?", [(path,) for path in paths])

    def stats(self) -> dict[str, tuple[int, int, bool]]:
        """path -> (size, mtime_ns, readable) of all items."""
        rows = self.connection.execute("SELECT path, size, mtime_ns, status FROM items")
        return {path: (size, mtime_ns, status == OK) for path, size, mtime_ns, status in rows}

    def items_by_hash(self, hashes: Iterable[bytes]) -> dict[bytes, Item]:
        """One encoded item for each of the hashes that are known."""
        found = (self._first("hash = ? AND status = 0", value) for value in set(hashes))
        return {item.hash: item for item in found if item}

    def item(self, path: str) -> Item | None:
        """The item of a path."""
        return self._first("path = ?", path)

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that have no code."""
        return self.connection.execute("SELECT path, reason FROM items WHERE status = 1 ORDER BY id").fetchall()

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """ids (N,) and codes (N, M), by id. An item's id is found in row order."""
        rows = self.connection.execute("SELECT id, code FROM items WHERE status = 0 ORDER BY id").fetchall()
        ids = np.array([row[0] for row in rows], np.int64)
        codes = np.frombuffer(b"".join(row[1] for row in rows), np.uint8)
        try:
            return ids, codes.reshape(len(rows), self.manifest.num_codebooks)
        except ValueError:
            raise StoreError(
                f"index {self.folder} holds codes of another length than its manifest; index anew"
            ) from None

    def paths(self, ids: Iterable[int]) -> dict[int, str]:
        """id -> path."""
        get = self.connection.execute
        found = ((int(i), get("SELECT path FROM items WHERE id = ?", (int(i),)).fetchone()) for i in ids)
        return {i: row[0] for i, row in found if row}

    def version(self) -> int:
        """Changes when another process has changed the items (not through this connection)."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def __len__(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM items WHERE status = 0").fetchone()[0])

    def _first(self, where: str, value: object) -> Item | None:
        row = self.connection.execute(
            f"SELECT path, size, mtime_ns, hash, width, height, code, reason, id FROM items WHERE {where} LIMIT 1",
            (value,),
        ).fetchone()
        if row is None:
            return None
        code = None if row[6] is None else np.frombuffer(row[6], np.uint8)
        path, size, mtime_ns, digest, width, height, _, reason, number = row
        return Item(path, size, mtime_ns, digest, width, height, code, reason or "", number)

    def _transaction(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self.connection.executemany(statement, rows)
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(
                f"index {self.folder} could not be written ({error}); nothing of this step was kept"
            ) from None

    def _lock_file(self) -> IO[bytes]:
        return (self.folder / ".lock").open("ab")


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
