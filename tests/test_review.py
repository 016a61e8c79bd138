"""The review of copies over HTTP: decisions are kept, undone, exported, and survive restarts, new names and other tabs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server.settings import Settings
from web import TestClient, assert_problem, client_of, real_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures, each with a copy of the same bytes in another folder and a re-encoded one."""
    for number, (picture, _) in enumerate(real_pictures(6)):
        for name in ("a", "b"):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            picture.resize((60, 60)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", workers=2, patience=60, timeout=120)


@pytest.fixture
def client(folder: Path, tiny_model: Model, settings: Settings) -> Iterator[TestClient]:
    with ImageIndex.build(folder.parent / "i", tiny_model, folder) as index, client_of(index, settings) as opened:
        ready(opened)
        yield opened


def ready(client: TestClient, **params: Any) -> Any:
    end = time.monotonic() + 60
    while (answer := client.get("/api/duplicates", params=params)).status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_try(client, folder) -> None:
    report = ready(client)
    print(report["progress"], report["total"], report["groups"][0])
    g = report["groups"][0]
    a = client.post(
        "/api/duplicates/decisions", json={"decisions": [{"key": g["key"], "choice": "keep", "keep": [g["ids"][1]]}]}
    )
    print(a.json())
    print(client.get("/api/duplicates/decisions.csv").text)
    print(client.get("/api/duplicates/move.sh").text)
    print(client.post("/api/duplicates/rule", json={"rule": "folder", "folder": "b", "kinds": ["identical"]}).json())
    print(
        client.post(
            "/api/duplicates/rule", json={"rule": "folder", "folder": "b", "kinds": ["identical"], "dry": False}
        ).json()
    )
