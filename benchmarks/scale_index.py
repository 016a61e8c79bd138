"""An index with shards at 1M to 100M items: build, open, serve, paths, filters, sync. Each step is a process of its own.

    python benchmarks/scale_index.py --items 10_000_000 --place /tmp/scale

The items are synthetic: paths as a camera gives them, random hashes, and codes drawn at random unless --codes names a folder of
`codes-*.npy` files with packed codes. Prints one JSON object, also written to --out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spq.data.image_set import ImageSet
from spq.data.source import Source
from spq.index.item_table import schema
from spq.index.manifest import FORMAT, Manifest
from spq.pq.sums import pack, unpack

M, K = 16, 16
BATCH = 262_144
STEPS = ("build", "open", "paths", "filter", "sync")


def main() -> None:
    arguments = _arguments()
    if arguments.step:
        print(json.dumps({**globals()[f"step_{arguments.step}"](arguments), **memory()}))
        return
    facts: dict[str, Any] = {"items": arguments.items}
    for step in arguments.steps.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--step", step]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        facts[step] = json.loads(done.stdout.splitlines()[-1])
        print(step, facts[step], file=sys.stderr, flush=True)
    text = json.dumps(facts, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--shard-items", type=int, default=5_000_000)
    parser.add_argument("--place", type=Path, default=Path("/tmp/scale"))
    parser.add_argument("--codes", type=Path, help="folder of .npy files with packed codes")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def step_build(arguments: argparse.Namespace) -> dict[str, Any]:
    """From tables of encoded items to an index."""
    from spq.index.shards import from_tables
    from spq.index.shards.sharded_store import ShardedStore
    from spq.index.shards.sharding import become_sharded
    from spq.index.store import Store

    folder = arguments.place / "index"
    with (
        Store.create(folder, Manifest(FORMAT, "0", "h", "l2", M, K, 4 * M, source="/photos")) as store,
        store.writing(),
    ):
        become_sharded(store)
    began = time.monotonic()
    with ShardedStore.open(folder) as store, store.writing():
        intake = from_tables._Intake(tables(arguments.items, arguments.codes), 0)
        from_tables._append(store, intake, arguments.shard_items, None)
        count, shards = len(store), store.manifest.shards
    sizes: dict[str, int] = {}
    for facts in shards:
        for file in facts.files:
            sizes[file.name] = sizes.get(file.name, 0) + file.size
    return {
        "seconds": round(time.monotonic() - began, 1),
        "count": count,
        "shards": len(shards),
        "distinct": round(sum(facts.distinct for facts in shards) / count, 4),
        "bytes_per_item": {name: round(size / count, 2) for name, size in sizes.items()},
    }


def step_open(arguments: argparse.Namespace) -> dict[str, Any]:
    """Opening, and 100 exact searches."""
    from spq.index.gallery import follow
    from spq.index.shards.open_store import open_store
    from spq.pq.scan import Scan

    began = time.monotonic()
    with open_store(arguments.place / "index") as store:
        gallery = follow(store, lambda codes, ids: Scan(codes, K, ids=ids))
        tables_ = np.random.default_rng(1).random((101, M, K), dtype=np.float32)
        gallery.scan.search(tables_[:1], 100, threads=1)
        opened = time.monotonic() - began
        seconds, cpu = [], []
        for table in tables_[1:]:
            before, cpu_before = time.perf_counter(), time.process_time()
            gallery.scan.search(table[None], 100, threads=1)
            seconds.append(time.perf_counter() - before)
            cpu.append(time.process_time() - cpu_before)
        return {
            "open_seconds": round(opened, 1),
            "search_ms": round(1000 * float(np.median(seconds)), 2),
            "search_cpu_ms": round(1000 * float(np.median(cpu)), 2),
        }


def step_paths(arguments: argparse.Namespace) -> dict[str, Any]:
    """The paths of 100 random answers."""
    from spq.index.shards.open_store import open_store

    rng = np.random.default_rng(2)
    with open_store(arguments.place / "index") as store:
        seconds = []
        for _ in range(100):
            ids = rng.integers(1, arguments.items + 1, 100).tolist()
            before = time.perf_counter()
            found = store.paths(ids)
            seconds.append(time.perf_counter() - before)
            assert all(found[i] == path_of(i - 1) for i in ids)
        return {"paths_ms": round(1000 * float(np.median(seconds)), 2), "worst_ms": round(1000 * max(seconds), 2)}


def step_filter(arguments: argparse.Namespace) -> dict[str, Any]:
    """A filter on the size of the pictures, and one on their paths."""
    from spq.index.filter_sql import matching
    from spq.index.shards.open_store import open_store

    found: dict[str, Any] = {}
    with open_store(arguments.place / "index") as store:
        for name, where in (("size", "size < 100010"), ("path", "path ~ '*7.jpg'")):
            before = time.perf_counter()
            found[f"{name}_matches"] = len(matching(store, where))
            found[f"{name}_seconds"] = round(time.perf_counter() - before, 2)
    return found


def step_sync(arguments: argparse.Namespace) -> dict[str, Any]:
    """A sync in which nothing has changed. The listing itself takes no memory here."""
    from spq.index.shards.open_store import open_store
    from spq.index.sync import sync

    before = memory()
    began = time.monotonic()
    with open_store(arguments.place / "index") as store:
        report = sync(store, _NoModel(store.folder, store.manifest), Listing(arguments.items))
    assert (report.unchanged, report.removed, report.added) == (arguments.items, 0, 0), report
    return {"seconds": round(time.monotonic() - began, 1), "mib_before": before["peak_mib"]}


class _NoModel:
    """Stands for the copy of the model, which this index has not."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    def keep(self, store: Any) -> None:
        pass


class _Ids(Sequence[str]):
    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: Any) -> Any:
        return [path_of(n) for n in range(*key.indices(self._count))] if isinstance(key, slice) else path_of(key)


class Listing(ImageSet):
    """Items whose ids and status are computed, not kept."""

    def __init__(self, count: int) -> None:
        super().__init__("/photos", [])
        self.ids = _Ids(count)  # type: ignore[assignment]
        self.source = Source(("/photos",))

    def status(self, position: int) -> tuple[int, int, int]:
        return 100_000 + position % 7919, 1_700_000_000_000_000_000 + position * 1_000_000, 0


def path_of(number: int) -> str:
    return f"photos/{number // 1000:06d}/IMG_{number:09d}.jpg"


def tables(count: int, codes: Path | None) -> Iterator[pa.Table]:
    """Tables of `count` items."""
    rng, wanted = np.random.default_rng(0), schema(M)
    given = _codes(codes) if codes else None
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        numbers = np.arange(start, start + n)
        paths = pc.binary_join_element_wise(
            "photos/", _padded(numbers // 1000, 6), "/IMG_", _padded(numbers, 9), ".jpg", ""
        )
        packed = next(given) if given else pack(rng.integers(0, K, (n, M), dtype=np.uint8), K)
        packed = packed[:n]
        values = {
            "id": np.zeros(n, np.int64),
            "path": paths.cast(pa.binary()),
            "hash": _fixed(rng.bytes(16 * n), 16).cast(pa.binary()),
            "size": 100_000 + numbers % 7919,
            "mtime_ns": 1_700_000_000_000_000_000 + numbers * 1_000_000,
            "ctime_ns": np.zeros(n, np.int64),
            "width": np.full(n, 4000, np.int32),
            "height": np.full(n, 3000, np.int32),
            "code": _fixed(np.ascontiguousarray(unpack(packed, M, K)), M),
            "reason": pa.nulls(n, pa.binary()),
            "metadata": pa.nulls(n, pa.string()),
        }
        yield pa.table([pa.array(v) if isinstance(v, np.ndarray) else v for v in values.values()], schema=wanted)


def _codes(folder: Path) -> Iterator[np.ndarray[Any, Any]]:
    """Packed codes, BATCH at a time; the rest of a file goes before the next one."""
    rest = np.empty((0, M // 2), np.uint8)
    for file in sorted(folder.glob("codes-*.npy")):
        rest = np.concatenate([rest, np.load(file, mmap_mode="r")])
        for _ in range(len(rest) // BATCH):
            yield rest[:BATCH]
            rest = rest[BATCH:]
    yield rest


def _padded(numbers: np.ndarray[Any, Any], width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")


def _fixed(data: Any, width: int) -> pa.Array:
    buffer = pa.py_buffer(data)
    return pa.Array.from_buffers(pa.binary(width), buffer.size // width, [None, buffer])


def memory() -> dict[str, int]:
    """Peak and present memory of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: int(value.split()[0]) // 1024 for name, value in (line.split(":") for line in lines if "kB" in line)}
    return {"peak_mib": found["VmHWM"], "anon_mib": found["RssAnon"], "file_mib": found["RssFile"]}


if __name__ == "__main__":
    main()
