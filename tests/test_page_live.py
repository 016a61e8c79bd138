"""The page: a server that goes or is busy, new pictures, tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from spq.data.open import open_images
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from web import (
    NEEDS_BROWSER,
    Page,
    expect,
    real_pictures,
    served,
    tab,
    tiles,
    wait_for_pictures,
)

pytestmark = NEEDS_BROWSER
LOOK_NOW = "window.dispatchEvent(new Event('online'))"  # the page asks for the status now, not some seconds later


def test_a_server_that_goes_is_told_and_what_was_missed_comes_when_it_is_back(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with tab(browser) as page:
        with served(collection / "photos.index", tiny_model, tmp_path) as address:
            page.goto(address)
            wait_for_pictures(page)
        tiles(page).nth(2).locator(".picture").click()
        page.evaluate(LOOK_NOW)
        expect(page.locator("#banner")).to_be_visible()
        expect(page.locator("#pictures-message h2")).to_have_text("The server does not answer")
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with served(collection / "photos.index", tiny_model, tmp_path, port):
            expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")
            expect(page.locator("#banner")).to_be_hidden()
            expect(page.locator("#pictures-message")).to_be_hidden()
            wait_for_pictures(page)


def test_a_busy_server_is_asked_again(page: Page) -> None:
    wait_for_pictures(page)
    refusals = []

    def busy(route: Any) -> None:
        if len(refusals) < 2:
            refusals.append(route.request.url)
            problem = {"type": "about:blank", "title": "", "status": 503, "detail": "too much to do"}
            route.fulfill(status=503, json=problem, headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**/api/search", busy)
    tiles(page).nth(2).locator(".picture").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")
    assert len(refusals) == 2


def test_a_page_without_its_token_says_so_and_with_it_forgets_it_in_the_address(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with served(collection / "photos.index", tiny_model, tmp_path, token="secret words") as address:
        with tab(browser) as page:
            page.goto(address)
            expect(page.locator("#banner-text")).to_contain_text("needs its token")
            expect(page.locator("#pictures-message h2")).to_have_text("This page needs its token")
        with tab(browser) as page:
            page.goto(f"{address}?token=secret%20words#like=3")
            wait_for_pictures(page)
            assert page.url == f"{address}#like=3"


def test_new_pictures_are_offered_and_shown_when_asked_for(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    some = [picture for picture, _ in real_pictures(60)]

    def add(first: int, last: int) -> None:
        for n in range(first, last):
            some[n].save(photos / f"{n}.png")

    add(0, 30)
    ImageIndex.build(tmp_path / "index", tiny_model, photos).close()
    with served(tmp_path / "index", tiny_model, tmp_path / "cache") as address, tab(browser) as page:
        page.goto(address)
        wait_for_pictures(page)
        add(30, 42)
        with ImageIndex(Store.open(tmp_path / "index"), tiny_model) as writer:
            writer.sync(open_images(str(photos)))
        page.wait_for_timeout(700)  # the server looks at the index twice a second
        page.evaluate(LOOK_NOW)
        expect(page.locator("#news-text")).to_have_text("12 new pictures")
        expect(page.locator("#summary")).to_have_text("30 pictures")  # nothing moves by itself
        page.locator("#news-show").click()
        expect(page.locator("#summary")).to_have_text("12 new or changed pictures")
        expect(tiles(page)).to_have_count(12)


def test_an_empty_index_says_so_in_every_view(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 30), "teal").save(tmp_path / "photos" / "a.png")
    ImageIndex.build(tmp_path / "index", tiny_model, tmp_path / "photos").close()
    with ImageIndex(Store.open(tmp_path / "index"), tiny_model) as writer:
        writer.remove(["a.png"])
    with served(tmp_path / "index", tiny_model, tmp_path / "cache") as address, tab(browser) as page:
        page.goto(address)
        expect(page.locator("#pictures-message h2")).to_have_text("No pictures yet")
        for view, title in (("map", "No pictures yet"), ("codewords", "No pictures yet"), ("copies", "No copies")):
            page.goto(f"{address}#view={view}")
            expect(page.locator(f"#{view}-message h2")).to_have_text(title)
