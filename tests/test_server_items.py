"""The server: items, thumbnails, originals, codewords, the map, duplicates, status."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.web.server import jobs
from spq.web.server.app import PAGE, Settings
from web import assert_problem, client_of, png, search


def test_an_item_has_all_that_the_index_knows_of_it(client: TestClient, open_index: ImageIndex) -> None:
    item = client.get("/api/items/7").json()
    stored = open_index.store.items_by_id([7])[7]
    assert set(item) == {"id", "path", "label", "width", "height", "size", "time", "metadata", "code",
                         "location", "can_show"}  # fmt: skip
    assert (item["path"], item["size"], item["code"]) == (stored.path, stored.size, stored.code.tolist())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", item["time"])


def test_browse_pages_through_all_items_in_four_orders(client: TestClient, open_index: ImageIndex) -> None:
    def ids(**options: Any) -> list[int]:
        return [item["id"] for item in client.get("/api/browse", params=options).json()["items"]]

    assert ids() == list(range(1, 61))
    assert ids(offset=50, top=5) == list(range(51, 56))
    paths = open_index.store.paths(range(1, 61))
    assert ids(order="path") == sorted(paths, key=lambda id_: paths[id_])
    times = {item.id: item.mtime_ns for item in open_index.store.items()}
    assert ids(order="time") == sorted(times, key=lambda id_: (-times[id_], id_))
    assert ids(order="new")[0] == 60
    chosen = client.get("/api/browse", params={"where": "path ~ *.jpg", "top": 1}).json()
    assert (chosen["total"], len(chosen["items"])) == (30, 1)
    since = client.get("/api/status").json()["generation"]
    assert ids(order="new", since=since) == []
    assert len(ids(order="new", since=0)) == 60


def test_a_damaged_row_is_left_out_and_all_else_is_shown(
    photo_index: Path, tmp_path: Path, server_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(photo_index, tmp_path / "i")
    database = sqlite3.connect(folder / "items.sqlite", isolation_level=None)
    database.execute("UPDATE items SET metadata = '{' WHERE id = 7")
    database.close()
    with ImageIndex.open(folder) as index, client_of(index, server_settings) as client:
        assert client.get("/api/status").json()["images"] == 60
        assert [item["id"] for item in client.get("/api/browse").json()["items"]] == [i for i in range(1, 61) if i != 7]
        assert client.get("/api/items/7").status_code == 404
        assert client.get("/api/browse", params={"where": "label = bag"}).status_code == 200
    assert "item 7 is left out: the checksum of its row does not match; repair the index" in caplog.text


def test_a_thumbnail_is_made_once_and_not_sent_to_who_has_it(client: TestClient, server_settings: Settings) -> None:
    first = client.get("/api/items/3/thumbnail", params={"size": 20})
    assert first.headers["content-type"] == "image/jpeg"
    assert "private" in first.headers["cache-control"]
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.size == (56, 56)  # the picture itself is smaller than the 64 that 20 stands for
    tag = first.headers["etag"]
    kept = list(server_settings.cache.rglob("*.jpg"))
    assert first.content in [path.read_bytes() for path in kept]
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = client.get("/api/items/3/thumbnail", params={"size": 64}, headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    other = client.get("/api/items/3/thumbnail", params={"size": 128}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag


def test_the_original_comes_byte_for_byte_and_shows_in_the_browser(client: TestClient, shared_photos: Path) -> None:
    for id_ in (1, 2):
        path = shared_photos / client.get(f"/api/items/{id_}").json()["path"]
        answer = client.get(f"/api/items/{id_}/image")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == {".png": "image/png", ".jpg": "image/jpeg"}[path.suffix]
        assert answer.headers["content-disposition"] == "inline"
        known = {"If-None-Match": answer.headers["etag"]}
        assert client.get(f"/api/items/{id_}/image", headers=known).status_code == 304


def test_a_picture_that_is_gone_is_not_found_and_its_item_still_is(
    tiny_model: Model, tmp_path: Path, server_settings: Settings
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(png(color={"a": "red", "b": "navy"}[name]))
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, server_settings) as client:
        (folder / "a.png").unlink()
        assert_problem(client.get("/api/items/1/thumbnail"), 404, r"a\.png is no longer in the collection")
        assert_problem(client.get("/api/items/1/image"), 404, "no longer")
        (folder / "b.png").write_bytes(b"broken")
        assert_problem(client.get("/api/items/2/image"), 404, r"cannot read b\.png")
        assert str(tmp_path) not in client.get("/api/items/2/image").text
        assert client.get("/api/items/1").status_code == 200
        assert_problem(search(client, ids=[1], box=[0, 0, 5, 5]), 422, "no longer")


def test_codewords_are_counted_and_their_items_listed(client: TestClient, open_index: ImageIndex) -> None:
    told = client.get("/api/codewords").json()
    assert (told["codebooks"], told["codewords"]) == (8, 16)
    assert [sum(counts) for counts in told["counts"]] == [60] * 8
    k = int(np.argmax(told["counts"][2]))
    page = client.get(f"/api/codewords/2/{k}", params={"top": 3}).json()
    assert page["count"] == told["counts"][2][k]
    assert all(item["code"][2] == k for item in page["items"])
    rest = client.get(f"/api/codewords/2/{k}", params={"offset": 3}).json()["items"]
    assert len(page["items"]) + len(rest) == page["count"]
    where = {"where": "path ~ *.png"}
    counts, some = (client.get(f"/api/codewords{path}", params=where).json() for path in ("", f"/2/{k}"))
    assert [sum(among) for among in counts["counts"]] == [30] * 8
    assert [i for i in (item["id"] for item in [*page["items"], *rest]) if i in {i["id"] for i in some["items"]}] == [
        item["id"] for item in some["items"]
    ]
    assert some["count"] == counts["counts"][2][k] == sum(i["path"].endswith("png") for i in [*page["items"], *rest])
    assert_problem(client.get("/api/codewords", params={"where": "colour = red"}), 422, "unknown column colour")
    assert_problem(client.get("/api/codewords/8/0"), 404, "8 codebooks of 16")
    assert_problem(client.get("/api/codewords/0/16"), 404, "no codeword 16")


def test_the_map_has_a_place_for_every_picture(client: TestClient) -> None:
    told = client.get("/api/map", params={"method": "pca"}).json()  # the other one arrives at some moment
    ids = np.frombuffer(base64.b64decode(told["ids"]), "<i4")
    x, y = (np.frombuffer(base64.b64decode(told[axis]), "<f4") for axis in "xy")
    assert ids.tolist() == list(range(1, 61))
    assert len(x) == len(y) == told["count"] == told["total"] == 60
    assert x.var() >= y.var() > 0
    places = dict(zip(ids.tolist(), zip(x.tolist(), y.tolist(), strict=True), strict=True))
    some = client.get("/api/map", params={"where": "path ~ *3*", "method": "pca"}).json()
    listed = client.get("/api/browse", params={"where": "path ~ *3*"}).json()["items"]
    ids, x, y = (
        np.frombuffer(base64.b64decode(some[name]), kind) for name, kind in (("ids", "<i4"), ("x", "<f4"), ("y", "<f4"))
    )
    assert 0 < some["count"] == some["total"] == len(listed) < 60
    assert ids.tolist() == [item["id"] for item in listed]
    assert all(places[i] == (a, b) for i, a, b in zip(ids.tolist(), x.tolist(), y.tolist(), strict=True))
    assert_problem(client.get("/api/map", params={"where": "colour = red"}), 422, "colour")


def test_duplicates_are_found_in_the_background_and_then_kept(
    tiny_model: Model, tmp_path: Path, shared_photos: Path, server_settings: Settings
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    originals = sorted(shared_photos.rglob("*.png"))[:4]
    for path in originals:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "copy.png").write_bytes(originals[0].read_bytes())
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, server_settings) as client:
        answer = client.get("/api/duplicates")
        assert answer.status_code == 202
        assert answer.json()["state"] == "computing"
        assert answer.json()["stage"] == "reading pictures"
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


def test_the_stage_of_the_search_for_duplicates_is_told(
    tiny_model: Model, tmp_path: Path, shared_photos: Path, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted(shared_photos.rglob("*.png"))[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
        with Image.open(path) as picture:
            picture.convert("RGB").save(folder / f"{path.stem}.jpg", quality=90)
    stages: dict[str, dict[str, Any]] = {}
    find = jobs.find_duplicates

    def slowly(*args: Any, progress: Any, **more: Any) -> Any:
        def told(what: str, done: int, total: int) -> None:
            progress(what, done, total)
            stages.setdefault(what, client.get("/api/duplicates").json())

        return find(*args, progress=told, **more)

    monkeypatch.setattr(jobs, "find_duplicates", slowly)
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, server_settings) as client:
        deadline = time.monotonic() + 60
        while client.get("/api/duplicates").status_code == 202 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert next(iter(stages)) == "reading pictures"
    assert {"comparing codes", "comparing thumbs", "comparing at full size", "calibrating on altered copies"} < set(
        stages
    )
    for what, answer in stages.items():
        assert (answer["state"], answer["stage"]) == ("computing", what)
        assert 0 <= answer["done"] <= answer["total"]


def test_duplicates_of_a_collection_that_is_gone_are_told_and_tried_again(
    tiny_model: Model, tmp_path: Path, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.web.server.jobs.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("spq.web.server.jobs.REST", 0.0)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, server_settings) as client:

        def until(status: int) -> Any:
            end = time.monotonic() + 60
            while (answer := client.get("/api/duplicates")).status_code != status:
                assert time.monotonic() < end
                time.sleep(0.02)
            return answer

        folder.rename(tmp_path / "away")
        job = client.app.state.service.editions.now.duplicates  # type: ignore[attr-defined]
        client.get("/api/duplicates")
        while job._thread:
            time.sleep(0.01)
        assert "see the server log" in str(job._error)
        (tmp_path / "away").rename(folder)
        assert until(200).json()["groups"] == []


def test_an_index_that_has_become_empty_is_served(tiny_model: Model, tmp_path: Path, server_settings: Settings) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(png())
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index:
        index.remove(["a.png"])
        with client_of(index, server_settings) as client:
            assert search(client, [png()]).json()["hits"] == []
            assert search(client, [png()], where="width > 3", fold=True).json()["total"] == 0
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


def test_metrics_count_requests_under_the_pattern_of_their_route(
    open_index: ImageIndex, server_settings: Settings
) -> None:
    with client_of(open_index, server_settings) as client:
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
        assert_problem(answer, 404, "no page")
