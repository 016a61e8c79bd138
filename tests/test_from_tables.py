"""An index with shards made of tables of encoded items."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from models import tiny
from spq import ImageIndex
from spq.data.open import open_images
from spq.errors import DataError, ModelMismatchError, StoreError
from spq.index.item_table import to_table
from spq.index.items import Item
from spq.index.shards.from_tables import build_from_tables
from spq.index.shards.open_store import open_store
from spq.index.shards.sharding import to_database, to_shards
from spq.index.sync import lasting_source
from spq.index.verify import faults
from spq.model.model import Model


@pytest.fixture
def encoded(photos: Path, tiny_model: Model, tmp_path: Path) -> tuple[ImageIndex, list[Item]]:
    """An index without shards, and its items in the order of the collection, one of them unreadable."""
    first = open_images(photos).ids[5]
    (photos / first).write_bytes(b"\xff\xd8\xff broken")
    index = ImageIndex.build(tmp_path / "plain", tiny_model, photos)
    items = [index.store.item(path) for path in open_images(photos).ids]
    return index, [replace(item, id=0) for item in items if item]


def tables(items: list[Item], size: int) -> Iterator[pa.Table]:
    for start in range(0, len(items), size):
        yield to_table(items[start : start + size], 8)


def test_the_index_answers_as_one_that_was_built_of_pictures(
    encoded: tuple[ImageIndex, list[Item]], photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    plain, items = encoded
    origin = lasting_source(open_images(photos))
    done: list[int] = []
    build_from_tables(tmp_path / "i", tiny_model, origin, tables(items, 7), 20, done.append).close()
    assert done == [20, 40, 59]
    assert list(faults(tmp_path / "i")) == []
    with ImageIndex.open(tmp_path / "i") as index:
        assert index.info()["shards"] == 3
        assert index.store.unreadable() == plain.store.unreadable()
        query = photos / items[30].path
        for options in ({}, {"where": "width > 10"}, {"fold": True, "offset": 3}, {"max_distance": 1.0}):
            expected = [(hit.path, hit.distance) for hit in plain.search(query, 30, **options)]
            assert [(hit.path, hit.distance) for hit in index.search(query, 30, **options)] == expected
        report = index.sync(photos)
        assert (report.unchanged, report.removed, report.added, report.described) == (59, 0, 0, 0)
        assert len(report.failed) == 1


def test_an_index_with_shards_follows_its_collection(
    encoded: tuple[ImageIndex, list[Item]], photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    _, items = encoded
    build_from_tables(tmp_path / "i", tiny_model, lasting_source(open_images(photos)), tables(items, 60), 25).close()
    with ImageIndex.open(tmp_path / "i") as index:
        ids = {item.path: item.id for item in index.store.items()}
        gone, moved, changed, broken = items[0].path, items[1].path, items[2].path, items[5].path
        (photos / gone).unlink()
        (photos / moved).rename(photos / "moved.png")
        Image.new("RGB", (40, 30), "red").save(photos / changed)
        shutil.copy(photos / items[9].path, photos / broken)
        shutil.copy(photos / items[10].path, photos / "new.png")
        report = index.sync(photos)
        assert (report.removed, report.renamed, report.changed, report.added) == (1, 1, 2, 1)
        after = {item.path: item.id for item in index.store.items()}
        assert after["moved.png"] == ids[moved]
        assert after[changed] == ids[changed]
        assert gone not in after
        assert after["new.png"] > max(ids.values())
        assert index.search(photos / "new.png", 2)[0].distance == index.search(photos / items[10].path, 2)[0].distance
        assert index.store.item(broken).id == 6
        hits = index.search(photos / changed, 100)
        assert {hit.path for hit in hits} == set(open_images(photos).ids)
    assert list(faults(tmp_path / "i")) == []


def test_an_interrupted_build_goes_on(
    encoded: tuple[ImageIndex, list[Item]], photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    _, items = encoded
    origin = lasting_source(open_images(photos))

    def interrupted() -> Iterator[pa.Table]:
        yield from tables(items[:42], 7)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_from_tables(tmp_path / "i", tiny_model, origin, interrupted(), 20)
    assert not list((tmp_path / "i" / "shards").glob(".new-*"))
    with build_from_tables(tmp_path / "i", tiny_model, origin, tables(items, 60), 20) as store:
        assert [item.path for item in store.items()] == [item.path for item in items if item.code is not None]
        assert [item.id for item in store.items()] == [n for n, item in enumerate(items, 1) if item.code is not None]
        assert len(store.unreadable()) == 1


def test_what_does_not_fit_is_refused(
    encoded: tuple[ImageIndex, list[Item]], photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    plain, items = encoded
    origin = lasting_source(open_images(photos))
    for twice in ([*items, items[3]], [*items[:9], items[3], *items[9:]]):
        with pytest.raises(StoreError, match=f"two items have the path {items[3].path}"):
            build_from_tables(tmp_path / "twice", tiny_model, origin, tables(twice, 60), 30)
        shutil.rmtree(tmp_path / "twice")
    with pytest.raises(StoreError, match="is an index without shards already"):
        build_from_tables(plain.store.folder, tiny_model, origin, tables(items, 60))
    with pytest.raises(DataError, match="no item for index"):
        build_from_tables(tmp_path / "none", tiny_model, origin, tables([items[5]], 60))
    build_from_tables(tmp_path / "i", tiny_model, origin, tables(items, 60)).close()
    with pytest.raises(StoreError, match="is an index of"):
        build_from_tables(tmp_path / "i", tiny_model, replace(origin, names=("other",)), tables(items, 60))
    with pytest.raises(ModelMismatchError):
        build_from_tables(tmp_path / "i", tiny(tiny_model.config, 16, 4), origin, tables(items, 60))


def test_an_open_index_goes_on_when_its_items_are_moved(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    query = photos / open_images(photos).ids[3]
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    with ImageIndex.open(tmp_path / "i") as index, ImageIndex.open(tmp_path / "i") as other:
        before = index.search(query, 70)
        with open_store(tmp_path / "i") as store:
            to_shards(store, 25)
        assert index.search(query, 70) == before
        assert len(index) == len(other) == 60
        assert other.sync(photos).unchanged == 60
        with open_store(tmp_path / "i") as store:
            to_database(store)
        assert index.search(query, 70) == before
        assert index.info()["images"] == 60
