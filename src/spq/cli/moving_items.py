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
    lists: bool
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
    if back and asked.lists:
        raise ConfigError("--lists is for an index with shards, and --to-database removes them; give one")
    if not asked.is_alone:
        option = "--to-database" if back else "--to-shards" if asked.to_shards else "--lists"
        raise ConfigError(f"give {option} with an index alone, without other options")
    options = ("--to-database" * back, "--to-shards" * asked.to_shards, "--lists" * asked.lists)
    size = () if asked.items is None else ("--shard-items", asked.items)
    again = command("spq", "index", out, *filter(None, options), *size)
    with when_stopped(f"the index is whole, go on with: {again}"):
        if back:
            _to_database(out, wait)
        if asked.to_shards:
            _to_shards(out, asked.items, wait)
        if asked.lists:
            _make_lists(out, wait)
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


def _make_lists(out: Path, wait: float) -> None:
    from spq.cli.progress import counting
    from spq.index.gallery import follow
    from spq.index.model_copy import ModelCopy
    from spq.index.shards.lists import make_lists
    from spq.index.shards.open_store import open_store
    from spq.index.shards.sharded_store import ShardedStore
    from spq.pq.parts import PartedScan

    with open_store(out, wait) as store, counting("making lists") as progress:
        if not isinstance(store, ShardedStore):
            raise ConfigError(f"index {out} has no shards, and --lists is for shards; give --to-shards, too")
        scan = follow(store, ModelCopy(out, store.manifest).make_scan).scan
        assert isinstance(scan, PartedScan)
        make_lists(store, scan, lambda done, total: progress(done, total, 0))
