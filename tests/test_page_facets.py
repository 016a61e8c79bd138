"""The page: what narrows the collection down, and its orders."""

from __future__ import annotations

import re

from web import KIND, NEEDS_BROWSER, Page, axe_violations, expect, first_ids, state, tiles, wait_until

pytestmark = NEEDS_BROWSER


def test_values_with_counts_narrow_down_what_is_shown(page: Page, server: str) -> None:
    page.locator("#pictures .facets").click()
    panel = page.locator("#facets")
    value = panel.get_by_role("button", name=re.compile(f"^{KIND} ")).first  # of the label, then of the folder
    many = value.locator("b").inner_text()
    assert not axe_violations(page)
    value.click()
    expect(page.locator("#summary")).to_have_text(f"{many} of 204 pictures")
    expect(panel.locator(".head .muted")).to_have_text(f"{many} pictures")
    assert state(page)["where"] == f'label = "{KIND}"'
    panel.get_by_role("button", name=re.compile("^160 ")).first.click()
    expect(page.locator("#summary")).not_to_have_text(f"{many} of 204 pictures")
    assert state(page)["where"] == f'label = "{KIND}" and width = 160'
    value.click()
    wait_until(page, "new URLSearchParams(location.hash.slice(1)).get('where') === 'width = 160'")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    page.goto(f"{server}#view=map&where=width+=+160")
    page.locator("#map .facets").click()
    expect(panel.locator("button[aria-pressed=true]")).to_have_count(1)


def test_the_menu_of_orders_has_unusual_first_and_a_new_random_order_each_time(page: Page, server: str) -> None:
    ids = [tile.get_attribute("data-id") for tile in tiles(page).all()[:6]]
    page.locator("#order").select_option("unusual")
    wait_until(page, "document.querySelector('#summary').textContent === '204 pictures'")
    page.locator("#order").select_option("random")
    wait_until(page, "location.hash.includes('order=random-')")
    first = first_ids(page)
    assert first[:6] != ids
    address = page.url
    page.locator("#shuffle").click()
    wait_until(page, "(before) => location.href !== before", address)
    page.go_back()
    wait_until(page, "(before) => location.href === before", address)
    wait_until(page, "(id) => document.querySelector('#grid .tile')?.dataset.id === id", first[0])
    assert first_ids(page) == first
