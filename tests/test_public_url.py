"""A server behind a proxy: what --public-url changes, and what is said without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from conftest import run_spq
from spq.errors import ConfigError
from spq.index.image_index import ImageIndex
from spq.web.server.app import Settings
from spq.web.server.public_url import parse_public_url
from web import client_of

PUBLIC = "https://photos.example:8443/photos/"
SECRET = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def opened(photo_index: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(photo_index) as index:
        yield index


@pytest.fixture
def client(opened: ImageIndex, tmp_path: Path) -> TestClient:
    return client_of(opened, Settings(cache=tmp_path, token="secret", public_url=parse_public_url(PUBLIC)))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("https://photos.example:8443/photos/", "https://photos.example:8443/photos/"),
        ("http://photos.example", "http://photos.example/"),
        ("http://Photos.example:80/a/b", "http://photos.example/a/b/"),
        ("https://[::1]:443/", "https://[::1]/"),
        ("https://b\u00fccher.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_an_address_is_read_as_browsers_write_origins(text: str, parsed: str) -> None:
    assert str(parse_public_url(text)) == parsed


@pytest.mark.parametrize(
    "text",
    ["photos.example", "ftp://photos.example", "https://", "https://a@photos.example", "https://photos.example/?a=1",
     "https://photos.example:x/", "https://photos.example/api/", "https://[", "https://photos.example:99999"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"https://photos\.example/photos/|path of the server"):
        parse_public_url(text)


def test_the_command_refuses_what_is_no_address(photo_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("serve", photo_index, "--public-url", "photos.example") == 2
    assert "--public-url 'photos.example' is not" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "photos.example:8443", "photos.example", "spq:8765", "photos"])
@pytest.mark.parametrize("path", ["/api/search", "/photos/api/search", "//api/search"])
def test_the_page_works_whatever_host_and_path_the_proxy_sends(client: TestClient, host: str, path: str) -> None:
    headers = {**SECRET, "Host": host, "Origin": "https://photos.example:8443"}
    url = f"http://127.0.0.1:8765{path}"
    assert client.post(url, json={"ids": [1]}, headers=headers).status_code == 200
    for origin in ("https://photos.example", "http://photos.example:8443", "https://evil.example:8443"):
        refused = client.post(url, json={"ids": [1]}, headers={**headers, "Origin": origin})
        assert (refused.status_code == 403) == (origin.partition("://")[2] != host), origin


def test_other_names_stay_unknown(client: TestClient) -> None:
    for host in ("evil.example", "photos.example.evil.example", "[::2]", "10.0.0.1"):
        assert client.get("/api/items/1", headers={**SECRET, "Host": host}).status_code == 421, host


def test_the_page_opens_at_its_path_and_sets_a_secure_cookie(client: TestClient) -> None:
    for path in ("/", "/photos/", "/photos", "//"):
        answer = client.get(f"http://127.0.0.1:8765{path}?token=secret")
        assert "<title>spq</title>" in answer.text, path
        assert "; Secure" in answer.headers["set-cookie"]
    assert client.get("/photos/assets/app.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/photosx/", headers=SECRET).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status", "url"),
    [
        ({"Host": "photos.example"}, 421, "http://photos.example/"),
        ({"Host": "photos.example:8443", "X-Forwarded-Proto": "https"}, 421, "https://photos.example:8443/"),
        ({"Origin": "https://photos.example:8443"}, 403, "https://photos.example:8443/"),
    ],
)
def test_a_program_and_the_log_learn_which_option_is_missing(
    opened: ImageIndex, tmp_path: Path, caplog: Any, headers: dict[str, str], status: int, url: str
) -> None:
    client = client_of(opened, Settings(cache=tmp_path))
    with caplog.at_level(logging.WARNING, "spq.serve"):
        answer = client.post("/api/search", json={"ids": [1]}, headers=headers)
    assert answer.status_code == status
    assert f"--public-url {url} " in answer.json()["detail"]
    assert f"--public-url {url} " in caplog.text


def test_pages_and_their_files_need_no_origin(opened: ImageIndex, tmp_path: Path) -> None:
    client = client_of(opened, Settings(cache=tmp_path))
    headers = {"Origin": "https://photos.example", "Sec-Fetch-Site": "same-origin"}
    for path in ("/", "/assets/app.js", "/assets/style.css"):
        assert client.get(path, headers=headers).status_code == 200
    assert client.get("/api/status", headers=headers).status_code == 403
