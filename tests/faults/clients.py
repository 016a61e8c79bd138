"""Many clients of one server, in a process of their own: they send requests until they are told to stop, and keep every answer.

Every fourth client opens a new connection for each request, the others keep theirs. No request is sent a second time. If the
server has closed a connection between two requests, this is noted as an answer of its own.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds that an answer may take
CLOSES = 4  # every n-th client
CLOSED = "closed while nothing was asked"
Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Answer:
    """One answer. status: 0 if the connection failed; body is then the reason. Times are those of `time.monotonic`."""

    name: str
    client: int
    sent: float
    received: float
    status: int
    body: Any


class Clients:
    """Clients that run. `stop` returns their answers, in the order in which these came."""

    def __init__(self, pipe: Connection, process: Any) -> None:
        self._pipe, self._process = pipe, process
        self._answers: list[Answer] | None = None

    def stop(self) -> list[Answer]:
        if self._answers is None:
            self._pipe.send("stop")
            self._answers = self._pipe.recv()
            self._process.join()
        return self._answers


@contextmanager
def clients(
    port: int, requests: Mapping[str, bytes], count: int, pause: float = 0.1, seed: int = 0
) -> Iterator[Clients]:
    """Let clients send requests, each picked at random, until `stop`.

    Args:
        requests: name -> the bytes of a request. pause: mean seconds between an answer and the next request of a client.
    """
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(theirs, port, dict(requests), count, pause, seed), daemon=True)
    process.start()
    ours.recv()  # they have begun
    try:
        yield Clients(ours, process)
    finally:
        process.kill()
        process.join()


def ask_once(port: int, name: str, request: bytes) -> Answer:
    """Send one request on a new connection."""

    async def ask() -> Answer:
        answer, connection = await _one(name, -1, port, request)
        if connection:
            connection[1].close()
            await connection[1].wait_closed()
        return answer

    return asyncio.run(ask())


def get(path: str) -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def post(path: str, body: bytes, kind: str) -> bytes:
    """A POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def post_json(path: str, query: object) -> bytes:
    """A POST request with JSON."""
    return post(path, json.dumps(query).encode(), "application/json")


def post_picture(path: str, picture: bytes, query: object) -> bytes:
    """A POST request with a picture to upload."""
    lines = ['--b\r\nContent-Disposition: form-data; name="query"', json.dumps(query)]
    lines += ['--b\r\nContent-Disposition: form-data; name="image"; filename="a"']
    form = "\r\n\r\n".join(lines[:2]) + "\r\n" + lines[2] + "\r\n\r\n"
    return post(path, form.encode() + picture + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")


def _run(pipe: Connection, port: int, requests: dict[str, bytes], count: int, pause: float, seed: int) -> None:
    pipe.send("begun")
    with suppress(EOFError):
        pipe.send(asyncio.run(_all(pipe, port, requests, count, pause, seed)))


async def _all(
    pipe: Connection, port: int, requests: dict[str, bytes], count: int, pause: float, seed: int
) -> list[Answer]:
    answers: list[Answer] = []
    ended = asyncio.Event()
    tasks = [
        asyncio.ensure_future(_client(n, port, requests, pause, random.Random(seed * 1000 + n), answers, ended))
        for n in range(count)
    ]
    await asyncio.to_thread(pipe.recv)
    ended.set()
    await asyncio.gather(*tasks)
    return answers


async def _client(
    number: int,
    port: int,
    requests: dict[str, bytes],
    pause: float,
    rng: random.Random,
    answers: list[Answer],
    ended: asyncio.Event,
) -> None:
    names, connection = sorted(requests), None
    while not ended.is_set():
        name = rng.choice(names)
        if connection and (connection[0].at_eof() or connection[0].exception()):
            now, connection = time.monotonic(), None
            answers.append(Answer(name, number, now, now, 0, CLOSED))
        answer, connection = await _one(name, number, port, requests[name], connection)
        answers.append(answer)
        if connection and number % CLOSES == 0:
            connection[1].transport.abort()
            connection = None
        await asyncio.sleep(pause * 2 * rng.random())
    if connection:
        connection[1].transport.abort()


async def _one(
    name: str, client: int, port: int, request: bytes, connection: Connected | None = None
) -> tuple[Answer, Connected | None]:
    """Send one request; return the answer, and the connection if it stays open."""
    sent = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            connection = connection or await asyncio.open_connection(HOST, port)
            status, body, is_kept = await _ask(*connection, request)
    except (OSError, EOFError, ValueError) as error:  # a TimeoutError is an OSError
        status, body, is_kept = 0, type(error).__name__, False
    if connection and not is_kept:
        connection[1].transport.abort()
        connection = None
    return Answer(name, client, sent, time.monotonic(), status, body), connection


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, Any, bool]:
    """Return the status, the JSON or the text of the body, and whether the connection stays open."""
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
    body = await reader.readexactly(int(headers["content-length"]))
    answer = json.loads(body) if "json" in headers.get("content-type", "") else body.decode(errors="replace")
    return int(head.split()[1]), answer, headers.get("connection") != "close"
