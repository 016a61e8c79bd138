"""What it costs to ask holders of shards, in this process and by Ray, instead of searching the shards directly.

    python benchmarks/held_shards.py [--millions 1 10] [--holders 1 4] [--queries 300] [--top 100] [--seed 0]

Random codes of 64 bits in four shards, and random tables. Each query is searched by all ways in turn, on one thread for each
holder: directly (`PartedScan`), by holders that are threads of this process, and by holders that are processes of a Ray
cluster on this machine. All of them must give the same answers. It prints medians and 95th percentiles in ms, and the
difference to the direct search. With several holders, a machine of several cores searches the shards at the same time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from _in_process import InProcessHolder
from spq.index.manifest import SHARDED, Manifest, write_manifest
from spq.index.shards.holding import Of
from spq.index.shards.live import Live
from spq.index.shards.placement import Holder, Placement
from spq.index.shards.shard import Shard
from spq.index.shards.shard_facts import FOLDER, FileFacts, ShardFacts
from spq.index.shards.shard_writer import Kind, check_of
from spq.pq.parts import Part, PartedScan
from spq.pq.scan import Scan
from spq.pq.spread import SpreadScan
from spq.pq.sums import Ranking, packed_width
from spq.scale.ray_holders import started_holders

SHARDS, KIND, KEY = 4, Kind(16, 16), 16 * "0"
Search = Callable[[np.ndarray], Ranking]


def make_shards(folder: Path, count: int, rng: np.random.Generator) -> list[Live]:
    """Shards of random codes, and of what holders read: without items."""
    folder.mkdir()
    write_manifest(folder, Manifest(SHARDED, "0", "random", "l2", *KIND, 64, key=KEY))
    each, found = count // SHARDS, []
    for number in range(SHARDS):
        name = f"{number + 1:05d}-{count + number:016x}"
        file = folder / FOLDER / name / "codes.npy"
        file.parent.mkdir(parents=True)
        np.save(file, rng.integers(0, 256, (each, packed_width(*KIND)), np.uint8))
        files = (FileFacts(file.name, file.stat().st_size, check_of(file)),)
        facts = ShardFacts(number + 1, name, each, number * each + 1, (number + 1) * each, each, files=files)
        found.append(Live(Shard(folder, facts, KIND), np.empty(0, np.int64)))
    return found


def by_holders(folder: Path, live: Sequence[Live], holders: Sequence[Holder], top: int, stack: ExitStack) -> Search:
    """Searches of shards by holders, which have loaded them."""
    placement = Placement(holders, seconds=60)
    stack.callback(placement.close)
    placement.prepare(Of(folder, KEY, "random", KIND), live)
    none = np.empty(0, np.int64)
    empty = Part(Scan(np.empty((0, KIND.M), np.uint8), KIND.K, ids=none))
    parts = [*(part.shard.held_part() for part in live), empty]
    scan = SpreadScan(parts, [*(part.dead for part in live), none], placement)
    return lambda table: scan.search(table, top, threads=1)


def ways(folder: Path, live: Sequence[Live], options: argparse.Namespace, stack: ExitStack) -> dict[str, Search]:
    direct = PartedScan([part.shard.part() for part in live])
    found: dict[str, Search] = {"direct": lambda table: direct.search(table, options.top, threads=1)}
    for count in options.holders:
        local = [InProcessHolder(f"h{number}") for number in range(count)]
        for holder in local:
            stack.callback(holder.close)
        found[f"{count} in process"] = by_holders(folder, live, local, options.top, stack)
        if started := options.started.get(count):
            found[f"{count} of Ray"] = by_holders(folder, live, started.find(), options.top, stack)
    return found


def measure(searches: dict[str, Search], queries: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Milliseconds of each query by each way, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for number in range(queries + 5):
        table = rng.random((1, *KIND)).astype(np.float32)
        expected: Ranking | None = None
        for name, search in searches.items():
            start = time.perf_counter()
            found = search(table)
            if number >= 5:  # the first ones warm up
                seconds[name].append(1000 * (time.perf_counter() - start))
            expected = expected or found
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), name
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10], help="codes")
    parser.add_argument("--holders", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{options.queries} queries, top {options.top}, {SHARDS} shards; median and 95 % in ms")
    with tempfile.TemporaryDirectory() as place, started_holders("local", max(options.holders)) as all_of_them:
        options.started = {
            count: type(all_of_them)(all_of_them.address, all_of_them.group, count) for count in options.holders
        }
        for millions in options.millions:
            with ExitStack() as stack:
                folder = Path(place) / f"{millions}"
                live = make_shards(folder, int(millions * 1e6), rng)
                seconds = measure(ways(folder, live, options, stack), options.queries, rng)
            direct = float(np.median(seconds["direct"]))
            for name, each in seconds.items():
                median, late = np.percentile(each, [50, 95])
                print(f"{millions:4g}M codes  {name:14}{median:9.3f}{late:9.3f}   {median - direct:+.3f}", flush=True)


if __name__ == "__main__":
    main()
