"""The server: a ZIP of chosen pictures, and one picture to download."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import re
import socket
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.model.model import Model
from spq.web.server import chosen, connections, zip_stream
from spq.web.server.settings import Settings
from spq.web.server.zip_stream import names_in_zip
from web import assert_problem, client_of, png, served


def zip_of(client: TestClient, ids: list[int], **headers: str) -> ZipFile:
    answer = client.post("/api/items/zip", data={"ids": ",".join(map(str, ids))}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert re.match(
        r"""attachment; filename=".+ \d+ [\d. -]+\.zip"; filename\*=UTF-8''""", answer.headers["content-disposition"]
    )
    return ZipFile(io.BytesIO(answer.content))


def test_names_are_those_of_the_files_and_keep_folders_only_where_two_are_alike() -> None:
    assert names_in_zip(["a/Ä.jpg", "a/b/c.jpg"]) == ["Ä.jpg", "c.jpg"]
    assert names_in_zip(["a/1.jpg", "b/1.JPG", "b/2.jpg"]) == ["a/1.jpg", "b/1.JPG", "2.jpg"]
    assert names_in_zip(["x/a\u0308.jpg", "y/ä.jpg"]) == ["x/a\u0308.jpg", "y/ä.jpg"]  # one name on a Mac
    assert names_in_zip(["a/1.jpg", "b/1.jpg", "c/a"]) == ["a/1.jpg", "b/1.jpg", "c/a"]  # `a` is a folder
    assert names_in_zip(["../../etc/x.jpg", "../y\\z.jpg", "/a/con:.jpg"]) == ["x.jpg", "y_z.jpg", "con_.jpg"]
    assert names_in_zip(["CON.jpg", "a/lpt1", "nul", "b/aux .tar.gz"]) == ["_CON.jpg", "_lpt1", "_nul", "_aux .tar.gz"]
    assert names_in_zip(["console.jpg", "com.jpg"]) == ["console.jpg", "com.jpg"]
    assert names_in_zip(["../k.jpg", "b/../k.jpg", ".."]) == ["_/k.jpg", "b/_/k.jpg", "_"]


def test_a_zip_holds_the_files_as_they_are_and_lists_what_is_missing(
    tiny_model: Model, tmp_path: Path, server_settings: Settings
) -> None:
    folder = tmp_path / "photos"
    names = ["a/1.png", "b/1.png", "b/Größe 2.png", "gone.png"]
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png((40 + n, 30)))
    os.utime(folder / "a/1.png", (1_000_000_000, 1_000_000_000))
    with ImageIndex.build(tmp_path / "i", tiny_model, folder) as index, client_of(index, server_settings) as client:
        id_of = {item.path: item.id for item in index.store.items()}
        (folder / "gone.png").unlink()
        with zip_of(client, [*id_of.values(), 77, id_of["a/1.png"]]) as found:
            assert found.testzip() is None
            assert set(found.namelist()) == {"a/1.png", "b/1.png", "Größe 2.png", "not in this ZIP.txt"}
            assert found.read("Größe 2.png") == (folder / "b/Größe 2.png").read_bytes()
            assert {info.compress_type for info in found.infolist()} == {ZIP_STORED}
            assert not any(info.flag_bits & 8 for info in found.infolist())  # sizes come first, as simple readers need
            assert found.getinfo("a/1.png").date_time == time.localtime(1_000_000_000)[:6]
            text = found.read("not in this ZIP.txt").decode()
        assert "item 77: it is no longer in the index" in text
        assert "gone.png is no longer in the collection" in text
        assert str(tmp_path) not in text


def test_a_zip_that_is_given_up_ends_without_an_error() -> None:
    """Python deletes what belongs to a client that went away in any order. An error then would fail this test."""

    async def read(item: Item) -> tuple[bytes, str]:
        if item.path == "b.png":
            raise asyncio.CancelledError
        return b"pixels", ""

    async def ask() -> None:
        try:
            async for _ in zip_stream.zip_of([Item("a.png", 1, 1), Item("b.png", 1, 1)], [], read):
                pass
        except asyncio.CancelledError as error:
            error.args = (error,)  # with its frames, it waits for the garbage collector

    asyncio.run(ask())
    gc.collect()


def test_pictures_of_a_tar_get_the_suffix_of_their_format(
    tiny_model: Model, tmp_path: Path, server_settings: Settings
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("0001.png", "0002.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            tar.addfile(info, io.BytesIO(png()))
    with (
        ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "a.tar") as index,
        client_of(index, server_settings) as client,
        zip_of(client, [1, 2]) as found,
    ):
        assert found.namelist() == ["0001.png", "0002.png"]
        assert found.read("0002.png") == png()


def test_a_zip_takes_10_000_ids_and_no_more(client: TestClient) -> None:
    with zip_of(client, list(range(1, 10_001))) as found:
        assert len(found.namelist()) == 61
        assert found.read("not in this ZIP.txt").count(b"no longer in the index") == 9940
    assert_problem(
        client.post("/api/items/zip", data={"ids": ",".join(map(str, range(10_001)))}), 422, "at most 10,000"
    )
    assert_problem(client.post("/api/items/zip", data={"ids": "100,200"}), 404, "none of these")
    for wrong in ("", "1,,2", "-1", "1,a"):
        assert_problem(client.post("/api/items/zip", data={"ids": wrong}), 422, "ids")


def test_no_other_site_can_ask_for_a_zip(client: TestClient) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert_problem(client.post("/api/items/zip", data={"ids": "1"}, headers=headers), 403, "other sites")
    zip_of(client, [1], Origin="http://127.0.0.1:8765").close()


def test_one_picture_is_downloaded_under_its_own_name(
    tiny_model: Model, tmp_path: Path, server_settings: Settings
) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20), "teal").save(tmp_path / "photos" / 'Ä "b".tif')
    (tmp_path / "photos" / "ü.png").write_bytes(png())
    with (
        ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "photos") as index,
        client_of(index, server_settings) as client,
    ):
        answer = client.get("/api/items/1/download")
        assert answer.content == (tmp_path / "photos" / 'Ä "b".tif').read_bytes()  # the file, not a PNG for browsers
        assert answer.headers["content-disposition"] == (
            "attachment; filename=\"_ _b_.tif\"; filename*=UTF-8''%C3%84%20%22b%22.tif"
        )
        assert_problem(client.get("/api/items/3/download"), 404, "no item 3")
        (tmp_path / "photos" / "ü.png").unlink()
        (tmp_path / "secret").write_text("no picture")
        (tmp_path / "photos" / "ü.png").symlink_to(tmp_path / "secret")
        assert_problem(client.get("/api/items/2/download"), 404, "is no picture any more")
        with zip_of(client, [1, 2]) as found:
            assert "ü.png is no picture any more" in found.read("not in this ZIP.txt").decode()
            assert "ü.png" not in found.namelist()
        (tmp_path / "photos" / 'Ä "b".tif').unlink()
        assert_problem(client.get("/api/items/1/download"), 404, "no longer in the collection")


@pytest.fixture(scope="module")
def large(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 12 pictures of 3 MB each: links to one file."""
    root = tmp_path_factory.mktemp("large")
    (root / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    Image.fromarray(pixels).save(root / "photos" / "0.png", compress_level=1)
    for n in range(1, 12):
        os.link(root / "photos" / "0.png", root / "photos" / f"{n}.png")
    ImageIndex.build(root / "i", tiny_model, root / "photos").close()
    return root / "i"


@contextmanager
def asked(address: str) -> Iterator[socket.socket]:
    """A connection that has asked for a ZIP of all twelve, and takes few bytes at a time."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", urlsplit(address).port))
        connection.settimeout(30)
        body = b"ids=" + b"%2C".join(b"%d" % n for n in range(1, 13))
        head = "POST /api/items/zip HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield connection


def ending(connection: socket.socket) -> bytes:
    """What is left of an answer, and the last bytes of it."""
    found = b""
    try:
        while not found.endswith(b"0\r\n\r\n") and (data := connection.recv(1 << 20)):
            found = found[-100:] + data
    except ConnectionResetError:
        return b""
    return found[-100:]


def test_a_client_that_stops_reading_ends_and_a_slow_one_gets_all(
    large: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(connections, "ANSWER_ROUND", 0.8)
    monkeypatch.setattr(chosen, "MAX_ZIPS", 1)
    with served(large, tiny_model, tmp_path / "cache") as address:
        with asked(address) as stopped:
            assert stopped.recv(100).startswith(b"HTTP/1.1 200")
            with asked(address) as second:
                assert second.recv(20).startswith(b"HTTP/1.1 503")
            time.sleep(1.8)
            assert not ending(stopped).endswith(b"0\r\n\r\n")  # the server has ended it
        with asked(address) as slow:
            for _ in range(20):  # for longer than a client may be silent
                assert slow.recv(40_000)
                time.sleep(0.1)
            assert ending(slow).endswith(b"0\r\n\r\n")


def test_the_memory_of_a_zip_does_not_grow_with_its_pictures(large: Path, tiny_model: Model, tmp_path: Path) -> None:
    read: list[int] = []
    with served(large, tiny_model, tmp_path / "cache") as address, pytest.MonkeyPatch.context() as patch:
        original = chosen.zip_of

        def counted(items: Any, unknown: Any, get: Any) -> Any:
            async def reading(item: Any) -> tuple[bytes, str]:
                read.append(item.id)
                found: tuple[bytes, str] = await get(item)
                return found

            return original(items, unknown, reading)

        patch.setattr(chosen, "zip_of", counted)
        with asked(address) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)
            assert len(read) <= 3  # what the system buffers of a connection; the next one is read when these are taken
            assert ending(connection).endswith(b"0\r\n\r\n")
            assert len(read) == 12
