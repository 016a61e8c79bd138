"""Moving items into shards and back: nothing that a user sees changes."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(1, str(Path(__file__).parent / "faults"))

import shards as drill

from spq.errors import ConfigError, MovedError, StoreError
from spq.index.backup import back_up
from spq.index.filter_sql import known_columns, matching
from spq.index.gallery import follow
from spq.index.items import Item
from spq.index.manifest import FORMAT, Manifest, read_manifest
from spq.index.shards.live import Live
from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_database, to_shards
from spq.index.store import Store
from spq.index.verify import faults
from spq.pq.scan import Scan
from spq.pq.sums import rank
from spq.pq.ties import Ids
from spq.web.view import ORDERS

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
    rows = [
        (
            i,
            c.tobytes(),
            by_id[i].path,
            by_id[i].size,
            by_id[i].metadata,
            by_id[i].hash,
            by_id[i].width,
            by_id[i].ctime_ns,
        )
        for i, c in zip(ids.tolist(), codes, strict=True)
    ]
    assert [item.id for item in store.items()] == ids.tolist()
    assert sorted(store.paths(ids.tolist()).items()) == [(row[0], row[2]) for row in rows]
    return rows


def faults_of_items(folder: Path) -> list[str]:
    return [fault for fault in faults(folder) if "copy of the model" not in fault]  # these indexes have none


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


def test_a_changed_item_keeps_its_id_and_a_removed_one_is_gone(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, items=20)
    with open_store(folder) as store, store.writing():
        old, count = store.item("f1/p7.jpg"), len(store)
        assert old
        store.put([picture(99, old.path), picture(300)])
        store.rename([("f2/p8.jpg", "moved.jpg")])
        store.describe([("f0/p9.jpg", {"n": "new"})])
        store.remove(["f1/p10.jpg", "latin \udcff.jpg"])
        assert store.item(old.path).id == old.id
        assert store.item("moved.jpg").id == 8
        assert store.item("f2/p8.jpg") is None
        assert store.item("f0/p9.jpg").metadata == {"n": "new"}
        assert store.item("f1/p10.jpg") is None
        assert store.paths([10]) == {}
        assert len(store) == count - 1
        assert store.info()["tombstones"] == 5
        before = facts(store)
    assert faults_of_items(folder) == []
    with open_store(folder) as store:
        to_shards(store, items=1000)
    with open_store(folder) as store:
        assert facts(store) == before
        assert [len(part.dead) for part in store.live()] == [0]  # joined into one
        assert store.info()["tombstones"] == 0


def test_filters_find_the_same_items_in_shards(folder: Path) -> None:
    filters = [
        "width >= 30",
        "label = ü",
        "n = 7 or n = 8",
        "path ~ 'f1/*'",
        "not label = x",
        "path = ü.jpg",
        "size < 10 and n > 3",
    ]
    with open_store(folder) as store:
        before = [matching(store, where).tolist() for where in filters]
        columns = known_columns(store)
        to_shards(store, items=20)
    assert all(before)
    with open_store(folder) as store:
        with store.writing():
            store.put([store.item("f1/p7.jpg")])  # one of them is in the database
        assert [matching(store, where).tolist() for where in filters] == before
        assert known_columns(store) == columns
        with pytest.raises(ConfigError, match=r"unknown column m at 1; did you mean n\? columns are path, .* label, n"):
            matching(store, "m = 3")


def test_what_needs_one_database_refuses_an_index_with_shards(folder: Path, tmp_path: Path) -> None:
    with open_store(folder) as store:
        to_shards(store)
    with pytest.raises(StoreError, match="has shards, and this is not possible with shards yet"):
        Store.open(folder)
    with pytest.raises(StoreError, match="has shards; `publish` it to a folder instead"):
        back_up(folder, tmp_path / "backup")


def test_a_store_that_was_open_when_the_index_got_shards_refuses_to_go_on(folder: Path) -> None:
    with Store.open(folder) as old:
        gallery = follow(old, make_scan)
        with open_store(folder) as store:
            to_shards(store)
        with pytest.raises(StoreError, match="has shards now; open it again"):
            follow(old, make_scan, gallery)
        with pytest.raises(StoreError, match="has shards now; open it again"), old.writing():
            pass


def make_scan(codes: np.ndarray, ids: Ids) -> Scan:
    return Scan(codes, 16, ids=ids)


def test_a_gallery_follows_shards_and_uses_unchanged_parts_again(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, items=20)
    tables = np.random.default_rng(0).random((5, 4, 16)).astype(np.float32)
    with open_store(folder) as store, open_store(folder) as reader:
        first = follow(reader, make_scan)
        assert follow(reader, make_scan, first) is first
        with store.writing():
            store.remove(["f1/p10.jpg"])
            store.put([picture(500), picture(77, "f1/p7.jpg")])
        second = follow(reader, make_scan, first)
        assert second.shards == first.shards
        ids, codes = store.codes()
        distances, rows = second.scan.search(tables, 60)
        expected, places = rank(tables, codes, 60)
        assert np.array_equal(distances, expected)
        assert np.array_equal(second.ids_of(rows.ravel()), ids[places.ravel()])
        assert len(second) == len(ids)
        with store.writing():
            store.set_origin(store.manifest.origin, ["x"])
        assert follow(reader, make_scan, second).scan is second.scan


def test_damage_in_a_shard_is_found(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, items=20)
    shard = next((folder / "shards").iterdir())
    for file in sorted(shard.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert any(file.name in fault and "checksum" in fault for fault in faults(folder)), file
        file.write_bytes(whole[:-1])
        with pytest.raises(StoreError, match=rf"{file.name} is damaged: it has .* bytes"):
            open_store(folder)
        file.unlink()
        with pytest.raises(StoreError, match=f"{file.name} is missing"):
            open_store(folder)
        file.write_bytes(whole)
    assert faults_of_items(folder) == []


def test_kills_leave_the_index_as_it_was(tmp_path: Path) -> None:
    """`tests/faults/shards.py` does this a hundred times."""
    drill.make_index(tmp_path / "i", 1000)
    for seed in range(3):
        assert drill.kill_once(tmp_path / "i", seed) == []


def test_an_old_manifest_put_back_hides_no_item_and_the_next_writer_mends_it(folder: Path) -> None:
    old = (folder / "manifest.json").read_bytes()
    with open_store(folder) as store:
        before = facts(store)
        to_shards(store, items=20)
    new = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(old)
    assert any("manifest.json is an older one that names none; update the index" in fault for fault in faults(folder))
    with open_store(folder) as store:
        assert facts(store) == before
        with store.writing():
            pass
    assert (folder / "manifest.json").read_bytes() == new
    (folder / "manifest.json").write_bytes(old)
    shutil.rmtree(folder / "shards")
    assert any("names none" in fault for fault in faults(folder))
    with pytest.raises(StoreError, match="has shards now; open it again"):
        open_store(folder)


def test_tombstones_of_earlier_shards_hide_no_item_of_later_ones(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, items=20)
    with open_store(folder) as kept:
        with kept.writing():
            kept.remove(["f1/p10.jpg", "f1/p13.jpg"])
        follow(kept, make_scan)
        for _ in range(2):
            with open_store(folder) as store:
                to_database(store)
            with open_store(folder) as store:
                to_shards(store, items=20)
            with open_store(folder) as fresh:
                assert facts(kept) == facts(fresh)
                assert len(kept) == len(fresh) == len(follow(kept, make_scan))


def test_a_writer_trusts_no_damaged_look_up_file(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, items=20)
    first, second, _ = sorted((folder / "shards").iterdir())
    swapped = (second / "path_rows.npy").read_bytes()
    (second / "path_rows.npy").write_bytes((first / "path_rows.npy").read_bytes())
    (first / "path_rows.npy").write_bytes(swapped)
    with (
        open_store(folder) as store,
        pytest.raises(StoreError, match=r"path_rows.npy is damaged: its checksum does not match"),
        store.writing(),
    ):
        pass


def test_a_plain_store_gives_no_part_of_an_index_that_was_moved(folder: Path) -> None:
    with Store.open(folder) as old:
        with open_store(folder) as store:
            to_shards(store)
        for read in (
            old.codes,
            old.stats,
            lambda: list(old.items()),
            lambda: len(old),
            old.info,
            lambda: old.paths([1]),
        ):
            with pytest.raises(MovedError, match="has shards now; open it again"):
                read()


def test_an_item_in_two_places_is_found(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, items=20)
    with open_store(folder) as store, store.writing():
        store.put([picture(77, "f1/p7.jpg")])  # lifted, with a tombstone
    to_shards_of(folder, 5)
    assert faults_of_items(folder) == []
    with closing(sqlite3.connect(folder / "items.sqlite", isolation_level=None)) as database:
        database.execute("DELETE FROM tombstones")
    found = faults_of_items(folder)
    assert any("item 7 is in two places" in fault for fault in found)
    assert any("f1/p7.jpg is in two places" in fault for fault in found)


class Overtaken(ShardedStore):
    """A reader that a writer overtakes: when it turns to the shards, all of their items move into the database."""

    is_overtaken = False

    def live(self) -> tuple[Live, ...]:
        if self.is_overtaken:
            self.is_overtaken = False
            with open_store(self.folder) as store:
                to_database(store)
        return super().live()


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.paths([3, 41]).keys(),
        lambda store: store.items_by_id([3, 41]).keys(),
        lambda store: set(matching(store, "width = 5 or width = 43")),
        lambda store: set(store.ids_by(ORDERS["path"]).tolist()) & {3, 41},
        lambda store: {3, 41} if len(store) == store.count() - 1 else {},
    ],
)
def test_items_that_move_while_they_are_read_are_found_once(
    folder: Path, read: Callable[[ShardedStore], set[int]]
) -> None:
    to_shards_of(folder, 40)
    with Overtaken.open(folder) as store:
        before = read(store)
        store.is_overtaken = True
        assert read(store) == before
        assert before >= {3, 41}
        assert not store.is_overtaken


def to_shards_of(folder: Path, items: int) -> None:
    with open_store(folder) as store:
        to_shards(store, items)
