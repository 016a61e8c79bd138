"""An index twice, with shards and without, and searches of all kinds: for the tests of holders and their fault script."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from spq.index.items import Item
from spq.index.request import SearchRequest
from spq.index.shards.live import live_rows
from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_shards

SHARDS = 4
FILTERS = ("label = c3", "n >= 200 AND n < 500", "width = 640", "label = c1 OR label = c2")


def make_indexes(photo_index: Path, root: Path, count: int = 1200) -> tuple[Path, Path]:
    """Two copies of an index with so many more items: one without shards, and one with `SHARDS` of them.

    Items were changed, removed and added since the shards were written, in both alike.
    """
    plain, sharded = shutil.copytree(photo_index, root / "plain"), root / "sharded"
    with open_store(plain) as store, store.writing():
        start, M = store.count(), store.manifest.num_codebooks
        store.put(item(number, M) for number in range(count - start))
    shutil.copytree(plain, sharded)
    with open_store(sharded) as store:
        to_shards(store, -(-count // SHARDS))
    for folder in (plain, sharded):
        change(folder)
    return plain, sharded


def change(folder: Path) -> None:
    """Write some items again, with the same code or another one; remove some, and add some."""
    with open_store(folder) as store, store.writing():
        known = list(store.items_by_id(range(1, len(store), 41)).values())
        M = store.manifest.num_codebooks
        store.put(replace(each, id=0) for each in known[::2])
        store.put(replace(item(number + 5000, M), path=each.path) for number, each in enumerate(known[1::2]))
        store.remove(list(store.paths(range(7, len(store), 61)).values()))
        store.put(item(number + 9000, M) for number in range(50))


def item(number: int, M: int) -> Item:
    """An item whose code many others may have."""
    code = np.random.default_rng(number % 900).integers(0, 16, M).astype(np.uint8)
    metadata = {"label": f"c{number % 7}", "n": str(number)}
    return Item(
        f"p/{number}.jpg", number, number, number.to_bytes(16), 640 if number % 3 else 320, 480, code, "", 0, metadata
    )


def requests(count: int, ids: list[int], seed: int = 0) -> list[SearchRequest]:
    """Searches by ids of all kinds."""
    rng = np.random.default_rng(seed)

    def some(most: int) -> list[int]:
        return rng.choice(ids, rng.integers(1, most + 1)).tolist()

    return [
        SearchRequest(
            [some(3) for _ in range(rng.integers(1, 3))],
            top=int(rng.choice((1, 5, 20, 20, 50, 200))),
            negative=some(2) if rng.random() < 0.3 else (),
            where=str(rng.choice(FILTERS)) if rng.random() < 0.25 else None,
            max_distance=float(rng.uniform(0, 1)) if rng.random() < 0.1 else None,
            fold=bool(rng.random() < 0.3),
            offset=int(rng.integers(0, 60)) if rng.random() < 0.3 else 0,
            exclude=some(5) if rng.random() < 0.3 else (),
            threads=1,  # starting several would take longer than the search
        )
        for _ in range(count)
    ]


def in_shards(folder: Path, numbers: set[int]) -> list[int]:
    """The ids of the live items in some of the shards, counted from 0."""
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        parts = [part for number, part in enumerate(store.live()) if number in numbers]
        return [i for part in parts for rows in live_rows(part) for i in part.shard.ids_of(rows).tolist()]
