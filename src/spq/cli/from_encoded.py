"""spq index --encoded: an index with shards, made of a finished encoding job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from spq.cli.describe import counted, listed
from spq.cli.indexing import command
from spq.cli.output import note, show
from spq.cli.stopping import when_stopped
from spq.common.text import printable
from spq.errors import ConfigError


class Encoded(NamedTuple):
    """The options of `spq index --encoded`. is_alone: no other option goes along."""

    url: str
    out: Path | None
    items: int | None
    is_alone: bool


def run_encoded(asked: Encoded, as_json: bool) -> None:
    """Make an index of a job's items. The pictures are not read."""
    from spq.cli.progress import counting
    from spq.index.shards.from_tables import build_from_tables
    from spq.index.shards.sharding import SHARD_ITEMS
    from spq.scale.finished import finished_tables
    from spq.scale.job import load_model, open_job

    if asked.out is None or not asked.is_alone:
        raise ConfigError("give --encoded URL with --out INDEX, without pictures and other options")
    items = SHARD_ITEMS if asked.items is None else asked.items
    size = () if asked.items is None else ("--shard-items", asked.items)
    again = command("spq", "index", "--encoded", asked.url, "--out", asked.out, *size)
    with when_stopped(f"whole shards are kept, go on with: {again}"), counting("writing shards") as progress:
        job = open_job(asked.url)
        total = job.pictures or 0
        tables = finished_tables(asked.url)
        built = build_from_tables(
            asked.out, load_model(job), job.source, tables, items, lambda done: progress(done, max(total, done), 0)
        )
    with built as store:
        facts, failed = store.info(), store.unreadable()
    note(listed("not indexed", failed))
    if as_json:
        print(json.dumps({"index": str(asked.out), **facts, "failed": failed}))
    else:
        shards = counted(facts["shards"], "shard")
        show(f"{printable(str(asked.out))}: {counted(facts['images'], 'picture')} at {facts['bits']} bits in {shards}")
