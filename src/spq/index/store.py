"""The durable part of an index: items and their codes in SQLite, beside a manifest. FAISS structures are never saved.

An item and its code are one row, so a crash cannot separate them. SQLite in WAL mode lets readers continue while one writer
writes; a second writer is refused. Each change has a number, its revision, so that readers can read only what is new.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from spq.data.decode import first_line
from spq.data.source import Source
from spq.errors import StoreError
from spq.index.committed import LAST_REVISION, note_committed
from spq.index.format import (
    SQLITE_ERRORS,
    has_index,
    locked,
    open_writer,
    save_manifest,
    transaction,
    why_closed,
    why_full,
)
from spq.index.items import Item, as_json, text_bytes, to_row
from spq.index.manifest import FORMAT, NO_SHARDS, SHARDED, Manifest, check_same_model, read_manifest
from spq.index.shards.shard_facts import FOLDER
from spq.index.side_files import why_blocked
from spq.index.table_reader import TableReader

__all__ = ["FORMAT", "Item", "Manifest", "Store", "read_manifest"]

_PUT = (
    "INSERT INTO items (path, hash, size, mtime_ns, width, height, status, reason, code, metadata, ctime_ns, revision) "
    "VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?) "
    "ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, size = excluded.size, mtime_ns = excluded.mtime_ns, "
    "width = excluded.width, height = excluded.height, status = excluded.status, reason = excluded.reason, "
    "code = excluded.code, metadata = excluded.metadata, ctime_ns = excluded.ctime_ns, revision = excluded.revision, "
    # all of the row is new, so a wrong checksum ends here; another path is there only if an index of the database is damaged
    '"check" = CASE WHEN items.path = excluded.path THEN NULL ELSE items."check" END'
)


class Store(TableReader):
    """One index folder, open for reading at any time. `put` and `remove` work inside `with store.writing():`."""

    def __init__(self, folder: Path, manifest: Manifest, wait: float = 0, may_lack: bool = False) -> None:
        super().__init__(folder, manifest, may_lack)
        self.wait = wait  # seconds that `writing` waits for another writer
        self._may_lack = may_lack
        self._writer: sqlite3.Connection | None = None

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, wait: float = 0) -> Self:
        """Make a new, empty index, or open an existing one. What an interrupted `create` left is completed.

        Raises:
            StoreError: the folder holds something else, or another process writes to it.
        """
        if not has_index(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait):
            try:
                open_writer(folder, manifest).close()
            except SQLITE_ERRORS as error:
                reason = why_closed(folder, error, f"check the disk and try again, or delete {folder}")
                raise StoreError(f"index {folder}: items.sqlite {reason}") from None
        return cls(folder, read_manifest(folder), wait)

    @classmethod
    def open(cls, folder: Path, wait: float = 0, may_lack: bool = False) -> Self:
        """Open an existing index for reading. Nothing is written, and the folder may be read-only.

        Args:
            may_lack: open it also if the database lacks what was committed last. It lacks it until `complete`.
        Raises:
            StoreError: no index, a damaged index, or one of a newer format.
        """
        while True:
            before = _identity(folder)
            try:
                return cls._open_once(folder, wait, may_lack)
            except StoreError:
                if _identity(folder) == before:
                    raise  # else another index, with the codes of another model, has just taken its place

    @classmethod
    def _open_once(cls, folder: Path, wait: float, may_lack: bool) -> Self:
        manifest = read_manifest(folder)
        if not cls.reads_shards and (manifest.format >= SHARDED or (folder / FOLDER).is_dir()):
            raise StoreError(f"index {folder} has shards, and {NO_SHARDS}")
        return cls(folder, manifest, wait, may_lack)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Allow writing: one writer at a time. An index of an older format is migrated first.

        Raises:
            StoreError: another process writes.
        """
        with locked(self.folder, self.wait):
            with self._clear_errors():
                self._writer = open_writer(self.folder, may_lack=self._may_lack)
            try:
                model, self.manifest = self.manifest.model, read_manifest(self.folder)
                check_same_model(self.folder, model, self.manifest.model)
                self.check_kind()
                yield
            finally:
                with suppress(sqlite3.Error):  # shrink the log if no reader has to be waited for
                    self._writer.execute("PRAGMA busy_timeout = 0")
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._writer.close()
                self._writer = None

    def put(self, items: Iterable[Item]) -> None:
        """Insert items, or replace those of the same path, in one transaction. A known path keeps its id."""
        with self.change() as (writer, revision):
            writer.executemany(_PUT, ((*to_row(item), revision) for item in items))

    def describe(self, metadata: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Replace the metadata of items, by path, in one transaction."""
        with self.change() as (writer, revision):
            writer.executemany(
                "UPDATE items SET metadata = ?, revision = ? WHERE path = CAST(? AS TEXT)",
                ((as_json(columns), revision, text_bytes(path)) for path, columns in metadata),
            )

    def rename(self, paths: Iterable[tuple[str, str]]) -> None:
        """Give items, by path, another path, in one transaction. They keep their ids. No item may have the other path."""
        with self.change() as (writer, revision):
            writer.executemany(
                "UPDATE items SET path = CAST(? AS TEXT), revision = ? WHERE path = CAST(? AS TEXT)",
                ((text_bytes(new), revision, text_bytes(old)) for old, new in paths),
            )

    def set_ctimes(self, ctimes: Iterable[tuple[str, int]]) -> None:
        """Record the ctime of unchanged items, by path, in one transaction. Readers have nothing to read again."""
        with self.change() as (writer, _):
            writer.executemany(
                "UPDATE items SET ctime_ns = ? WHERE path = CAST(? AS TEXT)",
                ((ctime_ns, text_bytes(path)) for path, ctime_ns in ctimes),
            )

    def remove(self, paths: Iterable[str]) -> None:
        """Remove items by path, in one transaction."""
        names = [(text_bytes(path),) for path in paths]
        with self.change() as (writer, revision):
            writer.executemany(
                f"INSERT OR REPLACE INTO removed SELECT id, {revision} FROM items WHERE path = CAST(? AS TEXT)", names
            )
            writer.executemany("DELETE FROM items WHERE path = CAST(? AS TEXT)", names)

    def compact(self) -> tuple[int, int]:
        """Shrink the database to what it holds. Readers may have to read everything again: the list of removed items is cleared.

        Returns:
            bytes before and after.
        Raises:
            StoreError: no room for a second copy of the database; nothing has changed then.
        """
        before = self._bytes_on_disk()
        for leftover in (*self.folder.glob(".manifest.*"), *(self.folder / "model").glob(".*")):
            leftover.unlink()  # of an interrupted writer
        with self.change() as (writer, _):
            writer.execute(
                "INSERT OR REPLACE INTO removed SELECT 0, revision FROM removed ORDER BY revision DESC LIMIT 1"
            )
            writer.execute("DELETE FROM removed WHERE id > 0")
        with self._clear_errors(", or set TMPDIR to a folder on another disk"):  # where SQLite keeps the copy
            self._writing().execute("VACUUM")
            self._writing().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, self._bytes_on_disk()

    def _bytes_on_disk(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("items.sqlite*") if file.suffix != ".sqlite-shm")

    def set_origin(self, origin: Source, mounts: Iterable[str] | None = None, decoder: str = "") -> None:
        """Record where the pictures are, which of their folders are on disks of their own, and what has read them."""
        manifest = self.manifest.with_origin(origin)
        if mounts is not None:
            manifest = replace(manifest, mounts=tuple(sorted(mounts)), decoder=decoder)
        self._save(manifest)

    def set_model_checks(self, codebooks: str, model_files: str) -> None:
        """Record the checksums of the copy of the model."""
        self._save(replace(self.manifest, codebooks=codebooks, model_files=model_files))

    def _save(self, manifest: Manifest) -> None:
        if manifest != self.manifest:
            self.save_manifest(manifest)

    def save_manifest(self, manifest: Manifest) -> None:
        """Write the manifest, and its copy in the database."""
        self.manifest = manifest
        with self._clear_errors():
            save_manifest(self.folder, self._writing(), manifest)

    def info(self) -> dict[str, Any]:
        """Facts of the index, as `spq info` shows them."""
        manifest = self.manifest
        more = {key: value for key in ("more_sources", "exclude", "include") if (value := list(getattr(manifest, key)))}
        return {
            "kind": "index",
            "images": len(self),
            "unreadable": len(self.unreadable()),
            "bits": manifest.bits,
            "bytes_per_image": -(-manifest.bits // 8),
            "distance": manifest.distance,
            "model": manifest.model,
            "source": manifest.source,
            **more,
            **({"follow_links": True} if manifest.follow_links else {}),
            "format": manifest.format,
        }

    @contextmanager
    def change(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction, and the revision that it makes."""
        writer = self._writing()
        with self._clear_errors(), transaction(writer):
            yield writer, writer.execute(LAST_REVISION).fetchone()[0] + 1
        if not self._may_lack:
            self.complete()

    def complete(self) -> None:
        """Write down that the database has all that was committed."""
        note_committed(self.folder, self.manifest.key, self._writing())

    def _writing(self) -> sqlite3.Connection:
        assert self._writer is not None, "outside `with store.writing()`"
        return self._writer

    @contextmanager
    def _clear_errors(self, or_else: str = "") -> Iterator[None]:
        """Turn errors of SQLite into StoreError.

        Args:
            or_else: another remedy for a full disk.
        """
        try:
            yield
        except SQLITE_ERRORS as error:
            full = why_full(self.folder, error)
            if blocked := "" if full else why_blocked(self.folder, os.W_OK):
                raise StoreError(f"index {self.folder}: writing failed: {blocked}") from None
            raise StoreError(
                f"{full}{or_else} and try again; what was committed is kept"
                if full
                else f"index {self.folder}: writing failed ({first_line(error)}); "
                "what was committed is kept: check the disk and try again"
            ) from None


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
