"""Kill processes that move the items of an index into shards and back, and look for damage.

    python tests/faults/shards.py --count 100 --seed 1

After each kill the index must open, have the same items with the same ids, codes and facts, and pass the checks.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from spq.index.items import Item
from spq.index.manifest import FORMAT, Manifest
from spq.index.shards.open_store import open_store
from spq.index.store import Store
from spq.index.verify import faults

MOVER = """if True:
    import random, sys
    from pathlib import Path
    from spq.index.items import Item
    from spq.index.shards.open_store import open_store
    from spq.index.shards.sharded_store import ShardedStore
    from spq.index.shards.sharding import to_database, to_shards

    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    print("ready", flush=True)
    while True:
        with open_store(folder) as store:
            if isinstance(store, ShardedStore) and rng.random() < 0.4:
                to_database(store)
            elif isinstance(store, ShardedStore) and rng.random() < 0.5:
                with store.writing():  # the same items again: they are lifted out of their shards
                    store.put(list(store.items_by_id(rng.sample(range(1, len(store) + 1), 200)).values()))
            else:
                to_shards(store, rng.choice([300, 700, 5000]))
    """


def make_index(folder: Path, count: int) -> None:
    """An index of so many items, without pictures or a model."""
    with Store.create(folder, Manifest(FORMAT, "0", "h", "l2", 8, 16, 32)) as store, store.writing():
        store.put(item(number) for number in range(count))
        store.put([Item("bad.jpg", 1, 2, reason="cannot read it")])


def item(number: int) -> Item:
    code = np.random.default_rng(number).integers(0, 16, 8).astype(np.uint8)
    return Item(
        f"f{number % 7}/p{number}.jpg",
        number,
        number,
        number.to_bytes(16),
        3,
        4,
        code,
        "",
        0,
        {"n": str(number)},
        number,
    )


def content(folder: Path) -> list[tuple[object, ...]]:
    """All that a user can see of the items."""
    with open_store(folder) as store:
        items = [(i.id, i.path, i.size, i.hash, i.code.tobytes(), i.ctime_ns, str(i.metadata)) for i in store.items()]
        return [*items, *store.unreadable()]


def kill_once(folder: Path, seed: int) -> list[str]:
    """Start a process that moves items, kill it after a random time; returns the faults that it left."""
    rng, before = np.random.default_rng(seed), content(folder)
    with subprocess.Popen([sys.executable, "-c", MOVER, str(folder), str(seed)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(rng.exponential(0.3))
        is_killed = process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    found = [] if is_killed else [f"seed {seed}: the process ended by itself with {process.returncode}"]
    if content(folder) != before:
        found.append(f"seed {seed}: the items are not the same")
    return found + [f"seed {seed}: {fault}" for fault in faults(folder) if "copy of the model" not in fault]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "i"
        make_index(folder, arguments.items)
        for number in range(arguments.count):
            for fault in kill_once(folder, arguments.seed * 100_000 + number):
                print(fault, flush=True)
                found.append(fault)
    print(f"{arguments.count} kills, {len(found)} faults")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
