"""The durable part of an index: items and their codes in SQLite, beside a manifest. FAISS structures are never saved.

An item and its code are one row, so a crash cannot separate them. SQLite in WAL mode lets readers continue while one writer
writes; a second writer is refused. Each change has a number, its revision, so that readers can read only what is new.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spq.data.source import Source
from spq.errors import StoreError, TimeLimitError
from spq.index.format import (
    FORMAT,
    METADATA_SINCE,
    SQLITE_ERRORS,
    Manifest,
    check_same_model,
    has_index,
    locked,
    open_reader,
    open_writer,
    read_manifest,
    transaction,
    write_manifest,
)
from spq.index.items import COLUMNS, Item, as_json, from_row, text_bytes, to_row

__all__ = ["FORMAT", "Item", "Manifest", "Store", "read_manifest"]
PAGE, ITEMS_PAGE = 100_000, 1000  # codes, and whole items, that are read at once
STEPS = 100_000  # instructions of SQLite between two checks of the time: about a millisecond

_PUT = (
    "INSERT INTO items (path, hash, size, mtime_ns, width, height, status, reason, code, metadata, revision) "
    "VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?) "
    "ON CONFLICT (path) DO UPDATE SET hash = excluded.hash, size = excluded.size, mtime_ns = excluded.mtime_ns, "
    "width = excluded.width, height = excluded.height, status = excluded.status, reason = excluded.reason, "
    "code = excluded.code, metadata = excluded.metadata, revision = excluded.revision"
)
_LAST_REVISION = (
    "SELECT max(coalesce((SELECT max(revision) FROM items), 0), coalesce((SELECT max(revision) FROM removed), 0))"
)


class Store:
    """One index folder, open for reading at any time. `put` and `remove` work inside `with store.writing():`."""

    def __init__(self, folder: Path, manifest: Manifest, wait: float = 0) -> None:
        self.folder, self.manifest = folder, manifest
        self.wait = wait  # seconds that `writing` waits for another writer
        self._writer: sqlite3.Connection | None = None
        self._reopened = 0
        try:
            self._reader = open_reader(folder)
        except SQLITE_ERRORS as error:
            raise StoreError(f"index {folder}: items.sqlite does not open ({error}); build the index again") from None

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
                open_writer(folder).close()
            except SQLITE_ERRORS as error:
                raise StoreError(
                    f"index {folder}: items.sqlite does not open ({error}); try again, or delete {folder}"
                ) from None
            if not has_index(folder):
                write_manifest(folder, manifest)  # last: with a manifest, the index is complete
        return cls(folder, read_manifest(folder), wait)

    @classmethod
    def open(cls, folder: Path, wait: float = 0) -> Self:
        """Open an existing index for reading. Nothing is written, and the folder may be read-only.

        Raises:
            StoreError: no index, a damaged index, or one of a newer format.
        """
        return cls(folder, read_manifest(folder), wait)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Allow writing: one writer at a time. An index of an older format is migrated first.

        Raises:
            StoreError: another process writes.
        """
        with locked(self.folder, self.wait):
            with self._clear_errors():
                self._writer = open_writer(self.folder)
            try:
                model, self.manifest = self.manifest.model, read_manifest(self.folder)
                check_same_model(self.folder, model, self.manifest.model)
                yield
            finally:
                with suppress(sqlite3.Error):  # shrink the log if no reader has to be waited for
                    self._writer.execute("PRAGMA busy_timeout = 0")
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._writer.close()
                self._writer = None

    def put(self, items: Iterable[Item]) -> None:
        """Insert items, or replace those of the same path, in one transaction. A known path keeps its id."""
        with self._change() as (writer, revision):
            writer.executemany(_PUT, ((*to_row(item), revision) for item in items))

    def describe(self, metadata: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Replace the metadata of items, by path, in one transaction."""
        with self._change() as (writer, revision):
            writer.executemany(
                "UPDATE items SET metadata = ?, revision = ? WHERE path = CAST(? AS TEXT)",
                ((as_json(columns), revision, text_bytes(path)) for path, columns in metadata),
            )

    def remove(self, paths: Iterable[str]) -> None:
        """Remove items by path, in one transaction."""
        names = [(text_bytes(path),) for path in paths]
        with self._change() as (writer, revision):
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
        with self._change() as (writer, _):
            writer.execute(
                "INSERT OR REPLACE INTO removed SELECT 0, revision FROM removed ORDER BY revision DESC LIMIT 1"
            )
            writer.execute("DELETE FROM removed WHERE id > 0")
        with self._clear_errors():
            self._writing().execute("VACUUM")
            self._writing().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, self._bytes_on_disk()

    def _bytes_on_disk(self) -> int:
        return sum(file.stat().st_size for file in self.folder.glob("items.sqlite*") if file.suffix != ".sqlite-shm")

    def set_origin(self, origin: Source) -> None:
        """Record where the pictures are."""
        if origin != self.manifest.origin:
            self.manifest = self.manifest.with_origin(origin)
            write_manifest(self.folder, self.manifest)

    def info(self) -> dict[str, Any]:
        """Facts of the index, as `spq info` shows them."""
        manifest = self.manifest
        more = {key: value for key in ("more_sources", "exclude") if (value := list(getattr(manifest, key)))}
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
            "format": manifest.format,
        }

    def stats(self, paths: Collection[str] | None = None) -> dict[str, tuple[int, int]]:
        """path -> (size, mtime_ns) of all items, readable or not, or of the known ones among `paths`."""
        rows = self._select_paths("SELECT path, size, mtime_ns FROM items", paths)
        return {path: (size, mtime_ns) for path, size, mtime_ns in rows}

    def metadata(self, paths: Collection[str] | None = None) -> dict[str, str]:
        """path -> metadata as JSON, of all items that have any, or of those of `paths`."""
        rows = self._select_paths("SELECT path, metadata FROM items", paths) if self.has_metadata() else ()
        return {path: metadata for path, metadata in rows if metadata}

    def _select_paths(self, query: str, paths: Collection[str] | None) -> Iterable[tuple[Any, ...]]:
        if paths is None:
            return self._select(query)
        return (
            row for path in paths for row in self._select(f"{query} WHERE path = CAST(? AS TEXT)", text_bytes(path))
        )

    def items_by_hash(self, hashes: Iterable[bytes]) -> dict[bytes, Item]:
        """One encoded item for each known hash."""
        where = "substr(hash, 1, 8) = ? AND hash = ? AND status = 0"
        found = (self._first(where, value[:8], value) for value in set(hashes) if value)
        return {item.hash: item for item in found if item}

    def item(self, path: str) -> Item | None:
        """The item of a path."""
        return self._first("path = CAST(? AS TEXT)", text_bytes(path))

    def items(self) -> Iterator[Item]:
        """All items that have a code, by id. They are read a thousand at a time."""
        statement = f"SELECT {self._columns()} FROM items WHERE status = 0 AND id > ? ORDER BY id LIMIT {ITEMS_PAGE}"
        last = 0
        while rows := self._select(statement, last):
            yield from map(from_row, rows)
            last = rows[-1][COLUMNS.index("id")]

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that have no code."""
        return self._select("SELECT path, reason FROM items WHERE status = 1 ORDER BY id")

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """ids (N,), ascending, and codes (N, M)."""
        ids, codes, last = [], [], 0
        while rows := self._code_page(last):
            ids.append(rows[0])
            codes.append(rows[1])
            last = int(rows[0][-1])
        M = self.manifest.num_codebooks
        return (
            np.concatenate([np.empty(0, np.int64), *ids]),
            np.concatenate([np.empty((0, M), np.uint8), *codes]),
        )

    def _code_page(self, after: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]] | None:
        """The next ids and codes. SQLite joins them into one text and one blob: four times as fast as rows in Python."""
        count, wrong, ids, codes = self._select(
            "SELECT count(*), total(length(code) <> ?), group_concat(id), CAST(group_concat(code, '') AS BLOB) "
            "FROM (SELECT id, code FROM items WHERE status = 0 AND id > ? ORDER BY id LIMIT ?)",
            self.manifest.num_codebooks, after, PAGE,
        )[0]  # fmt: skip
        if not count:
            return None
        if wrong:
            raise self._bad_codes()
        return np.fromstring(ids, np.int64, sep=","), self._as_codes(codes or b"", count)

    def _as_codes(self, code_bytes: bytes, count: int) -> NDArray[np.uint8]:
        codes = np.frombuffer(code_bytes, np.uint8)
        M, K = self.manifest.num_codebooks, self.manifest.codebook_size
        if codes.size != count * M or codes.max(initial=0) >= K:
            raise self._bad_codes()
        return codes.reshape(count, M)

    def _bad_codes(self) -> StoreError:
        M, K = self.manifest.num_codebooks, self.manifest.codebook_size
        return StoreError(f"index {self.folder} holds codes that are not {M} numbers below {K}; build it again")

    def revision(self) -> int:
        """Number of the last change; -1 in an index of format 1, which has no revisions."""
        return int(self._select(_LAST_REVISION)[0][0]) if self.has_metadata() else -1

    def changes(self, since: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]] | None:
        """What was written after a revision.

        Returns:
            ids (n,) and codes (n, M) that were put, and ids that were removed or lost their code. None if everything has to be
            read again: there are many changes, or the list of removed items was cleared.
        """
        if since < 0:
            return None
        rows = self._select(
            "SELECT id, code FROM items WHERE revision > ? UNION ALL SELECT id, NULL FROM removed WHERE revision > ? "
            "LIMIT ?", since, since, PAGE,
        )  # fmt: skip
        put = [row for row in rows if row[1] is not None]
        removed = np.array([id_ for id_, code in rows if code is None], np.int64)
        if len(rows) == PAGE or not removed.all():  # id 0 stands for a cleared list
            return None
        if any(len(row[1]) != self.manifest.num_codebooks for row in put):
            raise self._bad_codes()
        codes = self._as_codes(b"".join(row[1] for row in put), len(put))
        return np.array([row[0] for row in put], np.int64), codes, removed

    def paths(self, ids: Iterable[int]) -> dict[int, str]:
        """id -> path, of the known ids."""
        rows = (row for i in ids for row in self._select("SELECT id, path FROM items WHERE id = ?", int(i)))
        return dict(rows)

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """id -> item, of the known ids that have a code."""
        id_list = json.dumps([int(i) for i in ids])
        where = "id IN (SELECT value FROM json_each(?)) AND status = 0"
        rows = self._select(f"SELECT {self._columns()} FROM items WHERE {where}", id_list)
        return {item.id: item for item in map(from_row, rows)}

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see the state of one moment, also while a writer writes."""
        self._select("BEGIN")
        try:
            yield
        finally:
            self._select("ROLLBACK")

    def ids(self, statement: str, *values: object) -> NDArray[np.int64]:
        """The ids (n,) that a statement selects, in its order. SQLite joins them into one text, as in `_code_page`."""
        text = self._select(f"SELECT group_concat(id) FROM ({statement})", *values)[0][0]
        return np.fromstring(text, np.int64, sep=",") if text else np.empty(0, np.int64)

    def select(self, statement: str, *values: object) -> list[Any]:
        """Rows of any SELECT statement."""
        return self._select(statement, *values)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Stop reads inside that take longer than this time.

        Raises:
            TimeLimitError: the time is over.
        """
        end = time.monotonic() + seconds
        self._reader.set_progress_handler(lambda: time.monotonic() > end, STEPS)
        try:
            yield
        finally:
            self._reader.set_progress_handler(None, 0)

    def version(self) -> int:
        """A number that changes with every change of the items, by any process."""
        return int(self._select("PRAGMA data_version")[0][0]) + (self._reopened << 32)

    def __len__(self) -> int:
        """The number of items with a code: all items less those without, because both counts are fast."""
        count = "SELECT (SELECT count(*) FROM items) - (SELECT count(*) FROM items WHERE status = 1)"
        return int(self._select(count)[0][0])

    def _select(self, statement: str, *values: object) -> list[Any]:
        try:
            if self._reader.is_outdated():
                outdated, self._reader = self._reader, open_reader(self.folder)
                outdated.close()  # after the new one opened: that may fail while somebody writes
                self._reopened += 1
            return self._reader.execute(statement, values).fetchall()
        except SQLITE_ERRORS as error:
            if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
                raise TimeLimitError(f"reading index {self.folder} took too long; search for less") from None
            raise StoreError(
                f"index {self.folder} could not be read ({error}); verify it to see what is wrong"
            ) from None

    def _first(self, where: str, *values: bytes) -> Item | None:
        rows = self._select(f"SELECT {self._columns()} FROM items WHERE {where} LIMIT 1", *values)
        return from_row(rows[0]) if rows else None

    def _columns(self) -> str:
        return f"{', '.join(COLUMNS)}, {'metadata' if self.has_metadata() else 'NULL'}"

    def has_metadata(self) -> bool:
        """Whether items have metadata and revisions. They have none in an index of format 1 that nothing has written to since."""
        return bool(self._select("PRAGMA user_version")[0][0] >= METADATA_SINCE)

    @contextmanager
    def _change(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A transaction, and the revision that it makes."""
        writer = self._writing()
        with self._clear_errors(), transaction(writer):
            yield writer, writer.execute(_LAST_REVISION).fetchone()[0] + 1

    def _writing(self) -> sqlite3.Connection:
        assert self._writer is not None, "outside `with store.writing()`"
        return self._writer

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turn errors of SQLite into StoreError."""
        try:
            yield
        except SQLITE_ERRORS as error:
            raise StoreError(
                f"index {self.folder}: writing failed ({error}); what was committed is kept: "
                "check the disk (is it full?) and try again"
            ) from None
