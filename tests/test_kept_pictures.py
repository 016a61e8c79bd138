"""Uploaded pictures that a client need not send again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from spq.index.image_index import ImageIndex
from spq.model.feature_store import hash_of
from spq.web.server.app import Settings, create_app
from spq.web.server.kept_pictures import OVERHEAD, KeptPictures
from web import ORIGIN, client_of, pairs, search

GONE = "urn:spq:unknown-picture"


@pytest.fixture(scope="module")
def opened(photo_index: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(photo_index) as index:
        yield index


@pytest.fixture
def client(opened: ImageIndex, tmp_path: Path) -> TestClient:
    return client_of(opened, Settings(cache=tmp_path, workers=2, patience=60))


@pytest.fixture(scope="module")
def files(shared_photos: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(shared_photos.rglob("*.*"))[::7]]


def test_a_name_gives_the_answers_of_the_picture_on_every_page_region_and_filter(
    client: TestClient, files: list[bytes]
) -> None:
    a, b, c = files[:3]
    first = search(client, [a, b], [c], top=5).json()
    assert first["pictures"] == [hash_of(a).hex(), hash_of(b).hex()]
    assert first["not_pictures"] == [hash_of(c).hex()]
    names = {key: first[key] for key in ("pictures", "not_pictures")}
    for query in ({"top": 5}, {"top": 5, "offset": 20}, {"where": "width >= 50", "fold": True}):
        sent, named = search(client, [a, b], [c], **query).json(), search(client, **names, **query).json()
        assert pairs(named["hits"]) == pairs(sent["hits"])
        assert {key: named[key] for key in names} == names
    box = {"box": [5, 5, 30, 20]}
    assert pairs(search(client, pictures=names["pictures"][:1], **box).json()["hits"]) == pairs(
        search(client, [a], **box).json()["hits"]
    )
    mixed = search(client, [b], [c], pictures=names["pictures"][:1], top=5).json()  # one that is new beside a name
    assert mixed["pictures"] == names["pictures"][::-1]
    assert {hit["id"] for hit in mixed["hits"]} == {hit["id"] for hit in first["hits"]}
    why = client.post("/api/explain", json={"pictures": names["pictures"][:1], "id": 3}).json()
    assert why["pictures"] == names["pictures"][:1]
    (hit,) = (hit for hit in search(client, [a], top=100).json()["hits"] if hit["id"] == 3)
    assert why["total"] == pytest.approx(hit["distance"], abs=1e-4)


def test_a_name_that_is_not_known_is_an_error_that_a_program_can_tell(
    opened: ImageIndex, client: TestClient, files: list[bytes], tmp_path: Path
) -> None:
    name = hash_of(files[0]).hex()
    answer = search(client, pictures=[name])
    assert answer.status_code == 409
    assert answer.json()["type"] == GONE
    assert "send the file again" in answer.json()["detail"]
    search(client, [b"no picture at all"])
    assert search(client, pictures=[hash_of(b"no picture at all").hex()]).status_code == 409  # it is not kept
    assert search(client, pictures=["../../etc/passwd"]).status_code == 422
    search(client, [files[0]])
    assert search(client, pictures=[name]).status_code == 200
    small = client_of(opened, Settings(cache=tmp_path, max_kept=len(files[0]) + len(files[1]), patience=60))
    assert search(small, files[:2]).status_code == 200
    assert search(small, pictures=[name]).json()["type"] == GONE  # it had to make room


def test_no_client_can_ask_with_the_picture_of_another(opened: ImageIndex, files: list[bytes], tmp_path: Path) -> None:
    app = create_app(opened, replace(Settings(cache=tmp_path, patience=60), host="0.0.0.0"))
    here, there = (TestClient(app, base_url=ORIGIN, client=(address, 1)) for address in ("10.0.0.1", "10.0.0.2"))
    names = search(here, [files[0]]).json()["pictures"]
    assert search(here, pictures=names).status_code == 200
    assert search(there, pictures=names).json()["type"] == GONE


def test_memory_is_bounded_and_the_client_with_the_most_makes_room() -> None:
    kept = KeptPictures(10 * (100 + OVERHEAD))
    kept.put("modest", "m", b"m" * 100)
    for n in range(100):
        kept.put("greedy", str(n), bytes(100))
        assert kept.used <= kept.most
    assert kept.get("modest", "m") == b"m" * 100
    assert [n for n in range(100) if kept.get("greedy", str(n))] == list(range(91, 100))
    kept.get("greedy", "91")
    kept.put("greedy", "new", bytes(100))
    assert kept.get("greedy", "91")  # used last
    assert kept.get("greedy", "92") is None
    kept.put("modest", "huge", bytes(kept.most))
    assert kept.get("modest", "huge") is None
    assert kept.used <= kept.most
