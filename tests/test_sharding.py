"""Moving items into shards and back: nothing that a user sees changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq.index.filter_sql import matching
from spq.index.items import Item
from spq.index.manifest import FORMAT, Manifest, read_manifest
from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_database, to_shards
from spq.index.store import Store
from spq.errors import StoreError

MANIFEST = Manifest(FORMAT, "0", "h", "l2", 4, 16, 16)


def picture(number: int, path: str = "") -> Item:
    code = np.array([number % 16, number // 16 % 16, 3, 5], np.uint8)
    facts = {"n": str(number), "label": ["ü", "x"]} if number % 2 else {}
    name = path or f"f{number % 3}/p{number}.jpg"
    return Item(name, number, -number, bytes([number % 256]) * 16, 2 + number, 1, code, "", 0, facts, number)


def unreadable(path: str) -> Item:
    return Item(path, 5, 6, reason="cannot read it")


def facts(store: Store) -> list[tuple[object, ...]]:
    """All that a user can see of the items."""
    ids, codes = store.codes()
    by_id = store.items_by_id(ids.tolist())
    rows = [(i, c.tobytes(), by_id[i].path, by_id[i].size, by_id[i].metadata, by_id[i].hash, by_id[i].width, by_id[i].ctime_ns)
            for i, c in zip(ids.tolist(), codes, strict=True)]
    assert [item.id for item in store.items()] == ids.tolist()
    assert sorted(store.paths(ids.tolist()).items()) == [(row[0], row[2]) for row in rows]
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "i", MANIFEST) as store, store.writing():
        store.put([picture(n) for n in range(1, 60)])
        store.put([unreadable("bad.jpg"), picture(200, "latin \udcff.jpg"), picture(201, "ü.jpg")])
        store.remove(["f0/p30.jpg"])
    return tmp_path / "i"


def test_items_keep_ids_codes_and_facts_in_shards_and_back(folder: Path) -> None:
    with open_store(folder) as store:
        before, stats = facts(store), store.stats()
        assert to_shards(store, items=20) == 3
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        assert [len(part) for part in store.live()] == [20, 20, 20]
        assert store.newer()[0].size == 0
        assert facts(store) == before
        assert store.stats() == stats
        assert len(store) == 60
        assert store.unreadable() == [("bad.jpg", "cannot read it")]
        to_database(store)
    assert read_manifest(folder).format == FORMAT
    with open_store(folder) as store:
        assert not isinstance(store, ShardedStore)
        assert facts(store) == before
        assert store.stats() == stats
    assert not (folder / "shards").exists()
