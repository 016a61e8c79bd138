"""Reading the tables of an index: items and their codes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import batches
from spq.errors import StoreError
from spq.index.checksums import CODE_BITS, code_checks, of_row
from spq.index.committed import LAST_REVISION
from spq.index.format import (
    CHECKED_SINCE,
    CTIME_SINCE,
    METADATA_SINCE,
)
from spq.index.items import COLUMNS, DamagedRowError, Item, from_row, text_bytes
from spq.index.open_tables import OpenTables

PAGE, ITEMS_PAGE = 100_000, 1000  # codes, and whole items, that are read at once
NAMES_AT_ONCE = 1000  # paths that one statement looks up
NAMED = 5  # damaged items that an error names
_PATH = "ifnull(CAST(path AS TEXT), '')"  # text in any case, also of a damaged row


class Known(NamedTuple):
    """What is known of an item: (size, mtime_ns, ctime_ns), and its metadata as JSON, if it has any."""

    status: tuple[int, int, int]
    metadata: str | None


class TableReader(OpenTables):
    """The items of an index folder, read at any time."""

    def stats(self, paths: Collection[str] | None = None) -> dict[str, tuple[int, int, int]]:
        """path -> (size, mtime_ns, ctime_ns) of all items, readable or not, or of the known ones among `paths`."""
        rows = self._select_paths(f"SELECT {_PATH}, size, mtime_ns, {_ctime(self._format())} FROM items", paths)
        return {path: (size, mtime_ns, ctime_ns) for path, size, mtime_ns, ctime_ns in rows}

    def known(self, paths: Collection[str]) -> dict[str, Known]:
        """What is known of the items of `paths`, of those that there are."""
        found = self._format()
        query = f"SELECT {_PATH}, size, mtime_ns, {_ctime(found)}, {_metadata(found)} FROM items"
        return {
            path: Known((size, mtime_ns, ctime_ns), text)
            for path, size, mtime_ns, ctime_ns, text in self._select_paths(query, paths)
        }

    def hashes(self, paths: Collection[str]) -> dict[str, bytes]:
        """path -> hash of the bytes, of the known ones among `paths` that have one."""
        return {
            path: digest for path, digest in self._select_paths(f"SELECT {_PATH}, hash FROM items", paths) if digest
        }

    def metadata(self, paths: Collection[str] | None = None) -> dict[str, str]:
        """path -> metadata as JSON, of all items that have any, or of those of `paths`."""
        query = f"SELECT {_PATH}, CAST(metadata AS TEXT) FROM items"
        rows = self._select_paths(query, paths) if self.has_metadata() else ()
        return {path: metadata for path, metadata in rows if metadata}

    def _select_paths(self, query: str, paths: Collection[str] | None) -> Iterable[tuple[Any, ...]]:
        if paths is None:
            return self._select(query)
        return (row for some in batches(paths, NAMES_AT_ONCE) for row in self._select_some(query, some))

    def _select_some(self, query: str, paths: list[str]) -> list[Any]:
        places = ", ".join(["CAST(? AS TEXT)"] * len(paths))
        return self._select(f"{query} WHERE path IN ({places})", *map(text_bytes, paths))

    def items_by_hash(self, hashes: Iterable[bytes]) -> dict[bytes, Item]:
        """One encoded item for each known hash. Damaged ones are passed over."""
        where = "substr(hash, 1, 8) = ? AND hash = ? AND status = 0"
        found = (self._first(where, value[:8], value) for value in set(hashes) if value)
        return {item.hash: item for item in found if item and item.code is not None}

    def item(self, path: str) -> Item | None:
        """The item of a path; None if there is none, or its row is damaged."""
        return self._first("path = CAST(? AS TEXT)", text_bytes(path))

    def items(self) -> Iterator[Item]:
        """All items that have a code, by id. They are read a thousand at a time. Damaged ones are passed over."""
        statement = f"SELECT {self._columns()} FROM items WHERE status = 0 AND id > ? ORDER BY id LIMIT {ITEMS_PAGE}"
        last = 0
        while rows := self._select(statement, last):
            yield from self._sound(rows)
            before, last = last, rows[-1][COLUMNS.index("id")]
            if last <= before:
                raise self._damaged("its ids are not in order")  # this would never end

    def _sound(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Item]:
        """The items of rows. Damaged ones are noted and passed over."""
        for row in rows:
            try:
                yield from_row(row)
            except DamagedRowError as error:
                self.damaged[row[COLUMNS.index("id")]] = str(error)

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the pictures that have no code."""
        reason = "ifnull(CAST(reason AS TEXT), '')"
        return self._select(f"SELECT {_PATH}, {reason} FROM items WHERE status = 1 ORDER BY id")

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """ids (N,), ascending, and codes (N, M), each checked.

        Raises:
            StoreError: a code is not what was written, or an item is lost.
        """
        pages, last, total = [], 0, 0
        with self.snapshot():
            while (first := self._select("SELECT min(id) FROM items WHERE id > ?", last)[0][0]) is not None:
                if first <= last:
                    raise self._damaged("its ids are not in order")  # this would never end
                ids, codes, code_sum = self._code_page(first)
                pages.append((ids, codes))
                last, total = first + PAGE - 1, total + code_sum
            if self._format() >= CHECKED_SINCE:
                count = sum(len(ids) for ids, _ in pages)
                known = self._select("SELECT CAST(encoded AS INTEGER), CAST(code_sum AS INTEGER) FROM contents")
                if known != [(count, total)]:
                    raise self._damaged(f"{count:,} of {known[0][0]:,} items are there, or their sums are not right")
        M = self.manifest.num_codebooks
        return (
            np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in pages)]),
            np.concatenate([np.empty((0, M), np.uint8), *(codes for _, codes in pages)]),
        )

    def codes_of(self, ids: Sequence[int]) -> list[bytes]:
        """The codes of those ids that have one, unchecked but for their length."""
        statement = (
            "SELECT code FROM items WHERE status = 0 AND id IN (SELECT value FROM json_each(?)) "
            "AND typeof(code) = 'blob' AND length(code) = ?"
        )
        return [code for (code,) in self._select(statement, json.dumps(ids), self.manifest.num_codebooks)]

    def last_id(self) -> int:
        """The highest id; 0 if there is none."""
        return int(self._select("SELECT coalesce(max(id), 0) FROM items")[0][0])

    def newer(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """`codes` of the database alone, without those of shards."""
        return TableReader.codes(self)

    def _code_page(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], int]:
        """Ids and codes from an id on, and the sum of the codes' checksums.

        SQLite joins them into one text and one blob: four times as fast as rows in Python.
        """
        M, has_checks = self.manifest.num_codebooks, self._format() >= CHECKED_SINCE
        check, key = (f'sum("check" & {CODE_BITS})', "(SELECT key FROM contents)") if has_checks else ("0", "0")
        fits = "0" if has_checks else f"total(length(code) IS NOT {M})"  # a checksum says it, too
        id_text, code_bytes, count, code_sum, wrong, salt = self._select(
            f"SELECT group_concat(id), CAST(group_concat(code, '') AS BLOB), count(*), ifnull({check}, 0), {fits}, {key} "
            "FROM items WHERE status = 0 AND id BETWEEN ? AND ?",
            first, first + PAGE - 1,
        )[0]  # fmt: skip
        if wrong:
            raise self._bad_codes()
        ids = np.fromstring(id_text, np.int64, sep=",") if id_text else np.empty(0, np.int64)
        codes = self._as_codes(code_bytes or b"", count)
        if len(ids) != count or (np.diff(ids) <= 0).any():
            raise self._damaged("its ids are not in order")
        if has_checks and int(code_checks(salt, ids, codes).sum(dtype=np.int64)) != code_sum:
            raise self._wrong_codes(ids)
        return ids, codes, code_sum

    def _wrong_codes(self, ids: NDArray[np.int64]) -> StoreError:
        """Say which items, among those of a page, have damaged codes."""
        page = "FROM items WHERE status = 0 AND id BETWEEN ? AND ?", int(ids[0]), int(ids[-1])
        if self._select(f"SELECT 1 {page[0]} AND length(code) IS NOT {self.manifest.num_codebooks}", *page[1:]):
            return self._bad_codes()
        condition = f'AND {of_row()} & {CODE_BITS} IS NOT "check" & {CODE_BITS} LIMIT {NAMED + 1}'
        wrong = self._select(f"SELECT id {page[0]} {condition}", *page[1:])
        names = ", ".join(str(id_) for (id_,) in wrong[:NAMED]) + ", ..." * (len(wrong) > NAMED)
        return self._damaged(f"the code of item {names} is not what was written")

    def _as_codes(self, code_bytes: bytes, count: int) -> NDArray[np.uint8]:
        codes = np.frombuffer(code_bytes, np.uint8)
        M, K = self.manifest.num_codebooks, self.manifest.codebook_size
        if codes.size != count * M or codes.max(initial=0) >= K:
            raise self._bad_codes()
        return codes.reshape(count, M)

    def _bad_codes(self) -> StoreError:
        M, K = self.manifest.num_codebooks, self.manifest.codebook_size
        return self._damaged(f"it holds codes that are not {M} numbers below {K}")

    def without(self, ids: Collection[int]) -> StoreError:
        """The error for items whose codes are in memory, but which are not in the table, however often it is read again.

        Without ids: all are there, but with other codes each time.
        """
        if not ids:
            return StoreError(f"index {self.folder} changes faster than it can be read; try again")
        why = next((f": {self.damaged[id_]}" for id_ in ids if id_ in self.damaged), "")
        return self._damaged(f"item {min(ids)} cannot be read{why}")

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
        check = f'"check" & {CODE_BITS}, (SELECT key FROM contents)' if self._format() >= CHECKED_SINCE else "0, 0"
        rows = self._select(
            f"SELECT id, code, {check} FROM items WHERE revision > ? "
            "UNION ALL SELECT id, NULL, 0, 0 FROM removed WHERE revision > ? LIMIT ?",
            since, since, PAGE,
        )  # fmt: skip
        put = [row for row in rows if row[1] is not None]
        removed = np.array([row[0] for row in rows if row[1] is None], np.int64)
        if len(rows) == PAGE or not removed.all():  # id 0 stands for a cleared list
            return None
        if any(type(row[1]) is not bytes or len(row[1]) != self.manifest.num_codebooks for row in put):
            raise self._bad_codes()
        ids, codes = np.array([row[0] for row in put], np.int64), self._as_codes(b"".join(r[1] for r in put), len(put))
        if put and self._format() >= CHECKED_SINCE:
            is_wrong = code_checks(put[0][3], ids, codes) != np.array([row[2] for row in put], np.uint32)
            if is_wrong.any():
                raise self._damaged(f"the code of item {ids[is_wrong][0]} is not what was written")
        return ids, codes, removed

    def paths(self, ids: Iterable[int]) -> dict[int, str]:
        """id -> path, of the known ids.

        Raises:
            StoreError: the row of one is damaged.
        """
        rows = self._select(
            f"SELECT id, {_PATH}, typeof(path) = 'text' AND {self._is_sound()} FROM items "
            "WHERE id IN (SELECT value FROM json_each(?))",
            json.dumps([int(i) for i in ids]),
        )  # fmt: skip
        wrong = next((id_ for id_, _, is_sound in rows if not is_sound), None)
        if wrong is not None:
            raise self._damaged(f"the row of item {wrong} is not what was written")
        return {id_: path for id_, path, _ in rows}

    def encoded_paths(self) -> list[tuple[int, str, bool]]:
        """(id, path, whether the row is sound) of all items that have a code, by id."""
        rows = self._select(f"SELECT id, {_PATH}, {self._is_sound()} FROM items WHERE status = 0 ORDER BY id")
        return [(id_, path, bool(is_sound)) for id_, path, is_sound in rows]

    def each_path(self) -> Iterator[str]:
        """The paths of all items, readable or not."""
        last = -(2**63)
        statement = f"SELECT CAST(id AS INTEGER), {_PATH} FROM items WHERE id > ? ORDER BY id LIMIT {PAGE}"
        while rows := self._select(statement, last):
            yield from (path for _, path in rows)
            before, last = last, rows[-1][0]
            if last <= before:
                raise self._damaged("its ids are not in order")  # this would never end

    def count(self) -> int:
        """The number of items, readable or not."""
        return int(self._select("SELECT count(*) FROM items")[0][0])

    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        """id -> item, of the known ids that have a code. Damaged ones are passed over."""
        id_list = json.dumps([int(i) for i in ids])
        where = "id IN (SELECT value FROM json_each(?)) AND status = 0"
        rows = self._select(f"SELECT {self._columns()} FROM items WHERE {where}", id_list)
        return {item.id: item for item in self._sound(rows)}

    def ids(self, statement: str, *values: object) -> NDArray[np.int64]:
        """The ids (n,) that a statement selects, in its order. SQLite joins them into one text, as in `_code_page`."""
        text = self._select(f"SELECT group_concat(id) FROM ({statement})", *values)[0][0]
        return np.fromstring(text, np.int64, sep=",") if text else np.empty(0, np.int64)

    def ids_where(
        self, table: str, condition: str, values: Sequence[object], needed: Collection[str]
    ) -> NDArray[np.int64]:
        """The ids, ascending, of the encoded items that a condition is true for.

        Args:
            table: an SQL expression that has the columns of `items`. values: for the `?` of the condition.
            needed: names of the columns that the condition reads.
        """
        return TableReader.ids(self, f"SELECT id FROM {table} WHERE status = 0 AND {condition} ORDER BY id", *values)

    def ids_by(self, order: str, since: int | None = None) -> NDArray[np.int64]:
        """The ids of the encoded items in an SQL order, or of those that were written after a revision."""
        after = "" if since is None else " AND revision > ?"
        statement = f"SELECT id FROM items WHERE status = 0{after} ORDER BY {order}"
        return TableReader.ids(self, statement, *(() if since is None else (since,)))

    def first_metadata(self, count: int) -> list[str]:
        """The metadata, as JSON, of the first items that have any."""
        cells = "SELECT CAST(metadata AS TEXT) FROM items WHERE metadata IS NOT NULL LIMIT ?"
        return [text for (text,) in self._select(cells, count)]

    def shard_columns(self) -> set[str]:
        """Names of metadata that items in shards have."""
        return set()

    def __len__(self) -> int:
        """The number of items with a code: all items less those without, because both counts are fast."""
        count = "SELECT (SELECT count(*) FROM items) - (SELECT count(*) FROM items WHERE status = 1)"
        return int(self._select(count)[0][0])

    def _first(self, where: str, *values: bytes) -> Item | None:
        rows = self._select(f"SELECT {self._columns()} FROM items WHERE {where} LIMIT 1", *values)
        return next(self._sound(rows), None)

    def _columns(self) -> str:
        found = self._format()
        metadata = "metadata" if found >= METADATA_SINCE else "NULL"
        return f"{', '.join(COLUMNS)}, {_ctime(found)}, {metadata}, {self._is_sound()}"

    def _is_sound(self) -> str:
        """Whether the checksum of a row is right; always in an index of a format without checksums."""
        return f'({of_row()} IS "check")' if self._format() >= CHECKED_SINCE else "1"


def _ctime(found: int) -> str:
    """The column of the ctime in tables of this format."""
    return "ctime_ns" if found >= CTIME_SINCE else "0"


def _metadata(found: int) -> str:
    """The metadata, as text in any case, in tables of this format."""
    return "CAST(metadata AS TEXT)" if found >= METADATA_SINCE else "NULL"
