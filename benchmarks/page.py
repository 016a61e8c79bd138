"""How long does the page take to show the first answers after a picture is dropped on it?

    spq serve photos.index --port 8765 &
    python benchmarks/page.py http://127.0.0.1:8765/ --images PHOTOS/ [--count 30] [--json page.json]

Uses headless Chromium, which shares the cores with the server. Each picture is dropped on the page as a file. The clock of the
page measures two times after the drop event: until the first frame with the tiles of the answers (after upload, decoding,
embedding, search and drawing), and until the thumbnail of the first answer is loaded. An item without a file has no thumbnail
and is not counted.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from spq.data.open import open_images

DROP = """async ({ bytes, name }) => {
  const data = new DataTransfer();
  const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  data.items.add(new File([content], name, { type: "image/jpeg" }));
  document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }));
  const start = performance.now();
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  const frame = () => new Promise(requestAnimationFrame);
  let answers = 0;
  while (performance.now() - start < 10000) {
    await frame();
    const found = document.querySelector("#summary").textContent.includes("nearest first");
    const first = found ? document.querySelector("#grid .tile") : null;
    if (!answers && first?.dataset.id && !first.matches(".waits")) answers = performance.now() - start;
    const picture = first?.querySelector("img");
    if (answers && picture?.complete) return { answers, picture: picture.naturalWidth ? performance.now() - start : null };
  }
  return { answers: answers || null, picture: null };
}"""


def measure(address: str, pictures: list[bytes], browser: Any) -> list[dict[str, float | None]]:
    rows = []
    for number, content in enumerate(pictures):
        page = browser.new_page(viewport={"width": 1280, "height": 800})  # each context starts without cached data
        page.goto(address)
        page.wait_for_selector("#grid .tile")
        rows.append(page.evaluate(DROP, {"bytes": base64.b64encode(content).decode(), "name": f"{number}.jpg"}))
        page.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="address of a running spq serve")
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    images = open_images(arguments.images)
    step = max(1, len(images) // arguments.count)
    pictures = [images.read(n) for n in range(0, len(images), step)][: arguments.count]
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=arguments.chromium)
        rows = measure(arguments.address, pictures, browser)[1:]  # the first one warms up
        browser.close()
    for name in ("answers", "picture"):
        times = sorted(row[name] for row in rows if row[name] is not None)
        if times:
            spread = f"{times[0]:.0f}..{times[-1]:.0f}"
            print(f"{name:8s} {statistics.median(times):6.0f} ms, {spread}, {len(times)} of {len(rows)} drops")
        else:
            print(f"{name:8s} not within 10 s")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
