"""Check the shards of an index: their files, and that each id and each path is in one place only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spq.common.parallel import batches
from spq.errors import StoreError
from spq.index.manifest import SHARDED, Manifest
from spq.index.shards.live import AT_ONCE, Live, live_rows
from spq.index.shards.sharded_store import ShardedStore

LISTED = 20  # items that are listed for each kind of fault


def shard_faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A line for each fault; none of an index without shards.

    Files are compared with their checksums, so what is in them is as it was written.
    """
    if manifest.format < SHARDED:
        return
    try:
        with ShardedStore.open(folder) as store:
            live = store.live()
            files = [fault for part in live for fault in part.shard.faults()]
            yield from files
            if not files:
                yield from _tombstone_faults(store)
                yield from _ids_twice(store, live)
                yield from _paths_twice(store, live)
    except StoreError as error:
        yield str(error)


def _tombstone_faults(store: ShardedStore) -> Iterator[str]:
    sizes = {facts.number: facts.count for facts in store.manifest.shards}
    if not store.has_tombstones():
        return  # a move into shards has only begun, or has just ended
    rows = store.select_newer("SELECT shard, max(row), min(row) FROM tombstones GROUP BY shard")
    for number, last, first in rows:
        if number not in sizes:
            yield f"items.sqlite has tombstones of shard {number}, which is not in the list of shards"
        elif first < 0 or last >= sizes[number]:
            yield f"items.sqlite has a tombstone of row {last} of shard {number}, which has {sizes[number]:,} rows"


def _ids_twice(store: ShardedStore, live: tuple[Live, ...]) -> Iterator[str]:
    newer = np.array([row[0] for row in store.select_newer("SELECT id FROM items ORDER BY id")], np.int64)
    pieces = [newer, *(part.shard.ids_of(rows) for part in live for rows in live_rows(part))]
    ids = np.sort(np.concatenate(pieces))
    twice = np.unique(ids[1:][ids[1:] == ids[:-1]])
    yield from (f"item {id_} is in two places: shards, or a shard and items.sqlite" for id_ in twice[:LISTED].tolist())


def _paths_twice(store: ShardedStore, live: tuple[Live, ...]) -> Iterator[str]:
    found: set[str] = set()
    for some in batches(store.newer_each_path(), AT_ONCE):
        for part in live:
            rows = part.shard.rows_of_paths(some)
            found |= {some[i] for i in np.flatnonzero(part.are_live(rows)).tolist()}
    for number, part in enumerate(live):
        for other in live[:number]:
            rows = part.shard.rows_with_keys_of(other.shard)
            paths = part.shard.paths(rows[part.are_live(rows)])
            found |= {paths[i] for i in np.flatnonzero(other.are_live(other.shard.rows_of_paths(paths))).tolist()}
    yield from (f"{path} is in two places: shards, or a shard and items.sqlite" for path in sorted(found)[:LISTED])
