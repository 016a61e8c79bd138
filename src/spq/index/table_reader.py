"""Reading the tables of an index: items and their codes."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from spq.errors import StoreError, TimeLimitError
from spq.index.format import CTIME_SINCE, METADATA_SINCE, SQLITE_ERRORS, Manifest, open_reader, why_closed
from spq.index.items import COLUMNS, Item, from_row, text_bytes

PAGE, ITEMS_PAGE = 100_000, 1000  # codes, and whole items, that are read at once
STEPS = 100_000  # instructions of SQLite between two checks of the time: about a millisecond
LAST_REVISION = (
    "SELECT max(coalesce((SELECT max(revision) FROM items), 0), coalesce((SELECT max(revision) FROM removed), 0))"
)


class TableReader:
    """The items of an index folder, read at any time. Nothing is written, and the folder may be read-only."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._reopened = 0
        try:
            self._reader = open_reader(folder)
        except SQLITE_ERRORS as error:
            reason = why_closed(folder, error, "build the index again")
            raise StoreError(f"index {folder}: items.sqlite {reason}") from None

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self, paths: Collection[str] | None = None) -> dict[str, tuple[int, int, int]]:
        """path -> (size, mtime_ns, ctime_ns) of all items, readable or not, or of the known ones among `paths`."""
        rows = self._select_paths(f"SELECT path, size, mtime_ns, {_ctime(self._format())} FROM items", paths)
        return {path: (size, mtime_ns, ctime_ns) for path, size, mtime_ns, ctime_ns in rows}

    def hashes(self, paths: Collection[str]) -> dict[str, bytes]:
        """path -> hash of the bytes, of the known ones among `paths` that have one."""
        return {path: digest for path, digest in self._select_paths("SELECT path, hash FROM items", paths) if digest}

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
        return int(self._select(LAST_REVISION)[0][0]) if self.has_metadata() else -1

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
        found = self._format()
        return f"{', '.join(COLUMNS)}, {_ctime(found)}, {'metadata' if found >= METADATA_SINCE else 'NULL'}"

    def has_metadata(self) -> bool:
        """Whether items have metadata and revisions. They have none in an index of format 1 that nothing has written to since."""
        return self._format() >= METADATA_SINCE

    def _format(self) -> int:
        """The format of the tables. It grows while they are open, if another process writes to an older index."""
        return int(self._select("PRAGMA user_version")[0][0])


def _ctime(found: int) -> str:
    """The column of the ctime in tables of this format."""
    return "ctime_ns" if found >= CTIME_SINCE else "0"
