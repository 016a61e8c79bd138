"""The page: codewords."""

from __future__ import annotations

import re

from web import (
    KIND,
    NEEDS_BROWSER,
    Page,
    expect,
    state,
    wait_until,
)

pytestmark = NEEDS_BROWSER


def test_codewords_show_the_pictures_that_use_them(page: Page, server: str) -> None:
    page.get_by_role("link", name="Codewords").click()
    expect(page.locator(".card img").first).to_be_visible()
    page.locator("#books a").nth(2).click()
    expect(page.locator("#books a").nth(2)).to_have_attribute("aria-current", "true")
    card = page.locator(".card").first
    expect(card).to_be_visible()
    many = int(re.match(r"\d+", card.locator(".card-text span").last.inner_text()).group())  # type: ignore[union-attr]
    card.click()
    expect(page.locator("#word-grid")).to_be_visible()
    expect(page.locator("#codewords-text")).to_contain_text(f"{many} pictures")
    told = page.request.get(f"{server}api/codewords/{state(page)['book']}/{state(page)['word']}").json()
    assert told["count"] == many
    shown = page.locator("#word-grid .tile").first
    expect(shown).to_have_attribute("data-id", str(told["items"][0]["id"]))
    page.reload()
    expect(shown).to_have_attribute("data-id", str(told["items"][0]["id"]))


def test_a_codeword_is_named_by_the_label_of_most_of_its_typical_pictures(page: Page, server: str) -> None:
    page.goto(f"{server}#view=codewords")
    card = page.locator(".card:has(.mostly:not(:empty))").first
    expect(card).to_be_visible()
    word = card.get_attribute("data-word")
    items = page.request.get(f"{server}api/codewords/0/{word}?top=8").json()["items"]
    label = card.locator(".mostly").inner_text().removeprefix("mostly ")
    assert sum(item["label"] == label for item in items) > len(items) / 2


def test_the_way_back_from_a_codeword_leads_to_the_same_place(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 700, "height": 400})
    page.goto(f"{server}#view=codewords")
    card = page.locator(".card").nth(9)
    card.scroll_into_view_if_needed()
    page.mouse.wheel(0, 40)
    wait_until(page, "window.scrollY > 100")
    page.wait_for_timeout(100)
    card.focus()  # scrolls to it
    page.wait_for_timeout(100)
    before = page.evaluate("window.scrollY")
    page.keyboard.press("Enter")
    expect(page.locator("#word-back")).to_be_focused()
    assert page.evaluate("window.scrollY") == 0
    page.go_back()
    expect(card).to_be_focused()
    wait_until(page, "(y) => Math.abs(window.scrollY - y) < 2", before)
    page.locator("a[data-view=pictures]").click()
    expect(page.locator("#grid")).to_be_visible()
    page.get_by_role("link", name="Codewords").click()
    wait_until(page, "(y) => Math.abs(window.scrollY - y) < 2", before)


def test_the_filter_counts_for_codewords(page: Page, server: str) -> None:
    page.goto(f"{server}#view=codewords")
    expect(page.locator(".card").first).to_be_visible()
    page.locator("#where").fill(KIND.upper())
    page.keyboard.press("Enter")
    expect(page.locator("#codewords")).to_have_attribute("aria-busy", "false")
    told = page.request.get(f"{server}api/codewords?where={KIND}").json()["counts"][0]
    expect(page.locator(".card")).to_have_count(sum(count > 0 for count in told))
    page.locator(".card").first.click()
    expect(page.locator("#codewords-text")).to_contain_text(f"{max(told)} pictures")
    expect(page.locator("#word-grid img.loaded").first).to_be_visible()
    assert {text.split(" · ")[-1] for text in page.locator("#word-grid .tile:visible .label").all_inner_texts()} == {
        KIND
    }
    page.locator("#where").fill("nothing such")
    page.keyboard.press("Enter")
    page.locator("#word-back").click()
    expect(page.locator("#codewords-message")).to_contain_text("No picture matches the filter")
    page.locator("#codewords-message button").click()
    expect(page.locator(".card").first).to_be_visible()


def test_codewords_that_cannot_be_had_are_not_asked_for_all_the_time(page: Page, server: str) -> None:
    asked: list[str] = []
    page.route("**/api/codewords/*/*", lambda route: (asked.append(route.request.url), route.abort()))
    page.goto(f"{server}#view=codewords")
    expect(page.locator(".card").first).to_be_visible()
    page.wait_for_timeout(600)
    assert 0 < len(asked) <= page.locator(".card").count()
    page.unroute("**/api/codewords/*/*")
    expect(page.locator(".card img").first).to_be_visible()
