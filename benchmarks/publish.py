"""Publish an index with shards and fetch it: seconds, bytes and memory. Each step is a process of its own.

    python benchmarks/publish.py --items 1_000_000 [--shard-items 250_000] [--place /tmp/publish] [--s3]

Paths and hashes are synthetic, codes are random; the model is tiny. Steps: build, publish, publish again (unchanged), change
1,000 items, publish these, fetch, change, publish and fetch the change. Without --s3 the URL is a folder; with it, a bucket of
moto's server, which is far slower than S3. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

STEPS = ("build", "publish", "again", "change", "publish", "fetch", "change", "publish", "newer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--shard-items", type=int, default=250_000)
    parser.add_argument("--place", type=Path, default=Path("/tmp/publish"))
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--step", choices=STEPS)
    arguments = parser.parse_args()
    if arguments.step:
        from scale_index import memory

        print(json.dumps({**globals()[f"step_{arguments.step}"](arguments), **memory()}))
        return
    found = []
    with ExitStack() as stack:
        if arguments.s3:
            from object_store import s3_server

            arguments.place.mkdir(parents=True, exist_ok=True)
            os.environ |= stack.enter_context(s3_server(arguments.place / "s3.log"))
        for step in STEPS:
            command = [sys.executable, __file__, *sys.argv[1:], "--step", step]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append({"step": step} | json.loads(done.stdout.splitlines()[-1]))
            print(found[-1], file=sys.stderr, flush=True)
    print(json.dumps({"items": arguments.items, "s3": arguments.s3, "steps": found}))


def url_of(arguments: argparse.Namespace) -> str:
    return "s3://bucket/published" if arguments.s3 else str(arguments.place / "published")


def step_build(arguments: argparse.Namespace) -> dict[str, Any]:
    """An index of random codes with the copy of an untrained model."""
    from scale_index import M, tables
    from spq.config import BackboneConfig, InputConfig, QuantizerConfig, Recipe
    from spq.data.source import Source
    from spq.index.shards.from_tables import build_from_tables
    from spq.model.model import Model
    from spq.model.network import Network

    recipe = Recipe(
        name="tiny",
        input=InputConfig(size=28),
        backbone=BackboneConfig(blocks=(1,), width=8, stem_stride=2),
        quantizer=QuantizerConfig(num_codebooks=M, codeword_dim=4),
    )
    source = Source(("/photos",))
    folder = arguments.place / "index"
    with build_from_tables(
        folder, Model(Network(recipe), recipe), source, tables(arguments.items, None), arguments.shard_items
    ) as store:
        return {"images": len(store)}


def step_change(arguments: argparse.Namespace) -> dict[str, Any]:
    """A thousand items get another time; they leave their shards."""
    from dataclasses import replace

    from spq.index.shards.open_store import open_store

    with open_store(arguments.place / "index") as store, store.writing():
        items = store.items_by_id(range(1, 1001)).values()
        store.put([replace(item, mtime_ns=item.mtime_ns + 1) for item in items])
    return {"items": len(items)}


def step_publish(arguments: argparse.Namespace) -> dict[str, Any]:
    from spq.scale.publish import publish

    began = time.monotonic()
    report = publish(arguments.place / "index", url_of(arguments))
    seconds = round(time.monotonic() - began, 2)
    return {"seconds": seconds, "uploaded": report.uploaded, "bytes": report.bytes_uploaded, "of": report.bytes}


step_again = step_publish


def step_fetch(arguments: argparse.Namespace) -> dict[str, Any]:
    from spq.scale.published import PublishedIndex

    began, read = time.monotonic(), [0, 0]

    def note(*done: int) -> None:
        read[:] = done

    folder = PublishedIndex(url_of(arguments), arguments.place / "cache").fetch(progress=note)
    return {"seconds": round(time.monotonic() - began, 2), "bytes": read[1], "generation": folder.name[:8]}


step_newer = step_fetch


if __name__ == "__main__":
    main()
