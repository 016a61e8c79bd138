"""The index stays in step while it is served."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server.app import Settings, create_app


@pytest.fixture
def index(tiny_model: Model, photos: Path, tmp_path: Path) -> Iterator[ImageIndex]:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as built:
        yield built


def client_of(index: ImageIndex, tmp_path: Path, **options: Any) -> TestClient:
    settings = Settings(cache=tmp_path / "cache", workers=2, patience=60, watch_seconds=0.05, **options)
    return TestClient(create_app(index, settings), base_url="http://127.0.0.1:8765")


def until(client: TestClient, condition: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
    """The first status of which it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status: dict[str, Any] = client.get("/api/status").json()
        if condition(status):
            return status
        time.sleep(0.05)
    raise AssertionError(status)


def test_new_changed_and_vanished_pictures_are_seen_and_told(index: ImageIndex, photos: Path, tmp_path: Path) -> None:
    with client_of(index, tmp_path, watch=True) as client:
        start = until(client, lambda status: status["images"] == 60)
        assert start["watching"]
        first, second = sorted(photos.rglob("*.png"))[:2]
        Image.new("RGB", (50, 40), "crimson").save(photos / "new.png")
        Image.new("RGB", (50, 40), "gold").save(first)
        second.unlink()
        status = until(client, lambda status: status["last_sync"] is not None and status["sync"] is None)
        assert set(status["last_sync"]) == {"added", "changed", "removed", "renamed", "time"}

        def is_told(status: dict[str, Any]) -> bool:
            news = client.get("/api/browse", params={"order": "new", "since": start["generation"]}).json()["items"]
            paths = {item["path"] for item in client.get("/api/browse").json()["items"]}
            named = {path.relative_to(photos).as_posix() for path in (first, photos / "new.png")}
            return named <= {item["path"] for item in news} and second.relative_to(photos).as_posix() not in paths

        until(client, is_told)  # a look may come between two of the changes above, so a later one tells the rest
        answer = client.post("/api/search", files=[("image", ("a", (photos / "new.png").read_bytes()))])
        assert answer.json()["hits"][0]["path"] == "new.png"


def test_a_broken_table_does_not_stop_the_watch_and_is_logged_once(
    index: ImageIndex, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "spq.serve")
    (photos / "metadata.csv").write_text("Album\nHoliday\n")
    with client_of(index, tmp_path, watch=True) as client:
        for colour in ("crimson", "gold"):
            Image.new("RGB", (50, 40), colour).save(photos / f"{colour}.png")
            until(client, lambda status, name=f"{colour}.png": name in paths(client))
        assert client.get("/api/status").json()["sync_error"] is None
    said = [record.getMessage() for record in caplog.records if "metadata.csv" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("note: metadata.csv: not used: it has no column file_name, only Album")


def paths(client: TestClient) -> list[str]:
    return [item["path"] for item in client.get("/api/browse", params={"limit": 100}).json()["items"]]


def test_what_another_process_writes_is_seen_without_watch(index: ImageIndex, photos: Path, tmp_path: Path) -> None:
    with client_of(index, tmp_path) as client:
        before = until(client, lambda status: status["images"] == 60)
        with Store.open(index.store.folder) as writer, writer.writing():
            writer.remove([index.store.items_by_id([5])[5].path])
        after = until(client, lambda status: status["images"] == 59)
        assert after["generation"] > before["generation"]
        assert client.get("/api/items/5").status_code == 404
        assert (after["watching"], after["last_sync"]) == (False, None)


def test_a_collection_that_is_gone_for_a_while_drops_nothing(
    index: ImageIndex, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), client_of(index, tmp_path, watch=True) as client:
        until(client, lambda status: status["images"] == 60)
        photos.rename(tmp_path / "away")
        status = until(client, lambda status: status["sync_error"] is not None)
        gone = "no such folder|the folder no longer exists"  # the second if it goes while it is being listed
        assert re.search(gone, status["sync_error"])
        time.sleep(0.3)  # some more looks
        assert client.get("/api/status").json()["images"] == 60
        (tmp_path / "away").rename(photos)
        until(client, lambda status: status["sync_error"] is None)
    assert 1 <= len(re.findall(gone, caplog.text)) <= 2  # once for each of the two


def test_who_looks_from_elsewhere_is_not_told_in_which_folder_pictures_are(
    index: ImageIndex, photos: Path, tmp_path: Path
) -> None:
    shutil.rmtree(photos)
    with client_of(index, tmp_path, watch=True, host="0.0.0.0") as client:
        status = until(client, lambda status: status["sync_error"] is not None)
    assert str(tmp_path) not in status["sync_error"]


def test_a_mistake_of_ours_is_told_once_and_the_watch_goes_on(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = ImageIndex.sync
    monkeypatch.setattr(ImageIndex, "sync", lambda *a, **k: 1 / 0)
    with client_of(index, tmp_path, watch=True) as client:
        status = until(client, lambda status: status["sync_error"] is not None)
        assert status["sync_error"] == "internal error: ZeroDivisionError"
        time.sleep(0.3)
        monkeypatch.setattr(ImageIndex, "sync", real)
        until(client, lambda status: status["sync_error"] is None)
    assert caplog.text.count("watch: internal error") == 1


def test_nothing_is_written_where_nothing_has_changed(
    index: ImageIndex, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.data.folder.register_heif", lambda: False)
    (photos / "phone.heic").write_bytes(
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    )  # nothing here opens it; no reason to look again
    with client_of(index, tmp_path, watch=True) as client:
        generation = until(client, lambda status: status["sync"] is None)["generation"]
        looks = client.app.state.service.watcher  # type: ignore[attr-defined]
        end = time.monotonic() + 60
        while looks._known is None and time.monotonic() < end:
            time.sleep(0.02)
        known = looks._known
        os.utime(photos, None)  # the folder itself; no picture of it
        time.sleep(0.3)
        assert looks._known == known
        assert client.get("/api/status").json()["generation"] == generation


def test_a_sync_tells_how_far_it_is_and_ends_with_the_server(
    index: ImageIndex, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.index.sync.BATCH", 5)
    slow = index.model.encode
    monkeypatch.setattr(index.model, "encode", lambda *a, **k: (time.sleep(0.05), slow(*a, **k))[1])
    for number in range(400):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(photos / f"{number}.png")
    with client_of(index, tmp_path, watch=True) as client:
        status = until(client, lambda status: status["sync"] and status["sync"]["done"] > 0)
        assert status["sync"]["total"] == 400
        assert status["sync"]["running"]
        assert client.post("/api/search", json={"ids": [1]}).status_code == 200
        assert "spq_sync_running 1" in client.get("/metrics").text
        start = time.monotonic()
    assert time.monotonic() - start < 20
    kept = len(index)
    assert 60 < kept < 460  # what was done is kept, and the rest was not waited for
    assert index.sync(photos).added == 460 - kept


def test_a_disk_that_is_not_mounted_and_a_great_loss_remove_nothing_while_serving(
    index: ImageIndex, photos: Path, tmp_path: Path
) -> None:
    with client_of(index, tmp_path, watch=True) as client:
        until(client, lambda status: status["images"] == 60)
        (photos / "bag").rename(tmp_path / "away")
        (photos / "bag").mkdir()
        Image.new("RGB", (50, 40), "crimson").save(photos / "new.png")
        until(client, lambda status: status["images"] == 61)
        (photos / "bag").rmdir()
        (tmp_path / "away").rename(photos / "bag")
        for folder in {path for path in photos.iterdir() if path.is_dir()} - {photos / "bag"}:
            shutil.rmtree(folder)
        status = until(client, lambda status: "not in" in str(status["sync_error"]))
        assert "nothing was removed" in status["sync_error"]
        found = re.search(r"(\d+) of (\d+) pictures of the index", status["sync_error"])
        assert found  # a sync while the folders are being deleted may have seen the first few missing
        assert int(found[1]) > 30
        assert client.get("/api/status").json()["images"] == int(found[2])
