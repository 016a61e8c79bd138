"""The map and the orders of the server."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from spq.index.image_index import ImageIndex
from spq.web.server.settings import Settings
from web import TestClient, client_of


@pytest.fixture(scope="module")
def started(open_index: ImageIndex, server_settings: Settings) -> Iterator[TestClient]:
    """A client of a server whose background threads end."""
    with client_of(open_index, server_settings) as opened:
        yield opened


def answer(client: TestClient, address: str) -> Any:
    """The answer, waited for while it is computed."""
    for _ in range(600):
        found = client.get(address)
        if found.status_code != 202:
            assert found.status_code == 200, found.text
            return found.json()
        assert found.json()["state"] == "computing"
        assert found.headers["retry-after"] == "1"
        time.sleep(0.1)
    raise AssertionError("not ready within a minute")


def ids_of(page: Any) -> list[int]:
    return [item["id"] for item in page["items"]]


def test_each_seed_is_one_random_order_of_all_pictures(started: TestClient) -> None:
    all_ids = ids_of(started.get("/api/browse?top=1000").json())
    first = ids_of(started.get("/api/browse?order=random&seed=7&top=1000").json())
    assert sorted(first) == all_ids
    assert first != all_ids
    pages = [ids_of(started.get(f"/api/browse?order=random&seed=7&offset={n}&top=25").json()) for n in (0, 25, 50)]
    assert [i for page in pages for i in page] == first
    assert ids_of(started.get("/api/browse?order=random&seed=8&top=1000").json()) != first
    some = ids_of(started.get("/api/browse?order=random&seed=7&top=1000&where=label = bag").json())
    assert some == [i for i in first if i in some]


def test_the_order_unusual_has_all_pictures_and_keeps_a_filter(started: TestClient) -> None:
    first = ids_of(answer(started, "/api/browse?order=unusual&top=1000"))
    assert sorted(first) == ids_of(started.get("/api/browse?top=1000").json())
    some = ids_of(answer(started, "/api/browse?order=unusual&top=1000&where=label = bag"))
    assert 0 < len(some) < len(first)
    assert some == [i for i in first if i in some]


def test_the_map_is_arranged_by_neighbours_when_that_is_ready(started: TestClient) -> None:
    pytest.importorskip("openTSNE", reason="needs openTSNE: pip install -e '.[map]'")
    first = started.get("/api/map").json()
    assert first["method"] == "pca"
    assert first["arranging"]["state"] == "computing"
    for _ in range(600):
        if started.get("/api/map/progress").json() == {"arranging": None}:
            break
        time.sleep(0.1)
    then = started.get("/api/map").json()
    assert (then["method"], then["arranging"]) == ("neighbours", None)
    assert then["ids"] == first["ids"]
    assert then["x"] != first["x"]
    part = started.get("/api/map?where=label = bag").json()
    places = dict(zip(*(_numbers(then, name).tolist() for name in ("ids", "x")), strict=True))
    assert 0 < part["count"] == part["total"] < then["count"]
    assert {i: places[i] for i in _numbers(part, "ids").tolist()} == dict(
        zip(*(_numbers(part, name).tolist() for name in ("ids", "x")), strict=True)
    )


def test_without_the_library_the_map_says_so(started: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spq.web.server.explore.can_arrange", lambda: False)
    assert started.get("/api/map").json()["method"] == "pca"
    assert started.get("/api/map/progress").json()["arranging"]["state"] == "missing"


def _numbers(found: Any, name: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(found[name]), "<i4" if name == "ids" else "<f4")
