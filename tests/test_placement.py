"""An index whose shards are held by others gives the answers of a single one, whatever happens to the holders."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from _in_process import InProcessHolder
from spq.errors import ShardsMissingError, StoreError
from spq.index.answers import Answer, Found
from spq.index.gallery import Gallery
from spq.index.image_index import ImageIndex
from spq.index.manifest import read_manifest, write_manifest
from spq.index.request import SearchRequest
from spq.index.shards import holding as holding_module
from spq.index.shards import placement as placement_module
from spq.index.shards.holding import Holding, Of, Wanted, needed_files
from spq.index.shards.open_store import open_store
from spq.index.shards.placement import Placement, assign
from spq.index.shards.shard_facts import ShardFacts
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_shards
from spq.index.shared import SharedIndex
from spq.pq.questions import Key
from spq.pq.spread import SpreadScan
from spread_index import SHARDS, in_shards, item, make_indexes, requests


@pytest.fixture(scope="module")
def indexes(photo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same items without shards and with `SHARDS`. Tests leave both as they are."""
    return make_indexes(photo_index, tmp_path_factory.mktemp("spread"))


@pytest.fixture
def folder(indexes: tuple[Path, Path], tmp_path: Path) -> Path:
    """An index with shards that a test may change."""
    return shutil.copytree(indexes[1], tmp_path / "i")


@contextmanager
def served(folder: Path, holders: list[InProcessHolder], seconds: float = 20) -> Iterator[SharedIndex]:
    """An index whose shards are held. The holders are closed."""
    try:
        with ImageIndex.open(folder) as index:
            shared = SharedIndex(index, Placement(holders, seconds))
            yield shared
            shared.close()
    finally:
        for holder in holders:
            holder.close()


def some_holders(count: int) -> list[InProcessHolder]:
    return [InProcessHolder(f"h{number}") for number in range(count)]


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def answers_of(index: ImageIndex, request: SearchRequest) -> list[list[Answer]]:
    """Distances and ids, without paths, which take most of the time."""
    return found_of(index, request).answers


def found_of(index: ImageIndex, request: SearchRequest) -> Found:
    gallery = index._gallery.latest()
    return index.answers(request, index.tables(request, gallery), gallery)


def scan_of(shared: SharedIndex) -> SpreadScan:
    assert isinstance(shared.gallery.scan, SpreadScan)
    return shared.gallery.scan


def test_searches_of_all_kinds_have_the_answers_of_the_single_index(indexes: tuple[Path, Path]) -> None:
    plain, folder = indexes
    with ImageIndex.open(plain) as single:
        ids = [item.id for item in single.store.items() if item.code is not None]
        asked = requests(400, ids)
        expected = [answers_of(single, request) for request in asked]
    assert sum(len(answers) for each in expected for answers in each) > 4_000
    for holders, some in ((2, slice(0, 120)), (3, slice(120, 240)), (4, slice(240, 400))):
        with served(folder, some_holders(holders)) as shared:
            index = shared.of_thread()
            assert [answers_of(index, request) for request in asked[some]] == expected[some]
            facts = scan_of(shared).places.shards()
            assert [len({each.holder for each in facts}), len(facts)] == [holders, SHARDS]
            assert all(each.tombstones and each.is_up and each.searches and not each.failures for each in facts)
            assert len(shared.gallery.ids) > 50  # in the database


def test_without_one_holder_answers_are_those_of_all_other_items(indexes: tuple[Path, Path]) -> None:
    plain, folder = indexes
    holders = some_holders(SHARDS)
    with ImageIndex.open(plain) as single, served(folder, holders) as shared:
        index, lost = shared.of_thread(), in_shards(folder, {2})
        asked = requests(40, [i for i in shared.gallery.all_ids().tolist() if i not in lost], 1)
        holders[2].kill()
        for request in asked:
            expected = answers_of(single, replace(request, exclude={*request.exclude, *lost}))
            found = found_of(index, replace(request, partial=True))
            assert found.answers == expected
            matching = set(lost if request.where is None else shared.gallery.ids_of(rows_of(shared, request)).tolist())
            assert found.missing == len(matching & set(lost))
            if found.missing:
                with pytest.raises(ShardsMissingError):
                    index.hits(request)
        placement = shared.placement
        assert placement
        assert not placement.is_whole()
        assert [each.is_up for each in placement.shards()] == [True, True, False, True]
        assert placement.down() == {"holder h2": "ConnectionError: its process was killed"}
        holders[2].start()
        until(placement.is_whole)
        assert [index.hits(request) for request in asked] == [single.hits(request) for request in asked]


def rows_of(shared: SharedIndex, request: SearchRequest) -> np.ndarray:
    assert request.where is not None
    return shared.rows(shared.of_thread().store, shared.gallery, request.where).rows


def test_a_hanging_holder_costs_the_deadline_and_one_known_to_be_down_nothing(
    indexes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    holders = some_holders(2)
    with served(indexes[1], holders, seconds=0.2) as shared:
        index = shared.of_thread()
        request = SearchRequest([1], partial=True)
        holders[1].hanging.set()
        found = found_of(index, request)
        assert found.missing > 0
        assert scan_of(shared).places.shards()[1].failures == 1
        assert not scan_of(shared).places.down()  # it answers probes: only its searches are slow
        monkeypatch.setattr(placement_module, "LATE_SECONDS", 0.05)
        slow = threading.Event()
        monkeypatch.setattr(holders[1], "hold", lambda wanted: holders[1]._pool.submit(slow.wait))
        until(lambda: "holder h1" in scan_of(shared).places.down())
        asked = len(holders[1].asked)
        assert found_of(index, request).missing == found.missing
        assert len(holders[1].asked) == asked
        slow.set()


def test_a_new_list_of_shards_is_ready_at_the_holders_before_it_is_searched(folder: Path) -> None:
    holders = some_holders(2)
    with served(folder, holders) as shared:
        index, before = shared.of_thread(), shared.gallery
        request = SearchRequest([2], top=50)
        old = index.hits(request)
        places = {each.name: each.holder for each in scan_of(shared).places.shards()}
        with open_store(folder) as store:
            with store.writing():
                store.put(item(number + 20_000, 8) for number in range(500))
            to_shards(store, 500)
        assert index.hits(request) == old  # of the generation that is in memory
        assert shared.refresh()
        assert scan_of(shared).places.is_whole()
        now = {each.name: each.holder for each in scan_of(shared).places.shards()}
        assert now.keys() - places.keys()
        assert all(now[name] == number for name, number in places.items() if name in now)
        assert before.scan.search(index.tables(request), 50)[1].shape == (1, 50)  # the old one is still held
        fresh = index.hits(request)
    with ImageIndex.open(folder) as here:
        assert here.hits(request) == fresh


def test_the_old_list_of_shards_is_searched_as_long_as_a_new_one_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders, loading = some_holders(2), threading.Event()
    with served(folder, holders) as shared:
        index, request = shared.of_thread(), SearchRequest([2], top=50, partial=True)
        old, known = index.hits(request), {each.name for each in scan_of(shared).places.shards()}
        load = Holding._load

        def slow(self: Holding, of: Of, facts: ShardFacts, shard: object) -> None:
            if facts.name not in known:
                loading.wait(30)
            load(self, of, facts, shard)  # type: ignore[arg-type]

        monkeypatch.setattr(Holding, "_load", slow)
        monkeypatch.setattr(holding_module, "KEPT_SECONDS", 0.2)
        with open_store(folder) as store:
            with store.writing():
                store.put(item(number + 20_000, 8) for number in range(500))
                store.remove(list(store.paths(range(1, 1000, 50)).values()))  # new tombstones in all shards
            to_shards(store, 500)
        refreshing = threading.Thread(target=shared.refresh)
        refreshing.start()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            found = found_of(index, request)
            assert (found.missing, index.hits(request)) == (0, old)
        assert refreshing.is_alive()
        loading.set()
        refreshing.join()
        assert scan_of(shared).places.is_whole()


def test_new_tombstones_reach_the_holders_with_the_codes(folder: Path) -> None:
    with served(folder, some_holders(2)) as shared, ImageIndex.open(folder) as here:
        index, request = shared.of_thread(), SearchRequest([2], top=30)
        first = index.hits(request)[0][3]
        with open_store(folder) as store, store.writing():
            store.remove([first.path])
        shared.refresh()
        found = index.hits(request)
        assert first.id not in [hit.id for hit in found[0]]
        assert found == here.hits(request)


def test_a_second_server_takes_over_what_the_holders_have(folder: Path) -> None:
    holders = some_holders(3)
    with served(folder, holders) as shared:
        with open_store(folder) as store:
            with store.writing():  # so that a plan of its own would be another one
                store.remove([each.path for each in store.items() if each.id <= 300])
                store.put(item(number + 20_000, 8) for number in range(900))
            to_shards(store, 450)
        shared.refresh()
        first = {each.name: each.holder for each in scan_of(shared).places.shards()}
        second = Placement(holders)
        with ImageIndex.open(folder) as index:
            other = SharedIndex(index, second)
            assert {each.name: each.holder for each in second.shards()} == first
            assert other.of_thread().hits(SearchRequest([400])) == shared.of_thread().hits(SearchRequest([400]))
            other.close()


def test_a_shard_that_a_holder_cannot_read_is_missing_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = sorted((folder / "shards").glob("0*"))[1] / "codes.npy"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with served(folder, some_holders(2)) as shared:
        assert [each.is_up for each in scan_of(shared).places.shards()] == [True, False, True, True]
        request = SearchRequest([2], partial=True)
        index = shared.of_thread()
        assert found_of(index, request).missing == len(in_shards(folder, {1}))
    assert any("cannot read shard" in line and "checksum" in line for line in caplog.messages)


def test_a_holder_of_something_else_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(match: str) -> None:
        with pytest.raises(StoreError, match=match), served(folder, some_holders(1)):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(holding_module, "__version__", "0.1")
        refused(r"^holder h0 refuses: it runs spq 0\.1, and the server .*; install the same version on all machines$")
    of = replace(of_index(folder), model="0" * 8)
    assert "has codes of model" in Holding().hold(Wanted(of)).refusal
    of = replace(of_index(folder), key="0" * 16)
    assert "is another index than that of the server; copy the index again" in Holding().hold(Wanted(of)).refusal
    of = replace(of_index(folder), folder=folder / "no")
    assert f"no index at {folder / 'no'}" in Holding().hold(Wanted(of)).refusal


def test_a_holder_keeps_what_it_has_when_another_index_takes_the_place_of_its_own(folder: Path, tmp_path: Path) -> None:
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        facts = needed_files(part.shard.facts for part in store.live())
    held, old = Holding(), of_index(folder)
    wanted = Wanted(old, facts, tuple(Key(each.name, "") for each in facts))
    until(lambda: not held.hold(wanted).loading)
    new = replace(old, model="0" * 8)
    write_manifest(folder, replace(read_manifest(folder), model="0" * 8))
    assert not held.hold(Wanted(new)).refusal
    assert held.hold(wanted).ready == set(wanted.keys)
    assert "has codes of model 00000000" in held.hold(Wanted(old)).refusal  # a server that starts now
    held.close()


def of_index(folder: Path) -> Of:
    with open_store(folder) as store:
        manifest = store.manifest
    kind = holding_module.Kind(manifest.num_codebooks, manifest.codebook_size)
    return Of(folder, manifest.key, manifest.model, kind)


def test_a_server_without_any_holder_or_shards_does_not_start(indexes: tuple[Path, Path]) -> None:
    dead = InProcessHolder("h0")
    dead.kill()
    reason = "no holder answers; h0: ConnectionError: its process was killed"
    with pytest.raises(StoreError, match=reason), served(indexes[1], [dead]):
        pass
    reason = "has no shards that holders could search; give it some with `to_shards`"
    with pytest.raises(StoreError, match=reason), served(indexes[0], some_holders(1)):
        pass


def test_a_holder_lets_go_of_what_no_server_wants(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(holding_module.time, "monotonic", lambda: now[0])
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        facts = needed_files(part.shard.facts for part in store.live())
    held, of = Holding(), of_index(folder)
    keys = tuple(Key(each.name, "") for each in facts)
    held.hold(Wanted(of, facts, keys))
    until(lambda: not held.hold(Wanted(of, facts, keys)).loading)
    now[0] += holding_module.KEPT_SECONDS - 1
    assert held.hold(Wanted(of, facts[:1], keys[:1])).ready == set(keys)
    now[0] += 2
    assert held.hold(Wanted(of, facts[:1], keys[:1])).ready == set(keys[:1])
    held.close()


def test_a_holder_needs_codes_and_ids_of_shards_and_the_manifest_alone(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for file in [folder / "manifest.json", *folder.glob("shards/0*/codes.npy"), *folder.glob("shards/0*/ids.npy")]:
        place = copy / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    with open_store(folder) as store:
        assert isinstance(store, ShardedStore)
        facts = needed_files(part.shard.facts for part in store.live())
    held, of = Holding(), replace(of_index(folder), folder=copy)
    wanted = Wanted(of, facts, tuple(Key(each.name, "") for each in facts))
    until(lambda: not held.hold(wanted).loading)
    assert not held.hold(wanted).failed
    held.close()


def test_shards_stay_where_they_are_and_new_ones_go_to_the_smallest_holder() -> None:
    assert assign({"a": 5, "b": 2, "c": 2, "d": 1}, {}, 2) == {"a": 0, "b": 1, "c": 1, "d": 1}
    assert assign({"b": 2, "d": 1, "e": 9, "f": 1}, {"a": 0, "b": 1, "d": 1}, 2) == {"b": 1, "d": 1, "e": 0, "f": 1}
    assert assign({"a": 5}, {"a": 3}, 2) == {"a": 0}  # of a server with more holders


def test_the_gallery_of_a_server_with_holders_reads_no_codes(indexes: tuple[Path, Path]) -> None:
    with served(indexes[1], some_holders(1)) as shared:
        assert scan_of(shared).nbytes < 8 * len(shared.gallery.ids) * 50
        gallery: Gallery = shared.gallery
    with ImageIndex.open(indexes[1]) as here:
        other = here._gallery.latest()
        np.testing.assert_array_equal(gallery.all_codes(), other.all_codes())
        np.testing.assert_array_equal(gallery.all_ids(), other.all_ids())
