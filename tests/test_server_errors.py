"""The server: what it refuses, and what it says when something goes wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from faults.http_fuzz import fuzz
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server.app import Settings, create_app
from web import ORIGIN, assert_problem, client_of, jpeg, png, search, served


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
        ({"ids": [1], "max_distance": "near"}, "max_distance: .*number"),
        ({"ids": [1], "fold": 1}, "fold: .*boolean"),
        ({"ids": [1], "url": "http://example.org/a.jpg"}, "url: Extra inputs"),
        ([1], "dictionary|Ask"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_meant_is_told_what_is_wrong(client: TestClient, query: Any, told: str) -> None:
    assert_problem(
        client.post("/api/search", content=json.dumps(query), headers={"Content-Type": "application/json"}), 422, told
    )


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[" * 100_000, b'{"ids": [1], "max_distance": NaN}', b'{"top": 1e999}']
)
def test_what_is_not_json_is_refused(client: TestClient, content: bytes) -> None:
    assert_problem(client.post("/api/search", content=content, headers={"Content-Type": "application/json"}), 422, ".")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no picture", "cannot read image 1: not a picture in a known format"),
        (b"", "cannot read image 1: the file is empty"),
        (png((400, 300))[:200], "cannot read image 1: "),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing is not read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC that is damaged or of a newer kind"),
    ],
)
def test_a_broken_upload_is_told_which_and_why(client: TestClient, data: bytes, told: str) -> None:
    assert_problem(search(client, [data]), 422, told)
    assert_problem(search(client, [], [data], ids=[1]), 422, told.replace("image 1", "negative_image 1"))


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    open_index: ImageIndex, server_settings: Settings
) -> None:
    with client_of(open_index, replace(server_settings, max_pixels=10_000)) as client:
        assert search(client, [png((100, 100))]).status_code == 200
        told = (
            "101 x 100 pixels are over the limit of 10,000; scale it down first, or start spq serve with a larger --max"
        )
        assert_problem(search(client, [png((101, 100))]), 422, told)
        assert search(client, [jpeg((400, 200))]).status_code == 200  # decoded at a quarter of its size
        assert_problem(search(client, [jpeg((401, 200), progressive=True)]), 422, "401 x 200 pixels are over the limit")


def test_an_upload_over_the_limit_is_refused_by_its_length_and_by_its_bytes(
    open_index: ImageIndex, server_settings: Settings
) -> None:
    with client_of(open_index, replace(server_settings, max_upload=2000)) as client:
        assert search(client, [png()]).status_code == 200
        assert_problem(search(client, [b"x" * 3000]), 413, "over the limit of 0.002 MB")

        def chunks() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            for _ in range(10):
                yield b"x" * 500

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        assert_problem(client.post("/api/search", content=chunks(), headers=headers), 413, "over the limit")
        assert client.get("/healthz").status_code == 200
    with client_of(open_index, server_settings) as client:
        large = json.dumps({"ids": [1], "where": "x" * 2_000_000})
        assert_problem(
            client.post("/api/search", content=large, headers={"Content-Type": "application/json"}), 413, "of JSON"
        )


def test_forms_that_are_no_forms_are_refused(client: TestClient) -> None:
    assert_problem(client.post("/api/search", content=b"x", headers={"Content-Type": "text/plain"}), 415, "text/plain")
    assert_problem(client.post("/api/search"), 415, "unknown")
    for content, boundary in [
        (b"x", ""),
        (b"x", "; boundary=b"),
        (b"--b\r\nnonsense", "; boundary=b"),
        (b"", "; boundary=b"),
    ]:
        headers = {"Content-Type": f"multipart/form-data{boundary}"}
        assert_problem(client.post("/api/search", content=content, headers=headers), 422, "form|no query")
    many = [("image", (str(n), png())) for n in range(17)]
    assert_problem(client.post("/api/search", files=many), 422, "Too many files. Maximum number of files is 16")
    assert_problem(client.post("/api/search", files=[("picture", ("a", png()))]), 422, "picture: no such field")
    assert_problem(client.post("/api/search", files=[("query", ("a", b"{}"))]), 422, "query: give a plain field")
    assert_problem(client.post("/api/search", files=[("image", (None, b"x"))]), 422, "image: not a file|no such field")


@pytest.mark.parametrize("cut", [2, 6, 50])
def test_a_form_that_ends_early_loses_no_picture_in_silence(client: TestClient, cut: int) -> None:
    whole = (
        b"".join(
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png() + b"\r\n"
            for _ in range(2)
        )
        + b"--b--"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/api/search", content=whole, headers=headers).status_code == 200
    assert_problem(client.post("/api/search", content=whole[:-cut], headers=headers), 422, "without its last boundary")


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
        ("/api/browse?order=odd", 422, "order: "),
        ("/api/browse?top=0", 422, "top: "),
        ("/api/search", 405, "Method Not Allowed"),
        ("/docs", 404, "Not Found"),
    ],
)  # fmt: skip
def test_a_wrong_address_is_a_problem(client: TestClient, path: str, status: int, told: str) -> None:
    assert_problem(client.get(path), status, told)


def test_a_fault_of_the_index_is_told_without_its_folder(
    open_index: ImageIndex, server_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(create_app(open_index, server_settings), base_url=ORIGIN, raise_server_exceptions=False)
    monkeypatch.setattr(Store, "items_by_id", lambda self, ids: self.select("SELECT * FROM nowhere"))
    assert_problem(client.get("/api/items/1"), 500, "the index could not be read")
    assert "photos.index could not be read (no such table: nowhere)" in caplog.text
    monkeypatch.setattr(Store, "items_by_id", lambda self, ids: 1 / 0)
    assert_problem(client.get("/api/items/1"), 500, "internal error")
    assert "ZeroDivisionError" in caplog.text


def test_too_many_at_once_get_an_answer_or_are_told_to_come_back(
    open_index: ImageIndex, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, embed = threading.Event(), open_index.model.embed
    monkeypatch.setattr(open_index.model, "embed", lambda images: (release.wait(60), embed(images))[1])
    limits = replace(server_settings, workers=1, waiting=3, patience=60)
    with client_of(open_index, limits) as client, ThreadPoolExecutor(20) as threads:
        release.set()
        assert search(client, ids=[1]).status_code == 200  # from now on, the descriptor of its picture is known
        release.clear()
        asked = [threads.submit(search, client, [png(color=f"#00{n:02x}00")]) for n in range(20)]
        refused = [future.result() for future in islice(as_completed(asked), 16)]
        for answer in refused:
            assert_problem(answer, 503, "3 requests wait already")
            assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/api/items/1").status_code == 200  # what shows pictures has threads of its own
        assert client.get("/healthz").status_code == 200
        assert "spq_upload_waiting 3" in client.get("/metrics").text
        assert search(client, ids=[1]).status_code == 200  # nor do searches by id wait for uploads
        release.set()
        statuses = sorted(future.result().status_code for future in asked)
        assert statuses == [200] * 4 + [503] * 16
        assert "spq_upload_rejected_total 16" in client.get("/metrics").text


def test_a_filter_that_takes_too_long_is_given_up(
    open_index: ImageIndex, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.index.open_tables.STEPS", 1)
    with client_of(open_index, replace(server_settings, timeout=1e-4)) as client:
        answer = search(client, ids=[1], where=" or ".join(f"label = {n}" for n in range(100)))
        assert_problem(answer, 503, "takes too long")
        assert "retry-after" in answer.headers


def test_who_leaves_while_sending_is_no_mistake(
    open_index: ImageIndex, server_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app, sent = create_app(open_index, server_settings), list[dict[str, Any]]()
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
    assert "internal error" not in caplog.text


def test_random_requests_get_an_answer_and_leave_no_traceback(
    photo_index: Path, tiny_model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(photo_index, tiny_model, tmp_path / "cache") as address:
        counts, bad = fuzz(int(address.rstrip("/").rsplit(":")[-1]), 400, seed=1)
    assert not bad, bad[:3]
    assert len(counts) > 6, counts  # answers of many kinds
    assert not [record for record in caplog.records if record.exc_info]
