"""The page: answers that come late, or not at all, neither replace newer ones nor are missed for good."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spq.model.model import Model
from test_page_copies import compare, groups, write_pairs
from web import NEEDS_BROWSER, Page, expect, served, tab, wait_for_pictures, wait_until

pytestmark = NEEDS_BROWSER

LOOK_NOW = "window.dispatchEvent(new Event('online'))"
FAULT = {"status": 503, "json": {"detail": "too much to do"}, "headers": {"Retry-After": "60"}}


class Held:
    """The first request of some address: it waits until `release`."""

    def __init__(
        self, page: Page, address: str | re.Pattern[str], fits: Callable[[Any], bool] = lambda _: True
    ) -> None:
        self.routes: list[Any] = []
        self.page, self.fits = page, fits
        page.route(address, self.take)

    def take(self, route: Any) -> None:
        if self.routes or not self.fits(route.request):
            route.fallback()
        else:
            self.routes.append(route)

    def wait(self) -> None:
        while not self.routes:
            self.page.wait_for_timeout(20)

    def release(self) -> None:
        self.routes[0].continue_()
        self.page.wait_for_timeout(300)


def changed(page: Page, address: str | re.Pattern[str], change: Callable[[Any], Any]) -> None:
    """Let a function change the content of answers; the request fails if it returns None."""

    def answer(route: Any) -> None:
        found = route.fetch()
        content = change(found.json())
        if content is None:
            route.fulfill(**FAULT)
        else:
            route.fulfill(response=found, json=content)

    page.route(address, answer)


def test_the_title_is_that_of_the_search_of_now(page: Page, server: str) -> None:
    wait_for_pictures(page)
    held = Held(page, "**/api/items/3")
    page.evaluate("location.hash = '#like=3'")
    held.wait()
    page.evaluate("location.hash = ''")
    expect(page).to_have_title("photos")
    held.release()
    assert page.title() == "photos"


def test_a_filter_that_was_replaced_says_nothing_any_more(page: Page) -> None:
    wait_for_pictures(page)
    held = Held(page, "**/api/browse?where=*")
    page.locator("#where").fill("width >")
    page.keyboard.press("Enter")
    held.wait()
    page.locator("#where").fill("width > 1")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_have_text("204 of 204 pictures")
    held.release()
    assert page.locator("#where-error").is_hidden()
    assert page.locator("#summary").inner_text() == "204 of 204 pictures"


def test_the_slider_comes_although_the_search_was_shown_again_meanwhile(page: Page, server: str) -> None:
    held = Held(page, "**/api/search", lambda request: '"top":1,' in request.post_data)
    page.goto(f"{server}#like=3")
    held.wait()
    page.evaluate("location.hash = '#like=3&max=4'")
    expect(page.locator("#summary")).to_contain_text("up to 4.00")
    held.release()
    expect(page.locator("#cut-off")).to_be_visible()


def test_the_slider_comes_with_the_next_look_if_it_could_not_be_measured(page: Page, server: str) -> None:
    failed: list[str] = []

    def refuse(route: Any) -> None:
        if not failed and '"top":1,' in route.request.post_data:
            failed.append(route.request.url)
            route.fulfill(**FAULT)
        else:
            route.fallback()

    page.route("**/api/search", refuse)
    page.goto(f"{server}#like=3")
    wait_for_pictures(page)
    wait_until(page, "!document.querySelector('#query').hidden")
    page.evaluate("location.hash = '#like=3&max=400'")
    expect(page.locator("#cut-off")).to_be_visible()
    assert failed


def test_new_pictures_are_offered_although_one_question_failed(page: Page) -> None:
    wait_for_pictures(page)
    answers = [None]
    changed(page, "**/api/status", lambda status: {**status, "generation": status["generation"] + 1})
    changed(page, "**/api/browse?order=new*", lambda found: answers.pop() if answers else {**found, "total": 7})
    for _ in range(2):
        page.evaluate(LOOK_NOW)
        page.wait_for_timeout(300)
    expect(page.locator("#news-text")).to_have_text("7 new pictures")


def test_the_map_is_arranged_although_another_view_was_open_meanwhile(page: Page, server: str) -> None:
    computing = {"state": "computing", "stage": "comparing", "done": 2, "total": 10}
    progress: list[Any] = [computing]

    def map_of(route: Any) -> None:
        found = route.fetch()
        method = "neighbours" if "method=neighbours" in route.request.url else "pca"
        route.fulfill(response=found, json={**found.json(), "method": method, "arranging": progress[0]})

    page.route(re.compile(r"/api/map(\?.*)?$"), map_of)
    changed(page, "**/api/map/progress", lambda _: {"arranging": progress[0]})
    page.goto(f"{server}#view=map")
    expect(page.locator("#map-progress")).to_contain_text("20 %")
    page.get_by_role("link", name="Pictures", exact=True).click()
    page.wait_for_timeout(1700)
    progress[0] = {**computing, "done": 8}
    page.get_by_role("link", name="Map").click()
    expect(page.locator("#map-progress")).to_contain_text("80 %")
    progress[0] = None
    expect(page.locator("#map-progress")).to_be_hidden()
    wait_until(page, "location.hash.includes('layout=neighbours')")
    page.goto("about:blank")
    page.goto(f"{server}#view=map&layout=pca")  # the link is older than the arrangement
    wait_until(page, "location.hash.includes('layout=neighbours')")
    expect(page.locator("#map-text")).to_have_text("204 pictures")


def test_the_map_takes_another_column_when_it_is_shown_again(page: Page, server: str) -> None:
    answers = [None]
    changed(page, "**/api/facets*", lambda found: answers.pop() if answers else found)
    page.goto(f"{server}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    page.wait_for_timeout(300)
    page.evaluate("location.hash = ''")
    expect(page.locator("#map")).to_be_hidden()
    page.evaluate("location.hash = '#view=map&colour=label'")
    expect(page.locator("#map-legend li").first).to_be_visible()
    assert not answers
    expect(page.locator("#map-colour")).to_have_value(
        "label"
    )  # the menu has the columns, which could not be read at first


def test_ctrl_a_on_the_map_selects_nothing_that_is_not_shown(page: Page, server: str) -> None:
    page.goto(f"{server}#view=map&lasso=-9,-9,9,-9,9,9,-9,9")
    expect(page.locator("#map-list-text")).to_have_text("204 pictures")
    page.locator("#map-close").click()
    expect(page.locator("#map-list")).to_be_hidden()
    page.keyboard.press("Control+a")
    page.wait_for_timeout(200)
    expect(page.locator("#selection")).to_be_hidden()


STAGE = """async () => {
  const [{ Stage }, { Zoom }] = await Promise.all([import("/assets/lightbox_stage.js"), import("/assets/zoom.js")]);
  const nothing = () => {};
  const stage = new Stage(new Zoom(), { moved: nothing, swiped: nothing, failed: nothing });
  stage.isSharp = () => false;
  const size = { width: 4000, height: 3000, alt: "" };
  stage.show({ thumb: "/api/items/1/thumbnail?size=64", full: "/api/items/1/image", ...size });
  const loading = stage.loadFull();
  stage.show({ thumb: "/api/items/2/thumbnail?size=64", full: null, ...size });
  await loading;
  return stage.image.getAttribute("src");
}"""


def test_the_original_of_the_picture_before_does_not_take_the_place_of_this_one(page: Page) -> None:
    assert page.evaluate(STAGE) == "/api/items/2/thumbnail?size=64"


def test_another_pair_of_pictures_is_shown_whole(page: Page, server: str) -> None:
    page.goto(f"{server}#show=21")
    expect(page.locator("#lightbox .path")).to_be_visible()
    page.keyboard.press("+")
    expect(page.locator("#lightbox .stage.zoomed").last).to_be_visible()
    page.evaluate("location.hash = '#show=30&against=2'")  # 2 is no part of what was shown, although 21 begins with it
    expect(page.locator("#lightbox .stage.zoomed")).to_have_count(0)


def test_copies_open_where_the_browser_keeps_nothing(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    denied = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    with served(collection / "photos.index", tiny_model, tmp_path) as server, tab(browser) as page:
        page.add_init_script(denied)
        compare(server)
        page.goto(f"{server}#view=copies")
        expect(groups(page).first).to_be_visible()
        page.get_by_label("of pictures that only look alike").check()
        expect(page.locator("#kinds a").last).to_contain_text("Only similar")


def test_groups_of_copies_and_rules_wait_for_the_server(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, tiny_model, 12)
    failures: list[str] = []

    def fail_once(route: Any) -> None:
        if "offset=40" not in route.request.url:
            answer = route.fetch()
            route.fulfill(response=answer, json={**answer.json(), "total": 60})
        elif failures:
            route.fulfill(json={"groups": [], "total": 60})
            failures.append("asked again")
        else:
            failures.append("failed")
            route.fulfill(**FAULT)

    with served(folder / "photos.index", tiny_model, folder / "cache") as server, tab(browser) as page:
        compare(server)
        page.goto(f"{server}#view=copies&kind=identical")
        expect(groups(page).first).to_be_visible()
        first = Held(page, "**/api/duplicates/rule")
        of_folders = Held(page, "**/api/duplicates/rule", lambda request: request.post_data_json["rule"] == "folder")
        page.get_by_role("button", name="Rules").click()
        first.wait()
        page.get_by_label("Keep what is in this folder").check()
        first.release()  # its answer is about the rule before
        of_folders.wait()
        expect(page.locator("#rules button.primary")).to_be_disabled()
        of_folders.release()
        decide = page.get_by_role("button", name="Decide 12 groups")
        expect(decide).to_be_enabled()
        held = Held(page, "**/api/duplicates/rule")
        page.get_by_role("combobox", name="Folder").select_option("holidays")
        expect(page.locator("#rules button.primary")).to_be_disabled()  # what it would do is not known yet
        held.wait()
        held.release()
        expect(decide).to_be_enabled()
        page.keyboard.press("Escape")
        page.route("**/api/duplicates?*", fail_once)
        page.reload()
        expect(groups(page).first).to_be_visible()
        page.evaluate("window.scrollTo(0, 1e6)")
        wait_until(page, "document.querySelector('#toast').textContent.includes('too much')")
        while len(failures) < 2:
            page.wait_for_timeout(200)
    assert failures[:2] == ["failed", "asked again"]


def test_parts_that_could_not_be_loaded_say_so(page: Page) -> None:
    wait_for_pictures(page)
    for name in ("details", "lightbox"):
        page.route(f"**/assets/{name}.js", lambda route: route.abort())
    picture = page.locator("#grid .tile").nth(2)
    picture.hover()
    picture.get_by_role("button", name="Details").click()
    expect(page.locator("#details")).to_have_text("The server does not answer.")
    picture.hover()
    picture.get_by_role("button", name="Enlarge").click()
    expect(page.locator("#toast")).to_have_text("The server does not answer.")
    expect(page.locator("#lightbox")).to_be_hidden()
    assert "show" not in page.url


def test_a_script_that_could_not_be_loaded_is_loaded_by_trying_again(page: Page, server: str) -> None:
    for name, link in (
        ("plane_input.js", "#view=map"),
        ("codewords.js", "#view=codewords"),
        ("nearness.js", "#like=3"),
    ):
        page.goto("about:blank")
        page.route(f"**/{name}", lambda route: route.abort(), times=1)
        page.goto(f"{server}{link}")
        page.get_by_role("button", name="Try again").click()
        expect(
            page.locator(".card img, #grid img.loaded, #map-text:not(:empty)").locator("visible=true").first
        ).to_be_visible()
