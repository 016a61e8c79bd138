"""The page: accessible, small, on a phone, without other hosts; and copies, which these tests need."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from spq.model.model import Model
from spq.web.server.app import PAGE
from web import (
    NEEDS_BROWSER,
    Page,
    axe_violations,
    expect,
    show_large_tiles,
    state,
    tab,
    tiles,
    wait_for_pictures,
    write_collection,
)

pytestmark = NEEDS_BROWSER

VIEWS = {
    "all": "", "answers": "#like=3&not=9&plus=5", "details": "#like=3&item=5", "filter": "#where=colour+=+red",
    "map": "#view=map", "lasso": "#view=map&lasso=-9,-9,9,-9,9,9,-9,9", "codewords": "#view=codewords",
    "codeword": "#view=codewords&book=1&word={used}", "copies": "#view=copies", "unusual": "#order=unusual",
    "lightbox": "#like=3&show=5", "compare": "#like=3&show=5&against=3",
    "difference": "#like=3&show=5&against=3&differ=1", "colours": "#view=map&colour=label",
}  # fmt: skip


SHOWN = {
    "filter": "#where-error", "details": ".bars li", "map": "#map-text:not(:empty)", "lasso": "#map-grid img.loaded",
    "codewords": ".card img", "codeword": "#word-grid img.loaded", "copies": ".group",
    "lightbox": "#lightbox .path:not(:empty)", "compare": "#lightbox.pair figure img",
    "difference": "#lightbox .difference output:not(:empty)", "colours": "#map-legend > *",
}  # fmt: skip


def choose(page: Page) -> None:
    """Select two pictures: the bar of the selection opens."""
    for tile in (tiles(page).first, tiles(page).nth(1)):
        tile.hover()
        tile.get_by_role("button", name="Select").click()
    expect(page.locator("#selection-text")).to_have_text("2 selected")


def narrow(page: Page) -> None:
    """Open the panel of labels, folders and sizes."""
    page.locator("#pictures .facets").click()
    expect(page.locator("#facets button").first).to_be_visible()


def rule(page: Page) -> None:
    """Open the rules for copies."""
    page.get_by_role("button", name="Rules").click()
    expect(page.locator("#rule-effect")).not_to_be_empty()


OPENED = {
    "selection": choose, "facets": narrow, "rules": rule,
    "appearance": lambda page: page.get_by_role("button", name="Appearance").click(),
    "why": lambda page: page.get_by_role("button", name="What is this?").first.click(),
}  # fmt: skip


@pytest.fixture(scope="module")
def collection(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few pictures: comparing 200 at full size takes half a minute."""
    return write_collection(tmp_path_factory.mktemp("few"), tiny_model, 24)


@pytest.mark.parametrize(
    ("done", "remaining", "text"),
    [
        (3, None, "Step 5 of 7: Comparing at full size, 3 of 1,200"),
        (300, 42.5, "Step 5 of 7: Comparing at full size, 300 of 1,200. About 45 s left in this step"),
        (1200, None, "Step 5 of 7: Comparing at full size"),
    ],
)
def test_the_stage_of_a_search_for_copies_is_shown(page: Page, done: int, remaining: float | None, text: str) -> None:
    answer = {"state": "computing", "stage": "comparing at full size", "done": done, "total": 1200}
    answer |= {"step": 5, "steps": 7, "remaining": remaining}
    page.route("**/api/duplicates?**", lambda route: route.fulfill(status=202, json=answer))
    page.get_by_role("link", name="Copies").click()
    expect(page.locator("#copies-work-text")).to_have_text(text)


@pytest.fixture(scope="module", autouse=True)
def copies(server: str) -> None:
    """Wait until the server has compared the pictures of the collection."""
    deadline = time.monotonic() + 300
    while (answer := httpx2.get(f"{server}api/duplicates")).status_code == 202:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert answer.json()["groups"]


def test_copies_are_shown_in_groups(page: Page) -> None:
    page.get_by_role("link", name="Copies").click()
    expect(page.locator(".group").first).to_be_visible()
    expect(page.locator("#copies-text")).to_contain_text("spq deletes nothing")
    group = page.locator(".group", has_text="again.png").first
    expect(group.locator("figure.kept")).to_have_count(1)
    group.locator("figure a").last.click()
    expect(page.locator("#details dl")).to_be_visible()
    page.keyboard.press("Escape")
    kinds = page.locator("#kinds a")
    kinds.last.click()
    expect(kinds.last).to_have_attribute("aria-current", "true")
    assert state(page)["kind"]


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_in_any_view(browser: Any, server: str, width: int) -> None:
    found = []
    with tab(browser, viewport={"width": width, "height": 800}, color_scheme="light", reduced_motion="reduce") as page:

        def look(name: str) -> None:
            found.extend((name, *violation) for violation in axe_violations(page))
            if width == 1280:
                page.emulate_media(color_scheme="dark")  # it changes colours, at any width, and nothing else
                found.extend((f"{name}, dark", *violation) for violation in axe_violations(page, ["color-contrast"]))
                page.emulate_media(color_scheme="light")

        page.goto(server)
        show_large_tiles(page)  # few, as all are alike
        counts = page.request.get(f"{server}api/codewords").json()["counts"][1]
        for name, address in VIEWS.items():
            page.goto("about:blank")
            page.goto(server + address.format(used=int(np.argmax(counts))))
            expect(page.locator(SHOWN.get(name, "#grid img.loaded")).first).to_be_visible()
            look(name)
        page.keyboard.press("?")
        look("help")
        page.keyboard.press("Escape")
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        page.keyboard.press("b")
        expect(page.locator("#region-box")).to_be_visible()
        look("region")
        for name, open_ in OPENED.items():
            page.goto("about:blank")
            page.goto(f"{server}#{'view=copies' if name == 'rules' else 'like=3'}")
            expect(page.locator(".group" if name == "rules" else "#grid img.loaded").first).to_be_visible()
            open_(page)
            look(name)
    assert not found


def test_nothing_sticks_out_on_a_phone(browser: Any, server: str) -> None:
    with tab(browser, viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True) as page:
        for name in ("all", "answers", "details", "map", "codewords", "copies"):
            page.goto(server + VIEWS[name])
            expect(page.locator(SHOWN.get(name, "#grid img.loaded")).first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, name


def test_the_page_weighs_less_than_200_kb_and_asks_no_other_host(browser: Any, server: str) -> None:
    with tab(browser) as page:
        asked, bytes_ = [], 0
        page.on("requestfinished", lambda request: asked.append(request))
        page.goto(server)
        wait_for_pictures(page)
        for request in asked:
            assert request.url.startswith(server)
            if "/api/" not in request.url:
                bytes_ += request.sizes()["responseBodySize"]
    print(f"the page: {bytes_:,} bytes")
    assert 10_000 < bytes_ < 200_000  # as they come over the network


def test_the_page_has_no_inline_style_one_inline_script_and_names_no_host() -> None:
    html = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"\son\w+=|style=|<style", html)
    assert len(re.findall(r"<script(?![^>]*\ssrc=)", html)) == 1  # for file:, and the policy has its hash
    for file in PAGE.iterdir():
        hosts = set(re.findall(r"https?://[\w.-]+", file.read_text("utf-8"))) - {
            "http://www.w3.org",
            "http://localhost",
        }
        assert not hosts, file.name
