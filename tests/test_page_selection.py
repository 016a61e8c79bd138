"""The page: pictures are selected, and something is done with all of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from web import NEEDS_BROWSER, Page, Site, expect, state, tab, tiles, wait_for_pictures, wait_until

pytestmark = NEEDS_BROWSER


def told(page: Page) -> Any:
    return page.locator("#selection-text")


def do(page: Page, act: str) -> Any:
    return page.locator(f"#selection [data-do={act}]")


def saved(page: Page, act: str) -> tuple[str, bytes]:
    """Press a button of the bar, and return the name and the bytes of what the browser saves."""
    with page.expect_download() as download:
        do(page, act).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def results(page: Page, server: str, count: int) -> list[dict[str, Any]]:
    answer = page.request.post(f"{server}api/search", data={"ids": [3], "top": count})
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


@pytest.fixture
def answers(page: Page, server: str) -> Page:
    """The page with the answers to a search."""
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    return page


def test_forty_matches_are_selected_and_downloaded_as_a_zip_in_four_actions(
    answers: Page, server: str, collection: Path
) -> None:
    first = tiles(answers).first
    first.hover()
    first.get_by_role("button", name="Select").click()  # one
    fortieth = answers.locator("#grid .tile[data-position='39']")
    answers.mouse.wheel(0, 1200)  # two
    fortieth.locator(".picture").click(modifiers=["Shift"])  # three
    expect(told(answers)).to_have_text("40 selected")
    name, data = saved(answers, "zip")  # four
    assert re.fullmatch(r"photos 40 [\d-]+ [\d.]+\.zip", name)
    hits = results(answers, server, 40)
    with ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        assert found.namelist() == [Path(hit["path"]).name for hit in hits]
        for hit in hits:
            assert found.read(Path(hit["path"]).name) == (collection / "photos" / hit["path"]).read_bytes()
    expect(answers.locator("#toast")).to_contain_text("ZIP of 40 pictures")
    assert state(answers)["like"] == "3"  # still there


def test_paths_and_a_table_of_the_selection(browser: Any, server: str, collection: Path) -> None:
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        for n in (1, 0, 2):
            tiles(page).nth(n).locator(".picture").click(modifiers=["ControlOrMeta"])
        expect(told(page)).to_have_text("3 selected")
        do(page, "paths").click()
        expect(page.locator("#toast")).to_have_text("3 paths copied")
        hits = results(page, server, 3)
        files = [str(collection / "photos" / hits[n]["path"]) for n in (1, 0, 2)]
        assert page.evaluate("navigator.clipboard.readText()").split("\n") == files
        page.evaluate("navigator.clipboard.writeText('')")
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")  # as over plain http
        do(page, "paths").click()
        wait_until(page, "navigator.clipboard.readText()")
        assert page.evaluate("navigator.clipboard.readText()").split("\n") == files
        name, data = saved(page, "csv")
        assert name == "photos 3.csv"
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        assert [row["absolute path"] for row in rows] == files
        assert [float(row["distance"]) for row in rows] == [hits[n]["distance"] for n in (1, 0, 2)]
        assert int(rows[0]["bytes"]) == Path(files[0]).stat().st_size
        assert (rows[0]["label"], int(rows[0]["width"])) == (hits[1]["label"], hits[1]["width"])
        do(page, "like").click()
        wait_until(page, "location.hash.split('&')[0].split(',').length === 3")
        assert {int(id_) for id_ in state(page)["like"].split(",")} == {hit["id"] for hit in hits}
        expect(told(page)).to_have_text("3 selected")


def test_keys_select_and_esc_can_be_undone_and_a_reload_keeps_all(answers: Page) -> None:
    answers.keyboard.press("ControlOrMeta+a")
    expect(told(answers)).to_have_text("203 selected")  # all pages, without the query
    expect(tiles(answers).first).to_have_attribute("aria-selected", "true")
    answers.reload()
    wait_for_pictures(answers)
    expect(told(answers)).to_have_text("203 selected")
    answers.get_by_role("link", name="Map").click()
    answers.goto(answers.url.split("#")[0])
    wait_for_pictures(answers)
    expect(told(answers)).to_have_text("203 selected")  # in each view
    answers.keyboard.press("Escape")
    expect(told(answers)).to_have_text("Nothing selected")
    expect(tiles(answers).first).to_have_attribute("aria-selected", "false")
    expect(do(answers, "undo")).to_be_focused()
    answers.keyboard.press("Enter")
    expect(told(answers)).to_have_text("203 selected")
    do(answers, "none").click()
    answers.locator("#grid [tabindex='0']").focus()
    answers.keyboard.press("x")
    answers.keyboard.press("ArrowRight")
    answers.keyboard.press("x")
    expect(told(answers)).to_have_text("2 selected")
    answers.keyboard.press("x")
    expect(told(answers)).to_have_text("1 selected")
    answers.keyboard.press("Shift+ArrowRight")
    answers.keyboard.press("Shift+ArrowRight")
    expect(told(answers)).to_have_text("4 selected")
    answers.locator("#where").focus()
    answers.keyboard.press("ControlOrMeta+a")  # the text
    expect(told(answers)).to_have_text("4 selected")


def test_a_rubber_band_selects_what_it_touches_and_a_double_click_searches_once(answers: Page) -> None:
    at = answers.locator("#grid").bounding_box()
    second = tiles(answers).nth(1).bounding_box()
    below = answers.evaluate("getComputedStyle(document.querySelector('#grid')).getPropertyValue('--row')")
    columns = int(answers.locator("#grid").get_attribute("aria-colcount"))
    answers.mouse.move(second["x"] + 60, second["y"] + 60)
    answers.mouse.down()
    answers.mouse.move(second["x"] + 70, second["y"] + 80)
    answers.mouse.move(at["x"] + 20, second["y"] + 60 + float(below.removesuffix("px")), steps=4)
    expect(answers.locator(".band")).to_be_visible()
    answers.mouse.up()
    expect(told(answers)).to_have_text("4 selected")
    chosen = answers.locator("#grid .tile.selected")
    assert sorted(int(chosen.nth(n).get_attribute("data-position")) for n in range(4)) == [0, 1, columns, columns + 1]
    assert state(answers)["like"] == "3"  # the end of a drag is no click
    do(answers, "undo").click()
    expect(answers.locator("#grid .tile.selected")).to_have_count(0)
    first, steps = tiles(answers).first.get_attribute("data-id"), answers.evaluate("history.length")
    tiles(answers).first.locator(".picture").dblclick()
    wait_for_pictures(answers)
    assert state(answers)["like"] == first
    assert answers.evaluate("history.length") == steps + 1


def test_a_range_reaches_over_pages_that_are_not_loaded(browser: Any, server: str) -> None:
    total = 30_000
    asked: list[tuple[int, int]] = []

    def answer(route: Any) -> None:
        given = dict(re.findall(r"(\w+)=(\d+)", route.request.url))
        first, top = int(given["offset"]), int(given["top"])
        asked.append((first, top))
        route.fulfill(
            json={"items": [{"id": n, "path": f"{n}.png"} for n in range(first, first + top)], "total": total}
        )

    with tab(browser) as page:
        page.route("**/api/browse*", answer)
        page.route("**/thumbnail*", lambda route: route.abort())
        page.goto(server)
        expect(tiles(page).first).to_have_attribute("data-id", "0")
        tiles(page).first.locator(".picture").click(modifiers=["ControlOrMeta"])
        page.evaluate("window.scrollTo(0, 60000)")
        wait_until(page, "Number(document.elementFromPoint(600, 500).closest('.tile')?.dataset.id) > 1000")
        last = page.evaluate("Number(document.elementFromPoint(600, 500).closest('.tile').dataset.id)")
        page.locator(f"#grid .tile[data-id='{last}'] .picture").click(modifiers=["Shift"])
        expect(told(page)).to_have_text(f"{last + 1:,} selected")
        assert (100, 1000) in asked or (200, 1000) in asked
        page.keyboard.press("ControlOrMeta+a")
        expect(told(page)).to_have_text("10,000 selected")
        expect(page.locator("#toast")).to_have_text("10,000 pictures can be selected; 20,000 more are not.")


OUTSIDE = """() => {
  const bar = document.querySelector("#selection");
  const shown = [bar, ...bar.children].filter((one) => one.getClientRects().length);
  const room = document.querySelector(".bar").getBoundingClientRect();
  const isOut = (one, { left, right }) => one.left < left || one.right > right;
  return shown.filter((one) => one.scrollWidth > one.clientWidth + 1 || isOut(one.getBoundingClientRect(), room) ||
    (one !== bar && isOut(one.getBoundingClientRect(), bar.getBoundingClientRect()))).map((one) => one.id || one.title);
}"""


@pytest.mark.parametrize(("locale", "text"), [("en", "10,000 selected"), ("de", "10.000 ausgewählt")])
def test_the_bar_fits_in_windows_of_every_width(browser: Any, server: str, locale: str, text: str) -> None:
    with tab(browser, locale=locale) as page:
        for item in ("", "&item=5"):
            page.goto(f"{server}#like=3{item}")
            wait_for_pictures(page)
            page.keyboard.press("ControlOrMeta+a")
            expect(told(page)).to_contain_text("203")
            page.evaluate("(text) => { document.querySelector('#selection-text').textContent = text; }", text)
            outside = {}
            for width in [*range(320, 700, 60), *range(701, 1600, 20)]:
                page.set_viewport_size({"width": width, "height": 600})
                outside[width] = page.evaluate(OUTSIDE)
            assert not {width: names for width, names in outside.items() if names}
            page.keyboard.press("Escape")


def test_more_like_these_says_how_many_of_them_it_uses(answers: Page) -> None:
    answers.keyboard.press("ControlOrMeta+a")
    expect(told(answers)).to_have_text("203 selected")
    do(answers, "like").click()
    wait_until(answers, "new URLSearchParams(location.hash.slice(1)).get('like').split(',').length === 16")
    expect(answers.locator("#toast")).to_have_text("Searched with 16 of these 203 pictures")


def test_on_a_phone_a_long_press_selects_and_then_a_tap_does(browser: Any, server: str) -> None:
    with tab(browser, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as page:
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        mark = tiles(page).nth(1).get_by_role("button", name="Like this", exact=True)
        expect(mark).to_be_visible()
        mark.tap()
        assert state(page)["plus"]
        touch = page.context.new_cdp_session(page)
        box = tiles(page).first.bounding_box()
        point = {"x": box["x"] + 40, "y": box["y"] + 40}
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        expect(told(page)).to_have_text("1 selected")
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        tiles(page).nth(4).locator(".picture").tap()
        expect(told(page)).to_have_text("2 selected")
        assert state(page)["like"] == "3"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        do(page, "none").tap()
        id_ = tiles(page).nth(4).get_attribute("data-id")
        tiles(page).nth(4).locator(".picture").tap()
        wait_until(page, "(id) => location.hash.includes(`like=${id}`)", id_)


def test_the_map_selects_what_is_in_the_lasso_and_a_lost_picture_is_told(
    browser: Any, server: str, collection: Path
) -> None:
    with tab(browser) as page:
        page.goto(f"{server}#view=map&lasso=-99,-99,99,-99,99,99,-99,99")
        page.get_by_role("button", name="Select these").click()
        expect(told(page)).to_have_text("204 selected")
        file = next((collection / "photos").rglob("*.png"))
        kept = file.with_suffix(".kept")
        file.rename(kept)
        try:
            _, data = saved(page, "zip")
        finally:
            kept.rename(file)
        with ZipFile(io.BytesIO(data)) as found:
            assert len(found.namelist()) == 204  # 203 pictures, and the list
            assert file.name in found.read("not in this ZIP.txt").decode()


def test_another_collection_at_the_same_address_begins_without_a_selection(answers: Page) -> None:
    tiles(answers).first.locator(".picture").click(modifiers=["ControlOrMeta"])
    expect(told(answers)).to_have_text("1 selected")

    def renamed(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "name": "other.index"})

    answers.route("**/api/status", renamed)
    answers.reload()
    expect(answers.locator("#name")).to_have_text("other")
    expect(answers.locator("#selection")).to_be_hidden()


@pytest.fixture(scope="module")
def site_page(browser: Any, site: Site) -> Iterator[Page]:
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(site.address)
        wait_for_pictures(page)
        yield page


def test_a_static_site_selects_copies_and_saves_but_has_no_originals(site_page: Page, site: Site) -> None:
    page = site_page
    page.keyboard.press("ControlOrMeta+a")
    expect(told(page)).to_have_text(f"{len(site.index)} selected")
    expect(do(page, "zip")).to_have_count(0)
    do(page, "paths").click()
    expect(page.locator("#toast")).to_contain_text("paths copied")
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert paths == [item.path for item in site.index.store.items()]
    _, data = saved(page, "csv")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [row["path"] for row in rows] == paths
    assert {"shop", "price"} <= set(rows[0])
    assert "absolute path" not in rows[0]
    do(page, "like").click()
    wait_for_pictures(page)
    assert len(state(page)["like"].split(",")) == 16
    tiles(page).first.hover()
    tiles(page).first.get_by_role("button", name="Enlarge").click()
    expect(page.locator("#lightbox img").last).to_be_visible()
    expect(page.locator("#lightbox [data-tool=download]")).to_be_hidden()
    expect(page.locator("#lightbox .path")).to_have_text(re.compile(r"\.(png|jpg)$"))
