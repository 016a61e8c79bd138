"""The page: what is known of a picture, and why it matched."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.model.network import Network
from web import (
    NEEDS_BROWSER,
    Page,
    expect,
    served,
    shown_distances,
    state,
    tab,
    tiles,
    wait_for_pictures,
)

pytestmark = NEEDS_BROWSER


def test_details_tell_what_is_known_and_why_it_matched(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    tiles(page).nth(2).hover()
    tiles(page).nth(2).get_by_role("button", name="Details").click()
    panel = page.locator("#details")
    expect(panel.locator(".bars li")).to_have_count(8)
    expect(panel).to_be_focused()
    total = float(re.search(r"Distance (\S+)\.", panel.locator(".why p").inner_text()).group(1))  # type: ignore[union-attr]
    parts = [float(text) for text in panel.locator(".bars .value").all_inner_texts()]
    assert sum(parts) == pytest.approx(total, abs=0.005 * 9)
    expect(panel.locator("dl")).to_contain_text("pixels")
    original = panel.get_by_role("link", name="Open original").get_attribute("href")
    assert page.request.get(server + original).headers["content-type"] == "image/png"
    panel.locator(".bars a").first.click()
    expect(page.locator("#word-grid img.loaded").first).to_be_visible()
    assert state(page)["view"] == "codewords"


def test_distances_below_zero_are_shown_cut_off_and_explained(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    config = replace(tiny_model.config, quantizer=replace(tiny_model.config.quantizer, distance="dot"))
    network = Network(config)
    network.load_state_dict(tiny_model.network.state_dict())
    model = Model(network, config)
    ImageIndex.build(tmp_path / "i", model, collection / "photos").close()
    with served(tmp_path / "i", model, tmp_path / "cache") as server, tab(browser) as page:
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        shown = shown_distances(page)
        assert shown[0] < 0
        assert shown == sorted(shown)
        page.locator("#cut-off").fill("300")
        expect(page.locator("#summary")).to_contain_text("up to")
        limit = float(state(page)["max"])
        assert shown[0] <= limit < 0
        near = shown_distances(page)
        assert near
        assert max(near) <= limit
        tiles(page).nth(2).hover()
        tiles(page).nth(2).get_by_role("button", name="Details").click()
        told = page.locator("#details .why p")
        expect(told).to_contain_text("Bars below zero reduce the distance")
        total = float(re.search(r"Distance (\S+)\.", told.inner_text()).group(1))  # type: ignore[union-attr]
        parts = [float(text) for text in page.locator("#details .bars .value").all_inner_texts()]
        assert sum(parts) == pytest.approx(total, abs=0.005 * 9)
        assert page.locator("#details .bars .fill.below").count() >= sum(part < 0 for part in parts) > 0


def test_the_path_is_copied(browser: Any, server: str) -> None:
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{server}#item=3")
        page.get_by_role("button", name="Copy path").click()
        expect(page.locator("#toast")).to_have_text("Path copied")
        path = page.locator("#details dd").first.inner_text()
        assert page.evaluate("navigator.clipboard.readText()") == path


def test_a_button_that_is_drawn_anew_keeps_the_focus(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3&item=5")
    like = page.locator("#details").get_by_role("button", name="Like this", exact=True)
    like.focus()
    page.keyboard.press("Enter")
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(like).to_be_focused()
    page.goto(f"{server}#view=codewords")
    book = page.get_by_role("link", name="Codebook 2", exact=True)
    book.focus()
    page.keyboard.press("Enter")
    expect(book).to_have_attribute("aria-current", "true")
    expect(book).to_be_focused()
