"""How long does a frame of the map take while 100,000 points move?

    python benchmarks/page_map.py [--points 100000] [--frames 60] [--chromium /usr/bin/chromium] [--json page_map.json]

Serves a made-up index of random codes in 50 groups, with one picture for all. Opens its map in headless Chromium, which draws
without a graphics card. For each way to show the map, and two zooms, it moves the map from frame to frame and times the
painting of each frame by the clock of the page. It also times the neighbourhood layout of these points, and what that needs of
memory.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import resource
import statistics
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from spq.pq.tables import Codebooks
from spq.web.layout import arrange
from spq.web.unusual import BATCH, unusual_first

PAGE = Path(__file__).parent.parent / "src" / "spq" / "web" / "page"
GROUPS, M, K, DIM = 50, 8, 256, 16
MODES = {"pictures": "", "density": "density", "label": "label"}
PAN = """async (frames) => {
  const { views } = await import("./assets/views.js");
  const map = views.map;
  const times = [];
  for (let n = 0; n < frames; n++) {
    map.center.x += (n % 2 ? 3 : 4) / map.scale;
    const start = performance.now();
    map.paint();
    map.canvas.getContext("2d").getImageData(0, 0, 1, 1); // waits until it is painted
    times.push(performance.now() - start);
    await new Promise(requestAnimationFrame);
  }
  return times;
}"""


def made_up(count: int) -> tuple[np.ndarray, np.ndarray, Codebooks]:
    """Codes (N, M) in groups, the group of each, and codebooks."""
    rng = np.random.default_rng(0)
    words = rng.normal(size=(M, K, DIM)).astype(np.float32)
    groups = rng.integers(0, GROUPS, count)
    codes = rng.integers(0, K, (GROUPS, M))[groups]
    is_other = rng.random(codes.shape) < 0.4
    codes[is_other] = rng.integers(0, K, int(is_other.sum()))
    return codes.astype(np.uint8), groups, Codebooks(words)


def base64_of(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()


def answers(points: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """The answers of a server that the map asks for."""
    count = len(points)
    ids = base64_of(np.arange(count), "<i4")
    where = {"ids": ids, "x": base64_of(points[:, 0], "<f4"), "y": base64_of(points[:, 1], "<f4")}
    names = [f"group {n}" for n in range(GROUPS)]
    value = {"kind": "text", "ids": ids, "values": base64_of(groups, "u1"), "names": names, "low": 0, "high": 0}
    status = {"name": "made up", "images": count, "generation": 1, "columns": [], "sync": None, "last_sync": None}
    return {
        "api/status": status | {"watching": False, "new_since": None, "sync_error": None},
        "api/map": where | {"count": count, "total": count, "method": "neighbours", "arranging": None, "generation": 1},
        "api/map/progress": {"arranging": None},
        "api/map/values": value | {"counts": np.bincount(groups, minlength=GROUPS).tolist()},
        "api/facets": {"total": count, "facets": [{"name": "label", "values": [], "more": 0}]},
    }


class Handler(SimpleHTTPRequestHandler):
    """The files of the page, as the server gives them."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/assets/", "/"))

    def log_message(self, *_: object) -> None:
        pass


def frame_times(points: np.ndarray, groups: np.ndarray, frames: int, chromium: str) -> dict[str, float]:
    """Median milliseconds of a frame, by what the map shows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(PAGE)))
    Thread(target=server.serve_forever, daemon=True).start()
    address, known, found = f"http://127.0.0.1:{server.server_port}/", answers(points, groups), {}
    buffer = io.BytesIO()
    Image.effect_mandelbrot((128, 128), (-2, -1, 1, 1), 50).convert("RGB").save(buffer, "JPEG")
    picture = buffer.getvalue()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, bypass_csp=True)

        def reply(route: Any) -> None:
            path = route.request.url.removeprefix(address).split("?")[0]
            if path.endswith("/thumbnail"):
                route.fulfill(body=picture, content_type="image/jpeg")
            else:
                route.fulfill(json=known[path]) if path in known else route.fulfill(status=404, json={"detail": "none"})

        page.route("**/api/**", reply)
        for name, colour in MODES.items():
            for zoom in (0, 4):
                page.goto("about:blank")
                page.goto(f"{address}#view=map&colour={colour}&map=0.1,0.1,{zoom}")
                page.locator("#map-text:not(:empty)").wait_for()
                page.wait_for_timeout(4000)  # until the pictures are there
                times = page.evaluate(PAN, frames)
                found[f"{name}, zoom {zoom}"] = round(statistics.median(times[5:]), 1)
        browser.close()
    server.shutdown()
    return found


def layout_cost(codes: np.ndarray, codebooks: Codebooks) -> tuple[np.ndarray, dict[str, float]]:
    """The points, and what they cost: seconds, and the largest memory of this process in MB before and after."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    start = time.perf_counter()
    layout = arrange(np.arange(len(codes)), codes, codebooks)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return layout.points, {"seconds": round(seconds, 1), "MB before": round(before), "MB after": round(after)}


class RandomFeatures:
    """Features of 1280 numbers, as they come from the cache, without its time."""

    def of(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        x = np.random.default_rng(ids[0]).normal(size=(len(ids), 1280)).astype(np.float32)
        return np.array(ids), x / np.linalg.norm(x, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    codes, groups, codebooks = made_up(arguments.points)
    points, cost = layout_cost(codes, codebooks)
    print(f"layout of {arguments.points:,} points: {cost}")
    start = time.perf_counter()
    unusual_first(np.arange(arguments.points), RandomFeatures())  # type: ignore[arg-type]
    unusual = round(time.perf_counter() - start, 1)
    print(f"order unusual of {arguments.points:,} pictures, {BATCH} at a time: {unusual} s")
    frames = frame_times(points, groups, arguments.frames, arguments.chromium)
    for name, milliseconds in frames.items():
        print(f"{name:20s} {milliseconds:6.1f} ms for a frame")
    if arguments.json:
        found = {"layout": cost, "unusual_seconds": unusual, "frames_ms": frames}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
