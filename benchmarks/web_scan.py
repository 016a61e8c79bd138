"""How long does a site without a server take to search codes in the browser?

    python benchmarks/web_scan.py [--codes 1000000] [--bits 16 32 64] [--repeats 9] [--json FILE]

Random codes with 16 codewords per codebook are searched in headless Chromium, in one thread, by scan.js of the site, in turn with
a plain loop (an array of sub-codes, an array of sums, `sort`). `sum` adds up all distances. `select` sorts the first 100, `deep`
the first 100,000, as for somebody who scrolls that far. The first 100 are compared with those of spq in NumPy on the same
codes. Medians of the rounds are printed. Compare only numbers of the same run.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from spq.pq.scan import Scan
from spq.pq.sums import pack
from spq.web.site.site_page import BROWSER

K = 16
MAKE = """async ([N, M, packed, table]) => {
    Object.assign(window, await import("./static/scan.js"), { N, M, K: 16, table: Float32Array.from(table) });
    window.packed = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
    window.codes = new Uint8Array(N * M);
    for (let row = 0; row < N; row++) codes.set(unpack(window.packed, row, M, 16), row * M);
}"""
ROUND = """() => {
    const times = [performance.now()], note = () => times.push(performance.now());
    const d = distances(table, packed, N, M, K); note();
    const ranking = new Ranking(d);
    const first = [...ranking.first(100).subarray(0, 100)]; note();
    ranking.first(100_000); note();
    const sums = [];
    for (let row = 0; row < N; row++) {
        let sum = 0;
        for (let m = 0; m < M; m++) sum += table[m * K + codes[row * M + m]];
        sums.push(sum);
    }
    const order = [...sums.keys()].sort((a, b) => sums[a] - sums[b]).slice(0, 100); note();
    return [first, times.slice(1).map((time, n) => time - times[n]), order.length];
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def measure(page: Any, bits: int, N: int, repeats: int) -> dict[str, float]:
    """Median milliseconds. The answers must equal those of NumPy."""
    import base64

    rng, M = np.random.default_rng(bits), bits // 4
    codes = rng.integers(0, K, (N, M)).astype(np.uint8)
    table = rng.uniform(0, 1, (1, M, K)).astype(np.float32)
    packed = base64.b64encode(pack(codes, K).tobytes()).decode()
    page.evaluate(MAKE, [N, M, packed, table.ravel().tolist()])
    scan, times = Scan(codes, K), []
    expected = scan.search(table, 100)[1][0].tolist()  # builds the structure of FAISS
    for _ in range(repeats):
        first, taken, _ = page.evaluate(ROUND)
        assert first == expected
        start = time.perf_counter()
        scan.search(table, 100, threads=1)
        times.append([*taken, 1000 * (time.perf_counter() - start)])
    names = ("sum", "select", "deep", "plain", "spq search")
    return {"bits": bits, **dict(zip(names, np.median(times, 0).round(2).tolist(), strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(BROWSER)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    results = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"))
        print(f"{arguments.codes:,} codes, Chromium {browser.version}, {os.cpu_count()} cores, {platform.platform()}")
        print("bits      sum   select     deep plain loop  ratio  spq search, 1 thread  [ms]")
        for bits in arguments.bits:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/static_api.js")
            r = measure(page, bits, arguments.codes, arguments.repeats)
            page.close()
            results.append(r)
            ratio = r["plain"] / (r["sum"] + r["select"])
            own = " ".join(f"{r[name]:8.1f}" for name in ("sum", "select", "deep"))
            print(f"{bits:4} {own} {r['plain']:10.0f} {ratio:6.0f} {r['spq search']:21.2f}", flush=True)
    server.shutdown()
    if arguments.json:
        facts = {"codes": arguments.codes, "cores": os.cpu_count(), "platform": platform.platform()}
        arguments.json.write_text(json.dumps(facts | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
