"""The page: its language, and what its words mean."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from spq.dupes.find import STAGES
from spq.web.server.jobs import WAITING
from web import NEEDS_BROWSER, Page, axe_violations, expect, state, tab, tiles, wait_for_pictures

pytestmark = NEEDS_BROWSER


def test_the_page_speaks_the_language_of_the_browser_or_the_one_that_is_chosen(browser: Any, server: str) -> None:
    with tab(browser, locale="de-AT") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{server}#where=width+>+1")
        wait_for_pictures(page)
        expect(page.locator("html")).to_have_attribute("lang", "de")
        expect(page.get_by_role("link", name="Codewörter")).to_be_visible()
        expect(page.locator("#where")).to_have_attribute("placeholder", "Filter: Wörter, oder width >= 640")
        page.get_by_role("button", name="Darstellung").click()
        assert not axe_violations(page)
        page.get_by_label("English").click()  # the page loads again, where it was
        expect(page.get_by_role("link", name="Codewords")).to_be_visible()
        expect(page.locator("html")).to_have_attribute("lang", "en")
        wait_for_pictures(page)
        assert state(page) == {"where": "width > 1"}
        before = [url for url in asked if "words_de" in url]
        page.reload()
        expect(page.get_by_role("link", name="Codewords")).to_be_visible()
        assert [url for url in asked if "words_de" in url] == before  # it is loaded only for those who read it
    with tab(browser, locale="fr-FR") as page:
        page.goto(server)
        expect(page.get_by_role("link", name="Codewords")).to_be_visible()


def test_each_stage_of_a_search_for_copies_has_a_name_in_each_language() -> None:
    page = Path(str(files("spq.web"))) / "page"
    for file in page.glob("words_*.js"):
        text = file.read_text("utf-8")
        assert [stage for stage in (*STAGES, WAITING) if f'"{stage}": "' not in text] == [], file.name


def test_a_word_is_explained_where_it_stands(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    tiles(page).nth(2).focus()
    page.keyboard.press("+")
    button = page.locator("[data-why=fold]")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text("the same code")
    box = page.locator("#why").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1200
    assert not axe_violations(page)
    page.keyboard.press("Escape")
    expect(page.locator("#why")).to_be_hidden()
    expect(button).to_be_focused()
    assert "plus" in state(page)


def test_words_are_looked_for_in_path_and_label(page: Page) -> None:
    wait_for_pictures(page)
    page.locator("#where").fill("SHIRT 0")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("of 204 pictures")
    shown = tiles(page).locator("img").evaluate_all("(images) => images.map((image) => image.alt)")
    assert shown
    assert all("shirt" in text for text in shown)
    page.locator("#where").fill("shi")
    expect(page.locator("#suggestions li code").first).to_have_text("label = shirt")
    page.locator("#where").fill('red "shoe')
    page.keyboard.press("Enter")
    expect(page.locator("#where-error")).to_contain_text("is not closed")
