"""The page: pictures that are dropped, pasted or chosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from web import (
    NEEDS_BROWSER,
    Page,
    drop,
    expect,
    first_ids,
    paste,
    picture_file,
    state,
    tab,
    wait_for_pictures,
)

pytestmark = NEEDS_BROWSER


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_with(page: Page, collection: Path, event: str) -> None:
    wait_for_pictures(page)
    (drop if event == "drop" else paste)(page, next((collection / "photos").rglob("000.png")).read_bytes())
    expect(page.locator("#query-pictures .chip")).to_have_count(1)
    expect(page.locator("#summary")).to_have_text("204 pictures, nearest first")
    expect(
        page.locator("#grid img[alt*=', 000']").first
    ).to_be_in_viewport()  # it, or its copy, with others of the same code
    assert re.fullmatch(r"u-\w+", state(page)["like"])


def test_several_pictures_can_be_chosen_and_one_dropped_as_unlike(page: Page, collection: Path) -> None:
    page.locator("#file").set_input_files([picture_file(collection, 0), picture_file(collection, 50)])
    expect(page.locator("#query-pictures .chip.for")).to_have_count(2)
    wait_for_pictures(page)
    before = first_ids(page)
    drop(page, picture_file(collection, 120).read_bytes(), zone="[data-how=not]")
    expect(page.locator("#query-pictures .chip.against")).to_have_count(1)
    expect(page.locator("#region-button")).to_be_hidden()  # a region is of one picture
    assert first_ids(page) != before
    assert len(state(page)["like"].split(",")) == 2


def test_what_is_no_picture_is_said_so_and_what_was_there_stays(page: Page) -> None:
    wait_for_pictures(page)
    drop(page, b"hello", "notes.txt", "text/plain")
    expect(page.locator("#toast")).to_have_text("notes.txt is not a picture")
    assert state(page) == {}
    drop(page, b"\x89PNG broken", "broken.png")
    expect(page.locator("#pictures-message h2")).to_have_text("Cannot search with this")
    expect(page.locator("#pictures-message p")).to_contain_text("image 1")
    page.get_by_role("button", name="Show all pictures").click()
    wait_for_pictures(page)
    assert state(page) == {}


def test_a_reload_keeps_the_picture_that_was_given(page: Page, collection: Path) -> None:
    paste(page, picture_file(collection, 7).read_bytes())
    expect(page.locator("#query-pictures .chip img")).to_be_visible()
    before, address = first_ids(page), page.url
    page.reload()
    assert first_ids(page) == before
    assert page.url == address
    expect(page.locator("#query-pictures .chip img")).to_be_visible()


def test_a_link_to_a_picture_of_another_browser_says_so(browser: Any, server: str) -> None:
    with tab(browser) as other:
        other.goto(f"{server}#like=u-elsewhere")
        expect(other.locator("#pictures-message h2")).to_have_text("That picture is not in this browser")
