"""Silent and slow clients beside honest ones: which share of the honest requests is answered within a second?

    python tests/faults/server.py --connections 1000 --seconds 60

Starts `spq serve` over 60 pictures of the sample. A second process holds the connections: a quarter each sends nothing, sends a
header byte by byte, sends a body byte by byte, or asks for a picture of 8 MB and does not read it. A connection that the server
ends is opened again half a second later. Meanwhile honest requests are sent one after the other: searches by id and by upload,
thumbnails, lists and /healthz, each on a new connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

HOST = "127.0.0.1"
KINDS = ("silent", "header", "body", "reader")
JSON = {"Content-Type": "application/json"}


@dataclass
class Server:
    """A running server: its process, its port, and the file of its messages."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def memory(self, kind: str = "VmHWM") -> float:
        """Return memory in MB: VmHWM is the peak, VmRSS the present."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(kind))


def write_pictures(folder: Path, count: int = 60) -> Path:
    """Write pictures of the sample, of which the first is large, and return their folder."""
    from spq.data.open import open_images

    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1700, 3), np.uint8)
    Image.fromarray(noise).save(folder / "0.png")
    sample = open_images("sample:test")
    for n in range(1, count):
        sample.image(n).resize((400, 400)).save(folder / f"{n}.png")
    return folder


def write_index(folder: Path) -> Path:
    """Write pictures and their index below a folder, and return the index."""
    photos = write_pictures(folder / "photos")
    command = [sys.executable, "-m", "spq", "index", str(photos), "--out", str(folder / "photos.index")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "photos.index"


@contextlib.contextmanager
def running(collection: Path, *options: str) -> Iterator[Server]:
    """Run `spq serve` over an index or pictures."""
    log = collection.with_name("serve.log")
    command = [sys.executable, "-m", "spq", "serve", str(collection), "--port", "0", *options]
    with log.open("wb") as output, subprocess.Popen(command, stderr=output, stdout=output) as process:
        try:
            while not (found := re.search(r" pictures at http://\S+?:(\d+)/", log.read_text("utf-8"))):
                assert process.poll() is None, log.read_text("utf-8")
                time.sleep(0.1)
            yield Server(process, int(found[1]), log)
        finally:
            process.terminate()
            process.wait(30)


def hold(port: int, count: int, kinds: tuple[str, ...], pause: float, ended: threading.Event | None = None) -> None:
    """Hold slow connections until this process ends, or until `ended` is set."""

    async def connect(n: int) -> None:
        kind, rng = kinds[n % len(kinds)], random.Random(n)
        await asyncio.sleep(rng.random())
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(HOST, port, limit=2**10)
                try:
                    await _be_slow(kind, reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(pause * (0.5 + rng.random()))

    async def all_of_them() -> None:
        tasks = [asyncio.ensure_future(connect(n)) for n in range(count)]
        while not (ended and ended.is_set()):
            await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())


async def _be_slow(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    start = f"Host: {HOST}\r\nContent-Type: application/json\r\n".encode()
    if kind == "silent":
        await reader.read(1)
    elif kind == "reader":
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /api/items/1/image HTTP/1.1\r\n" + start + b"\r\n")
        await asyncio.sleep(120)
    else:
        head = b"POST /api/search HTTP/1.1\r\n" + start
        writer.write(head if kind == "header" else head + b"Content-Length: 900000\r\n\r\n{")
        while not reader.at_eof():
            writer.write(b"x" if kind == "header" else b" ")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1000), 1.0)


def honest_requests(port: int, picture: bytes) -> list[Request]:
    """Return one request of each kind."""
    base = f"http://{HOST}:{port}"
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + picture + b"\r\n--b--\r\n"
    return [
        Request(f"{base}/healthz"),
        Request(f"{base}/api/search", json.dumps({"ids": [1]}).encode(), JSON),
        Request(f"{base}/api/items/3/thumbnail"),
        Request(f"{base}/api/browse?top=20"),
        Request(f"{base}/api/search", form, {"Content-Type": "multipart/form-data; boundary=b"}),
    ]


def ask(request: Request, patience: float = 20.0) -> tuple[str, float]:
    """Return status (or the error) and seconds of a request."""
    start = time.perf_counter()
    try:
        with urlopen(request, timeout=patience) as answer:
            answer.read()
            status = str(answer.status)
    except HTTPError as error:
        status = str(error.code)
    except OSError as error:
        status = type(error).__name__
    return status, time.perf_counter() - start


def measure(
    server: Server, picture: bytes, count: int, seconds: float, kinds: tuple[str, ...] = KINDS
) -> dict[str, object]:
    """Send honest requests for some time while slow connections are held. Return figures."""
    requests = honest_requests(server.port, picture)
    for request in requests:
        ask(request, 120)  # the network loads
    before = server.memory()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(server.port, count, kinds, 0.5))
    process.start()
    answers: list[tuple[str, float]] = []
    try:
        time.sleep(min(3, seconds / 4))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answers.append(ask(requests[len(answers) % len(requests)]))
            time.sleep(0.02)
    finally:
        process.kill()
        process.join()
    times = sorted(taken for status, taken in answers if status == "200")
    in_time = sum(taken <= 1 for taken in times)
    return {
        "honest": len(answers),
        "within 1 s": f"{in_time / len(answers):.2%}",
        "statuses": dict(Counter(status for status, _ in answers)),
        "median s": round(times[len(times) // 2], 3),
        "p99 s": round(times[int(0.99 * len(times))], 3),
        "max s": round(times[-1], 3),
        "peak MB": round(server.memory()),
        "peak MB before": round(before),
        "log bytes": server.log.stat().st_size,
        "share": in_time / len(answers),
    }


def upload_together(server: Server, picture: bytes, count: int) -> dict[str, object]:
    """Send uploads at the same time, and searches by id beside them. Return figures."""
    requests = honest_requests(server.port, picture)
    statuses: list[tuple[str, float]] = []

    def upload(number: int) -> None:
        different = picture + bytes([count, number])  # bytes after the end: else the server decodes the picture once
        statuses.append(ask(honest_requests(server.port, different)[-1], 120))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    beside = []
    while any(thread.is_alive() for thread in threads):
        beside.append(ask(requests[1]))
        time.sleep(0.1)
    return {
        "uploads": dict(Counter(status for status, _ in statuses)),
        "seconds": round(max(taken for _, taken in statuses), 1),
        "beside": dict(Counter(status for status, _ in beside)),
        "slowest beside s": round(max((taken for _, taken in beside), default=0), 2),
        "peak MB": round(server.memory()),
        "now MB": round(server.memory("VmRSS")),
        "of it files MB": round(server.memory("RssFile")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--uploads", type=Path, nargs="*", default=[], help="pictures to upload 8 at a time instead")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder, running(write_index(Path(folder))) as server:
        picture = Path(folder, "photos", "7.png").read_bytes()
        if not arguments.uploads:
            found = measure(server, picture, arguments.connections, arguments.seconds, tuple(arguments.kinds))
            print(json.dumps({"connections": arguments.connections, "kinds": list(arguments.kinds)} | found))
        for request in honest_requests(server.port, picture) if arguments.uploads else ():
            ask(request, 120)
        for path in arguments.uploads:
            for count in (2, 8):
                print(path.name, count, json.dumps(upload_together(server, path.read_bytes(), count)))
        text = server.log.read_text("utf-8")
        print(f"tracebacks in the log: {text.count('Traceback')}")


if __name__ == "__main__":
    main()
