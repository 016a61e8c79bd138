"""The page: codewords."""

from __future__ import annotations

import re

from web import (
    NEEDS_BROWSER,
    Page,
    expect,
    state,
)

pytestmark = NEEDS_BROWSER


def test_codewords_show_the_pictures_that_use_them(page: Page, server: str) -> None:
    page.get_by_role("link", name="Codewords").click()
    expect(page.locator(".card img").first).to_be_visible()
    page.locator("#books a").nth(2).click()
    expect(page.locator("#books a").nth(2)).to_have_attribute("aria-current", "true")
    card = page.locator(".card").first
    expect(card).to_be_visible()
    many = int(re.match(r"\d+", card.locator(".card-text span").inner_text()).group())  # type: ignore[union-attr]
    card.click()
    expect(page.locator("#word-grid")).to_be_visible()
    expect(page.locator("#codewords-text")).to_contain_text(f"{many} pictures")
    told = page.request.get(f"{server}api/codewords/{state(page)['book']}/{state(page)['word']}").json()
    assert told["count"] == many
    shown = page.locator("#word-grid .tile").first
    expect(shown).to_have_attribute("data-id", str(told["items"][0]["id"]))
    page.reload()
    expect(shown).to_have_attribute("data-id", str(told["items"][0]["id"]))


def test_codewords_that_cannot_be_had_are_not_asked_for_all_the_time(page: Page, server: str) -> None:
    asked: list[str] = []
    page.route("**/api/codewords/*/*", lambda route: (asked.append(route.request.url), route.abort()))
    page.goto(f"{server}#view=codewords")
    expect(page.locator(".card").first).to_be_visible()
    page.wait_for_timeout(600)
    assert 0 < len(asked) <= page.locator(".card").count()
    page.unroute("**/api/codewords/*/*")
    expect(page.locator(".card img").first).to_be_visible()
