"""The files of the page on their way to a browser."""

from __future__ import annotations

from fastapi.testclient import TestClient

from spq.web.server.app import PAGE

PLAIN = {"Accept-Encoding": "identity"}


def test_files_of_the_page_come_small_and_whole_and_not_again(client: TestClient) -> None:
    sizes = []
    for address, file in [("/", PAGE / "index.html")] + [(f"/assets/{f.name}", f) for f in PAGE.iterdir()]:
        small, plain = client.get(address), client.get(address, headers=PLAIN)
        assert small.headers["content-encoding"] == "gzip", address
        assert "content-encoding" not in plain.headers
        assert small.content == plain.content == file.read_bytes()
        assert small.headers["content-type"] == plain.headers["content-type"]
        assert small.headers["vary"] == "Accept-Encoding"
        sizes.append(int(small.headers["content-length"]))
        if address != "/":
            again = client.get(address, headers={"If-None-Match": small.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
    assert sum(sizes) < 200_000


def test_answers_with_users_data_are_not_compressed(client: TestClient) -> None:
    for address in ("/api/browse", "/api/items/1/thumbnail", "/api/map"):
        assert "content-encoding" not in client.get(address).headers, address
