"""Silent, slow and many connections, and bytes that are not HTTP, sent to a running server of a small app."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from faults.server import KINDS, ask, hold, honest_requests
from spq.model.model import Model
from spq.web.server import connections as module
from spq.web.server.connections import Connections, server_of
from spq.web.server.settings import Settings
from web import png, served

HOST = b"Host: localhost\r\n"
GET = b"GET /%b HTTP/1.1\r\n" + HOST + b"\r\n"
PATIENCE = 30  # seconds until a test fails


async def small_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the client's address, after the body has arrived; /wait waits, /large is 8 MB, /half ends after a start."""
    if scope["type"] != "http":
        return
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    if scope["path"] == "/wait":
        await asyncio.sleep(PATIENCE)
    body = bytes(8_000_000) if scope["path"] == "/large" else json.dumps(scope["client"][0]).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if scope["path"] == "/half":
        await send({"type": "http.response.body", "body": body[:1], "more_body": True})
        await asyncio.sleep(PATIENCE)
    await send({"type": "http.response.body", "body": body})


class Running:
    """A server in a thread, and the connections to it."""

    def __init__(self, settings: Settings, files: int) -> None:
        self.connections = Connections(settings, files)
        self.server = server_of(small_app, self.connections)
        self.server.config.timeout_graceful_shutdown = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.sockets: list[socket.socket] = []

    def connect(self, data: bytes = b"") -> socket.socket:
        """Connect, and send some bytes."""
        self.sockets.append(socket.create_connection(self.listener.getsockname(), PATIENCE))
        self.sockets[-1].sendall(data)
        return self.sockets[-1]

    def ask(self, data: bytes = GET % b"") -> bytes:
        """Return the answer to a request on a new connection."""
        return answer(self.connect(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)))

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.02)


@contextmanager
def running(files: int = 8000, **settings: Any) -> Iterator[Running]:
    found = Running(Settings(**settings), files)
    found.thread.start()
    try:
        yield found
    finally:
        for each in found.sockets:
            each.close()
        found.server.should_exit = True
        found.thread.join(PATIENCE)
        found.listener.close()


def answer(connection: socket.socket) -> bytes:
    """Return all bytes until the server ends the connection."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def send_slowly(connection: socket.socket) -> None:
    """Send byte by byte for a long time."""
    for _ in range(20 * PATIENCE):
        connection.send(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", GET % b"", b"\r\n"])
def test_a_connection_without_a_whole_request_ends(start: bytes) -> None:
    with running(head_seconds=0.2) as server:
        connection = server.connect(start)
        assert answer(connection).startswith(b"HTTP/1.1 200" if start == GET % b"" else b"")
        assert server.ask().startswith(b"HTTP/1.1 200")


def test_bytes_that_come_one_by_one_do_not_keep_it_open() -> None:
    with running(head_seconds=0.3) as server:
        connection = server.connect(b"GET / HTTP/1.1\r\nX: ")
        connection.settimeout(0.05)
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):
            send_slowly(connection)


def test_the_rest_of_an_answered_request_may_not_come_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_SECONDS", 0.3)
    with running() as server:
        connection = server.connect(b"GET / HTTP/1.1\r\nContent-Length: 100000\r\n" + HOST + b"\r\n")
        assert connection.recv(15).startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError, match=r"reset|pipe|aborted"):
            send_slowly(connection)


@pytest.mark.parametrize(
    "start", [b"", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 999\r\n" + HOST + b"\r\n{"]
)
def test_slow_ones_make_room_and_every_honest_request_is_answered(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "YOUNG", 0.0)
    with running(max_connections=8) as server:
        for _ in range(40):
            server.connect(start)
        for _ in range(5):
            assert server.ask().startswith(b"HTTP/1.1 200")
            server.connect(start)
        assert len(server.connections.open) <= 8
        assert server.connections.ended >= 30
        assert server.connections.refused == 0


def test_with_no_slow_one_a_new_one_is_told_when_to_come_again() -> None:
    with running(max_connections=3) as server:
        for _ in range(3):
            server.connect(GET % b"wait")
        server.wait_until(lambda: len(server.connections.open) == 3)
        refused = server.ask()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refused
        assert b"application/problem+json" in refused
        assert server.connections.refused == 1
        server.sockets[0].close()
        server.wait_until(lambda: len(server.connections.open) < 3)
        assert server.ask().startswith(b"HTTP/1.1 200")


def test_one_client_has_a_share_and_ends_its_own_connections_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "origin_of", lambda address: "10.0.0.1")
    with running(max_connections_per_client=4) as server:
        for _ in range(12):
            server.connect()
        server.wait_until(lambda: server.connections.ended == 8)
        assert server.ask().startswith(b"HTTP/1.1 200")
        assert len(server.connections.open) <= 4
    with running(max_connections_per_client=2) as server:
        for _ in range(2):
            server.connect(GET % b"wait")
        server.wait_until(lambda: len(server.connections.open) == 2)
        assert server.ask().startswith(b"HTTP/1.1 503 ")


def test_answers_that_are_not_read_need_little_memory_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT", 15_000_000)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    with running() as server:
        for _ in range(5):
            server.connect(GET % b"large")
        server.wait_until(lambda: server.connections.ended >= 3)
        assert sum(each.buffered for each in list(server.connections.unsent)) <= 15_000_000
        assert len(server.ask(GET % b"large")) > 8_000_000
        server.wait_until(lambda: not server.connections.open)  # also those that were within the limit


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     b"HEAD / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"X" * 200_000,
     b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"],
)  # fmt: skip
def test_what_is_not_http_gets_one_answer_and_no_traceback(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with running() as server, caplog.at_level(logging.DEBUG):
        assert b"HTTP/1.1 400 Bad Request\r\n" in answer(server.connect(data))
        assert server.ask().startswith(b"HTTP/1.1 200")
        assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def test_garbage_during_an_answer_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    with running() as server, caplog.at_level(logging.DEBUG):
        connection = server.connect(b"GET /half HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n")
        assert connection.recv(10)
        connection.sendall(b"zz\r\n")
        assert b"400" not in answer(connection)
        assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


def test_headers_of_proxies_are_not_believed() -> None:
    with running() as server:
        found = server.ask(b"GET / HTTP/1.1\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n" + HOST + b"\r\n")
        assert found.endswith(b'"127.0.0.1"')


def test_there_are_fewer_connections_where_the_system_allows_few_files() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 200))\n"
        "from spq.web.server.connections import *\n"
        "c = Connections(Settings(), raise_file_limit()); print(c.most, c.backlog, resource.getrlimit(7)[0])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["50", "50", "200"]


def test_honest_requests_are_answered_beside_slow_ones_of_every_kind(
    photo_index: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with served(photo_index, tiny_model, tmp_path / "cache", max_connections=20) as address:
        port = int(address.rstrip("/").rsplit(":")[-1])
        ended = threading.Event()
        thread = threading.Thread(target=hold, args=(port, 60, KINDS, 0.2, ended))
        thread.start()
        try:
            for _ in range(3):
                for request in honest_requests(port, png()):
                    assert ask(request, PATIENCE)[0] == "200", request.full_url
        finally:
            ended.set()
            thread.join(PATIENCE)


def test_a_second_ctrl_c_ends_a_server_at_once_with_a_line() -> None:
    code = """if True:
        import signal
        from spq.web.server.connections import Connections, server_of
        from spq.web.server.settings import Settings
        server = server_of(None, Connections(Settings(), 100))
        server.handle_exit(signal.SIGINT, None)
        assert server.should_exit
        server.handle_exit(signal.SIGINT, None)
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "spq: stopped; the index is as it was committed\n")
