"""Another index takes the place of the one that a server has open: nothing fails, and nothing is mixed."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models import tiny
from spq.config.sections import Recipe
from spq.data.open import open_images
from spq.data.source import Source
from spq.errors import StoreError
from spq.index.build import BuildOptions, build
from spq.index.image_index import ImageIndex
from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_database, to_shards
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server.app import create_app
from spq.web.server.edition import Editions
from spq.web.server.settings import Settings
from web import ORIGIN, png, search


@pytest.fixture
def another(tiny_model: Model) -> Model:
    """The same network with other codebooks."""
    network = copy.deepcopy(tiny_model.network)
    network.quantizer.codebooks.data.mul_(2)
    return Model(network, tiny_model.config)


@pytest.fixture
def editions(index_folder: Path, tiny_model: Model, server_settings: Settings) -> Iterator[Editions]:
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        made = Editions(index, server_settings)
        made.now.prepare()
        yield made
        made.close()


def replace_model(folder: Path, photos: Path, model: Model) -> None:
    build(folder, model, photos, options=BuildOptions(replace_model=True)).store.close()


def into_shards(folder: Path) -> None:
    with open_store(folder) as store:
        to_shards(store, 25)


def unfollowed(index: ImageIndex, settings: Settings, **more: Any) -> TestClient:
    """A client of an app that was not started, so nobody but its requests looks at the index on disk."""
    return TestClient(create_app(index, settings, **more), base_url=ORIGIN)


def hits_of(folder: Path, query: int) -> list[tuple[int, float]]:
    with ImageIndex.open(folder) as index:
        return [(hit.id, hit.distance) for hit in index.search(index.like(query), 60, exclude=[query])]


def told(answer: Any) -> list[tuple[int, float]]:
    assert answer.status_code == 200, answer.text
    return [(hit["id"], pytest.approx(hit["distance"])) for hit in answer.json()["hits"]]


def test_who_uses_the_old_index_keeps_it_until_the_end(
    editions: Editions, index_folder: Path, photos: Path, another: Model
) -> None:
    with editions.use() as old:
        before = old.shared.of_thread().search(3, 60)
        assert not editions.renew(old)
        replace_model(index_folder, photos, another)
        assert editions.renew(old)
        assert old.shared.of_thread().search(3, 60) == before
        with editions.use() as new:
            assert new.shared.model_hash == another.hash != old.shared.model_hash
    with pytest.raises(StoreError):
        old.shared.of_thread().search(3, 60)  # closed
    assert not editions.renew(new)


def test_an_old_index_that_nobody_uses_is_closed_at_once(
    editions: Editions, index_folder: Path, photos: Path, another: Model
) -> None:
    old = editions.now
    replace_model(index_folder, photos, another)
    assert editions.renew(old)
    with pytest.raises(StoreError):
        old.shared.refresh()


def test_a_newer_index_that_cannot_be_opened_changes_nothing(
    editions: Editions, index_folder: Path, photos: Path, another: Model
) -> None:
    replace_model(index_folder, photos, another)
    weights = index_folder / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(Exception, match="copy of the model does not load"), editions.use() as old:
        editions.renew(old)
    assert editions.now is old
    assert len(old.shared.of_thread().search(3, 5)) == 5
    weights.write_bytes(whole)
    assert editions.renew(old)


def test_the_network_is_not_loaded_again_for_the_same_model(editions: Editions, index_folder: Path) -> None:
    network = editions.now.shared.model.network
    into_shards(index_folder)
    assert editions.renew(editions.now)
    assert editions.now.shared.model.network is network


def test_an_index_that_was_fetched_takes_its_place(
    index_folder: Path, photos: Path, another: Model, server_settings: Settings, tmp_path: Path
) -> None:
    build(tmp_path / "fetched", another, photos).store.close()
    there: list[Path] = []
    with ImageIndex.open(index_folder) as index:
        editions = Editions(index, server_settings, lambda _: there.pop() if there else None)
        assert not editions.renew(editions.now)
        there.append(tmp_path / "fetched")
        assert editions.renew(editions.now)
        assert editions.now.shared.folder == tmp_path / "fetched"
        editions.close()


def test_a_request_finds_the_index_moved_and_is_answered(
    index_folder: Path, tiny_model: Model, server_settings: Settings
) -> None:
    truth = hits_of(index_folder, 3)
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        client = unfollowed(index, server_settings)
        assert told(search(client, ids=[3], top=60)) == truth
        into_shards(index_folder)
        assert told(search(client, ids=[3], top=60)) == truth
        assert client.get("/api/items/7").json()["id"] == 7
        with open_store(index_folder) as store:
            assert isinstance(store, ShardedStore)
            to_database(store)
        assert told(search(client, ids=[3], top=60)) == truth


def test_a_request_finds_another_model_and_reads_its_picture_again(
    photo_index: Path, shared_photos: Path, tiny_model: Model, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    shutil.copytree(photo_index, tmp_path / "i")
    other = tiny(tiny_recipe, 16, 8, "dot")
    ImageIndex.build(tmp_path / "other", other, shared_photos).close()
    with ImageIndex(Store.open(tmp_path / "i"), tiny_model) as index:
        client = unfollowed(index, Settings(cache=tmp_path / "cache", workers=2, patience=60))
        (tmp_path / "i").rename(tmp_path / "old")
        (tmp_path / "other").rename(tmp_path / "i")
        answer = search(client, [png()], top=60)
        assert answer.json()["model"] == other.hash
        with ImageIndex.open(tmp_path / "i") as fresh:
            picture = tmp_path / "q.png"
            picture.write_bytes(png())
            assert told(answer) == [(hit.id, hit.distance) for hit in fresh.search(picture, 60)]
        assert search(client, ids=[3]).json()["model"] == other.hash


def test_a_hit_never_has_the_distance_of_an_older_picture(
    index_folder: Path, photos: Path, tiny_model: Model, server_settings: Settings
) -> None:
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        client = unfollowed(index, server_settings)
        before = search(client, ids=[3], top=60).json()
        with ImageIndex.open(index_folder) as writer, writer.store.writing():
            items = writer.store.items_by_id([3, 8, 20])
            writer.store.put([replace(items[8], code=items[20].code)])  # another picture under the same name
            writer.store.put([replace(items[3], code=items[8].code)])  # the query itself
        answer = search(client, ids=[3], top=60)
        assert told(answer) == hits_of(index_folder, 3) != before["hits"]
        assert answer.json()["generation"] > before["generation"]


def test_a_filter_and_codes_are_of_one_moment(index_folder: Path, tiny_model: Model, server_settings: Settings) -> None:
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        client = unfollowed(index, server_settings)
        all_hits = told(search(client, ids=[3], top=60, where="width > 2"))
        with ImageIndex.open(index_folder) as writer, writer.store.writing():
            items = writer.store.items_by_id([8, 20])
            writer.store.remove([items[8].path])
            writer.store.put([replace(items[20], path="new.png", id=0)])
        answer = search(client, ids=[3], top=60, where="width > 1")
        assert told(answer) == hits_of(index_folder, 3) != all_hits  # neither without the removed nor without the new


def test_a_collection_that_was_added_is_looked_for(
    index_folder: Path, photos: Path, tiny_model: Model, server_settings: Settings
) -> None:
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        editions = Editions(index, server_settings)
        more = photos.parent / "more"
        more.mkdir()
        (more / "new.png").write_bytes(png())
        with ImageIndex.open(index_folder) as writer:
            writer.sync(open_images(Source((str(photos), str(more)))))
        assert editions.renew(editions.now)
        item = next(item for item in editions.now.shared.of_thread().store.items() if item.path.endswith("new.png"))
        assert editions.now.pictures.original(item)[0] == png()
        editions.close()


def test_an_item_that_is_gone_is_no_fault_of_the_server(
    index_folder: Path, tiny_model: Model, server_settings: Settings
) -> None:
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        client = unfollowed(index, server_settings)
        with ImageIndex.open(index_folder) as writer:
            writer.remove([writer.store.items_by_id([3])[3].path, writer.store.items_by_id([9])[9].path])
        assert search(client, ids=[3], top=60).status_code == 404  # a hit is gone, so newer codes are read


def test_a_page_of_items_is_of_the_generation_that_it_names(index: ImageIndex, server_settings: Settings) -> None:
    client = unfollowed(index, server_settings)
    before = client.get("/api/browse").json()
    with Store.open(index.store.folder) as writer, writer.writing():
        writer.remove([before["items"][0]["path"]])
    for address in ("/api/browse", "/api/browse?where=width+>+5", "/api/browse?order=path"):
        page = client.get(address).json()
        assert (page["total"], len(page["items"]), page["generation"]) == (59, 59, before["generation"] + 1)


def test_an_index_of_the_same_model_takes_its_place(
    index_folder: Path, photos: Path, tiny_model: Model, server_settings: Settings
) -> None:
    with ImageIndex(Store.open(index_folder), tiny_model) as index:
        client = unfollowed(index, server_settings)
        assert client.get("/api/status").json()["images"] == 60
        next(photos.rglob("*.png")).unlink()
        ImageIndex.build(index_folder.with_name("other"), tiny_model, photos).close()
        index_folder.rename(index_folder.with_name("old"))
        index_folder.with_name("other").rename(index_folder)
        service = client.app.state.service
        assert service.editions.renew(service.editions.now)
        assert client.get("/api/status").json()["images"] == 59
        assert told(client.post("/api/search", json={"ids": [3], "top": 60})) == hits_of(index_folder, 3)
