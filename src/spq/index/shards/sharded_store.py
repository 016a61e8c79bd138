"""The durable part of an index with shards: files that never change, and the database of all that is newer.

The database (the delta) has new items, and changed ones under their old ids. A row of a shard whose item was changed or removed
has a tombstone there. A change first lifts its items from the shards into the database; the rest is as in an index without
shards. The database also has the list of shards, so a change of the list and of the items is one transaction.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from spq.common.json_file import JsonError, parse_json
from spq.common.parallel import batches
from spq.errors import StoreError
from spq.index.items import Item, text_bytes, to_row
from spq.index.manifest import NO_SHARDS, SHARDED, Manifest, from_content, write_manifest
from spq.index.shards.live import Live, items_of, live_rows
from spq.index.shards.shard import Rows, Shard
from spq.index.shards.shard_filter import rows_where
from spq.index.shards.shard_order import sorted_ids
from spq.index.shards.shard_writer import Kind, keys_of
from spq.index.store import Store
from spq.index.table_reader import Known

STATUS = ("size", "mtime_ns", "ctime_ns")  # columns that show a change of a file
AT_ONCE = 65_536  # items that are looked up at a time
INSERT = (
    "INSERT INTO items (path, hash, size, mtime_ns, width, height, status, reason, code, metadata, ctime_ns, id, revision) "
    "VALUES (CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?)"
)
TABLES = (
    "CREATE TABLE tombstones (shard INTEGER, row INTEGER, revision INTEGER NOT NULL, PRIMARY KEY (shard, row)) WITHOUT ROWID",
    "CREATE INDEX tombstones_by_revision ON tombstones (revision)",
    f"PRAGMA user_version = {SHARDED}",
)
T = TypeVar("T")
P = ParamSpec("P")
TRIES = 20  # of a read while shards are dropped again and again


def _of_one_moment(
    read: Callable[Concatenate[ShardedStore, P], T],
) -> Callable[Concatenate[ShardedStore, P], T]:
    """Let a method see database and shards of one moment, although a writer moves items from one to the other."""

    @wraps(read)
    def reading(self: ShardedStore, /, *arguments: P.args, **named: P.kwargs) -> T:
        for left in reversed(range(TRIES)):
            version = self.version()
            try:
                with self.snapshot():
                    return read(self, *arguments, **named)
            except (StoreError, OSError):
                if self.version() == version or not left:
                    raise  # else a shard was dropped meanwhile, and its files are gone
        raise AssertionError

    return reading


class ShardedStore(Store):
    """An index folder with shards, open for reading at any time. It has the methods of `Store`, but for SQL over all items."""

    reads_shards = True

    def __init__(self, folder: Path, manifest: Manifest, wait: float = 0, may_lack: bool = False) -> None:
        super().__init__(folder, manifest, wait, may_lack)
        self._opened: dict[str, Shard] = {}
        self._seen: tuple[int, tuple[Live, ...]] | None = None
        self._dead: tuple[int, int, dict[int, Rows]] = (-1, 0, {})  # last move, last revision, shard number -> rows
        try:
            self.live()  # all files are there
        except BaseException:
            self.close()
            raise

    def live(self) -> tuple[Live, ...]:
        """The shards as they are now, in order of their numbers.

        Raises:
            StoreError: a shard is damaged.
        """
        while self._seen is None or self._seen[0] != self.version():
            version = self.version()
            with self.snapshot():
                self.manifest = replace(self.manifest, **self._list_of_shards())
                dead = self._tombstones()
            try:
                self._open_shards()
            except StoreError:
                if self.version() == version:
                    raise  # else a writer has just dropped the shard
                continue
            none = np.empty(0, np.int64)
            opened = (self._opened[facts.name] for facts in self.manifest.shards)
            self._seen = version, tuple(Live(shard, dead.get(shard.facts.number, none)) for shard in opened)
        return self._seen[1]

    def _open_shards(self) -> None:
        kind = Kind(self.manifest.num_codebooks, self.manifest.codebook_size)
        names = {facts.name for facts in self.manifest.shards}
        self._opened = {name: shard for name, shard in self._opened.items() if name in names}
        for facts in self.manifest.shards:
            if facts.name not in self._opened:
                self._opened[facts.name] = Shard(self.folder, facts, kind)

    def _list_of_shards(self) -> dict[str, Any]:
        """The fields of the manifest about shards. The copy in the database counts."""
        if self._format() < SHARDED:
            return {"shards": (), "generation": 0}
        text = self._select("SELECT CAST(manifest AS TEXT) FROM contents")[0][0]
        try:
            copy = from_content(parse_json(text), f"index {self.folder}", "the manifest in items.sqlite")
        except JsonError as error:
            raise self._damaged(f"its list of shards cannot be read ({error})") from None
        return {"shards": copy.shards, "generation": copy.generation, "format": SHARDED}

    def _tombstones(self) -> dict[int, Rows]:
        """number of a shard -> rows, ascending. Only new ones are read, unless the list of shards has changed."""
        known, since, dead = self._dead
        moved = (
            self._select("SELECT ifnull(max(revision), 0) FROM removed WHERE id = 0")[0][0]
            if self.has_metadata()
            else 0
        )
        if known != moved:
            since, dead = -1, {}
        if self._format() >= SHARDED:
            new = self._select("SELECT shard, row, revision FROM tombstones WHERE revision > ?", since)
            found: dict[int, list[int]] = {}
            for shard, row, revision in new:
                found.setdefault(shard, []).append(row)
                since = max(since, revision)
            none = np.empty(0, np.int64)
            dead = dead | {n: np.union1d(dead.get(n, none), np.array(rows, np.int64)) for n, rows in found.items()}
        self._dead = moved, since, dead
        return dead

    # Reading

    def stats(self, paths: Collection[str] | None = None) -> dict[str, tuple[int, int, int]]:
        found = super().stats(paths)
        for part, rows, known in self._parts(paths, found):
            table = part.shard.columns(rows, STATUS)
            found |= zip(known, zip(*(table[name].to_pylist() for name in STATUS), strict=True), strict=True)
        return found

    def known(self, paths: Collection[str]) -> dict[str, Known]:
        found = super().known(paths)
        for part, rows, names in self._parts(paths, found):
            columns = (*STATUS, *(("metadata",) if part.shard.facts.columns else ()))
            table = part.shard.columns(rows, columns)
            texts = table["metadata"].to_pylist() if part.shard.facts.columns else repeat(None)
            statuses = zip(*(table[name].to_pylist() for name in STATUS), strict=True)
            found |= {n: Known(status, text) for n, status, text in zip(names, statuses, texts, strict=False)}
        return found

    def hashes(self, paths: Collection[str]) -> dict[str, bytes]:
        found = super().hashes(paths)
        for part, rows, known in self._parts(paths, found):
            digests = part.shard.columns(rows, ("hash",))["hash"].to_pylist()
            found |= {path: digest for path, digest in zip(known, digests, strict=True) if digest}
        return found

    def metadata(self, paths: Collection[str] | None = None) -> dict[str, str]:
        found = super().metadata(paths)
        for part, rows, known in self._parts(paths, found):
            if part.shard.facts.columns:
                texts = part.shard.columns(rows, ("metadata",))["metadata"].to_pylist()
                found |= {path: text for path, text in zip(known, texts, strict=True) if text}
        return found

    def items_by_hash(self, hashes: Iterable[bytes]) -> dict[bytes, Item]:
        hashes = set(hashes)
        found = super().items_by_hash(hashes)
        for digest in hashes.difference(found):
            for part in self.live() if digest else ():
                rows = part.shard.rows_of_hash(digest)
                if len(rows := rows[part.are_live(rows)]):
                    found[digest] = part.shard.items(rows[:1])[0]
                    break
        return found

    def item(self, path: str) -> Item | None:
        if (found := super().item(path)) is not None:
            return found
        items = (part.shard.items(rows)[0] for part, rows, _ in self._parts([path], ()))
        return next(items, None)

    def items(self) -> Iterator[Item]:
        return heapq.merge(super().items(), *map(items_of, self.live()), key=attrgetter("id"))

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        pieces = [super().codes()]
        pieces += [(p.shard.ids_of(rows), p.shard.codes_of(rows)) for p in self.live() for rows in live_rows(p)]
        ids, codes = (np.concatenate(each) for each in zip(*pieces, strict=True))
        order = ids.argsort(kind="stable")
        return ids[order], codes[order]

    def codes_of(self, ids: Sequence[int]) -> list[bytes]:
        rest = (part.shard.codes_of(rows) for part, rows in self._parts_of_ids(ids, ()))
        return [*super().codes_of(ids), *(code.tobytes() for codes in rest for code in codes)]

    def last_id(self) -> int:
        return max([super().last_id(), *(part.shard.facts.last_id for part in self.live())])

    @_of_one_moment
    def paths(self, ids: Iterable[int]) -> dict[int, str]:
        ids = list(ids)
        found = super().paths(ids)
        for part, rows in self._parts_of_ids(ids, found):
            found |= zip(part.shard.ids_of(rows).tolist(), part.shard.paths(rows), strict=True)
        return found

    def encoded_paths(self) -> list[tuple[int, str, bool]]:
        rest = [(item.id, item.path, True) for part in self.live() for item in items_of(part)]
        return sorted([*super().encoded_paths(), *rest])

    @_of_one_moment
    def items_by_id(self, ids: Iterable[int]) -> dict[int, Item]:
        ids = list(ids)
        found = super().items_by_id(ids)
        for part, rows in self._parts_of_ids(ids, found):
            found |= {item.id: item for item in part.shard.items(rows)}
        return found

    def has_tombstones(self) -> bool:
        """Whether the database has the tables of an index with shards."""
        return self._format() >= SHARDED

    def newer_each_path(self) -> Iterator[str]:
        """The paths of all items of the database alone."""
        return super().each_path()

    def each_path(self) -> Iterator[str]:
        yield from super().each_path()
        for part in self.live():
            for rows in live_rows(part):
                yield from part.shard.paths(rows)

    @_of_one_moment
    def ids_where(
        self, table: str, condition: str, values: Sequence[object], needed: Collection[str]
    ) -> NDArray[np.int64]:
        found = [super().ids_where(table, condition, values, needed)]
        for part in self.live():
            rows = rows_where(part.shard, needed, table, condition, values)
            found.append(part.shard.ids_of(rows[part.are_live(rows)]))
        return np.sort(np.concatenate(found))

    @_of_one_moment
    def ids_by(self, order: str, since: int | None = None) -> NDArray[np.int64]:
        """As `TableReader.ids_by`. What is in shards was written before all revisions that are asked for, in the order of ids."""
        newer = super().ids_by(order, since)
        if since is not None:
            return newer
        if not order.endswith("id DESC"):
            return sorted_ids(
                lambda columns: self.select_newer(f"SELECT id, {columns} FROM items WHERE status = 0"),
                self.live(),
                order,
            )
        pieces = (part.shard.ids_of(rows) for part in self.live() for rows in live_rows(part))
        return np.concatenate([newer, np.sort(np.concatenate([newer[:0], *pieces]))[::-1]])

    @_of_one_moment
    def first_metadata(self, count: int) -> list[str]:
        found = super().first_metadata(count)
        for part in self.live():
            if part.shard.facts.columns and len(found) < count:
                rows = np.arange(min(count, len(part.shard)))
                found += filter(None, part.shard.columns(rows, ("metadata",))["metadata"].to_pylist())
        return found

    def shard_columns(self) -> set[str]:
        return {name for part in self.live() for name in part.shard.facts.columns}

    def select(self, statement: str, *values: object) -> list[Any]:
        raise StoreError(f"index {self.folder} has shards, and {NO_SHARDS}")

    def ids(self, statement: str, *values: object) -> NDArray[np.int64]:
        self.select(statement)
        raise AssertionError

    @_of_one_moment
    def info(self) -> dict[str, Any]:
        facts = super().info()
        live = self.live()
        return facts | {
            "shards": len(live),
            "generation": self.manifest.generation,
            "in_shards": sum(map(len, live)),
            "tombstones": sum(len(part.dead) for part in live),
        }

    @_of_one_moment
    def count(self) -> int:
        return super().count() + sum(map(len, self.live()))

    @_of_one_moment
    def __len__(self) -> int:
        return super().__len__() + sum(map(len, self.live()))

    def _parts(
        self, paths: Collection[str] | None, found: Collection[str]
    ) -> Iterator[tuple[Live, Rows, Sequence[str]]]:
        """(shard, live rows, their paths) of all items in shards, or of those among `paths` that are not in `found`."""
        if paths is None:
            for part in self.live():
                yield from ((part, rows, part.shard.paths(rows)) for rows in live_rows(part))
            return
        for some in batches((path for path in list(paths) if path not in found), AT_ONCE):
            yield from self._parts_of_some(some)

    def _parts_of_some(self, paths: list[str]) -> Iterator[tuple[Live, Rows, Sequence[str]]]:
        names = [text_bytes(path) for path in paths]
        keys, places = keys_of(names), np.arange(len(paths))
        for part in self.live():
            if not len(places):
                return
            rows = part.shard.rows_of_names([names[i] for i in places.tolist()], keys[places])
            is_live = part.are_live(rows)
            if is_live.any():
                yield part, rows[is_live], [paths[i] for i in places[is_live].tolist()]
                places = places[~is_live]

    def _parts_of_ids(self, ids: Iterable[int], found: Collection[int]) -> Iterator[tuple[Live, Rows]]:
        left = np.array([i for i in ids if i not in found], np.int64)
        for part in self.live() if len(left) else ():
            rows = part.shard.rows_of_ids(left)
            if len(rows := rows[part.are_live(rows)]):
                yield part, rows

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        with super().writing():
            written, self._seen = self.manifest, None
            for part in self.live():
                part.shard.check_files()
            if written != self.manifest:
                write_manifest(self.folder, self.manifest)  # it was older than its copy in the database
            yield

    def put(self, items: Iterable[Item]) -> None:
        items = list(items)
        self._lift(item.path for item in items)
        super().put(items)

    def describe(self, metadata: Iterable[tuple[str, dict[str, Any]]]) -> None:
        metadata = list(metadata)
        self._lift(path for path, _ in metadata)
        super().describe(metadata)

    def rename(self, paths: Iterable[tuple[str, str]]) -> None:
        paths = list(paths)
        self._lift(old for old, _ in paths)
        super().rename(paths)

    def set_ctimes(self, ctimes: Iterable[tuple[str, int]]) -> None:
        ctimes = list(ctimes)
        self._lift(path for path, _ in ctimes)
        super().set_ctimes(ctimes)

    def remove(self, paths: Iterable[str]) -> None:
        paths = list(paths)
        self._lift(paths)
        super().remove(paths)

    def _lift(self, paths: Iterable[str]) -> None:
        for part, rows, _ in self._parts(list(paths), ()):
            self.lift(part, rows)

    def lift(self, part: Live, rows: Rows) -> None:
        """Move live items of a shard into the database, where they can be changed. They keep their ids."""
        number = part.shard.facts.number
        with self.change() as (writer, revision):
            items = part.shard.items(rows)
            writer.executemany(INSERT, ((*to_row(item), item.id, revision) for item in items))
            marks = ((number, row, revision) for row in rows.tolist())
            writer.executemany("INSERT INTO tombstones VALUES (?, ?, ?)", marks)

    def save_manifest(self, manifest: Manifest) -> None:
        now = self.manifest
        super().save_manifest(replace(manifest, shards=now.shards, generation=now.generation, format=now.format))
