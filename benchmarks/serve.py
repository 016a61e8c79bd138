"""How fast does `spq serve` answer 1, 8 and 64 clients? Does it keep running, and does its memory stay constant?

    python benchmarks/serve.py photos.index --images PHOTOS/ [--items 1000000] [--clients 1 8 64] [--replicas 1 2]
        [--seconds 60] [--json FILE]

The benchmark starts a server as a separate process. Clients are tasks of this process, each with a persistent connection.
A client sends the next request as soon as the last one is answered, also after 503, which is more load than from people.

- `upload` sends a picture of PHOTOS, which the server decodes, embeds and searches with. Each has other bytes at its end, so that
  nothing is cached.
- `id` searches for pictures like one of the index.
- `thumbnail` gets a thumbnail, which the first round has made.

`--items` fills a copy of the index with made-up items up to that number: decoded codes of the index with Gaussian noise of 0.1
of the standard deviation, so that they share codewords as real ones do. They have no files.

`--replicas` starts a server for each number of processes, and asks them in turn. The clients need a share of the cores, too.

Times are from the first byte sent to the last byte received. p50 and p99 are of accepted requests (200). `rss` is the resident
memory of the server with its replicas, before and after (Linux).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count, product
from pathlib import Path

import numpy as np

from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.evaluation.baselines import encode
from spq.index.image_index import ImageIndex
from spq.index.store import Item, Store
from spq.pq.tables import decode

NOISE = 0.1
CHUNK = 20_000  # items per transaction
PICTURES = 200  # pictures that are uploaded in turn
TOP = 60  # answers of a search, as on a screen of the page

Request = Callable[[int], bytes]  # number -> request


@dataclass
class Result:
    """One line of the table. ms: of accepted requests. answers: number of answers by status."""

    kind: str
    replicas: int
    clients: int
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    answers: dict[str, int]
    rss_before_mb: float | None
    rss_after_mb: float | None


def filled(source: Path, folder: Path, items: int) -> Path:
    """A copy of an index, filled with made-up items up to a number."""
    shutil.copytree(source, folder)
    rng = np.random.default_rng(0)
    with ImageIndex.open(folder) as index, index.store.writing():
        codes, books = index.store.codes()[1], index.model.codebooks
        base = decode(codes, books)
        scale = np.float32(NOISE * base.std())
        for start in range(len(codes), items, CHUNK):
            size = min(CHUNK, items - start)
            x = base[rng.integers(len(base), size=size)]
            new = encode(x + scale * rng.standard_normal(x.shape, np.float32), books)
            index.store.put(made_up(new, start, rng))
    return folder


def made_up(codes: np.ndarray, start: int, rng: np.random.Generator) -> Iterator[Item]:
    for number, code in enumerate(codes, start):
        yield Item(
            f"made-up/{number:08d}.jpg", 100_000, number, rng.bytes(16), 1600, 1200, code, metadata={"label": "made-up"}
        )


@contextmanager
def server(index: Path, cache: Path, replicas: int) -> Iterator[tuple[int, int]]:
    """Port and process id of a server, once all replicas are ready. It ends with the block, and must end with status 0."""
    command = [sys.executable, "-m", "spq", "serve", str(index), "--port", "0", "--cache", str(cache)]
    command += ["--replicas", str(replicas)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if not found:
                sys.exit(line + process.stderr.read())
            wait_until_ready(int(found[1]), replicas)
            yield int(found[1]), process.pid
        finally:
            process.send_signal(signal.SIGINT)
            if process.wait(60):
                print(f"the server ended with status {process.returncode}", file=sys.stderr)


def wait_until_ready(port: int, replicas: int) -> None:
    """Wait until each replica counts a request of its own as answered."""
    while True:
        with suppress(OSError):
            ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status == 200
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            if (
                ready
                and len(re.findall(r'^spq_http_requests_total.*/readyz.*status="200"', text, re.MULTILINE)) == replicas
            ):
                return
        time.sleep(0.1)


def rss_mb(process: int) -> float | None:
    """The resident memory of a process and of its children."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return None
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1000 + sum(rss_mb(int(child)) or 0 for child in children)


async def client(
    port: int, request: Request, numbers: Iterator[int], end: float, times: list[float], answers: Counter[str]
) -> None:
    """Send requests until the end."""
    writer = None
    while time.perf_counter() < end:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            content = request(next(numbers))
            start = time.perf_counter()
            writer.write(content)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            seconds = time.perf_counter() - start
            status = head.split()[1]
            answers[status] += 1
            if status == "200":
                times.append(seconds)
            if "connection: close" in head.lower():
                writer.close()
                writer = None
        except (OSError, asyncio.IncompleteReadError) as error:
            answers[type(error).__name__] += 1
            writer = None
    if writer:
        writer.close()


def measure(address: tuple[int, int], case: tuple[str, int, int], request: Request, seconds: float) -> Result:
    """Args: address: port and process id. case: kind, replicas, clients."""
    (port, process), clients = address, case[-1]
    times: list[float] = []
    answers: Counter[str] = Counter()
    numbers = count()

    async def run(many: int, end: float) -> None:
        await asyncio.gather(*(client(port, request, numbers, end, times, answers) for _ in range(many)))

    asyncio.run(run(1, time.perf_counter() + 0.5))
    times.clear(), answers.clear()
    before, start = rss_mb(process), time.perf_counter()
    asyncio.run(run(clients, start + seconds))
    took = time.perf_counter() - start
    p50, p99, most = (1000 * np.percentile(times, [50, 99, 100])).tolist() if times else [float("nan")] * 3
    return Result(*case, len(times) / took, p50, p99, most, dict(answers), before, rss_mb(process))


def requests(images: ImageSet, ids: np.ndarray) -> dict[str, Request]:
    """Requests by kind."""
    rng = np.random.default_rng(0)
    positions = rng.choice(len(images), min(PICTURES, len(images)), replace=False)
    pictures = [images.read(int(position)) for position in positions]
    shown = ids[:PICTURES]  # real pictures, which have the first ids
    query = json.dumps({"top": TOP}).encode()

    def upload(number: int) -> bytes:
        picture = pictures[number % len(pictures)] + number.to_bytes(8, "little")
        body = b"".join(
            (
                b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\n', query,
                b'\r\n--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n', picture, b"\r\n--b--\r\n",
            )
        )  # fmt: skip
        return post("multipart/form-data; boundary=b", body)

    def by_id(number: int) -> bytes:
        return post("application/json", json.dumps({"ids": [int(ids[number * 7919 % len(ids)])], "top": TOP}).encode())

    def thumbnail(number: int) -> bytes:
        return f"GET /api/items/{shown[number % len(shown)]}/thumbnail HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    return {"upload": upload, "id": by_id, "thumbnail": thumbnail}


def post(kind: str, body: bytes) -> bytes:
    head = (
        f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def line(result: Result) -> str:
    refused = result.answers.get("503", 0)
    failed = sum(result.answers.values()) - refused - result.answers.get("200", 0)
    memory = "" if result.rss_before_mb is None else f"{result.rss_before_mb:8.0f} {result.rss_after_mb:8.0f}"
    times = f"{result.p50_ms:8.1f} {result.p99_ms:8.1f} {result.max_ms:8.1f}"
    case = f"{result.kind:10s} {result.replicas:8d} {result.clients:7d}"
    return f"{case} {result.per_second:9.1f} {times} {refused:7d} {failed:7d} {memory}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--images", required=True, help="pictures to upload")
    parser.add_argument("--items", type=int, default=0, help="fill a copy of the index up to this many items")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--kinds", nargs="+", default=["upload", "id", "thumbnail"])
    parser.add_argument("--replicas", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    images = open_images(arguments.images)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        index = arguments.index
        if arguments.items:
            index = filled(index, Path(temporary) / index.name, arguments.items)
        with Store.open(index) as store:
            ids = store.codes()[0]
        kinds = requests(images, ids)
        print(f"{len(ids):,} items, {os.cpu_count()} cores, {platform.platform()}, {arguments.seconds:g} s each")
        print("kind       replicas clients per_second  p50_ms   p99_ms   max_ms     503  failed rss_before  after [MB]")
        cases = product(arguments.kinds, arguments.clients)
        with ExitStack() as stack:
            caches = Path(temporary) / "cache"
            servers = {n: stack.enter_context(server(index, caches, n)) for n in arguments.replicas}
            for (kind, clients), replicas in product(cases, servers):
                case = kind, replicas, clients
                results.append(measure(servers[replicas], case, kinds[kind], arguments.seconds))
                print(line(results[-1]), flush=True)
    if arguments.json:
        facts = {"items": len(ids), "cores": os.cpu_count(), "platform": platform.platform()}
        facts |= {"python": platform.python_version(), "seconds": arguments.seconds}
        arguments.json.write_text(
            json.dumps(facts | {"results": [asdict(result) for result in results]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
