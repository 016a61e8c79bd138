"""The page: the lightbox."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from web import (
    NEEDS_BROWSER,
    Page,
    axe_violations,
    drop,
    expect,
    picture_file,
    served,
    state,
    tab,
    tiles,
    wait_for_pictures,
    wait_until,
)

pytestmark = NEEDS_BROWSER

BOX = "#lightbox[open]"
SCALE = "new DOMMatrix(getComputedStyle(document.querySelectorAll('.stage > *')[{}]).transform).a"


def level(page: Page, stage: int = 1) -> float:
    """How much the picture of a stage is enlarged: 0 is the left one, which only a comparison shows."""
    return float(page.evaluate(SCALE.format(stage)))


def tool(page: Page, name: str) -> Any:
    return page.locator(f"#lightbox [data-tool={name}]")


def shown(page: Page) -> str:
    """The id of the picture that is shown, as the address has it."""
    return state(page)["show"]


def open_box(page: Page, n: int) -> str:
    """Open the n-th tile, and return its id."""
    tiles(page).nth(n).hover()
    tiles(page).nth(n).get_by_role("button", name="Enlarge").click()
    expect(page.locator(BOX)).to_be_visible()
    id_ = tiles(page).nth(n).get_attribute("data-id")
    assert shown(page) == id_
    return str(id_)


@pytest.fixture
def answers(page: Page, server: str) -> Page:
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    return page


def test_it_shows_the_results_one_after_the_other_and_back_and_esc_close_it(answers: Page, collection: Path) -> None:
    page = answers
    ids = [tiles(page).nth(n).get_attribute("data-id") for n in range(4)]
    open_box(page, 1)
    expect(page.locator("#lightbox .titles p")).to_have_text("2 of 203")
    page.keyboard.press("ArrowRight")
    wait_until(page, "(id) => location.hash.includes(`show=${id}`)", ids[2])
    tool(page, "next").click()
    expect(page.locator("#lightbox .titles p")).to_have_text("4 of 203")
    expect(page.locator("#lightbox .path")).to_have_text(re.compile(page.locator("#lightbox h2").inner_text()))
    path = page.locator("#lightbox .path").inner_text()
    assert Path(path).is_relative_to(collection / "photos")
    assert Path(path).is_file()
    expect(page.locator("#lightbox h2")).to_have_text(Path(path).name)
    with page.expect_download() as download:
        tool(page, "download").click()
    assert download.value.suggested_filename == Path(path).name
    assert Path(download.value.path()).read_bytes() == Path(path).read_bytes()
    page.keyboard.press("x")
    expect(page.locator("#selection-text")).to_have_text("1 selected")
    page.keyboard.press("Escape")
    expect(page.locator(BOX)).to_have_count(0)
    expect(page.locator("#grid .tile:focus")).to_have_attribute("data-id", str(ids[3]))  # the one that was shown last
    assert "show" not in state(page)
    page.keyboard.press(" ")
    expect(page.locator(BOX)).to_be_visible()
    page.go_back()
    expect(page.locator(BOX)).to_have_count(0)
    expect(page.locator("#grid .tile:focus")).to_have_attribute("data-id", str(ids[3]))
    assert state(page)["like"] == "3"
    page.go_forward()
    expect(page.locator(BOX)).to_be_visible()
    page.reload()
    expect(page.locator("#lightbox img").last).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(BOX)).to_have_count(0)
    assert state(page)["like"] == "3"


def test_it_zooms_with_wheel_keys_and_double_click_and_moves_the_picture(answers: Page) -> None:
    page = answers
    open_box(page, 0)
    stage = page.locator(".stage").last
    box = stage.bounding_box()
    assert level(page) == 1
    page.mouse.move(box["x"] + box["width"] / 2 + 100, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    wait_until(page, f"{SCALE.format(1)} > 1.5")
    id_ = shown(page)
    before = stage.locator("img").bounding_box()
    page.keyboard.press("ArrowLeft")  # moves it, as it is enlarged
    page.wait_for_timeout(50)
    after = stage.locator("img").bounding_box()
    assert shown(page) == id_
    assert after["x"] > before["x"]
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 10)
    page.mouse.up()
    assert stage.locator("img").bounding_box()["x"] < after["x"]
    page.keyboard.press("0")
    assert level(page) == 1
    stage.dblclick()
    assert level(page) > 1
    page.keyboard.press("-")
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert level(page) == 1
    tool(page, "plus").click()
    assert level(page) == pytest.approx(1.5)


def test_two_pictures_are_compared_with_one_zoom_and_by_their_difference(answers: Page) -> None:
    page = answers
    for n in (4, 5):
        tiles(page).nth(n).locator(".picture").click(modifiers=["ControlOrMeta"])
    open_box(page, 2)
    page.keyboard.press("c")
    expect(page.locator("#lightbox.pair figure")).to_have_count(2)
    assert state(page)["against"] == "3"  # the query
    offered = page.locator("#lightbox .others button")
    expect(offered).to_have_count(3)  # the query, and what is selected
    page.keyboard.press("+")
    assert level(page, 0) == level(page, 1) == pytest.approx(1.5)
    offered.nth(1).click()
    assert state(page)["against"] == tiles(page).nth(4).get_attribute("data-id")
    page.keyboard.press("d")
    told = page.locator("#lightbox .difference output")
    expect(told).to_contain_text("of the pixels differ")
    expect(answers.locator("#lightbox .difference .names")).to_have_text(re.compile(r"^\S.*\.png against .*\.png$"))
    assert page.evaluate("""() => {
      const canvas = document.querySelector('.stage canvas');
      return new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size > 10;
    }""")
    page.reload()  # the address says it all
    expect(told).to_contain_text("of the pixels differ")
    page.keyboard.press("d")
    expect(page.locator("#lightbox .difference")).to_be_hidden()
    page.keyboard.press("c")
    assert "against" not in state(page)


def test_the_difference_of_copies_is_nothing(page: Page, server: str) -> None:
    copies = page.request.get(f"{server}api/browse", params={"where": "path ~ */000*"}).json()["items"]
    assert len(copies) == 2
    page.goto(f"{server}#show={copies[0]['id']}&against={copies[1]['id']}&differ=1")
    expect(page.locator("#lightbox .difference output")).to_have_text("No pixel differs")


def test_an_upload_is_compared_with_what_was_found(page: Page, collection: Path) -> None:
    wait_for_pictures(page)
    file = picture_file(collection, 7)
    drop(page, file.read_bytes())
    expect(page.locator("#query .chip")).to_have_count(1)
    wait_for_pictures(page)
    open_box(page, 0)
    page.keyboard.press("d")
    expect(page.locator("#lightbox .difference output")).to_have_text("No pixel differs")  # it is in the collection
    page.keyboard.press("c")
    size = "[...document.querySelectorAll('.stage img')].map((image) => image.naturalWidth)"
    wait_until(page, f"({size})[0] > 0 && ({size})[0] === ({size})[1]")


def test_the_original_is_loaded_when_it_is_needed(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.linear_gradient("L").resize((3000, 2000)).convert("RGB").save(tmp_path / "photos" / "large.tif")
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(tmp_path / "photos" / "small.png")
    ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "photos").close()
    with served(tmp_path / "i", tiny_model, tmp_path / "cache") as server, tab(browser) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(server)))
        page.goto(f"{server}#show=1")
        size = "document.querySelectorAll('.stage img')[1]?.naturalWidth"
        wait_until(page, f"{size} === 1024")
        page.wait_for_timeout(400)
        assert "api/items/1/image" not in asked
        for _ in range(4):
            page.keyboard.press("+")
        wait_until(page, f"{size} === 3000")  # a TIFF comes as PNG
        page.goto(f"{server}#show=2")
        wait_until(page, f"{size} === 300")
        assert "api/items/2/image" in asked
        assert "api/items/2/thumbnail?size=1024" not in asked


def test_a_finger_swipes_to_the_next_picture_pinches_and_closes(browser: Any, server: str) -> None:
    with tab(browser, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as page:
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        ids = [tiles(page).nth(n).get_attribute("data-id") for n in range(3)]
        tiles(page).nth(1).get_by_role("button", name="Details").tap()
        page.locator("#details .large a").tap()
        expect(page.locator(BOX)).to_be_visible()
        touch = page.context.new_cdp_session(page)

        def fingers(*steps: list[tuple[float, float]]) -> None:
            for n, points in enumerate(steps):
                kind = "touchStart" if n == 0 else "touchMove"
                given = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
                touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": given})
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        fingers([(300, 400)], [(200, 402)], [(120, 405)])
        wait_until(page, "(id) => location.hash.includes(`show=${id}`)", ids[2])
        fingers([(100, 400)], [(200, 402)], [(300, 405)])
        wait_until(page, "(id) => location.hash.includes(`show=${id}`)", ids[1])
        fingers([(180, 400), (220, 400)], [(140, 400), (260, 400)], [(80, 400), (320, 400)])
        assert level(page) > 1.5
        assert shown(page) == ids[1]
        page.keyboard.press("0")
        fingers([(200, 300)], [(200, 400)], [(202, 520)])
        expect(page.locator(BOX)).to_have_count(0)


def test_the_folder_opens_and_the_path_is_copied_also_without_a_clipboard(browser: Any, server: str) -> None:
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        asked: list[str] = []

        def can_show(route: Any) -> None:
            route.fulfill(json={**route.fetch().json(), "can_show": True})

        def show(route: Any) -> None:
            asked.append(route.request.method)
            route.fulfill(status=204)

        page.route(re.compile(r"api/items/\d+$"), can_show)
        page.route("**/show", show)
        page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error())")
        page.goto(f"{server}#show=3&item=3")
        box = page.locator("#lightbox .file")
        box.get_by_role("button", name="Copy path").click()
        expect(box.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#lightbox .path").inner_text()
        box.get_by_role("button", name="Show in folder").click()
        wait_until(page, "true")
        page.keyboard.press("Escape")
        page.locator("#details").get_by_role("button", name="Show in folder").click()
        page.wait_for_timeout(100)
        assert asked == ["POST", "POST"]


def test_the_focus_returns_from_the_details_to_the_pictures(answers: Page) -> None:
    answers.locator("#grid [tabindex='0']").focus()
    answers.keyboard.press("ArrowRight")
    tiles(answers).nth(1).get_by_role("button", name="Details").click()
    expect(answers.locator("#details")).to_be_focused()
    answers.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    wait_until(answers, "!document.querySelector(\"#grid .tile[data-position='1']:not([hidden])\")?.checkVisibility()")
    answers.keyboard.press("Escape")
    wait_until(answers, "document.activeElement.matches('#grid .tile, #grid .tile *')")


def test_axe_finds_nothing_in_the_lightbox_or_the_bar(browser: Any, server: str) -> None:
    found = []
    for scheme, width in (("light", 1280), ("dark", 390)):
        with tab(browser, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
            page.goto(f"{server}#like=3")
            wait_for_pictures(page)
            tiles(page).nth(1).locator(".picture").click(modifiers=["ControlOrMeta"])
            tiles(page).nth(2).locator(".picture").click(modifiers=["ControlOrMeta"])
            page.mouse.move(0, 0)
            found += axe_violations(page)
            page.locator("#grid [tabindex='0']").focus()
            page.keyboard.press(" ")
            expect(page.locator("#lightbox .path")).to_be_visible()
            found += axe_violations(page)
            page.keyboard.press("d")
            expect(page.locator("#lightbox .difference output")).not_to_be_empty()
            found += axe_violations(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            lost = "[...document.querySelectorAll('use')].map((use) => use.getAttribute('href')).filter((id) => !$(id))"
            assert page.evaluate(f"(() => {{ const $ = (id) => document.querySelector(id); return {lost}; }})()") == []
    assert not found


def test_a_picture_that_an_address_opens_has_its_place_in_the_results_and_esc_leads_to_it(
    browser: Any, server: str
) -> None:
    with tab(browser) as page:
        page.goto(f"{server}#like=3")
        wait_for_pictures(page)
        ids = [tiles(page).nth(n).get_attribute("data-id") for n in range(4)]
        page.evaluate("(id) => { location.hash += `&show=${id}`; }", ids[2])
        page.route("**/api/search", lambda route: (page.wait_for_timeout(300), route.continue_()))  # after the picture
        page.reload()
        expect(page.locator("#lightbox .titles p")).to_have_text("3 of 203")
        tool(page, "next").click()
        expect(page.locator("#lightbox .titles p")).to_have_text("4 of 203")
        assert shown(page) == ids[3]
        page.keyboard.press("Escape")
        expect(tiles(page).nth(3)).to_be_focused()


def test_it_is_as_wide_as_the_page_beside_its_scroll_bar(answers: Page) -> None:
    open_box(answers, 1)
    room = """() => {
      const all = document.body.appendChild(document.createElement("div"));
      all.style.cssText = "position: fixed; inset: 0";
      return [all, document.querySelector("#lightbox")].map((one) => one.getBoundingClientRect().width);
    }"""
    page_width, width = answers.evaluate(room)
    assert width == page_width
