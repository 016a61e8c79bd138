"""The bands of the index that is served, and what hits say of how near they are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spq.dupes import bands as module
from spq.dupes.threshold import code_distances
from spq.index.image_index import ImageIndex
from web import Settings, client_of, search


def bands_of(client: TestClient) -> Any:
    """The answer about the bands, when it is ready."""
    deadline = time.monotonic() + 60
    while (answer := client.get("/api/bands")).status_code == 202:
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["stage"] == module.STAGE
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert answer.status_code == 200, answer.text
    return answer.json()["bands"]


def test_bands_are_calibrated_once_and_again_when_there_are_many_more_pictures(
    index: ImageIndex, photos: Path, server_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    limits = module.limits
    monkeypatch.setattr(module, "limits", lambda found, size: sizes.append(size) or limits(found, size))
    monkeypatch.setattr("spq.web.server.derived.REST", 0)
    with client_of(index, server_settings) as client:
        found = bands_of(client)
        assert (found["pictures"], found["copies"], sizes) == (60, 60, [60])
        assert set(found["picture"]) == {"very_close", "close", "copies", "random"}
        paths = sorted(index.store.stats())
        for count in (3, 30):
            generation = client.get("/api/status").json()["generation"]
            index.remove([path for path in paths if path in index.store.stats()][:count])
            deadline = time.monotonic() + 60
            while client.get("/api/status").json()["generation"] == generation:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            wanted = 60 if count == 3 else 27
            while bands_of(client)["pictures"] != wanted:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert sizes == [60, 27]


def test_pictures_that_cannot_be_read_give_no_bands_and_their_codes_are_compared(
    index: ImageIndex, photos: Path, server_settings: Settings
) -> None:
    with client_of(index, server_settings) as client:
        for file in photos.rglob("*.*g"):
            file.unlink()
        assert bands_of(client) is None
        found = search(client, ids=[7], top=60).json()
        assert found["compared"] == "code"
        assert [hit["distance"] for hit in found["hits"]] == pytest.approx(
            [hit["code_distance"] for hit in found["hits"]], rel=1e-4, abs=1e-6
        )


def test_hits_tell_the_distance_of_their_codes_and_whether_they_are_the_same_file(
    client: TestClient, open_index: ImageIndex, shared_photos: Path
) -> None:
    items = {item.id: item for item in open_index.store.items()}
    data = (shared_photos / items[7].path).read_bytes()
    by_upload, by_id = search(client, [data], top=60).json(), search(client, ids=[7], top=60).json()
    assert by_upload["compared"] == by_id["compared"] == "picture"
    assert [hit["id"] for hit in by_upload["hits"] if hit["same_file"]] == [7]
    assert not any(hit["same_file"] for hit in by_id["hits"])  # the item itself is no hit
    others = [hit for hit in by_upload["hits"] if hit["id"] != 7]
    for key in ("id", "distance", "code_distance"):  # an upload and a click on the same picture say the same
        assert [hit[key] for hit in others] == [hit[key] for hit in by_id["hits"]]
    for hit in by_upload["hits"]:
        pair = [items[id_].code[None] for id_ in (7, hit["id"])]
        own = code_distances(*pair, open_index.decoder, open_index.store.manifest.distance)
        assert hit["code_distance"] == pytest.approx(float(own[0]), rel=1e-5)
    explained = client.post("/api/explain", json={"ids": [7], "id": others[3]["id"]}).json()
    assert explained["total"] == pytest.approx(others[3]["distance"], rel=1e-5)
    several = search(client, [data], ids=[9], top=5).json()
    assert several["compared"] == "several"
    assert {hit["code_distance"] for hit in several["hits"]} == {None}
    assert search(client, [data], not_ids=[9], top=5).json()["compared"] == "several"
