"""spq index --to-shards and --to-database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from spq.cli.describe import counted
from spq.cli.indexing import command
from spq.cli.output import show
from spq.cli.stopping import when_stopped
from spq.common.text import printable
from spq.errors import ConfigError


class Sharding(NamedTuple):
    """The options of `spq index` about shards. is_alone: an index is named, and no other option goes along."""

    to_shards: bool
    to_database: bool
    items: int | None
    is_alone: bool


def run_sharding(out: Path, asked: Sharding, wait: float, as_json: bool) -> None:
    """Move the items of an index into shards, or back into its database."""
    from spq.index.shards.open_store import open_store

    back = asked.to_database
    if asked.items is not None and not asked.to_shards:
        raise ConfigError("--shard-items is for --to-shards and --encoded; give one of them")
    if asked.to_shards and back:
        raise ConfigError("--to-shards and --to-database contradict each other; give one")
    if not asked.is_alone:
        raise ConfigError(f"give --to-{'database' if back else 'shards'} with an index alone, without other options")
    again = command("spq", "index", out, "--to-database" if back else "--to-shards")
    with when_stopped(f"the index is whole, go on with: {again}"):
        if back:
            _to_database(out, wait)
        else:
            _to_shards(out, asked.items, wait)
    with open_store(out) as store:
        facts = store.info()
    if as_json:
        print(json.dumps({"index": str(out), **facts}))
    else:
        shards = counted(facts.get("shards", 0), "shard")
        show(f"{printable(str(out))}: {counted(facts['images'], 'picture')} in {shards}")


def _to_shards(out: Path, items: int | None, wait: float) -> None:
    from spq.cli.progress import counting
    from spq.index.shards.open_store import open_store
    from spq.index.shards.sharding import SHARD_ITEMS, to_shards

    with open_store(out, wait) as store, counting("moving into shards") as progress:
        to_shards(store, SHARD_ITEMS if items is None else items, lambda done, total: progress(done, total, 0))


def _to_database(out: Path, wait: float) -> None:
    from spq.cli.progress import counting
    from spq.index.shards.open_store import open_store
    from spq.index.shards.sharded_store import ShardedStore
    from spq.index.shards.sharding import to_database

    with open_store(out, wait) as store, counting("moving into the database") as progress:
        if not isinstance(store, ShardedStore):
            raise ConfigError(f"index {out} has no shards; nothing has to be moved")
        to_database(store, lambda done, total: progress(done, total, 0))
