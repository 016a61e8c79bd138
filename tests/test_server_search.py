"""The server: searches, and why a picture matched."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spq.errors import StoreError
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.web.server.app import Settings, create_app
from web import ORIGIN, assert_problem, client_of, png, search


def test_an_upload_finds_what_the_index_finds_for_the_same_picture(
    client: TestClient, open_index: ImageIndex, shared_photos: Path
) -> None:
    for path in sorted(shared_photos.rglob("*.*"))[:3]:
        truth = open_index.search(path, 12)
        answer = search(client, [path.read_bytes()], top=12)
        assert answer.status_code == 200
        hits = answer.json()["hits"]
        assert [(h["rank"], h["id"], h["path"], h["distance"]) for h in hits] == [
            (h.rank, h.id, h.path, h.distance) for h in truth
        ]
        assert answer.json()["total"] == 60
    facts = {"rank", "id", "distance", "path", "label", "width", "height", "folded", "folded_total"}
    assert set(hits[0]) == {*facts, "code_distance", "same_file"}
    assert hits[0]["label"] == hits[0]["path"].split("/")[0]
    assert (hits[0]["width"], hits[0]["height"]) == (56, 56)


def test_more_like_these_and_not_like_those_leaves_all_of_them_out(client: TestClient, open_index: ImageIndex) -> None:
    answer = search(client, ids=[3, 4], not_ids=[9], top=60).json()
    like = open_index.like
    truth = open_index.search([like(3), like(4)], 60, negative=[like(9)], exclude=[3, 4, 9])
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in truth]
    assert answer["total"] == len(truth) == 57


def test_pictures_and_ids_with_weights_go_together(
    client: TestClient, open_index: ImageIndex, shared_photos: Path
) -> None:
    one, other = sorted(shared_photos.rglob("*.png"))[:2]
    weights = [1, 2, 0.5]
    answer = search(client, [one.read_bytes()], [other.read_bytes()], ids=[7], weights=weights, top=10)
    truth = open_index.search([one, open_index.like(7)], 10, negative=[other], weights=weights, exclude=[7])
    assert [hit["id"] for hit in answer.json()["hits"]] == [hit.id for hit in truth]


def test_pages_follow_each_other_without_a_gap(client: TestClient) -> None:
    whole = search(client, ids=[1], top=59).json()["hits"]
    pages = [hit for start in range(0, 60, 20) for hit in search(client, ids=[1], top=20, offset=start).json()["hits"]]
    assert pages == whole
    assert [hit["rank"] for hit in whole] == list(range(1, 60))
    assert search(client, ids=[1], offset=10_000).json()["hits"] == []


def test_a_box_searches_by_a_region_of_an_upload_or_of_an_item(
    client: TestClient, open_index: ImageIndex, shared_photos: Path
) -> None:
    path = shared_photos / open_index.store.items_by_id([5])[5].path
    box = (5, 6, 30, 40)
    truth = [hit.id for hit in open_index.search(path, 20, box=box)]
    assert [hit["id"] for hit in search(client, [path.read_bytes()], top=20, box=box).json()["hits"]] == truth
    of_item = search(client, ids=[5], top=19, box=box).json()["hits"]
    assert [hit["id"] for hit in of_item] == [id_ for id_ in truth if id_ != 5][:19]
    assert_problem(search(client, ids=[5], box=[50, 0, 30, 30]), 422, "not inside the picture of 56 x 56")
    assert_problem(search(client, ids=[5, 6], box=box), 422, "box.*one picture, got 2")


def test_a_filter_a_cut_off_and_folding_do_what_they_say(client: TestClient) -> None:
    labels = {hit["label"] for hit in search(client, ids=[1], top=60).json()["hits"]}
    chosen = sorted(labels)[0]
    found = search(client, ids=[1], top=60, where=f"label = '{chosen}'").json()
    assert {hit["label"] for hit in found["hits"]} == {chosen}
    assert found["total"] == len(found["hits"]) < 60
    near = search(client, ids=[1], top=60, max_distance=found["hits"][0]["distance"]).json()["hits"]
    assert 0 < len(near) < 59
    assert all(hit["distance"] <= found["hits"][0]["distance"] for hit in near)
    folded = search(client, ids=[1], top=60, fold=True).json()["hits"]
    assert sum(1 + hit["folded_total"] for hit in folded) == 59
    assert all(hit["folded_total"] == len(hit["folded"]) for hit in folded)


def test_an_upload_is_embedded_once_however_many_pages_are_asked(
    open_index: ImageIndex, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    embed = open_index.model.embed
    monkeypatch.setattr(open_index.model, "embed", lambda images: (calls.append(1), embed(images))[1])
    with client_of(open_index, server_settings) as client:
        pages = [search(client, [png()], top=10, offset=start).json()["hits"] for start in (0, 10, 20)]
        assert len({hit["id"] for page in pages for hit in page}) == 30
        assert len(calls) == 1
        search(client, [png()], box=[0, 0, 20, 20])
        assert len(calls) == 2


def test_parts_of_a_distance_add_up_to_that_of_the_hit(client: TestClient, shared_photos: Path) -> None:
    hit = search(client, ids=[2]).json()["hits"][3]
    told = client.get("/api/explain", params={"query_id": 2, "id": hit["id"]}).json()
    assert told["total"] == pytest.approx(hit["distance"], abs=1e-5)
    assert [part["m"] for part in told["parts"]] == list(range(8))
    picture = min(shared_photos.rglob("*.png")).read_bytes()
    hit = search(client, [picture]).json()["hits"][3]
    in_query = client.post(
        "/api/explain", files=[("image", ("a", picture))], data={"query": json.dumps({"id": hit["id"]})}
    )
    as_field = client.post("/api/explain", files=[("image", ("a", picture))], data={"id": hit["id"]})
    assert in_query.json() == as_field.json()
    assert in_query.json()["total"] == pytest.approx(hit["distance"], abs=1e-5)
    assert_problem(client.post("/api/explain", json={"ids": [1]}), 422, "id: Field required")


def test_an_item_that_has_just_come_is_searched_with(
    open_index: ImageIndex, server_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(open_index.store.folder, tmp_path / "i")
    with ImageIndex.open(tmp_path / "i") as copy:
        client = TestClient(create_app(copy, server_settings), base_url=ORIGIN)  # not started: nobody follows the store
        with copy.store.writing():
            copy.store.put([replace(copy.store.items_by_id([3])[3], path="new.png")])
        new = max(item.id for item in copy.store.items())
        hits = search(client, ids=[new], top=5).json()["hits"]
        assert hits[0]["id"] == 3
        assert hits[0]["distance"] == pytest.approx(0, abs=1e-6)  # its file is not there, so its code is compared


def test_more_like_an_item_compares_its_picture_as_long_as_it_is_the_one_of_the_code(
    photos: Path, tiny_model: Model, server_settings: Settings, tmp_path: Path
) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        by_code = [(hit.id, pytest.approx(hit.distance)) for hit in index.search(3, 60, exclude=[3])]
        path = photos / index.store.items_by_id([3])[3].path
        by_picture = [(hit.id, pytest.approx(hit.distance)) for hit in index.search(path, 60, exclude=[3])]
        assert by_picture != by_code

        def told(client: TestClient, **options: object) -> list[tuple[int, float]]:
            return [(hit["id"], hit["distance"]) for hit in search(client, top=60, **options).json()["hits"]]

        with client_of(index, server_settings) as client:
            assert told(client, ids=[3]) == by_picture
            assert isinstance(index.like(3), Image.Image)
        path.write_bytes(png())
        with client_of(index, server_settings) as client:
            assert told(client, ids=[3]) == by_code
        path.unlink()
        with client_of(index, server_settings) as client:
            assert told(client, ids=[3]) == by_code
            many = [3, *range(20, 20 + server_settings.max_pictures)]  # so many are compared by their codes
            hits = index.search(many, 60, exclude=many)
            assert told(client, ids=many) == [(hit.id, pytest.approx(hit.distance)) for hit in hits]
        assert index.like(3) == 3
        with pytest.raises(StoreError, match="no picture with id 777"):
            index.like(777)


def test_an_unknown_item_in_a_search_is_not_found(client: TestClient) -> None:
    assert_problem(search(client, ids=[1, 777]), 404, "no item 777")
    assert_problem(search(client, ids=[1], not_ids=[778]), 404, "no item 778")
