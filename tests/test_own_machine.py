"""The server: who may learn where pictures are, and open their folders."""

from __future__ import annotations

import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.web.server.app import create_app
from spq.web.server.own_machine import is_own_machine, opener
from spq.web.server.settings import Settings
from web import ORIGIN, assert_problem


def client_of(index: ImageIndex, settings: Settings, address: str = "127.0.0.1", host: str = ORIGIN) -> TestClient:
    return TestClient(create_app(index, settings), base_url=host, client=(address, 5000))


def location(client: TestClient, **headers: str) -> str | None:
    answer = client.post("/api/items/facts", json={"ids": [1, 999]}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["missing"] == [999]
    (item,) = answer.json()["items"]
    assert item["location"] == client.get("/api/items/1", headers=headers).json()["location"]
    found: str | None = item["location"]
    return found


def test_only_this_machine_and_those_with_the_token_learn_where_pictures_are(
    open_index: ImageIndex, shared_photos: Path, server_settings: Settings
) -> None:
    path = open_index.store.items_by_id([1])[1].path
    with client_of(open_index, server_settings) as client:
        assert location(client) == str(shared_photos / path)
        assert location(client, **{"X-Forwarded-For": "192.0.2.7"}) is None  # through a proxy
        assert location(client, Via="1.1 proxy") is None
    with client_of(open_index, server_settings, "192.0.2.7") as client:
        assert location(client) is None
    everyone = replace(server_settings, host="0.0.0.0")
    with client_of(open_index, everyone) as client:
        assert location(client) is None
    behind = replace(server_settings, allowed_hosts=("photos.example",))
    with client_of(open_index, behind, host="http://photos.example") as client:
        assert location(client) is None
    with client_of(open_index, replace(everyone, token="s"), "192.0.2.7", "http://192.0.2.1") as client:
        assert location(client, Authorization="Bearer s") == str(shared_photos / path)


def test_a_request_of_http_1_0_comes_from_a_proxy(server_settings: Settings) -> None:
    """As nginx asks with its default settings, with the host and the address of this machine."""
    scope = {"type": "http", "client": ("127.0.0.1", 5000), "headers": [(b"host", b"127.0.0.1:8765")]}
    assert is_own_machine(Request({**scope, "http_version": "1.1"}), server_settings)
    assert not is_own_machine(Request({**scope, "http_version": "1.0"}), server_settings)


def test_the_facts_are_those_of_at_most_1000_ids_in_their_order(
    open_index: ImageIndex, server_settings: Settings
) -> None:
    with client_of(open_index, server_settings) as client:
        found = client.post("/api/items/facts", json={"ids": [5, 3, 4]}).json()["items"]
        assert [item["id"] for item in found] == [5, 3, 4]
        assert found[0] == client.get("/api/items/5").json()
        assert len(client.post("/api/items/facts", json={"ids": list(range(1000))}).json()["missing"]) == 940
        for wrong in ({"ids": list(range(1001))}, {"ids": []}, {"ids": [1], "x": 1}):
            assert_problem(client.post("/api/items/facts", json=wrong), 422, "")


def test_a_picture_inside_a_file_is_named_within_it(
    tiny_model: Model, tmp_path: Path, shared_photos: Path, server_settings: Settings
) -> None:
    files = sorted(shared_photos.rglob("*.png"))[:2]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.png").write_bytes(files[0].read_bytes())
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(files[1], "0001.png")
    names = [tmp_path / "a.tar", tmp_path / "in"]
    with (
        ImageIndex.build(tmp_path / "i", tiny_model, list(map(str, names))) as index,
        client_of(index, server_settings) as client,
    ):
        told = {item["location"] for item in client.post("/api/items/facts", json={"ids": [1, 2]}).json()["items"]}
        assert told == {f"{tmp_path / 'a.tar'}#0001", str(tmp_path / "in" / "one.png")}
        (tmp_path / "in" / "one.png").unlink()  # where it was
        assert {
            item["location"] for item in client.post("/api/items/facts", json={"ids": [1, 2]}).json()["items"]
        } == told
    with (
        ImageIndex.build(tmp_path / "s", tiny_model, "sample:test") as index,
        client_of(index, server_settings) as client,
    ):
        assert (
            location(
                client,
            )
            == "sample:test#000"
        )


def test_the_folder_of_a_picture_opens_on_this_machine_alone(
    open_index: ImageIndex,
    shared_photos: Path,
    server_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "xdg-open"
    program.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/part && mv {tmp_path}/part {tmp_path}/opened\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DISPLAY", ":0")
    folder = (shared_photos / open_index.store.items_by_id([1])[1].path).parent
    with client_of(open_index, server_settings) as client:
        assert client.get("/api/items/1").json()["can_show"]
        assert client.post("/api/items/1/show").status_code == 204
        end = time.monotonic() + 30
        while not (tmp_path / "opened").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert (tmp_path / "opened").read_text().strip() == str(folder)
        assert_problem(client.post("/api/items/999/show"), 404, "no item 999")
        for headers in ({"X-Forwarded-For": "192.0.2.7"}, {"Origin": "http://evil.example"}):
            assert_problem(client.post("/api/items/1/show", headers=headers), 403, "only a browser on|other sites")
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert opener("linux") is None
        assert not client.get("/api/items/1").json()["can_show"]
        assert_problem(client.post("/api/items/1/show"), 403, "only a browser")
    with client_of(open_index, replace(server_settings, token="s")) as client:  # it may know the path from elsewhere
        monkeypatch.setenv("DISPLAY", ":0")
        far = {"Authorization": "Bearer s", "X-Forwarded-For": "192.0.2.7"}
        assert client.get("/api/items/1", headers=far).json()["can_show"] is False
