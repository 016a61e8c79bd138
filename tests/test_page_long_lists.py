"""The page: lists of many pictures."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from web import (
    NEEDS_BROWSER,
    Page,
    expect,
    served,
    tab,
    wait_for_pictures,
    wait_until,
)

pytestmark = NEEDS_BROWSER

MANY = 5200  # pictures of the long list


@pytest.fixture(scope="module")
def long_server(collection: Path, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over MANY items: links to the pictures of the collection, with random codes."""
    root, rng = tmp_path_factory.mktemp("long"), np.random.default_rng(0)
    (root / "photos").mkdir()
    files = sorted((collection / "photos").rglob("*.png"))
    for n, file in enumerate(files):
        os.link(file, root / "photos" / f"{n:05d}.png")
    with ImageIndex.build(root / "long.index", tiny_model, root / "photos") as index:
        items = list(index.store.items())
        more = []
        for n in range(len(items), MANY):
            os.link(files[n % len(files)], root / "photos" / f"{n:05d}.png")
            code = rng.integers(0, 16, 8).astype(np.uint8)
            more.append(replace(items[n % len(items)], id=0, path=f"{n:05d}.png", code=code))
        with index.store.writing():
            index.store.put(more)
    with served(root / "long.index", tiny_model, root / "cache") as address:
        yield address


def test_one_scrolls_to_result_5000_with_few_elements_and_a_reload_stays_there(browser: Any, long_server: str) -> None:
    with tab(browser) as page:
        page.goto(f"{long_server}#like=1")
        wait_for_pictures(page)
        most = 0
        for share in (0.1, 0.3, 0.5, 0.8, 1):
            page.evaluate("(share) => window.scrollTo(0, share * document.documentElement.scrollHeight)", share)
            page.wait_for_timeout(200)  # pictures are asked for 110 ms after the last jump
            most = max(most, page.locator(".tile").count())
        assert most < 150
        wanted = page.request.post(f"{long_server}api/search", data={"ids": [1], "offset": 4999, "top": 1}).json()
        page.evaluate("document.activeElement.blur()")
        address = re.sub(r"&at=\d+", "", page.url) + "&at=4999"
        page.goto("about:blank")
        page.goto(address)
        there = page.locator("#grid .tile[data-position='4999']")
        expect(there).to_have_attribute("data-id", str(wanted["hits"][0]["id"]))
        expect(there).to_be_in_viewport()
        page.wait_for_timeout(500)  # the place is noted
        page.reload()
        expect(there).to_be_in_viewport()


def test_a_long_list_with_a_cut_off_grows_to_its_end(browser: Any, long_server: str) -> None:
    with tab(browser) as page:
        answer = page.request.post(f"{long_server}api/search", data={"ids": [1], "offset": 349, "top": 1}).json()
        limit = answer["hits"][0]["distance"]
        told = page.request.post(
            f"{long_server}api/search", data={"ids": [1], "max_distance": limit, "top": 1000}
        ).json()
        page.goto(f"{long_server}#like=1&max={limit}")
        wait_for_pictures(page)
        expect(page.locator("#summary")).to_contain_text("More than")
        end = time.monotonic() + 60
        while "More than" in page.locator("#summary").inner_text() and time.monotonic() < end:
            page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
            page.wait_for_timeout(50)
        expect(page.locator("#summary")).to_contain_text(f"{len(told['hits'])} pictures (")


def test_a_list_too_tall_for_a_browser_is_scrolled_to_its_end(browser: Any, server: str) -> None:
    total = 3_000_000  # some 100 million pixels; browsers stop drawing at 16 million

    def answer(route: Any) -> None:
        asked = dict(re.findall(r"(\w+)=(\d+)", route.request.url))
        first, last = int(asked["offset"]), min(total, int(asked["offset"]) + int(asked["top"]))
        route.fulfill(json={"items": [{"id": n, "path": f"{n}.png"} for n in range(first, last)], "total": total})

    with tab(browser) as page:
        page.route("**/api/browse*", answer)
        page.route("**/thumbnail*", lambda route: route.abort())
        page.goto(server)
        expect(page.locator("#summary")).to_have_text("3,000,000 pictures")
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        expect(page.locator("#grid .tile[data-id='2999999']")).to_be_in_viewport()
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight / 2)")
        wait_until(page, "Number(document.elementFromPoint(600, 500).closest('.tile')?.dataset.id) > 1e6")
        page.goto(f"{server}#at=1234567")
        expect(page.locator("#grid .tile[data-id='1234567']")).to_be_in_viewport()
        page.locator("#grid [tabindex='0']").focus()
        page.keyboard.press("ArrowDown")
        focused = page.locator("#grid [role=gridcell]:focus")
        expect(focused).to_be_in_viewport()
        assert 1234567 < int(focused.get_attribute("data-id")) < 1234590
        assert page.locator(".tile").count() < 150


def test_what_could_not_be_had_of_a_list_is_asked_for_again(page: Page) -> None:
    wait_for_pictures(page)
    failures = []

    def fail_once(route: Any) -> None:
        if failures:
            route.continue_()
        else:
            failures.append(route.request.url)
            route.fulfill(status=500, json={"detail": "broken for a moment"})

    page.route("**/api/browse?*offset=100*", fail_once)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#toast")).to_contain_text("broken for a moment")
    last = "[...document.querySelectorAll('#grid .tile[data-id] img.loaded')].some((i) => i.closest('.tile').dataset.id > 150)"
    wait_until(page, last)
    assert len(failures) == 1


SCROLL = """async ([from, to]) => {
  const height = document.documentElement.scrollHeight - innerHeight;
  const step = 1.4 * innerHeight; // not a jump, after which the grid waits
  for (let top = from * height; top < to * height; top += step) {
    scrollTo({ top, behavior: "instant" });
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}"""


@pytest.mark.drill
def test_memory_stays_flat_while_20_000_results_are_scrolled(browser: Any, server: str) -> None:
    total, pages = 20_000, set()

    def answer(route: Any) -> None:
        query = route.request.post_data_json
        first = query["offset"]
        pages.add(first)
        facts = {"label": "shoes", "width": 640, "height": 480, "folded": [], "folded_total": 0}
        hits = [
            {"rank": n + 1, "id": n, "distance": n / 1e4, "path": f"a/folder/{n}.jpg", **facts}
            for n in range(first, min(total, first + query["top"]))
        ]
        route.fulfill(json={"hits": hits, "total": total, "seconds": 0, "generation": 1, "model": "m"})

    def used() -> tuple[float, float]:
        tools.send("HeapProfiler.collectGarbage")
        found = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
        return found["JSHeapUsedSize"] / 1e6, found["Nodes"]

    with tab(browser, viewport={"width": 1200, "height": 1600}) as page:
        page.route("**/api/search", answer)
        tools = page.context.new_cdp_session(page)
        tools.send("Performance.enable")
        tools.send("Network.enable")
        tools.send("Network.setBlockedURLs", {"urls": ["*thumbnail*"]})
        page.goto(server)
        page.evaluate("localStorage.setItem('spq-look', JSON.stringify({ size: 110 }))")
        page.goto(f"{server}#like=1")
        page.reload()
        expect(page.locator("#summary")).to_contain_text("20,000 pictures")
        page.evaluate(SCROLL, [0, 0.4])
        heap, nodes = used()
        page.evaluate(SCROLL, [0.4, 1])
        page.evaluate("scrollTo({ top: 1e9, behavior: 'instant' })")
        expect(page.locator("#grid .tile:not(.waits)[data-position='19999']")).to_be_attached()
        heap_at_the_end, nodes_at_the_end = used()
    assert len(pages) > 80  # twice what is kept
    assert heap_at_the_end < heap + 0.75, (heap, heap_at_the_end)  # MB; with all pages kept it grows by 1.5
    assert nodes_at_the_end < 1.2 * nodes + 500, (nodes, nodes_at_the_end)
