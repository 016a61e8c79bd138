"""Open the items of any index: with shards or without."""

from __future__ import annotations

from pathlib import Path

from spq.index.manifest import SHARDED, read_manifest
from spq.index.shards.sharded_store import ShardedStore
from spq.index.store import Store


def open_store(folder: Path, wait: float = 0) -> Store:
    """Open an existing index for reading, see `Store.open`. An index with shards gives a `ShardedStore`.

    Raises:
        StoreError: as `Store.open`.
    """
    kind = ShardedStore if read_manifest(folder).format >= SHARDED else Store
    return kind.open(folder, wait)
