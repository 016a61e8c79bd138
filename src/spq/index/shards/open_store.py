"""Open the items of any index: with shards or without."""

from __future__ import annotations

from pathlib import Path

from spq.errors import MovedError
from spq.index.manifest import SHARDED, read_manifest
from spq.index.shards.shard_facts import FOLDER
from spq.index.shards.sharded_store import ShardedStore
from spq.index.store import Store

TRIES = 5  # of opening an index whose items are just being moved


def open_store(folder: Path, wait: float = 0) -> Store:
    """Open an existing index for reading, see `Store.open`. An index with shards gives a `ShardedStore`.

    Raises:
        StoreError: as `Store.open`.
    """
    for left in reversed(range(TRIES)):
        has_shards = (
            read_manifest(folder).format >= SHARDED or (folder / FOLDER).is_dir()
        )  # the manifest may be an old one
        try:
            return (ShardedStore if has_shards else Store).open(folder, wait)
        except MovedError:
            if not left:
                raise
    raise AssertionError
