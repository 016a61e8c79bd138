# ruff: noqa: E501 (lists of odd values)
"""Random requests to a server: is every answer below 500, or a 503, and does the log hold no traceback?

    python tests/faults/http_fuzz.py --requests 50000

Starts `spq serve` over an index of 60 pictures of the sample, and sends raw requests on several connections at a time: methods,
paths, query strings and headers of every kind, JSON of wrong types, damaged forms, mutated pictures, absurd numbers, bytes that
are not HTTP. Prints how often each status came. "none": the server closed the connection without an answer; "waits": it waits for
the rest of a request.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import re
import socket
import tempfile
import threading
from collections import Counter
from pathlib import Path

from PIL import Image

HOST = "127.0.0.1"
METHODS = (
    ["GET"] * 20
    + ["POST"] * 20
    + ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "G\x00T", "SSTP", "PRI"]
)
PATHS = [
    "/",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/api/status",
    "/api/search",
    "/api/explain",
    "/api/items/{n}",
    "/api/items/{n}/thumbnail",
    "/api/items/{n}/image",
    "/api/browse",
    "/api/duplicates",
    "/api/map",
    "/api/codewords",
    "/api/codewords/{n}/{n}",
    "/assets/app.js",
    "/favicon.ico",
    "/assets/../../../etc/passwd",
    "/assets/%2e%2e/%2e%2e/app.py",
    "/assets//etc/passwd",
    "/api//items/1",
    "//evil.example/",
    "*",
    "http://evil.example/",
    "/api/items/1%00",
    "/%ff%fe",
    "/api/items/%F0%9F%98%80",
    "/api/items/1/thumbnail/",
    "/static/../index.html",
    "evil.example:80",
]
NUMBERS = [
    "0",
    "1",
    "7",
    "59",
    "-1",
    "999999",
    "1e9",
    "9" * 30,
    "9007199254740993",
    "NaN",
    "0x10",
    "1.5",
    "",
    "%00",
    "true",
    "٣",
]
WHERES = ["label = bag", "width >= 10", "(" * 60, "label in (", "a" * 5000, "[x]]] = 1", "path ~ '%'", "not " * 50 + "a=1", "\x00=1",
          "size = 9e999", "time > 99999-01-01", " or ".join(["width = 1"] * 300), "'", "label = '\ud83d'"]  # fmt: skip
VALUES: list[object] = [None, True, -1, 0, 1, 59, 2**53, 10**40, 1e308, -0.0, "", "1", "x" * 3000, [], [1], [[1]], {}, {"a": 1}, "\x00",
                        [0.1, -1], [1] * 70, ["1"], [None], float("nan"), float("inf"), [0, 0, 9, 9], [-5, 0, 10**9, 1]]  # fmt: skip
FIELDS = [
    "ids",
    "not_ids",
    "weights",
    "box",
    "top",
    "offset",
    "where",
    "max_distance",
    "fold",
    "id",
    "evil",
    "__class__",
]
PARAMETERS = ["offset", "top", "where", "order", "since", "size", "query_id", "id", "token", "m", "%00", ""]
HEADERS = ["Range: bytes=0-9", "Range: bytes=99999999999999999999-", "Range: bytes=" + "0-1," * 500, "If-None-Match: *",
           'If-None-Match: "x", W/"y"', "If-Modified-Since: never", "Accept: \xff", "Accept-Encoding: gzip;q=x", "Origin: null",
           "Origin: http://127.0.0.1", "Cookie: =;;=\x80; spq=1", "Cookie: " + "a=b; " * 900, "Authorization: Bearer",
           "Authorization: Basic \xff\xfe", "Sec-Fetch-Site: none", "Upgrade: websocket\r\nConnection: upgrade", "Expect: 100-continue",
           "Transfer-Encoding: gzip", "Content-Encoding: gzip", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "Forwarded: for=x",
           "Host: evil.example", "Content-Length: 5", "Content-Length: -5", "Content-Length: 99999999999999999999", "Bad Name: x",
           "X: " + "y" * 70_000, "X:\r\n folded", "Connection: close", "Connection: keep-alive, \x00", "If-Range: x", "TE: trailers",
           "User-Agent: \x1b[2J\x1b]0;owned\x07", "Via: 1.1 x", "Origin: http://[::1]evil"]  # fmt: skip
TYPES = ["application/json", "application/json; charset=utf-7", "multipart/form-data; boundary=b", "multipart/form-data", "text/plain",
         "multipart/form-data; boundary=" + "b" * 300, "application/x-www-form-urlencoded", "", "multipart/form-data; boundary=\xff",
         "APPLICATION/JSON;", "multipart/form-data; boundary=b; charset=nonsense"]  # fmt: skip


def pictures() -> list[bytes]:
    """Return a small picture in several formats."""
    found = []
    for name in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        buffer = io.BytesIO()
        Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(buffer, name)
        found.append(buffer.getvalue())
    return found


class Fuzzer:
    """Makes random requests. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pictures = pictures()

    def request(self, port: int) -> bytes:
        """Return the bytes of a request, of which some are not HTTP."""
        rng = self.rng
        target = self.target()
        body, kind = self.body()
        method = rng.choice(METHODS) if rng.random() < 0.7 else "POST" if body else "GET"
        if method == "POST" and rng.random() < 0.6:
            target = rng.choice(["/api/search", "/api/explain"])
        lines = [f"{method} {target} HTTP/{rng.choice(['1.1'] * 40 + ['1.0', '2.0', '0.9', '1.x'])}"]
        if rng.random() < 0.97:
            lines.append(
                f"Host: {rng.choice(['127.0.0.1', f'localhost:{port}', '[::1]']) if rng.random() < 0.95 else self.text()}"
            )
        lines += rng.sample(HEADERS, rng.choice([0, 0, 0, 0, 0, 0, 1, 1, 1, 3]))
        if body:
            lines.append(f"Content-Type: {kind}")
        if body and rng.random() < 0.15:
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if rng.random() < 0.6 else body
        elif body:
            lines.append(f"Content-Length: {len(body) + rng.choice([0] * 60 + [3, -3])}")
        whole = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
        return self.mutated(whole) if rng.random() < 0.06 else whole

    def target(self) -> str:
        rng = self.rng
        path = rng.choice(PATHS)
        while "{n}" in path:
            path = path.replace("{n}", rng.choice(NUMBERS), 1)
        pairs = [f"{rng.choice(PARAMETERS)}={self.value()}" for _ in range(rng.choice([0, 0, 1, 2, 3]))]
        target = path + ("?" + "&".join(pairs) if pairs else "")
        return (
            target
            if rng.random() < 0.9
            else target.replace(" ", "%20") + rng.choice(["#x", "?", "%", "%zz", "\x7f", ";a", "?&&=&"])
        )

    def value(self) -> str:
        from urllib.parse import quote

        value = self.rng.choice([*NUMBERS, *WHERES, "id", "path", "time", "new"])
        return quote(value.encode("utf-8", "surrogatepass")) if self.rng.random() < 0.9 else value.replace(" ", "+")

    def text(self) -> str:
        return "".join(self.rng.choice("aZ09.:-[]@/\\%\xff\t\x0b evil") for _ in range(self.rng.randrange(1, 30)))

    def query(self) -> dict[str, object]:
        rng = self.rng
        query: dict[str, object] = {"ids": [rng.randrange(1, 60)]} if rng.random() < 0.6 else {}
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            name = rng.choice(FIELDS)
            query[name] = rng.choice(WHERES) if name == "where" and rng.random() < 0.7 else rng.choice(VALUES)
        return query

    def body(self) -> tuple[bytes, str]:
        """Return a body and its content type."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.3:
            return b"", ""
        if choice < 0.6:
            text = json.dumps(self.query())
            odd = [
                "[" * 100_000,
                '{"ids":' * 5000,
                "nul",
                '{"ids":[1],"ids":"x"}',
                '"\\ud800"',
                "1" * 10_000,
                "\ufeff{}",
                '{"top":1e400}',
            ]
            data = (rng.choice(odd) if rng.random() < 0.15 else text).encode("utf-8", "surrogatepass")
        else:
            data = self.form()
        kind = rng.choice(TYPES) if rng.random() < 0.1 else TYPES[0 if choice < 0.6 else 2]
        return (self.mutated(data) if rng.random() < 0.2 else data), kind

    def form(self) -> bytes:
        rng, parts = self.rng, []
        for _ in range(rng.choice([1, 1, 1, 2, 3, 20])):
            name = rng.choice(["image"] * 5 + ["negative_image", "query", "id", "evil", ""])
            picture = rng.choice(self.pictures)
            data = self.mutated(picture) if rng.random() < 0.7 else picture
            if name in ("query", "id"):
                data = json.dumps(self.query() if name == "query" else rng.choice(VALUES)).encode()
            file = (
                rng.choice(['; filename="a"', '; filename="\x1b[2J\r\n"', "; filename*=utf-8''%ff", ""])
                if name != "query"
                else ""
            )
            head = f'Content-Disposition: form-data; name="{name}"{file if rng.random() < 0.5 or name == "query" else "; filename=a"}'
            if rng.random() < 0.05:
                head += "\r\nX: " + "y" * rng.choice([10, 9000])
            parts.append(b"--b\r\n" + head.encode("latin-1") + b"\r\n\r\n" + data + b"\r\n")
        return b"".join(parts) + rng.choice([b"--b--\r\n"] * 9 + [b"", b"--b", b"--b--garbage"])

    def mutated(self, data: bytes) -> bytes:
        """Return data with a few bytes changed, cut out or repeated."""
        rng, changed = self.rng, bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(changed) + 1)
            kind = rng.randrange(4)
            if kind == 0 and at < len(changed):
                changed[at] = rng.randrange(256)
            elif kind == 1:
                del changed[at : at + rng.choice([1, 5, 1000])]
            elif kind == 2:
                changed[at:at] = rng.randbytes(rng.choice([1, 4, 40]))
            else:
                changed[at:at] = changed[at : at + rng.choice([1, 10, 100])]
        return bytes(changed)


def send(port: int, data: bytes, patience: float = 20.0) -> str:
    """Send a request on a new connection. Return the status, "none" without an answer, or "waits" if none comes in time."""
    try:
        with socket.create_connection((HOST, port), timeout=patience) as connection:
            with contextlib.suppress(OSError):  # it may be refused before all of it is sent
                connection.sendall(data)
            answer = connection.recv(64)
    except TimeoutError:
        return "waits"
    except OSError:
        return "none"
    parts = answer.split(b" ", 2)
    return parts[1].decode("latin-1") if len(parts) > 1 else "none"


def fuzz(port: int, count: int, seed: int, threads: int = 4) -> tuple[Counter[str], list[bytes]]:
    """Send random requests. Return how often each status came, and the requests with a bad one."""
    counts, bad, lock = Counter[str](), [], threading.Lock()

    def work(number: int) -> None:
        fuzzer = Fuzzer(seed * 1000 + number)
        for _ in range(count // threads):
            request = fuzzer.request(port)
            status = send(port, request, 1 if _is_short(request) else 20)
            with lock:
                counts[status] += 1
                if (status == "waits" and not _is_short(request)) or (
                    status.startswith("5") and status not in ("503", "505")
                ):
                    bad.append(request)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts, bad


def _is_short(request: bytes) -> bool:
    """Whether the server may wait for the rest of a request, because it announces more than it has or is no whole request."""
    head, found, body = request.partition(b"\r\n\r\n")
    return (
        not found
        or b"chunked" in head
        or len(body) < max(map(int, re.findall(rb"(?i)content-length: *(\d+)", head)), default=0)
    )


def main() -> None:
    from server import running, write_index

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="folder for the requests with a bad answer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(write_index(Path(folder))) as server:
        counts, bad = fuzz(server.port, arguments.requests, arguments.seed)
        log = server.log.read_text("utf-8", "replace")
        alive = send(server.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        print(json.dumps(dict(sorted(counts.items()))))
        print(f"bad: {len(bad)}, tracebacks: {log.count('Traceback')}, log bytes: {len(log)}, healthz: {alive}, "
              f"peak: {server.memory():.0f} MB")  # fmt: skip
        if arguments.save and (bad or "Traceback" in log):
            arguments.save.mkdir(exist_ok=True)
            arguments.save.joinpath("serve.log").write_text(log, "utf-8")
            for number, request in enumerate(bad):
                arguments.save.joinpath(f"{number}.http").write_bytes(request)


if __name__ == "__main__":
    main()
