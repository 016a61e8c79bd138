"""The HTTP API over a real index, in process."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server.app import PAGE, Settings, create_app

ORIGIN = "http://127.0.0.1:8765"


def client_of(index: ImageIndex, settings: Settings) -> TestClient:
    return TestClient(create_app(index, settings), base_url=ORIGIN)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    # patience beyond what a loaded test machine needs; the tests of overload set their own
    return Settings(cache=tmp_path_factory.mktemp("cache"), workers=2, patience=60, timeout=120)


@pytest.fixture(scope="module")
def index(photo_index: Path, tiny_model: Model) -> Iterator[ImageIndex]:
    with ImageIndex(Store.open(photo_index), tiny_model) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(index: ImageIndex, settings: Settings) -> Iterator[TestClient]:
    with client_of(index, settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def photos(photo_index: Path) -> Path:  # in place of conftest's: those of the shared index
    return photo_index.parent / "photos"


def ask(client: TestClient, images: list[bytes] = [], negative: list[bytes] = [], **query: Any) -> Any:  # noqa: B006
    files = [("image", ("a", data)) for data in images] + [("negative_image", ("b", data)) for data in negative]
    return client.post("/api/search", files=files or None, data={"query": json.dumps(query)} if files else None,
                       json=None if files else query)  # fmt: skip


def png(size: tuple[int, int] = (40, 30), color: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def problem(answer: Any, status: int, told: str) -> None:
    """It is an error as RFC 9457 has it, of this status, and its one line matches."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert set(content) == {"type", "title", "status", "detail"}
    assert content["status"] == status
    assert re.search(told, content["detail"]), content["detail"]
    assert "\n" not in content["detail"]


# what it finds


def test_an_upload_finds_what_the_index_finds_for_the_same_picture(
    client: TestClient, index: ImageIndex, photos: Path
) -> None:
    for path in sorted(photos.rglob("*.*"))[:3]:
        truth = index.search(path, 12)
        answer = ask(client, [path.read_bytes()], top=12)
        assert answer.status_code == 200
        hits = answer.json()["hits"]
        assert [(h["rank"], h["id"], h["path"], h["distance"]) for h in hits] == [
            (h.rank, h.id, h.path, h.distance) for h in truth
        ]
        assert answer.json()["total"] == 60
    assert set(hits[0]) == {"rank", "id", "distance", "path", "label", "width", "height", "folded", "folded_total"}
    assert hits[0]["label"] == hits[0]["path"].split("/")[0]
    assert (hits[0]["width"], hits[0]["height"]) == (56, 56)


def test_more_like_these_and_not_like_those_leaves_all_of_them_out(client: TestClient, index: ImageIndex) -> None:
    answer = ask(client, ids=[3, 4], not_ids=[9], top=60).json()
    truth = index.search([3, 4], 60, negative=[9], exclude=[3, 4, 9])
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in truth]
    assert answer["total"] == len(truth) == 57


def test_pictures_and_ids_with_weights_go_together(client: TestClient, index: ImageIndex, photos: Path) -> None:
    one, other = sorted(photos.rglob("*.png"))[:2]
    weights = [1, 2, 0.5]
    answer = ask(client, [one.read_bytes()], [other.read_bytes()], ids=[7], weights=weights, top=10)
    truth = index.search([one, 7], 10, negative=[other], weights=weights, exclude=[7])
    assert [hit["id"] for hit in answer.json()["hits"]] == [hit.id for hit in truth]


def test_pages_follow_each_other_without_a_gap(client: TestClient) -> None:
    whole = ask(client, ids=[1], top=59).json()["hits"]
    pages = [hit for start in range(0, 60, 20) for hit in ask(client, ids=[1], top=20, offset=start).json()["hits"]]
    assert pages == whole
    assert [hit["rank"] for hit in whole] == list(range(1, 60))
    assert ask(client, ids=[1], offset=10_000).json()["hits"] == []


def test_a_box_searches_by_a_region_of_an_upload_or_of_an_item(
    client: TestClient, index: ImageIndex, photos: Path
) -> None:
    path = photos / index.store.items_by_id([5])[5].path
    box = (5, 6, 30, 40)
    truth = [hit.id for hit in index.search(path, 20, box=box)]
    assert [hit["id"] for hit in ask(client, [path.read_bytes()], top=20, box=box).json()["hits"]] == truth
    of_item = ask(client, ids=[5], top=19, box=box).json()["hits"]
    assert [hit["id"] for hit in of_item] == [id_ for id_ in truth if id_ != 5][:19]
    problem(ask(client, ids=[5], box=[50, 0, 30, 30]), 422, "not inside the picture of 56 x 56")
    problem(ask(client, ids=[5, 6], box=box), 422, "box.*one picture, got 2")


def test_a_filter_a_cut_off_and_folding_do_what_they_say(client: TestClient) -> None:
    labels = {hit["label"] for hit in ask(client, ids=[1], top=60).json()["hits"]}
    chosen = sorted(labels)[0]
    found = ask(client, ids=[1], top=60, where=f"label = '{chosen}'").json()
    assert {hit["label"] for hit in found["hits"]} == {chosen}
    assert found["total"] == len(found["hits"]) < 60
    near = ask(client, ids=[1], top=60, max_distance=found["hits"][0]["distance"]).json()["hits"]
    assert 0 < len(near) < 59
    assert all(hit["distance"] <= found["hits"][0]["distance"] for hit in near)
    folded = ask(client, ids=[1], top=60, fold=True).json()["hits"]
    assert sum(1 + hit["folded_total"] for hit in folded) == 59
    assert all(hit["folded_total"] == len(hit["folded"]) for hit in folded)


def test_an_upload_is_embedded_once_however_many_pages_are_asked(
    index: ImageIndex, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    embed = index.model.embed
    monkeypatch.setattr(index.model, "embed", lambda images: (calls.append(1), embed(images))[1])
    with client_of(index, settings) as client:
        pages = [ask(client, [png()], top=10, offset=start).json()["hits"] for start in (0, 10, 20)]
        assert len({hit["id"] for page in pages for hit in page}) == 30
        assert len(calls) == 1
        ask(client, [png()], box=[0, 0, 20, 20])
        assert len(calls) == 2


def test_parts_of_a_distance_add_up_to_that_of_the_hit(client: TestClient, photos: Path) -> None:
    hit = ask(client, ids=[2]).json()["hits"][3]
    told = client.get("/api/explain", params={"query_id": 2, "id": hit["id"]}).json()
    assert told["total"] == pytest.approx(hit["distance"], abs=1e-5)
    assert [part["m"] for part in told["parts"]] == list(range(8))
    picture = min(photos.rglob("*.png")).read_bytes()
    hit = ask(client, [picture]).json()["hits"][3]
    in_query = client.post(
        "/api/explain", files=[("image", ("a", picture))], data={"query": json.dumps({"id": hit["id"]})}
    )
    as_field = client.post("/api/explain", files=[("image", ("a", picture))], data={"id": hit["id"]})
    assert in_query.json() == as_field.json()
    assert in_query.json()["total"] == pytest.approx(hit["distance"], abs=1e-5)
    problem(client.post("/api/explain", json={"ids": [1]}), 422, "id: Field required")


# items and what shows them


def test_an_item_has_all_that_the_index_knows_of_it(client: TestClient, index: ImageIndex) -> None:
    item = client.get("/api/items/7").json()
    stored = index.store.items_by_id([7])[7]
    assert set(item) == {"id", "path", "label", "width", "height", "size", "time", "metadata", "code"}
    assert (item["path"], item["size"], item["code"]) == (stored.path, stored.size, stored.code.tolist())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", item["time"])


def test_browse_pages_through_all_items_in_four_orders(client: TestClient, index: ImageIndex) -> None:
    def ids(**options: Any) -> list[int]:
        return [item["id"] for item in client.get("/api/browse", params=options).json()["items"]]

    assert ids() == list(range(1, 61))
    assert ids(offset=50, top=5) == list(range(51, 56))
    paths = index.store.paths(range(1, 61))
    assert ids(order="path") == sorted(paths, key=lambda id_: paths[id_])
    times = {item.id: item.mtime_ns for item in index.store.items()}
    assert ids(order="time") == sorted(times, key=lambda id_: (-times[id_], id_))
    assert ids(order="new")[0] == 60
    chosen = client.get("/api/browse", params={"where": "path ~ *.jpg", "top": 1}).json()
    assert (chosen["total"], len(chosen["items"])) == (30, 1)
    since = client.get("/api/status").json()["generation"]
    assert ids(order="new", since=since) == []
    assert len(ids(order="new", since=0)) == 60


def test_a_thumbnail_is_made_once_and_not_sent_to_who_has_it(client: TestClient, settings: Settings) -> None:
    first = client.get("/api/items/3/thumbnail", params={"size": 20})
    assert first.headers["content-type"] == "image/jpeg"
    assert "private" in first.headers["cache-control"]
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.size == (56, 56)  # the picture itself is smaller than the 64 that 20 stands for
    tag = first.headers["etag"]
    kept = list(settings.cache.rglob("*.jpg"))
    assert first.content in [path.read_bytes() for path in kept]
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = client.get("/api/items/3/thumbnail", params={"size": 64}, headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    other = client.get("/api/items/3/thumbnail", params={"size": 128}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag


def test_the_original_comes_byte_for_byte_and_shows_in_the_browser(client: TestClient, photos: Path) -> None:
    for id_ in (1, 2):
        path = photos / client.get(f"/api/items/{id_}").json()["path"]
        answer = client.get(f"/api/items/{id_}/image")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == {".png": "image/png", ".jpg": "image/jpeg"}[path.suffix]
        assert answer.headers["content-disposition"] == "inline"
        known = {"If-None-Match": answer.headers["etag"]}
        assert client.get(f"/api/items/{id_}/image", headers=known).status_code == 304


def test_a_picture_that_is_gone_is_not_found_and_its_item_still_is(
    tiny_model: Model, tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(png(color={"a": "red", "b": "navy"}[name]))
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, settings) as client:
        (folder / "a.png").unlink()
        problem(client.get("/api/items/1/thumbnail"), 404, r"a\.png is no longer in the collection")
        problem(client.get("/api/items/1/image"), 404, "no longer")
        (folder / "b.png").write_bytes(b"broken")
        problem(client.get("/api/items/2/image"), 404, r"cannot read b\.png")
        assert str(tmp_path) not in client.get("/api/items/2/image").text
        assert client.get("/api/items/1").status_code == 200
        problem(ask(client, ids=[1], box=[0, 0, 5, 5]), 422, "no longer")


# the model's view


def test_codewords_are_counted_and_their_items_listed(client: TestClient, index: ImageIndex) -> None:
    told = client.get("/api/codewords").json()
    assert (told["codebooks"], told["codewords"]) == (8, 16)
    assert [sum(counts) for counts in told["counts"]] == [60] * 8
    k = int(np.argmax(told["counts"][2]))
    page = client.get(f"/api/codewords/2/{k}", params={"top": 3}).json()
    assert page["count"] == told["counts"][2][k]
    assert all(item["code"][2] == k for item in page["items"])
    rest = client.get(f"/api/codewords/2/{k}", params={"offset": 3}).json()["items"]
    assert len(page["items"]) + len(rest) == page["count"]
    problem(client.get("/api/codewords/8/0"), 404, "8 codebooks of 16")
    problem(client.get("/api/codewords/0/16"), 404, "no codeword 16")


def test_the_map_has_a_place_for_every_picture(client: TestClient) -> None:
    told = client.get("/api/map").json()
    ids = np.frombuffer(base64.b64decode(told["ids"]), "<i4")
    x, y = (np.frombuffer(base64.b64decode(told[axis]), "<f4") for axis in "xy")
    assert ids.tolist() == list(range(1, 61))
    assert len(x) == len(y) == told["count"] == told["total"] == 60
    assert x.var() >= y.var() > 0
    places = dict(zip(ids.tolist(), zip(x.tolist(), y.tolist(), strict=True), strict=True))
    some = client.get("/api/map", params={"where": "path ~ *3*"}).json()
    listed = client.get("/api/browse", params={"where": "path ~ *3*"}).json()["items"]
    ids, x, y = (
        np.frombuffer(base64.b64decode(some[name]), kind) for name, kind in (("ids", "<i4"), ("x", "<f4"), ("y", "<f4"))
    )
    assert 0 < some["count"] == some["total"] == len(listed) < 60
    assert ids.tolist() == [item["id"] for item in listed]
    assert all(places[i] == (a, b) for i, a, b in zip(ids.tolist(), x.tolist(), y.tolist(), strict=True))
    problem(client.get("/api/map", params={"where": "colour = red"}), 422, "colour")


def test_duplicates_are_found_in_the_background_and_then_kept(
    tiny_model: Model, tmp_path: Path, photos: Path, settings: Settings
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    originals = sorted(photos.rglob("*.png"))[:4]
    for path in originals:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "copy.png").write_bytes(originals[0].read_bytes())
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, settings) as client:
        answer = client.get("/api/duplicates")
        assert answer.status_code == 202
        assert answer.json()["state"] == "computing"
        assert {"done", "total"} < set(answer.json())
        deadline = time.monotonic() + 60
        while (answer := client.get("/api/duplicates")).status_code == 202 and time.monotonic() < deadline:
            time.sleep(0.05)
        report = answer.json()
        assert (report["pictures"], report["stale"]) == (5, False)
        identical = [group for group in report["groups"] if group["kind"] == "identical"]
        assert len(identical) == 1
        names = {item["path"] for item in identical[0]["items"]}
        assert names == {"copy.png", originals[0].name}
        assert identical[0]["ids"][0] == identical[0]["keep"]
        assert len(identical[0]["reasons"]) == 2


def test_duplicates_of_a_collection_that_is_gone_are_told_and_tried_again(
    tiny_model: Model, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.web.server.jobs.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("spq.web.server.jobs.REST", 0.0)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, settings) as client:

        def until(status: int) -> Any:
            end = time.monotonic() + 60
            while (answer := client.get("/api/duplicates")).status_code != status:
                assert time.monotonic() < end
                time.sleep(0.02)
            return answer

        folder.rename(tmp_path / "away")
        job = client.app.state.service.duplicates  # type: ignore[attr-defined]
        client.get("/api/duplicates")
        while job._at_work:
            time.sleep(0.01)
        assert "server's own output says why" in str(job._error)
        (tmp_path / "away").rename(folder)
        assert until(200).json()["groups"] == []


def test_an_index_that_has_become_empty_is_served(tiny_model: Model, tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index:
        index.remove(["a.png"])
        with client_of(index, settings) as client:
            assert ask(client, [png()]).json()["hits"] == []
            assert ask(client, [png()], where="width > 3", fold=True).json()["total"] == 0
            assert client.get("/api/browse").json()["items"] == []
            assert client.get("/api/map").json()["count"] == 0
            assert client.get("/api/codewords/0/0").json()["count"] == 0
            assert client.get("/api/status").json()["images"] == 0


def test_status_says_what_is_served(client: TestClient, photo_index: Path) -> None:
    told = client.get("/api/status").json()
    assert (told["name"], told["images"], told["unreadable"], told["bits"]) == ("photos.index", 60, 0, 32)
    assert (told["codebooks"], told["codewords"], told["watching"], told["sync"]) == (8, 16, False, None)
    columns = {column["name"]: column for column in told["columns"]}
    assert (columns["width"]["kind"], columns["time"]["kind"], columns["path"]["kind"]) == ("number", "time", "text")
    assert "ankle boot" in columns["label"]["values"]
    assert client.get("/healthz").json() == {"status": "ok"}


def test_metrics_count_requests_under_the_pattern_of_their_route(index: ImageIndex, settings: Settings) -> None:
    with client_of(index, settings) as client:
        client.get("/api/items/1")
        client.get("/api/items/2")
        client.get("/api/items/99999")
        client.get("/not/there")
        text = client.get("/metrics").text
    assert 'spq_http_requests_total{route="/api/items/{id}",method="GET",status="200"} 2' in text
    assert 'spq_http_requests_total{route="/api/items/{id}",method="GET",status="404"} 1' in text
    assert 'spq_http_requests_total{route="other",method="GET",status="404"} 1' in text
    assert 'spq_http_request_seconds_bucket{route="/api/items/{id}",le="+Inf"} 3' in text
    assert "spq_items 60" in text
    assert "spq_search_rejected_total 0" in text
    assert "99999" not in text


# what it refuses


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({}, "the search has no query"),
        ({"ids": "3"}, "ids: Input should be a valid list"),
        ({"ids": [1.5]}, "ids.0: Input should be a valid integer"),
        ({"ids": [-1]}, "ids.0: .*greater than or equal to 0"),
        ({"ids": list(range(100))}, "ids: .*at most 64"),
        ({"ids": [1], "top": 0}, "top: .*greater"),
        ({"ids": [1], "top": 1001}, "top: .*less"),
        ({"ids": [1], "top": 5, "offset": -1}, "offset: .*greater"),
        ({"ids": [1], "box": [1, 2, 3]}, "box: .*at least 4"),
        ({"ids": [1], "weights": [1, 2]}, "weights. must hold 1 numbers, one for each of 1 query and 0 negative"),
        ({"ids": [1], "weights": [0]}, "weights. of all query pictures are 0"),
        ({"ids": [1], "where": "width >"}, "ends at 8; expected a value"),
        ({"ids": [1], "where": "nothing = 3"}, "unknown column nothing.*columns are path"),
        ({"ids": [1], "where": "a = " + "b" * 5000}, "where: .*at most 4000"),
        ({"ids": [1], "where": "path = '\ud800'"}, "where: .*unicode"),
        ({"ids": [1], "where": "width > 1", "nprobe": 3}, "nprobe: Extra inputs"),
        ({"ids": [1], "where": "width > 1", "method": "ivf"}, "method: Extra inputs"),
        ({"ids": [1], "max_distance": "near"}, "max_distance: .*number"),
        ({"ids": [1], "fold": 1}, "fold: .*boolean"),
        ({"ids": [1], "url": "http://example.org/a.jpg"}, "url: Extra inputs"),
        ([1], "dictionary|Ask"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_meant_is_told_what_is_wrong(client: TestClient, query: Any, told: str) -> None:
    problem(
        client.post("/api/search", content=json.dumps(query), headers={"Content-Type": "application/json"}), 422, told
    )


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[" * 100_000, b'{"ids": [1], "max_distance": NaN}', b'{"top": 1e999}']
)
def test_what_is_not_json_is_refused(client: TestClient, content: bytes) -> None:
    problem(client.post("/api/search", content=content, headers={"Content-Type": "application/json"}), 422, ".")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no picture", "cannot read image 1: not a picture in a known format"),
        (b"", "cannot read image 1: the file is empty"),
        (png((400, 300))[:200], "cannot read image 1: "),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    ],
)
def test_a_broken_upload_is_told_which_and_why(client: TestClient, data: bytes, told: str) -> None:
    problem(ask(client, [data]), 422, told)
    problem(ask(client, [], [data], ids=[1]), 422, told.replace("image 1", "negative_image 1"))


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(index: ImageIndex, settings: Settings) -> None:
    with client_of(index, replace(settings, max_pixels=10_000)) as client:
        assert ask(client, [png((100, 100))]).status_code == 200
        problem(ask(client, [png((101, 100))]), 422, "101 x 100 pixels are over the limit of 10,000")


def test_an_upload_over_the_limit_is_refused_by_its_length_and_by_its_bytes(
    index: ImageIndex, settings: Settings
) -> None:
    with client_of(index, replace(settings, max_upload=2000)) as client:
        assert ask(client, [png()]).status_code == 200
        problem(ask(client, [b"x" * 3000]), 413, "over the limit of 0.002 MB")

        def chunks() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            for _ in range(10):
                yield b"x" * 500

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        problem(client.post("/api/search", content=chunks(), headers=headers), 413, "over the limit")
        assert client.get("/healthz").status_code == 200
    with client_of(index, settings) as client:
        large = json.dumps({"ids": [1], "where": "x" * 2_000_000})
        problem(client.post("/api/search", content=large, headers={"Content-Type": "application/json"}), 413, "of JSON")


def test_forms_that_are_no_forms_are_refused(client: TestClient) -> None:
    problem(client.post("/api/search", content=b"x", headers={"Content-Type": "text/plain"}), 415, "text/plain")
    problem(client.post("/api/search"), 415, "unknown")
    for content, boundary in [
        (b"x", ""),
        (b"x", "; boundary=b"),
        (b"--b\r\nnonsense", "; boundary=b"),
        (b"", "; boundary=b"),
    ]:
        headers = {"Content-Type": f"multipart/form-data{boundary}"}
        problem(client.post("/api/search", content=content, headers=headers), 422, "form|no query")
    many = [("image", (str(n), png())) for n in range(17)]
    problem(client.post("/api/search", files=many), 422, "Too many files. Maximum number of files is 16")
    problem(client.post("/api/search", files=[("picture", ("a", png()))]), 422, "picture: no such field")
    problem(client.post("/api/search", files=[("query", ("a", b"{}"))]), 422, "query: give a plain field")
    problem(client.post("/api/search", files=[("image", (None, b"x"))]), 422, "image: not a file|no such field")


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/items/99999", 404, "no item 99999"),
        ("/api/items/99999/thumbnail", 404, "no item"),
        ("/api/items/99999/image", 404, "no item"),
        ("/api/items/abc", 422, "id: .*integer"),
        ("/api/items/-1", 422, "id: .*greater"),
        ("/api/items/99999999999999999999", 422, "id: .*less"),
        ("/api/items/1/thumbnail?size=5", 422, "size: .*greater"),
        ("/api/items/1/thumbnail?size=5000", 422, "size: .*less"),
        ("/api/items/..%2F..%2Fetc%2Fpasswd/image", 404, "Not Found"),
        ("/assets/..%2Fcli.py", 404, "Not Found"),
        ("/assets/%2Fetc%2Fpasswd", 404, "Not Found"),
        ("/api/explain?query_id=1&id=777", 404, "no item 777"),
        ("/api/explain?query_id=1", 422, "id: Field required"),
        ("/api/browse?where=%28", 422, "ends at 2"),
        ("/api/browse?order=random", 422, "order: "),
        ("/api/browse?top=0", 422, "top: "),
        ("/api/search", 405, "Method Not Allowed"),
        ("/docs", 404, "Not Found"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_a_problem(client: TestClient, path: str, status: int, told: str) -> None:
    problem(client.get(path), status, told)


def test_an_item_that_has_just_come_is_searched_with(
    index: ImageIndex, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(index.store.folder, tmp_path / "i")
    with ImageIndex.open(tmp_path / "i") as copy:
        client = TestClient(create_app(copy, settings), base_url=ORIGIN)  # not started: nobody follows the store
        with copy.store.writing():
            copy.store.put([replace(copy.store.items_by_id([3])[3], path="new.png")])
        new = max(item.id for item in copy.store.items())
        hits = ask(client, ids=[new], top=5).json()["hits"]
        assert hits[0]["id"] == 3
        assert hits[0]["distance"] == pytest.approx(0, abs=1e-6)


def test_an_unknown_item_in_a_search_is_not_found(client: TestClient) -> None:
    problem(ask(client, ids=[1, 777]), 404, "no item 777")
    problem(ask(client, ids=[1], not_ids=[778]), 404, "no item 778")


def test_a_fault_of_the_index_is_told_without_its_folder(
    index: ImageIndex, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(create_app(index, settings), base_url=ORIGIN, raise_server_exceptions=False)
    monkeypatch.setattr(Store, "items_by_id", lambda self, ids: self.select("SELECT * FROM nowhere"))
    problem(client.get("/api/items/1"), 500, "the index could not be read")
    assert "photos.index could not be read (no such table: nowhere)" in caplog.text
    monkeypatch.setattr(Store, "items_by_id", lambda self, ids: 1 / 0)
    problem(client.get("/api/items/1"), 500, "a mistake of spq")
    assert "ZeroDivisionError" in caplog.text


def test_too_many_at_once_get_an_answer_or_are_told_to_come_back(
    index: ImageIndex, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, embed = threading.Event(), index.model.embed
    monkeypatch.setattr(index.model, "embed", lambda images: (release.wait(60), embed(images))[1])
    limits = replace(settings, workers=1, waiting=3, patience=60)
    with client_of(index, limits) as client, ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(ask, client, [png(color=f"#00{n:02x}00")]) for n in range(20)]
        refused = [future.result() for future in islice(as_completed(asked), 16)]
        for answer in refused:
            problem(answer, 503, "3 requests wait already")
            assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/api/items/1").status_code == 200  # what shows pictures has threads of its own
        assert client.get("/healthz").status_code == 200
        assert "spq_search_waiting 3" in client.get("/metrics").text
        release.set()
        statuses = sorted(future.result().status_code for future in asked)
        assert statuses == [200] * 4 + [503] * 16
        assert "spq_search_rejected_total 16" in client.get("/metrics").text


def test_a_filter_that_takes_too_long_is_given_up(
    index: ImageIndex, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.index.store.STEPS", 1)
    with client_of(index, replace(settings, timeout=1e-4)) as client:
        answer = ask(client, ids=[1], where=" or ".join(f"label = {n}" for n in range(100)))
        problem(answer, 503, "given up")
        assert "retry-after" in answer.headers


def test_openapi_has_examples_and_every_route(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/api/search", "/api/browse", "/api/items/{id}", "/api/map", "/healthz", "/metrics"} <= set(
        document["paths"]
    )
    schemas = document["components"]["schemas"]
    assert schemas["Ask"]["examples"][0]["ids"]
    assert schemas["Hits"]["examples"][0]["hits"]
    form = document["paths"]["/api/search"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert json.loads(form["schema"]["properties"]["query"]["examples"][0])["top"]
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in schemas


def test_the_page_and_its_assets_are_served_where_they_are_installed(client: TestClient) -> None:
    answer = client.get("/")
    if (PAGE / "index.html").exists():
        assert answer.content == (PAGE / "index.html").read_bytes()
        assert answer.headers["cache-control"] == "no-cache"
    else:
        problem(answer, 404, "no page")


def test_who_leaves_while_sending_is_no_mistake(
    index: ImageIndex, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app, sent = create_app(index, settings), list[dict[str, Any]]()
    headers = [(b"host", b"127.0.0.1:8765"), (b"content-type", b"application/json"), (b"content-length", b"99")]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/api/search",
        "raw_path": b"/api/search", "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 499
    assert "mistake" not in caplog.text
