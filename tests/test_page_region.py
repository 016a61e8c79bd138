"""The page: a region of the picture that is searched with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from web import (
    NEEDS_BROWSER,
    Page,
    expect,
    state,
    tab,
    wait_for_pictures,
)

pytestmark = NEEDS_BROWSER


def test_a_region_drawn_by_mouse_is_searched_with(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    page.get_by_role("button", name="Region").click()
    expect(page.locator("#region-box")).to_be_visible()
    box = page.locator("#region-image").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    with page.expect_request("**/api/search") as asked:
        page.locator("#region-use").click()
    sent = json.loads(asked.value.post_data)
    assert sent["box"] == [int(value) for value in state(page)["box"].split(",")]
    assert sent["box"][2] < 120
    expect(page.locator("#query-pictures .region")).to_be_visible()


def test_a_region_can_be_drawn_by_keys_and_taken_back(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    page.keyboard.press("b")
    expect(page.locator("#region-box")).to_be_focused()
    before = page.locator("#region-text").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert page.locator("#region-text").inner_text() != before
    page.keyboard.press("Enter")
    expect(page.locator("#region-button")).to_have_text("Change region")
    assert len(state(page)["box"].split(",")) == 4
    page.get_by_role("button", name="Change region").click()
    page.get_by_role("button", name="Whole picture").click()
    expect(page.locator("#region-button")).to_have_text("Region")
    assert "box" not in state(page)


def test_a_region_can_be_drawn_by_finger(browser: Any, server: str) -> None:
    with tab(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as phone:
        phone.goto(f"{server}#like=3")
        wait_for_pictures(phone)
        phone.get_by_role("button", name="Region").tap()
        expect(phone.locator("#region-box")).to_be_visible()  # the picture has come, and the stage its size
        box = phone.locator("#region-image").bounding_box()
        touch = phone.context.new_cdp_session(phone)
        for kind, share in (("touchStart", 0.1), ("touchMove", 0.4), ("touchMove", 0.8)):
            point = {"x": box["x"] + share * box["width"], "y": box["y"] + share * box["height"]}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        phone.locator("#region-use").click()  # Playwright makes no click of a tap after raw touches
        expect(phone.locator("#query-pictures .region")).to_be_visible()
        x, _, width, _ = map(int, state(phone)["box"].split(","))
        assert x == pytest.approx(0.1 * 120, abs=4) or x > 0
        assert width > x
