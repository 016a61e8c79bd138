"""The page: the map."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from web import (
    KIND,
    NEEDS_BROWSER,
    Page,
    Site,
    axe_violations,
    expect,
    state,
    wait_until,
)

pytestmark = NEEDS_BROWSER

PICTURE = """() => {  // the middle of a picture on the canvas
  const canvas = document.querySelector("#plane"), side = 24;
  const context = canvas.getContext("2d");
  for (let y = 0; y < canvas.height - side; y += 8) for (let x = 0; x < canvas.width - side; x += 8) {
    const pixels = context.getImageData(x, y, side, side).data;
    if (pixels.every((value, at) => at % 4 < 3 || value > 200)) return [x + side / 2, y + side / 2];
  }
  return null;
}"""
COLOURS = """(() => {  // how many colours the canvas has
  const canvas = document.querySelector("#plane");
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels.filter((value) => value >>> 24 > 220)).size;
})()"""


def test_the_map_moves_zooms_and_a_lasso_lists_what_it_holds(page: Page) -> None:
    page.get_by_role("link", name="Map").click()
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    plane = page.locator("#plane")
    box = plane.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -600)
    wait_until(page, "location.hash.includes('map=')")
    zoomed = [float(value) for value in state(page)["map"].split(",")]
    assert zoomed[2] > 0.5
    plane.focus()
    page.keyboard.press("ArrowRight")
    wait_until(
        page, "(x) => Number(new URLSearchParams(location.hash.slice(1)).get('map').split(',')[0]) > x", zoomed[0]
    )
    page.keyboard.press("0")
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for x, y in ((0.6, 0.01), (0.6, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
    page.mouse.up()
    expect(page.locator("#map-list img.loaded").first).to_be_visible()
    listed = int(page.locator("#map-list-text").inner_text().split()[0])
    assert 0 < listed < 204
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#map-list-text")).to_have_text(f"{listed} pictures")
    page.get_by_role("button", name="More like these").click()
    expect(page.locator("#summary")).to_contain_text("nearest first")
    assert 1 < len(state(page)["like"].split(",")) <= 16
    page.get_by_role("link", name="Map").click()  # the lasso has done its work
    expect(page.locator("#map-text")).to_have_text("204 pictures, 204 nearest")
    expect(page.locator("#map-list")).to_be_hidden()


def test_deep_in_the_map_what_is_in_view_is_still_told_apart(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    plane = page.locator("#plane")
    plane.focus()
    for _ in range(28):
        page.keyboard.press("+")
    page.keyboard.press("Enter")
    wait_until(page, "location.hash.includes('lasso=') && /map=[^&]*,14(&|$)/.test(location.hash)")
    corners = [float(value) for value in state(page)["lasso"].split(",")]
    x, y, zoom = (float(value) for value in state(page)["map"].split(","))
    assert zoom == 14
    assert corners[0] < x < corners[2]
    assert corners[1] < y < corners[5]
    assert (x - corners[0]) / (corners[2] - corners[0]) == pytest.approx(0.5, abs=0.05)


def test_a_filter_holds_on_the_map_and_moves_nothing(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map&lasso=-9,-9,9,-9,9,9,-9,9")
    expect(page.locator("#map-list-text")).to_have_text("204 pictures")
    page.locator("#where").fill(f"label = {KIND}")
    page.keyboard.press("Enter")
    expect(page.locator("#map-text")).to_have_text(re.compile(r"^[1-9]\d? of 204 pictures$"))
    matched = int(page.locator("#map-text").inner_text().split()[0])
    expect(page.locator("#map-list-text")).to_have_text(f"{matched} pictures")
    page.reload()
    expect(page.locator("#map-list-text")).to_have_text(f"{matched} pictures")
    page.locator("#where").fill("width > 999")
    page.keyboard.press("Enter")
    expect(page.locator("#map-message h2")).to_have_text("No picture matches")
    page.get_by_role("button", name="Clear the filter").click()
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    expect(page.locator("#map-list-text")).to_have_text("204 pictures")


def test_the_map_comes_back_when_another_filter_failed(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    page.route("**/api/map?where=*", lambda route: route.fulfill(status=500, json={"detail": "broken"}))
    page.evaluate("location.hash = '#view=map&where=width+>+130'")
    expect(page.locator("#map-message h2")).to_have_text("The map could not be drawn")
    page.evaluate("location.hash = '#view=map'")
    expect(page.locator("#map-message")).to_be_hidden()
    expect(page.locator("#map-text")).to_have_text("204 pictures")


def test_the_map_tells_what_is_under_the_pointer_and_lists_what_is_in_view(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    wait_until(page, f"({PICTURE})() !== null")
    box = page.locator("#plane").bounding_box()
    x, y = page.evaluate(PICTURE)
    page.mouse.move(box["x"] + x, box["y"] + y)
    found = page.locator("#map-hover")
    expect(found.locator("b")).to_have_text(re.compile(r"\d+.*\.png"))
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#details dl")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#plane").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#map-list-text")).to_have_text("204 pictures")


def test_the_map_is_coloured_by_a_column_and_its_regions_have_names(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map")
    menu = page.locator("#map-colour")
    expect(menu.locator("option", has_text="Label")).to_have_count(1)
    menu.select_option("label")
    expect(page.locator("#map-legend li").first).to_be_visible()
    assert KIND in page.locator("#map-legend").inner_text()
    wait_until(page, f"{COLOURS} > 3")
    assert state(page)["colour"] == "label"
    menu.select_option("size")
    expect(page.locator("#map-legend .ramp")).to_be_visible()
    menu.select_option("density")
    expect(page.locator("#map-legend li")).to_have_count(0)
    page.reload()
    expect(menu).to_have_value("density")
    assert not axe_violations(page)


def test_a_search_stands_out_on_the_map_up_to_its_largest_distance(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map&like=5")
    text = page.locator("#map-text")
    expect(text).to_have_text("204 pictures, 201 nearest")
    cut = page.locator("#cut-off")
    expect(cut).to_be_visible()
    cut.evaluate("(slider) => { slider.value = 300; slider.dispatchEvent(new Event('input')); }")
    expect(text).not_to_have_text("204 pictures, 201 nearest")
    nearest = int(text.inner_text().split(", ")[1].split()[0])
    assert 1 < nearest < 201


def test_a_double_click_zooms_and_opens_nothing(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map")
    wait_until(page, f"({PICTURE})() !== null")
    box, (x, y) = page.locator("#plane").bounding_box(), page.evaluate(PICTURE)
    page.mouse.dblclick(box["x"] + x, box["y"] + y)
    wait_until(page, "location.hash.includes('map=')")
    page.wait_for_timeout(400)
    assert float(state(page)["map"].split(",")[2]) == 1
    expect(page.locator("#details")).to_be_hidden()


def test_the_map_moves_to_a_picture(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map&find=7")
    wait_until(page, "location.hash.includes('map=')")
    assert float(state(page)["map"].split(",")[2]) == 3
    assert "find" not in state(page)


@pytest.mark.parametrize("size", [(844, 390), (720, 450)])
def test_the_map_has_room_in_a_low_window(page: Page, server: str, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(f"{server}#view=map&like=5")
    expect(page.locator("#map-text")).to_have_text("204 pictures, 201 nearest")
    box = page.locator("#plane").bounding_box()
    assert box["height"] >= 240
    page.locator(".map-tools").scroll_into_view_if_needed()
    expect(page.locator("#lasso")).to_be_in_viewport()


def test_a_site_opens_a_link_to_the_coloured_map_of_a_server(visit: Callable[..., Page], site: Site) -> None:
    page = visit(site, "#view=map&colour=label")
    wait_until(page, "location.hash === '#view=map'")
    expect(page.locator("#map-colour")).to_have_value("")
    expect(page.locator("#map-text")).to_contain_text("pictures")
    expect(page.locator("#toast")).to_have_text("")
