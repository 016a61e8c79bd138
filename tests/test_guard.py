"""Who is let in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from spq.index.image_index import ImageIndex
from spq.web.server.app import Settings, create_app
from spq.web.server.guard import Guard
from spq.web.server.problems import OverloadedError

OPEN = "/healthz"
CLOSED = "/api/items/1"


@pytest.fixture(scope="module")
def index(photo_index: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(photo_index) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path, workers=1, patience=60)


def client_of(index: ImageIndex, settings: Settings, host: str = "127.0.0.1:8765") -> TestClient:
    return TestClient(create_app(index, settings), base_url=f"http://{host}")


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]:8765"])
def test_the_names_of_this_machine_are_let_in(index: ImageIndex, settings: Settings, host: str) -> None:
    assert client_of(index, settings).get(CLOSED, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.9", "localhost.", "[::2]", "127.1", "2130706433"]
)
def test_a_name_that_was_bent_to_this_machine_is_not(index: ImageIndex, settings: Settings, host: str) -> None:
    for path in ("/", OPEN, CLOSED, "/openapi.json", "/assets/app.js"):
        answer = client_of(index, settings).get(path, headers={"Host": host})
        assert answer.status_code == 421, path
        assert "unknown host name" in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "host",
    ["", "[::1", "[::1]evil.example", "[::1]:80evil", "127.0.0.1@evil.example", "evil@localhost", "localhost:80:80",
     "localhost:", "localhost:x", "localhost:-1", "localhost:99999", "localhost:\u00b2", "localhost/", "local host",
     "localhost,evil.example", "http://localhost", "[127.0.0.1]", "[::1%25lo]", "\u017fpq"],
)  # fmt: skip
def test_a_malformed_host_is_refused_wherever_the_server_listens(
    index: ImageIndex, settings: Settings, host: str
) -> None:
    for listens_on in ("127.0.0.1", "0.0.0.0"):
        client = client_of(index, replace(settings, host=listens_on))
        answer = client.get(CLOSED, headers=[(b"Host", host.encode())])
        assert answer.status_code == 400, host
        assert answer.json()["detail"] == "the header Host is missing, or not a name with or without a port"


def test_headers_that_decide_must_come_once_and_paths_must_be_paths(index: ImageIndex, settings: Settings) -> None:
    client = client_of(index, settings)
    for name, value in (("host", "127.0.0.1"), ("origin", "http://127.0.0.1:8765"), ("authorization", "Bearer x")):
        answer = client.get(CLOSED, headers=[(name, value), (name, "evil.example")])
        assert (answer.status_code, answer.json()["detail"]) == (400, f"the header {name} is sent twice")
    assert status_of({"path": "http://evil.example/api/items/1"}) == 400
    assert status_of({"path": "evil.example:80"}) == 400
    assert status_of({"path": "/x"}) == 204


def status_of(scope: dict[str, object], guard: Guard | None = None) -> int:
    """The status of a request as an ASGI server passes it on, of an app that answers 204."""
    sent: list[dict[str, Any]] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    guard = guard or Guard(answer, Settings())
    whole = {"type": "http", "method": "GET", "query_string": b"", "headers": [(b"host", b"localhost")], **scope}
    asyncio.run(guard(whole, None, send))  # type: ignore[arg-type]
    status: int = sent[0]["status"]
    return status


def test_one_client_cannot_take_all_searches_and_a_proxy_on_this_machine_can() -> None:
    inside: list[asyncio.Event] = []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        inside.append(asyncio.Event())
        await inside[-1].wait()

    async def ask(client: str, path: str = "/api/search") -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"x-forwarded-for", b"9.9.9.9")]  # which is not believed
        scope = {"type": "http", "path": path, "query_string": b"", "headers": headers, "client": (client, 1)}
        task = asyncio.ensure_future(guard({**scope, "method": "POST"}, None, send))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        tasks.append(task)
        return sent

    async def all_of_them() -> None:
        assert [await ask("10.0.0.1") for _ in range(2)] == [[], []]
        refused = await ask("10.0.0.1")
        assert (refused[0]["status"], dict(refused[0]["headers"])[b"retry-after"]) == (503, b"1")
        assert await ask("10.0.0.1", "/api/status") == []  # not a search
        assert await ask("10.0.0.2") == []
        assert [await ask("127.0.0.1") for _ in range(3)] == [[], [], []]
        for event in inside:
            event.set()
        await asyncio.gather(*tasks)
        assert await ask("10.0.0.1") == []
        inside[-1].set()
        await tasks[-1]

    tasks: list[asyncio.Future[None]] = []
    guard = Guard(slow, Settings(searches_per_client=2))
    asyncio.run(all_of_them())


def test_all_bodies_together_have_a_limit_which_is_free_again_afterwards() -> None:
    held: list[asyncio.Event] = []

    async def hold(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        held.append(asyncio.Event())
        await held[-1].wait()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 60, "more_body": False}

    async def ask(client: str) -> None:
        headers = [(b"host", b"localhost")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": headers,
            "client": (client, 1),
        }
        await guard(scope, receive, None)  # type: ignore[arg-type]

    async def all_of_them() -> None:
        first = asyncio.ensure_future(ask("10.0.0.1"))
        await asyncio.sleep(0)
        for client in ("10.0.0.1", "127.0.0.1"):  # over half of the room, over all of it
            other = asyncio.ensure_future(ask("127.0.0.1")) if client == "127.0.0.1" else None
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError):
                await ask(client)
            if other:
                held[-1].set()
                await other
        held[0].set()
        await first
        assert guard.uploaded.total == 0

    guard = Guard(hold, Settings(max_uploaded=150))
    asyncio.run(all_of_them())


def test_elsewhere_addresses_and_given_names_are_let_in_and_no_others(index: ImageIndex, settings: Settings) -> None:
    settings = replace(settings, host="0.0.0.0", allowed_hosts=("Photos.example",))
    client = client_of(index, settings)
    for host, status in [("192.168.0.9:8765", 200), ("photos.example", 200), ("evil.example", 421), ("localhost", 200)]:
        assert client.get(CLOSED, headers={"Host": host}).status_code == status, host


def test_a_page_of_another_site_may_not_ask_and_may_not_embed(index: ImageIndex, settings: Settings) -> None:
    client = client_of(index, settings)
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
    ):
        assert client.get(CLOSED, headers=headers).status_code == 403, headers
        assert client.post("/api/search", json={"ids": [1]}, headers=headers).status_code == 403, headers
    for headers in (
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8765"},
        {"Sec-Fetch-Site": "none"},
        {},
    ):
        assert client.get(CLOSED, headers=headers).status_code == 200, headers
    assert (
        client.get("/healthz", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    )  # a link leads to the page


def test_behind_a_proxy_that_sends_its_own_host_only_pages_of_given_names_may_ask(
    index: ImageIndex, settings: Settings
) -> None:
    client = client_of(index, replace(settings, allowed_hosts=("Photos.example",)))
    for origin, status in (
        ("https://photos.example", 200),
        ("http://PHOTOS.example", 200),
        ("https://photos.example:8443", 200),
        ("https://photos.example.evil.example", 403),
        ("https://evil-photos.example", 403),
        ("https://evil.example", 403),
        ("https://sub.photos.example", 403),
        ("https://photos.example.", 403),
        ("https://photos.example:80@evil.example", 403),
        ("https://photos.example@evil.example", 403),
        ("https://evil.example/photos.example", 403),
        ("https://photos.example:", 403),
        ("ftp://photos.example", 403),
        ("photos.example", 403),
        ("https://", 403),
        ("null", 403),
    ):
        headers = {"Host": "127.0.0.1:8765", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert client.post("/api/search", json={"ids": [1]}, headers=headers).status_code == status, origin


@pytest.mark.parametrize(("allowed", "status"), [("photos.example", 403), ("photos.example:8443", 200)])
def test_another_port_of_a_given_name_needs_the_word_of_the_browser_or_of_the_user(
    index: ImageIndex, settings: Settings, allowed: str, status: int
) -> None:
    client = client_of(index, replace(settings, allowed_hosts=(allowed,)))
    headers = {"Host": "127.0.0.1:8765", "Origin": "http://photos.example:8443"}  # http: browsers do not vouch
    assert client.post("/api/search", json={"ids": [1]}, headers=headers).status_code == status
    other = headers | {"Origin": "http://photos.example:8444"}
    assert client.post("/api/search", json={"ids": [1]}, headers=other).status_code == 403
    assert client.get(CLOSED, headers={"Host": "photos.example:8443"}).status_code == 200


def test_no_answer_may_be_read_by_other_sites_or_run_what_is_not_ours(index: ImageIndex, settings: Settings) -> None:
    client = client_of(index, settings)
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        client.get(CLOSED),
        client.get("/nowhere"),
        client.get("/api/items/1/thumbnail"),
        client.get(CLOSED, headers={"Host": "evil.example"}),
        client.options("/api/search", headers=preflight),
    ):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "same-origin"  # no other site learns an address
        assert "server" not in answer.headers
    assert client.get(CLOSED).headers["cache-control"] == "no-store"


def test_with_a_token_only_who_knows_it_is_let_in(index: ImageIndex, settings: Settings) -> None:
    client = client_of(index, replace(settings, token="s3cret-~/+="))
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic czNjcmV0"}, {"Cookie": "spq=x; ="}):
        answer = client.get(CLOSED, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "token" in answer.json()["detail"]
    for path in ("/metrics", "/openapi.json", "/api/status"):
        assert client.get(path).status_code == 401, path
    assert client.get(OPEN).status_code == 200
    assert client.get("/").status_code != 401
    assert client.get("/assets/app.js").status_code != 401
    assert client.get(CLOSED, headers={"Authorization": "bearer  s3cret-~/+="}).status_code == 200
    assert not client.cookies


def test_a_token_in_the_address_is_needed_once(index: ImageIndex, settings: Settings) -> None:
    client = client_of(index, replace(settings, token="s3cret"))
    assert client.get("/?token=wrong").status_code == 401
    assert client.get(CLOSED).status_code == 401
    cookie = client.get("/?token=s3cret").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "s3cret" not in cookie
    assert client.get(CLOSED).status_code == 200  # by the cookie
    assert "set-cookie" not in client.get(CLOSED).headers
    other = client_of(index, replace(settings, token="another"))
    other.cookies.update(client.cookies)
    assert other.get(CLOSED).status_code == 401


def test_a_request_that_does_not_come_in_is_given_up() -> None:
    async def upload(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        while (await receive())["more_body"]:
            pass

    parts = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> dict[str, object]:
        if parts:
            return parts.pop()
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: object) -> None: ...

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")]}
    guard = Guard(upload, Settings(body_seconds=0.05))
    with pytest.raises(Exception, match=r"did not arrive within 0\.05 s") as caught:
        asyncio.run(guard(scope, receive, send))  # type: ignore[arg-type]
    assert caught.value.status == 408
