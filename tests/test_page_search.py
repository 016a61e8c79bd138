"""The page: searches, marks, the cut-off, and keys."""

from __future__ import annotations

import json

from web import (
    NEEDS_BROWSER,
    Page,
    expect,
    first_ids,
    shown_distances,
    state,
    tiles,
    wait_for_pictures,
    wait_until,
)

pytestmark = NEEDS_BROWSER


def test_a_click_finds_more_like_it_and_back_leads_back(page: Page) -> None:
    before = first_ids(page)
    tiles(page).nth(5).locator(".picture").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")
    assert state(page) == {"like": before[5]}
    assert shown_distances(page)[:10] == sorted(shown_distances(page)[:10])
    page.go_back()
    expect(page.locator("#query")).to_be_hidden()
    assert first_ids(page) == before


def test_pictures_are_marked_for_and_against_and_searched_again(page: Page) -> None:
    ids = first_ids(page)
    tiles(page).nth(1).hover()
    tiles(page).nth(1).get_by_role("button", name="Like this", exact=True).click()
    tiles(page).nth(3).hover()
    tiles(page).nth(3).get_by_role("button", name="Not like this").click()
    expect(page.locator("#query-pictures .chip.waiting")).to_have_count(2)
    assert state(page) == {"plus": ids[1], "minus": ids[3]}
    page.mouse.move(1, 1)
    page.evaluate("document.activeElement.blur()")
    for n, name in ((1, "plus"), (3, "minus")):  # a mark shows its own button alone
        expect(tiles(page).nth(n).locator(".act:visible")).to_have_count(1)
        expect(tiles(page).nth(n).locator(".act:visible")).to_have_attribute("data-act", name)
    with page.expect_request("**/api/search") as asked:
        page.get_by_role("button", name="Search again").click()
    sent = json.loads(asked.value.post_data)
    assert (sent["ids"], sent["not_ids"]) == ([int(ids[1])], [int(ids[3])])
    assert state(page) == {"like": ids[1], "not": ids[3]}
    expect(page.locator("#summary")).to_have_text("202 pictures, nearest first")
    page.get_by_role("button", name="Remove: not like").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


def test_a_mark_against_alone_cannot_be_searched_with(page: Page) -> None:
    wait_for_pictures(page)
    tiles(page).nth(3).focus()
    page.keyboard.press("-")
    expect(page.locator("#again")).to_be_disabled()
    page.keyboard.press("Escape")  # marks are work, and no key loses them
    assert "minus" in state(page)
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#query")).to_be_hidden()
    page.go_back()
    assert "minus" in state(page)


def test_the_slider_cuts_off_what_is_far(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    expect(page.locator("#cut-off-text")).to_have_text("any distance")
    page.locator("#cut-off").fill("300")
    expect(page.locator("#summary")).to_contain_text("up to")
    limit = float(state(page)["max"])
    shown = shown_distances(page)
    assert shown
    assert max(shown) <= limit
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#summary")).to_contain_text(f"up to {limit:.2f}), nearest first")
    expect(page.locator("#cut-off")).not_to_have_value("1000")


def test_a_cut_off_before_the_first_says_how_to_go_on(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3&max=-1")
    expect(page.locator("#pictures-message h2")).to_have_text("No picture within distance -1.00")
    page.get_by_role("button", name="Show all distances").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


def test_keys_move_mark_open_and_search(page: Page) -> None:
    ids = first_ids(page)
    page.locator("#grid [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    assert state(page)["plus"] == ids[1]
    page.keyboard.press("+")
    assert "plus" not in state(page)
    page.keyboard.press("i")
    expect(page.locator("#details h2")).to_be_visible()
    page.keyboard.press("ArrowRight")  # the panel follows
    wait_until(page, "(id) => location.hash.includes(`item=${id}`)", ids[2])
    page.keyboard.press("Escape")
    expect(page.locator("#details")).to_be_hidden()
    page.keyboard.press("Control+End")
    expect(page.locator("#grid [role=gridcell]:focus")).to_have_attribute("data-position", "203")
    page.keyboard.press("Control+Home")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.locator("#grid [tabindex='0']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


def test_the_link_past_the_head_leaves_the_search_as_it_is(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3&fold=1")
    wait_for_pictures(page)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert {key: value for key, value in state(page).items() if key != "at"} == {"like": "3", "fold": "1"}


def test_how_it_looks_is_chosen_and_kept(page: Page) -> None:
    wait_for_pictures(page)
    page.get_by_role("button", name="Appearance").click()
    page.get_by_label("Dark").check()
    page.get_by_label("Whole picture").check()
    page.locator("#size").fill("300")
    columns = page.locator("#grid").get_attribute("aria-colcount")
    page.reload()
    wait_for_pictures(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    assert page.locator("#grid").get_attribute("aria-colcount") == columns
    assert page.evaluate("getComputedStyle(document.querySelector('#grid img')).objectFit") == "contain"
