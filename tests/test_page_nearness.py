"""The page: bands of similarity, the line where it ends, ties, and distances on demand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from web import NEEDS_BROWSER, Page, drop, expect, tab, tiles, wait_for_pictures, wait_until

pytestmark = NEEDS_BROWSER

IN_SIGHT = """() => [...document.querySelectorAll("#grid .tile[data-id]")].filter((tile) => tile.checkVisibility())
  .map((tile) => ({ ...tile.dataset, text: tile.querySelector(".distance").textContent,
    about: tile.querySelector("a").title, label: tile.querySelector(".label").textContent,
    isBelow: tile.matches(".below-line"), note: tile.querySelector(".line-note")?.textContent }))
  .sort((a, b) => a.position - b.position)"""
NAMES = {"file": "same file", "same": "same picture", "veryClose": "very close", "close": "close", "far": "far"}


@pytest.fixture(scope="module")
def bands(server: str) -> dict[str, Any]:
    """What the server has calibrated."""
    deadline = time.monotonic() + 120
    while (answer := httpx2.get(f"{server}api/bands")).status_code == 202:
        assert answer.json()["stage"] == "altered copies"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    found: dict[str, Any] = answer.json()["bands"]
    assert (found["pictures"], found["copies"]) == (204, 128)
    return found


def in_sight(page: Page) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = page.evaluate(IN_SIGHT)
    return shown


def one_with_close_ones(page: Page, server: str, bands: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """A picture with some pictures above the line, and the line in sight; and the answers to it."""
    for id_ in range(1, 100):
        asked = page.request.post(f"{server}api/search", data={"ids": [id_], "top": 203}).json()
        if 3 <= sum(hit["distance"] <= bands["picture"]["close"] for hit in asked["hits"]) < 100:
            return id_, asked
    raise AssertionError("no picture has close ones")


def test_bands_and_the_line_follow_what_was_calibrated(page: Page, server: str, bands: dict[str, Any]) -> None:
    page.set_viewport_size({"width": 900, "height": 600})
    id_, asked = one_with_close_ones(page, server, bands)
    page.goto(f"{server}#like={id_}")
    wait_for_pictures(page)
    expect(tiles(page).first).not_to_have_attribute("data-band", "")
    assert asked["compared"] == "picture"

    def expected(hit: dict[str, Any]) -> str:
        if bands["same"] is not None and hit["code_distance"] <= bands["same"]:
            return "same"
        reach = bands["picture"]
        return (
            "veryClose"
            if hit["distance"] <= reach["very_close"]
            else "close"
            if hit["distance"] <= reach["close"]
            else "far"
        )

    line = next(n for n, hit in enumerate(asked["hits"]) if hit["distance"] > bands["picture"]["close"])
    assert 0 < line < 150
    expect(page.locator("#reading")).to_have_text(f"{line} are close.")
    page.evaluate("(y) => window.scrollTo(0, y)", 0)
    columns = int(page.locator("#grid").get_attribute("aria-colcount"))
    row = page.evaluate("parseFloat(document.querySelector('#grid').style.getPropertyValue('--row'))")
    page.evaluate("(y) => window.scrollTo(0, y)", row * (line // columns))
    expect(page.locator(".line-note:visible")).to_have_text("Far from here on")
    for shown in in_sight(page):
        position = int(shown["position"])
        hit = asked["hits"][position]
        assert (shown["band"], shown["text"]) == (expected(hit), NAMES[expected(hit)]), position
        assert f"Distance {hit['distance']:.2f}." in shown["about"]
        assert bool(shown.get("note")) == (position == line)
        assert shown["isBelow"] == (max(line, columns) <= position < line + columns and position >= line), position
    page.get_by_role("button", name="Appearance").click()
    page.get_by_label("Distances as numbers").check()
    some = in_sight(page)[3]
    assert some["text"] == f"{NAMES[some['band']]} {float(some['distance']):.2f}"
    assert not page.locator("#cut-line").is_hidden()
    page.keyboard.press("Escape")
    at = page.locator("#cut-line").evaluate("(mark) => 10 * parseFloat(mark.style.left)")
    page.locator("#cut-off").fill(str(round(at) + 4))  # near the mark is at the mark
    expect(page.locator("#cut-off-text")).to_have_text("all that are close")
    expect(page.locator("#summary")).to_have_text(f"{line} pictures (all that are close), nearest first")
    assert {shown["band"] for shown in in_sight(page)} <= {"same", "veryClose", "close"}


def test_bands_that_come_after_the_answers_are_drawn_all_the_same(
    browser: Any, server: str, bands: dict[str, Any]
) -> None:
    with tab(browser) as page:
        held: list[Any] = []
        page.route("**/api/bands", lambda route: held.append(route))
        id_, asked = one_with_close_ones(page, server, bands)
        near = sum(hit["distance"] <= bands["picture"]["close"] for hit in asked["hits"])
        page.goto(f"{server}#like={id_}")
        wait_for_pictures(page)
        assert {shown["text"] for shown in in_sight(page)} == {""}
        for route in held:
            route.fulfill(json={"bands": bands})
        expect(page.locator("#reading")).to_have_text(f"{near} are close.")
        assert in_sight(page)[0]["text"] in NAMES.values()


def test_a_line_that_is_not_loaded_yet_is_told_as_far_as_it_is_known(
    browser: Any, server: str, bands: dict[str, Any]
) -> None:
    with tab(browser) as page:
        hits = page.request.post(f"{server}api/search", data={"ids": [3], "top": 203}).json()["hits"]
        close = hits[150]["distance"]
        near = sum(hit["distance"] <= close for hit in hits)
        answer = {"bands": bands | {"picture": bands["picture"] | {"close": close}}}
        page.route("**/api/bands", lambda route: route.fulfill(json=answer))
        page.goto(f"{server}#like=3")
        expect(page.locator("#reading")).to_have_text("At least 100 are close.")
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        expect(page.locator("#reading")).to_have_text(f"{near} are close.")


def test_the_same_file_and_ties_are_named_and_several_pictures_have_no_bands(
    page: Page, server: str, collection: Path, bands: dict[str, Any]
) -> None:
    wait_for_pictures(page)
    original = next(
        file for file in sorted((collection / "photos").rglob("*.png")) if file.with_stem(f"{file.stem} again").exists()
    )
    drop(page, original.read_bytes())
    expect(tiles(page).first).not_to_have_attribute("data-band", "")
    shown = in_sight(page)
    equal = [each for each in shown if each["distance"] == shown[0]["distance"]]
    assert [each["text"] for each in equal].count("same file") == 1
    assert 2 <= len(equal) < len(shown)  # the copy has other bytes
    assert [" tie · " in each["label"] for each in equal] == [True] + [False] * (len(equal) - 1)
    assert shown[0]["label"].startswith(f"{len(equal)} tie · ")
    assert f"{len(equal)} pictures are equally near: their codes are equal." in equal[-1]["about"]
    page.goto(f"{server}#like=3,9")
    expect(page.locator("#reading")).to_contain_text("Searched with several pictures")
    wait_until(page, f"() => ({IN_SIGHT})().every((tile) => tile.band === '' && tile.text === '')")


def test_an_error_leaves_no_count_of_other_answers(page: Page, server: str) -> None:
    page.goto(f"{server}#like=3")
    expect(page.locator("#summary")).to_contain_text("nearest first")
    page.evaluate("location.hash = '#like=99999'")
    expect(page.locator("#pictures-message h2")).to_have_text("Not in this collection")
    expect(page.locator("#summary")).to_be_empty()
    expect(page.locator("#reading")).to_be_hidden()


def test_a_server_that_cannot_tell_shows_the_order_alone(browser: Any, server: str) -> None:
    with tab(browser) as page:
        page.route("**/api/bands", lambda route: route.fulfill(json={"bands": None}))
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        assert {shown["text"] for shown in in_sight(page)} == {""}
        assert page.locator("#cut-line").is_hidden()
        assert in_sight(page)[0]["about"].startswith("Distance ")
