from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spq.errors import StoreError, TimeLimitError
from spq.index.image_index import ImageIndex
from spq.index.shared import FILTERS_KEPT, Recent, SharedIndex
from spq.index.store import Item, Store
from spq.model.model import Model


@pytest.fixture
def index(tiny_model: Model, photos: Path, tmp_path: Path):
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as built:
        yield built


@pytest.fixture
def shared(index: ImageIndex):
    made = SharedIndex(index)
    yield made
    made.close()


def test_every_thread_finds_what_the_index_itself_finds(index: ImageIndex, shared: SharedIndex) -> None:
    truth = [index.search(id_, 10, where="width > 5") for id_ in range(1, 61)]
    barrier = threading.Barrier(4)

    def ask(part: int) -> list[object]:
        barrier.wait()
        return [shared.of_thread().search(id_, 10, where="width > 5") for id_ in range(part, 61, 4)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(1, 5)))
        views = set(pool.map(lambda _: (barrier.wait(), id(shared.of_thread()))[1], range(4)))
    assert [found[n % 4][n // 4] for n in range(60)] == truth
    assert len(views) == 4
    assert len({id(shared.of_thread()) for _ in range(3)}) == 1


def test_codes_and_model_are_in_memory_once(index: ImageIndex, shared: SharedIndex) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(shared.of_thread).result()
        assert other is not shared.of_thread()
        assert pool.submit(lambda: other.model).result() is index.model
        assert shared.latest() is shared.gallery


def test_changes_by_others_are_seen_after_a_refresh_and_not_before(index: ImageIndex, shared: SharedIndex) -> None:
    before, generation = shared.gallery, shared.generation
    assert not shared.refresh()
    code = index.store.items_by_id([1])[1].code
    with Store.open(index.store.folder) as writer, writer.writing():
        writer.put([Item("new.jpg", 1, 1, b"n", 5, 5, code)])
    assert shared.gallery is before
    assert shared.refresh()
    assert shared.generation > generation
    assert len(shared.gallery.ids) == 61
    assert "new.jpg" in [hit.path for hit in shared.of_thread().search(1, 61)]


def test_the_next_answer_replaces_an_item_that_was_just_removed(index: ImageIndex, shared: SharedIndex) -> None:
    first, second, third = index.search(1, 3, exclude=[1])
    with Store.open(index.store.folder) as writer, writer.writing():
        writer.remove([first.path])
    assert len(shared.gallery.ids) == 60  # not refreshed yet
    assert [hit.id for hit in shared.of_thread().search(1, 2, exclude=[1])] == [second.id, third.id]
    assert len(shared.gallery.ids) == 59


def test_metadata_that_changes_makes_a_new_generation_with_the_same_scan(
    index: ImageIndex, shared: SharedIndex
) -> None:
    scan, generation = shared.gallery.scan, shared.generation
    assert len(shared.of_thread().search(1, 60, where="label = odd")) == 0
    path = index.store.items_by_id([1])[1].path
    with Store.open(index.store.folder) as writer, writer.writing():
        writer.describe([(path, {"label": "odd"})])
    shared.refresh()
    assert shared.gallery.scan is scan
    assert shared.generation > generation
    assert [hit.id for hit in shared.of_thread().search(1, 60, where="label = odd")] == [1]


def test_rows_of_a_filter_are_looked_up_once_and_only_the_last_few_are_kept(shared: SharedIndex) -> None:
    store, gallery = shared.of_thread().store, shared.gallery
    rows = shared.rows(store, gallery, "width > 5")
    assert shared.rows(store, gallery, "width > 5") is rows
    for number in range(FILTERS_KEPT):
        shared.rows(store, gallery, f"width > {10 + number}")
    again = shared.rows(store, gallery, "width > 5")
    assert again is not rows
    assert again.is_exact
    assert np.array_equal(again.rows, rows.rows)


def test_a_filter_reads_the_items_of_the_same_moment_as_the_codes(index: ImageIndex, shared: SharedIndex) -> None:
    first, second, last = (index.store.items_by_id([id_])[id_] for id_ in (1, 2, 60))
    with Store.open(index.store.folder) as writer, writer.writing():
        writer.remove([first.path])
        writer.put([replace(second, code=last.code)])
    found = shared.of_thread().search(3, 60, where="width > 5")
    assert found == index.search(3, 60)
    assert len(found) == 59


def test_an_index_in_the_place_of_this_one_is_another(index: ImageIndex, shared: SharedIndex) -> None:
    folder = index.store.folder
    assert not shared.is_another()
    shutil.copytree(folder, folder.with_name("other"))
    folder.rename(folder.with_name("old"))
    folder.with_name("other").rename(folder)
    assert shared.is_another()
    with ThreadPoolExecutor(1) as pool, pytest.raises(StoreError, match="replaced by another one"):
        pool.submit(shared.of_thread).result()


def test_recent_values_are_made_once_and_the_oldest_are_removed() -> None:
    made: list[str] = []
    recent: Recent[str] = Recent(2)

    def get(key: str) -> str:
        return recent.get(key, lambda: (made.append(key), key.upper())[1])

    assert [get(key) for key in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]  # b was the least recently used when c came


def test_a_read_that_takes_too_long_is_stopped_and_the_next_one_is_not(
    index: ImageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.index.open_tables.STEPS", 100)
    with pytest.raises(TimeLimitError, match="too long"), index.store.within(-1):
        index.store.select("SELECT count(*) FROM items AS a, items AS b, items AS c")
    assert issubclass(TimeLimitError, StoreError)
    assert index.store.select("SELECT count(*) FROM items AS a, items AS b") == [(3600,)]
