"""Move items from the database of an index into shards, and back. No id, code or path changes.

Every step is one transaction of the database, which has the list of shards. What is interrupted leaves an index that is whole,
and a second run goes on.
"""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from spq.errors import ConfigError, StoreError
from spq.index.item_table import to_table
from spq.index.items import Item, to_row
from spq.index.manifest import FORMAT, SHARDED, Manifest, as_text, write_manifest
from spq.index.shards.live import Live, items_of, live_rows
from spq.index.shards.shard_facts import FOLDER, ShardFacts
from spq.index.shards.shard_writer import Kind, remove_unfinished, write_shard
from spq.index.shards.sharded_store import INSERT, TABLES, ShardedStore
from spq.index.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ITEMS = 5_000_000  # of a shard, at most
MOST_ITEMS = 50_000_000  # that a shard may have: its rows are kept in memory while it is written
SMALL = 0.5  # of the items of a full shard: smaller ones are joined
AT_ONCE = 65_536  # items that are Python objects at a time
Progress = Callable[[int, int], None]  # items done, of all


def to_shards(store: Store, items: int = SHARD_ITEMS, progress: Progress | None = None) -> int:
    """Move all encoded items of the database into shards of at most so many items; returns how many shards were written.

    Small shards, and those of which little is left, are joined. A `Store` of an index that had no shards is of no use
    afterwards; open the index again.

    Raises:
        ConfigError: `items` is out of range. StoreError: a row of the database is damaged.
    """
    check_items(items)
    with store.writing():
        written, done, total = 0, 0, Store.__len__(store)
        if total:
            become_sharded(store)
        _remove_leftovers(store)
        while count := min(items, total - done):
            facts = write_shard(store.folder, next_number(store.manifest), kind_of(store), _newest(store, count))
            add_shard(store, facts)
            done, written = done + facts.count, written + 1
            if progress:
                progress(done, total)
        if isinstance(store, ShardedStore):
            written += _join_small(store, items)
    store.reads_shards = isinstance(store, ShardedStore)
    return written


def to_database(store: ShardedStore, progress: Progress | None = None) -> None:
    """Move all items of the shards back into the database. The index is one without shards then; open it again."""
    with store.writing():
        total, done = sum(map(len, store.live())), 0
        for part in store.live():
            for rows in live_rows(part):
                store.lift(part, rows)
                done += len(rows)
                if progress:
                    progress(done, total)
            _drop(store, [part])
        with store.change() as (writer, revision):
            writer.execute("DROP TABLE IF EXISTS tombstones")
            writer.execute(f"PRAGMA user_version = {FORMAT}")
            writer.execute("INSERT OR REPLACE INTO removed VALUES (0, ?)", (revision,))
            store.manifest = replace(store.manifest, format=FORMAT, shards=(), generation=0)
            writer.execute("UPDATE contents SET manifest = ?", (as_text(store.manifest),))
        write_manifest(store.folder, store.manifest)
        shutil.rmtree(store.folder / FOLDER, ignore_errors=True)


def become_sharded(store: Store) -> None:
    """Give the index the format of shards. First the manifest, so that a spq without shards refuses the index."""
    if store.manifest.format < SHARDED:
        store.manifest = replace(store.manifest, format=SHARDED)
        write_manifest(store.folder, store.manifest)
    store.reads_shards = True  # it goes on with what is left in the database
    with store.change() as (writer, _):
        if int(writer.execute("PRAGMA user_version").fetchone()[0]) < SHARDED:
            for statement in TABLES:
                writer.execute(statement)
            writer.execute("UPDATE contents SET manifest = ?", (as_text(store.manifest),))


def check_items(items: int) -> None:
    """Refuse a number of items of a shard that is out of range.

    Raises:
        ConfigError: it is.
    """
    if not 1 <= items <= MOST_ITEMS:
        raise ConfigError(f"`shard_items` must be from 1 to {MOST_ITEMS:,}, got {items}")


def add_shard(store: Store, facts: ShardFacts | None, unreadable: Sequence[Item] = (), last_id: int = 0) -> None:
    """Make a shard part of the index, and remove its items from the database.

    Args:
        unreadable: items without a code, with ids, that come into the database. last_id: up to here, ids are taken.
    """
    if facts:
        store.manifest = _with_shards(store.manifest, (*store.manifest.shards, facts))
    with store.change() as (writer, revision):
        if facts:
            span = facts.first_id, facts.last_id
            writer.execute("DELETE FROM items WHERE status = 0 AND id BETWEEN ? AND ?", span)
        writer.executemany(INSERT, ((*to_row(item), item.id, revision) for item in unreadable))
        if last_id:
            writer.execute(
                "INSERT INTO sqlite_sequence SELECT 'items', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence)"
            )
            writer.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'items'", (last_id,))
        writer.execute("INSERT OR REPLACE INTO removed VALUES (0, ?)", (revision,))  # readers read all again
        writer.execute("UPDATE contents SET manifest = ?", (as_text(store.manifest),))
    write_manifest(store.folder, store.manifest)


def next_number(manifest: Manifest) -> int:
    """The number of the next shard."""
    return max((facts.number for facts in manifest.shards), default=0) + 1


def kind_of(store: Store) -> Kind:
    """What kind of codes the index has."""
    return Kind(store.manifest.num_codebooks, store.manifest.codebook_size)


def _with_shards(manifest: Manifest, shards: Sequence[ShardFacts]) -> Manifest:
    return replace(manifest, format=SHARDED, shards=tuple(shards), generation=manifest.generation + 1)


def _newest(store: Store, count: int) -> Iterator[pa.Table]:
    """The first encoded items of the database, as tables.

    Raises:
        StoreError: one is damaged.
    """
    yield from _tables(store, islice(Store.items(store), count))
    if store.damaged:
        id_, why = next(iter(store.damaged.items()))
        raise StoreError(f"index {store.folder}: item {id_}: {why}; repair the index first")


def _tables(store: Store, items: Iterable[Item]) -> Iterator[pa.Table]:
    items = iter(items)
    while some := list(islice(items, AT_ONCE)):
        yield to_table(some, store.manifest.num_codebooks)


def _join_small(store: ShardedStore, items: int) -> int:
    """Join shards that have few items, or of which few are left, as long as they fit into one."""
    written, some = 0, list[Live]()
    small = sorted((part for part in store.live() if len(part) < SMALL * items), key=len)
    for part in [*small, None]:
        if part is not None and sum(map(len, some)) + len(part) <= items:
            some.append(part)
            continue
        if len(some) > 1 or any(len(part.dead) > SMALL * len(part.shard) for part in some):
            written += _rewrite(store, some)
        some = [part] if part else []
    return written


def _rewrite(store: ShardedStore, parts: list[Live]) -> int:
    """Write the live items of some shards as one, and drop these; returns how many were written."""
    if not sum(map(len, parts)):
        _drop(store, parts)
        return 0
    merged = heapq.merge(*(items_of(part) for part in parts), key=attrgetter("id"))
    facts = write_shard(store.folder, next_number(store.manifest), kind_of(store), _tables(store, merged))
    _drop(store, parts, facts)
    return 1


def _drop(store: ShardedStore, parts: Sequence[Live], instead: ShardFacts | None = None) -> None:
    """Take shards, whose items are elsewhere now, out of the index."""
    dropped = {part.shard.facts for part in parts}
    kept = [facts for facts in store.manifest.shards if facts not in dropped]
    store.manifest = _with_shards(store.manifest, [*kept, *([instead] if instead else [])])
    with store.change() as (writer, revision):
        writer.executemany("DELETE FROM tombstones WHERE shard = ?", [(facts.number,) for facts in dropped])
        writer.execute("INSERT OR REPLACE INTO removed VALUES (0, ?)", (revision,))
        writer.execute("UPDATE contents SET manifest = ?", (as_text(store.manifest),))
    write_manifest(store.folder, store.manifest)
    _remove_leftovers(store)


def _remove_leftovers(store: Store) -> None:
    """Remove folders that the index does not name: of interrupted writers, and of shards that were dropped."""
    remove_unfinished(store.folder)
    names = {facts.name for facts in store.manifest.shards}
    for folder in (store.folder / FOLDER).glob("[0-9]*-*"):
        if folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)
