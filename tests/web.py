"""What the tests of the page, the server and the site share: real pictures, servers, browser tabs, and questions to a page."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from spq.data.open import open_images
from spq.dupes import find
from spq.dupes.find import Report
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.web.server.app import Settings, create_app
from spq.web.server.connections import FILES, Connections, server_of
from spq.web.site.site import Options, export_web

BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
)  # the first takes a quarter less time
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
NEEDS_BROWSER = [  # the marks of a test file that opens pages
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium-headless-shell"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="needs the package playwright: pip install -e '.[dev]'"),
    pytest.mark.slow,
]
PATIENCE = 60_000  # ms: a loaded test machine is slow
CLOTHING = Path(os.environ.get("SPQ_DATA", "none"), "clothing")  # 3,781 photos; without them, the sample is used
KIND = "shoes" if CLOTHING.is_dir() else "bag"  # a label of the collection
ORIGIN = "http://127.0.0.1:8765"  # of the server in process
SUB_PATH = "some/where/gallery/"  # where a site lies on its host
FIND_DUPLICATES = find.find_duplicates
Page = Any


# pictures and collections


def real_pictures(count: int) -> Iterator[tuple[Image.Image, str]]:
    """Yield `count` pictures and their labels: clothing photos, or those of the sample in random colours."""
    if CLOTHING.is_dir():
        files = sorted(CLOTHING.rglob("*.jpg"))
        for n in range(count):
            file = files[n * len(files) // count]
            with Image.open(file) as picture:
                picture.draft("RGB", (200, 200))
                yield picture.convert("RGB"), file.parent.name
        return
    sample, rng = open_images("sample:test" if count <= 500 else "sample:train"), np.random.default_rng(0)
    for n in range(count):
        pixels = np.asarray(sample.image(n)).astype(float) * rng.uniform(0.4, 1, 3)
        yield Image.fromarray(pixels.astype(np.uint8)), sample.class_names[int(sample.labels[n])]


def write_collection(root: Path, model: Model, count: int) -> Path:
    """Write `photos` with `count` pictures of three sizes and four copies, and `photos.index`; returns `root`."""
    for position, (picture, label) in enumerate(real_pictures(count)):
        folder = root / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        side = (120, 160, 200)[position % 3]
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{position:03d}.png")
        if position < 4:
            picture.save(folder / f"{position:03d} again.png", compress_level=1)
    ImageIndex.build(root / "photos.index", model, root / "photos").close()
    return root


def png(size: tuple[int, int] = (40, 30), color: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(size: tuple[int, int], progressive: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, "JPEG", progressive=progressive)
    return buffer.getvalue()


def picture_file(collection: Path, n: int = 0) -> Path:
    """Return the file of the n-th picture of a collection."""
    return sorted((collection / "photos").rglob("*.png"))[n]


# servers


class Bodies:
    """ASGI middleware that notes the bodies of all requests."""

    def __init__(self, app: Any, bodies: list[bytes]) -> None:
        self.app, self.bodies = app, bodies

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts: list[bytes] = []

        async def noting() -> Any:
            message = await receive()
            parts.append(message.get("body", b""))
            return message

        await self.app(scope, noting, send)
        self.bodies.extend(filter(None, [b"".join(parts)]))


def pictures_in(bodies: list[bytes]) -> list[bytes]:
    """Return the files in forms."""
    parts = [part.partition(b"\r\n\r\n") for body in bodies for part in body.split(body.partition(b"\r\n")[0])]
    return [content[:-2] for head, _, content in parts if b"filename=" in head]


@contextmanager
def served(
    folder: Path, model: Model, cache: Path, port: int = 0, bodies: list[bytes] | None = None, **more: Any
) -> Iterator[str]:
    """Run a server over an index in a thread, and yield its address.

    Args:
        bodies: gets the bodies of all requests. more: further settings.
    """
    settings = Settings(cache=cache, workers=2, patience=60, timeout=120, **more)
    listener = socket.create_server(("127.0.0.1", port))
    with ImageIndex(Store.open(folder), model) as index:
        app = create_app(index, settings)
        if bodies is not None:
            app.add_middleware(Bodies, bodies=bodies)
        server = server_of(app, Connections(settings, FILES))
        server.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)
            listener.close()


def client_of(index: ImageIndex, settings: Settings) -> TestClient:
    """Return a client of a server in this process."""
    return TestClient(create_app(index, settings), base_url=ORIGIN)


def search(client: TestClient, images: list[bytes] = [], negative: list[bytes] = [], **query: Any) -> Any:  # noqa: B006
    """Send a search, as a form if it has pictures, else as JSON."""
    files = [("image", ("a", data)) for data in images] + [("negative_image", ("b", data)) for data in negative]
    return client.post("/api/search", files=files or None, data={"query": json.dumps(query)} if files else None,
                       json=None if files else query)  # fmt: skip


def assert_problem(answer: Any, status: int, pattern: str) -> None:
    """Check that an answer is an error as RFC 9457 has it, of this status, and that its one line matches."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert set(content) == {"type", "title", "status", "detail"}
    assert content["status"] == status
    assert re.search(pattern, content["detail"]), content["detail"]
    assert "\n" not in content["detail"]


class Site:
    """An index, its site, and a file server over that alone, in a folder below the root."""

    def __init__(self, folder: Path, model: Model, photos: Path, options: Options) -> None:
        self.index = ImageIndex.build(folder / "i", model, photos)
        self.index.remove([next(self.index.store.items()).path])  # so that ids differ from row numbers
        self.out = folder / SUB_PATH
        self.out.parent.mkdir(parents=True)
        self.report: Report | None = None  # of duplicates, as the export found them
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(find, "find_duplicates", self._found)
            self.facts = export_web(folder / "i", self.out, options)
        handler = functools.partial(QuietHandler, directory=str(folder))
        self.server = QuietServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/{SUB_PATH}"

    def _found(self, *arguments: Any, **options: Any) -> Report:
        self.report = FIND_DUPLICATES(*arguments, **options)
        return self.report

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.index.close()


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a page that is closed does not wait for its pictures


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


# pages


@contextmanager
def tab(browser: Any, **options: Any) -> Iterator[Page]:
    """Open a page in a fresh profile. Every error that the page reports, also of its policy, fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
    try:
        yield page
    finally:
        page.unroute_all(behavior="ignoreErrors")  # an answer may be in work
        context.close()
    assert not errors, errors


def is_error(message: Any) -> bool:
    return message.type == "error" and "Failed to load resource" not in message.text


def expect(locator: Any) -> Any:
    """Return Playwright's assertions of a locator. They wait."""
    import playwright.sync_api as playwright

    playwright.expect.set_options(timeout=PATIENCE)
    return playwright.expect(locator)


def show_large_tiles(page: Page) -> None:
    """Make this page show its pictures large from the next load on."""
    page.evaluate("localStorage.setItem('spq-look', JSON.stringify({ size: 340 }))")


def tiles(page: Page) -> Any:
    return page.locator("#grid .tile[data-id]:visible")


def wait_for_pictures(page: Page) -> None:
    """Wait until the first pictures are shown."""
    expect(page.locator("#grid img.loaded:visible").first).to_be_visible()
    expect(page.locator("#grid")).to_have_attribute("aria-busy", "false")


def wait_until(page: Page, expression: str, argument: Any = None) -> None:
    """Wait until an expression is true. (The page's policy does not allow Playwright's own wait_for_function.)"""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def state(page: Page) -> dict[str, str]:
    """Return what the address says of the view."""
    return dict(page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"))


def shown_distances(page: Page) -> list[float]:
    """Return the distances of the tiles in the document, in their order."""
    read = "all => all.map((tile) => [Number(tile.dataset.position), Number(tile.dataset.distance)])"
    return [distance for _, distance in sorted(page.locator("#grid .tile[data-id]:visible").evaluate_all(read))]


def first_ids(page: Page, count: int = 8) -> list[str]:
    wait_for_pictures(page)
    return [tiles(page).nth(n).get_attribute("data-id") for n in range(count)]


DROP_OR_PASTE = """([event, name, type, base64, zone]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type }));
  if (event === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  else {
    document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }));
    document.querySelector(zone).dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


def drop(page: Page, data: bytes, name: str = "a.png", kind: str = "image/png", zone: str = "body") -> None:
    page.evaluate(DROP_OR_PASTE, ["drop", name, kind, base64.b64encode(data).decode(), zone])


def paste(page: Page, data: bytes) -> None:
    page.evaluate(DROP_OR_PASTE, ["paste", "a.png", "image/png", base64.b64encode(data).decode(), "body"])


def axe_violations(page: Page, rules: list[str] | None = None) -> list[tuple[str, str, str]]:
    """Return (rule, impact, element) of all that WCAG 2.2 AA and axe's good practices object to.

    Args:
        rules: only these, instead of all.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    options: dict[str, Any] = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    if rules:
        options = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": rules}}
    answer = axe.run(page, options=options).response
    return [(rule["id"], rule["impact"], node["html"][:160]) for rule in answer["violations"] for node in rule["nodes"]]


def answer(page: Page, script: str) -> Any:
    """Return the value of a promise, by way of JSON: Chromium sometimes loses one that is returned as it is."""
    return json.loads(page.evaluate(f"(async () => JSON.stringify(await {script}))()"))


def search_page(page: Page, **query: Any) -> dict[str, Any]:
    """Return what the page's own api.js answers to a search."""
    found: dict[str, Any] = answer(page, f"window.api.search({{ query: {json.dumps(query)} }})")
    return found


def pairs(hits: list[Any]) -> list[tuple[int, float]]:
    """Return (id, distance) of hits, of the API or of an index."""
    return [(h["id"], h["distance"]) if isinstance(h, dict) else (h.id, h.distance) for h in hits]
