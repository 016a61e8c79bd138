"""The server over an index with shards answers as over one without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spq.index.image_index import ImageIndex
from spq.index.shards.open_store import open_store
from spq.index.shards.sharding import to_shards
from spq.web.server.app import Settings
from web import client_of, png, search

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/api/items/7", {}),
    ("/api/browse", {"top": 50}),
    ("/api/browse", {"where": "path ~ *.jpg", "offset": 5}),
    ("/api/browse", {"order": "new", "top": 7}),
    ("/api/browse", {"order": "path", "offset": 3}),
    ("/api/browse", {"order": "time"}),
    ("/api/codewords", {}),
    ("/api/codewords/0/3", {}),
    ("/api/map", {}),
    ("/api/map", {"where": "label = bag"}),
]


@pytest.fixture
def folder(photo_index: Path, tmp_path: Path) -> Path:
    """An index with shards; item 5 was written again since, and item 60 removed."""
    folder = shutil.copytree(photo_index, tmp_path / "i")
    with open_store(folder) as store:
        to_shards(store, 25)
    change(folder)
    return folder


def change(folder: Path) -> None:
    with open_store(folder) as store, store.writing():
        store.put(store.items_by_id([5]).values())
        store.remove([store.paths([60])[60]])


def test_each_page_is_the_same(folder: Path, photo_index: Path, tmp_path: Path, server_settings: Settings) -> None:
    plain = shutil.copytree(photo_index, tmp_path / "plain")
    change(plain)

    def answers(index: ImageIndex, client: TestClient) -> list[Any]:
        found = [client.get(path, params=options).json() for path, options in ASKED]
        found += [
            search(client, ids=[7], top=20).json(),
            search(client, ids=[5], where="label = bag", not_ids=[9]).json(),
            search(client, images=[png()], fold=True).json(),
        ]
        return [{key: value for key, value in each.items() if key not in ("generation", "seconds")} for each in found]

    with ImageIndex.open(plain) as index, client_of(index, server_settings) as client:
        expected = answers(index, client)
    with ImageIndex.open(folder) as index, client_of(index, server_settings) as client:
        assert answers(index, client) == expected
