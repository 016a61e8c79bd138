"""The page, as people use it: real Chromium, real server, real index."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from spq.data.open import open_images
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.model.model import Model
from spq.model.network import Network
from spq.web.server.app import PAGE, Settings, create_app

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
    pytest.mark.slow,
]
expect = playwright.expect
PATIENCE = 30_000  # ms: a loaded test machine is slow
MANY = 5200  # pictures of the long list
# 3,781 photos, looked at where they are; else the sample
CLOTHING = Path(os.environ.get("SPQ_DATA", "none"), "clothing")
KIND = "shoes" if CLOTHING.is_dir() else "bag"
Page = Any


# what is looked at


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM)
        expect.set_options(timeout=PATIENCE)
        yield opened
        opened.close()


def real_pictures(count: int) -> Iterator[tuple[Image.Image, str]]:
    """So many pictures and their labels: clothing photos, from the first again where they end, or the sample's."""
    if not CLOTHING.is_dir():
        for source in ("sample:train", "sample:test") if count > 500 else ("sample:test",):
            sample = open_images(source)
            for n in range(min(count, len(sample))):
                yield Image.fromarray(np.asarray(sample.image(n))), sample.class_names[int(sample.labels[n])]
            count -= len(sample)
        return
    files = sorted(CLOTHING.rglob("*.jpg"))
    for n in range(count):
        file = files[n % len(files) if count > len(files) else n * len(files) // count]
        with Image.open(file) as picture:
            picture.draft("RGB", (200, 200))
            yield picture.convert("RGB"), file.parent.name


@pytest.fixture(scope="module")
def collection(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index of 200 pictures of three sizes in class subfolders, and four copies; the pictures are beside it."""
    root = tmp_path_factory.mktemp("page")
    photos = root / "photos"
    rng = np.random.default_rng(0)
    for position, (picture, label) in enumerate(real_pictures(200)):
        folder = photos / label
        folder.mkdir(parents=True, exist_ok=True)
        if not CLOTHING.is_dir():  # the sample is grey
            picture = Image.fromarray((np.asarray(picture).astype(float) * rng.uniform(0.4, 1, 3)).astype(np.uint8))
        side = (120, 160, 200)[position % 3]
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{position:03d}.png")
        if position < 4:
            picture.save(folder / f"{position:03d} again.png", compress_level=1)
    ImageIndex.build(root / "photos.index", tiny_model, photos).close()
    return root


@pytest.fixture(scope="module")
def site(collection: Path, tiny_model: Model) -> Iterator[str]:
    with served(collection / "photos.index", tiny_model, collection / "cache") as address:
        yield address


@contextmanager
def served(folder: Path, model: Model, cache: Path, port: int = 0, token: str = "") -> Iterator[str]:
    """The address of a server over an index, in a thread."""
    settings = Settings(cache=cache, workers=2, patience=60, timeout=120, token=token)
    listener = socket.create_server(("127.0.0.1", port))
    with ImageIndex(Store.open(folder), model) as index:
        app = create_app(index, settings)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)
            listener.close()


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Page]:
    with tab(browser) as opened:
        opened.goto(site)
        yield opened


@contextmanager
def tab(browser: Any, **options: Any) -> Iterator[Page]:
    """A fresh browser profile; whatever the page reports as a mistake, its policy included, fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    mistakes: list[str] = []
    opened.on("pageerror", lambda error: mistakes.append(str(error)))
    opened.on("console", lambda said: mistakes.append(said.text) if is_mistake(said) else None)
    try:
        yield opened
    finally:
        context.close()
    assert not mistakes


def is_mistake(said: Any) -> bool:
    return said.type == "error" and "Failed to load resource" not in said.text


def pictures(page: Page) -> Any:
    return page.locator("#grid .tile[data-id]:visible")


def settled(page: Page) -> None:
    """The first pictures are there."""
    expect(page.locator("#grid img.there").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#grid")).to_have_attribute("aria-busy", "false")


def state(page: Page) -> dict[str, str]:
    return dict(page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"))


def until(page: Page, expression: str, argument: Any = None) -> None:
    """Playwright's own wait_for_function is text that the page's policy refuses to run."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def first_ids(page: Page, count: int = 8) -> list[str]:
    settled(page)
    return [pictures(page).nth(n).get_attribute("data-id") for n in range(count)]


def a_picture(collection: Path, n: int = 0) -> Path:
    return sorted((collection / "photos").rglob("*.png"))[n]


GIVE = """([event, name, type, base64, spot]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type }));
  if (event === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  else {
    document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true }));
    const zone = document.querySelector(spot);
    zone.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


def give(page: Page, event: str, data: bytes, name: str = "a.png", kind: str = "image/png", spot: str = "body") -> None:
    import base64

    page.evaluate(GIVE, [event, name, kind, base64.b64encode(data).decode(), spot])


# giving pictures


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_with(page: Page, collection: Path, event: str) -> None:
    settled(page)
    give(page, event, next((collection / "photos").rglob("000.png")).read_bytes())
    expect(page.locator("#asked .chip")).to_have_count(1)
    expect(page.locator("#summary")).to_have_text("204 pictures, nearest first")
    expect(page.locator("#grid img").first).to_have_attribute(
        "alt", re.compile(r", 000( again)?\.png")
    )  # it, or its copy
    assert re.fullmatch(r"u-\w+", state(page)["like"])


def test_several_pictures_can_be_chosen_and_one_dropped_as_unlike(page: Page, collection: Path) -> None:
    page.locator("#file").set_input_files([a_picture(collection, 0), a_picture(collection, 50)])
    expect(page.locator("#asked .chip.for")).to_have_count(2)
    settled(page)
    before = first_ids(page)
    give(page, "drop", a_picture(collection, 120).read_bytes(), spot="[data-how=not]")
    expect(page.locator("#asked .chip.against")).to_have_count(1)
    expect(page.locator("#region-button")).to_be_hidden()  # a region is of one picture
    assert first_ids(page) != before
    assert len(state(page)["like"].split(",")) == 2


def test_what_is_no_picture_is_said_so_and_what_was_there_stays(page: Page) -> None:
    settled(page)
    give(page, "drop", b"hello", "notes.txt", "text/plain")
    expect(page.locator("#toast")).to_have_text("notes.txt is not a picture")
    assert state(page) == {}
    give(page, "drop", b"\x89PNG broken", "broken.png")
    expect(page.locator("#pictures-message h2")).to_have_text("This cannot be searched with")
    expect(page.locator("#pictures-message p")).to_contain_text("image 1")
    page.get_by_role("button", name="Show all pictures").click()
    settled(page)
    assert state(page) == {}


def test_a_reload_keeps_the_picture_that_was_given(page: Page, collection: Path) -> None:
    give(page, "paste", a_picture(collection, 7).read_bytes())
    expect(page.locator("#asked .chip img")).to_be_visible()
    before, address = first_ids(page), page.url
    page.reload()
    assert first_ids(page) == before
    assert page.url == address
    expect(page.locator("#asked .chip img")).to_be_visible()


def test_a_link_to_a_picture_of_another_browser_says_so(browser: Any, site: str) -> None:
    with tab(browser) as other:
        other.goto(f"{site}#like=u-elsewhere")
        expect(other.locator("#pictures-message h2")).to_have_text("That picture is not in this browser")


# regions


def test_a_region_drawn_by_mouse_is_searched_with(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3")
    settled(page)
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
    expect(page.locator("#asked .region")).to_be_visible()


def test_a_region_can_be_drawn_by_keys_and_taken_back(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3")
    settled(page)
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


def test_a_region_can_be_drawn_by_finger(browser: Any, site: str) -> None:
    with tab(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as phone:
        phone.goto(f"{site}#like=3")
        settled(phone)
        phone.get_by_role("button", name="Region").tap()
        expect(phone.locator("#region-box")).to_be_visible()  # the picture has come, and the stage its size
        box = phone.locator("#region-image").bounding_box()
        touch = phone.context.new_cdp_session(phone)
        for kind, share in (("touchStart", 0.1), ("touchMove", 0.4), ("touchMove", 0.8)):
            point = {"x": box["x"] + share * box["width"], "y": box["y"] + share * box["height"]}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        phone.locator("#region-use").click()  # Playwright makes no click of a tap after raw touches
        expect(phone.locator("#asked .region")).to_be_visible()
        x, _, width, _ = map(int, state(phone)["box"].split(","))
        assert x == pytest.approx(0.1 * 120, abs=4) or x > 0
        assert width > x


# looking through what was found


def test_a_click_finds_more_like_it_and_back_leads_back(page: Page) -> None:
    before = first_ids(page)
    pictures(page).nth(5).locator(".picture").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")
    assert state(page) == {"like": before[5]}
    distances = [float(text) for text in page.locator("#grid .far").all_inner_texts()[:10]]
    assert distances == sorted(distances)
    page.go_back()
    expect(page.locator("#query")).to_be_hidden()
    assert first_ids(page) == before


def test_pictures_are_marked_for_and_against_and_searched_again(page: Page) -> None:
    ids = first_ids(page)
    pictures(page).nth(1).hover()
    pictures(page).nth(1).get_by_role("button", name="Like this", exact=True).click()
    pictures(page).nth(3).hover()
    pictures(page).nth(3).get_by_role("button", name="Not like this").click()
    expect(page.locator("#asked .chip.waiting")).to_have_count(2)
    assert state(page) == {"plus": ids[1], "minus": ids[3]}
    with page.expect_request("**/api/search") as asked:
        page.get_by_role("button", name="Search again").click()
    sent = json.loads(asked.value.post_data)
    assert (sent["ids"], sent["not_ids"]) == ([int(ids[1])], [int(ids[3])])
    assert state(page) == {"like": ids[1], "not": ids[3]}
    expect(page.locator("#summary")).to_have_text("202 pictures, nearest first")
    page.get_by_role("button", name="Remove: not like").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


def test_a_mark_against_alone_cannot_be_searched_with(page: Page) -> None:
    settled(page)
    pictures(page).nth(3).focus()
    page.keyboard.press("-")
    expect(page.locator("#again")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.locator("#query")).to_be_hidden()


def test_the_slider_cuts_off_what_is_far(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3")
    settled(page)
    expect(page.locator("#cut-off-text")).to_have_text("any distance")
    page.locator("#cut-off").fill("300")
    expect(page.locator("#summary")).to_contain_text("within")
    limit = float(state(page)["max"])
    shown = [float(text) for text in page.locator("#grid .tile:visible .far").all_inner_texts()]
    assert shown
    assert max(shown) <= limit + 0.005
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#summary")).to_contain_text(f"within {limit:.2f}")
    expect(page.locator("#cut-off")).not_to_have_value("1000")


def test_a_cut_off_before_the_first_says_how_to_go_on(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3&max=-1")
    expect(page.locator("#pictures-message h2")).to_have_text("Nothing is nearer than -1.00")
    page.get_by_role("button", name="Show all distances").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


def test_details_tell_what_is_known_and_why_it_matched(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3")
    settled(page)
    pictures(page).nth(2).hover()
    pictures(page).nth(2).get_by_role("button", name="Details").click()
    panel = page.locator("#details")
    expect(panel.locator(".bars li")).to_have_count(8)
    expect(panel).to_be_focused()
    total = float(re.search(r"Distance (\S+)\.", panel.locator(".why p").inner_text()).group(1))  # type: ignore[union-attr]
    parts = [float(text) for text in panel.locator(".bars .value").all_inner_texts()]
    assert sum(parts) == pytest.approx(total, abs=0.005 * 9)
    expect(panel.locator("dl")).to_contain_text("pixels")
    original = panel.get_by_role("link", name="Open original").get_attribute("href")
    assert page.request.get(site + original).headers["content-type"] == "image/png"
    panel.locator(".bars a").first.click()
    expect(page.locator("#word-grid img.there").first).to_be_visible()
    assert state(page)["view"] == "codewords"


def test_distances_below_zero_are_shown_cut_off_and_explained(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    config = replace(tiny_model.config, quantizer=replace(tiny_model.config.quantizer, distance="dot"))
    network = Network(config)
    network.load_state_dict(tiny_model.network.state_dict())
    model = Model(network, config)
    ImageIndex.build(tmp_path / "i", model, collection / "photos").close()
    with served(tmp_path / "i", model, tmp_path / "cache") as site, tab(browser) as page:
        page.goto(f"{site}#like=3")
        settled(page)
        shown = [float(text) for text in page.locator("#grid .tile:visible .far").all_inner_texts()]
        assert shown[0] < 0
        assert shown == sorted(shown)
        page.locator("#cut-off").fill("300")
        expect(page.locator("#summary")).to_contain_text("within")
        limit = float(state(page)["max"])
        assert shown[0] <= limit < 0
        near = [float(text) for text in page.locator("#grid .tile:visible .far").all_inner_texts()]
        assert near
        assert max(near) <= limit + 0.005
        pictures(page).nth(2).hover()
        pictures(page).nth(2).get_by_role("button", name="Details").click()
        told = page.locator("#details .why p")
        expect(told).to_contain_text("a bar below zero brings it nearer")
        total = float(re.search(r"Distance (\S+)\.", told.inner_text()).group(1))  # type: ignore[union-attr]
        parts = [float(text) for text in page.locator("#details .bars .value").all_inner_texts()]
        assert sum(parts) == pytest.approx(total, abs=0.005 * 9)
        assert page.locator("#details .bars .fill.below").count() >= sum(part < 0 for part in parts) > 0


def test_the_path_is_copied(browser: Any, site: str) -> None:
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{site}#item=3")
        page.get_by_role("button", name="Copy path").click()
        expect(page.locator("#toast")).to_have_text("Path copied")
        path = page.locator("#details dd").first.inner_text()
        assert page.evaluate("navigator.clipboard.readText()") == path


def test_a_filter_is_suggested_applied_and_kept_in_the_address(page: Page) -> None:
    settled(page)
    page.keyboard.press("/")
    expect(page.locator("#suggestions li code")).to_have_text(["path", "width", "height", "size", "time", "label"])
    page.keyboard.type("wid")
    expect(page.locator("#suggestions li code")).to_have_text(["width"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type(">= 160 and label = ")
    page.locator("#suggestions li", has_text=KIND).click()
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("of 204 pictures")
    assert state(page)["where"] == f"width >= 160 and label = {KIND}"
    pictures(page).first.locator(".picture").click()  # the filter stays
    expect(page.locator("#summary")).to_contain_text("nearest first")
    assert {text.split(" · ")[-1] for text in page.locator("#grid .tile:visible .what").all_inner_texts()} == {KIND}
    page.get_by_role("button", name="Clear the filter").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


@pytest.mark.parametrize(
    ("written", "offered"),
    [
        ("", ["path", "width", "[my kind]"]),
        ("wi", ["width"]),
        ("width ", [">=", "<=", "=", "!=", "<", ">"]),
        ("path ", ["=", "!=", "~", "in"]),
        ("[my kind] = ", ["a b", "or", "it's"]),
        ("[my kind] = o", ["or"]),
        ("[my kind] in (x, ", ["a b", "or", "it's"]),
        ("width >= 3 ", ["and", "or"]),
        ("width >= 3 and not (", ["path", "width", "[my kind]"]),
    ],
)
def test_suggestions_know_what_comes_next(page: Page, written: str, offered: list[str]) -> None:
    columns = [
        {"name": "path", "kind": "text", "values": []},
        {"name": "width", "kind": "number", "values": []},
        {"name": "[my kind]", "kind": "text", "values": ["a b", "or", "it's"]},
    ]
    ask = """([text, columns]) => import("/assets/filter_suggestions.js").then(
        ({ suggest }) => suggest(text, text.length, columns))"""
    told = page.evaluate(ask, [written, columns])
    assert [option["label"] for option in told["options"]] == offered
    for option in told["options"]:
        if offered[0] in ("a b", "or"):  # values are written so that they are read as values
            assert option["insert"].strip().startswith('"')


def test_a_filter_that_is_wrong_is_told_in_place(page: Page, site: str) -> None:
    before = first_ids(page)
    page.locator("#where").fill("colour = red")
    page.keyboard.press("Enter")
    expect(page.locator("#where-error")).to_contain_text("unknown column colour")
    expect(page.locator("#where")).to_have_attribute("aria-invalid", "true")
    assert first_ids(page) == before
    page.goto(f"{site}#where=width+>")
    page.reload()
    expect(page.locator("#pictures-message h2")).to_have_text("The filter is not understood")
    expect(page.locator("#where-error")).to_be_visible()
    page.locator("#pictures-message").get_by_role("button", name="Clear the filter").click()
    settled(page)


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
    until(page, "(id) => location.hash.includes(`item=${id}`)", ids[2])
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


def test_how_it_looks_is_chosen_and_kept(page: Page) -> None:
    settled(page)
    page.get_by_role("button", name="How it looks").click()
    page.get_by_label("Dark").check()
    page.get_by_label("Whole").check()
    page.locator("#size").fill("300")
    columns = page.locator("#grid").get_attribute("aria-colcount")
    page.reload()
    settled(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    assert page.locator("#grid").get_attribute("aria-colcount") == columns
    assert page.evaluate("getComputedStyle(document.querySelector('#grid img')).objectFit") == "contain"


# other views


def test_codewords_show_the_pictures_that_use_them(page: Page, site: str) -> None:
    page.get_by_role("link", name="Codewords").click()
    expect(page.locator(".card img").first).to_be_visible()
    page.locator("#books a").nth(2).click()
    expect(page.locator("#books a").nth(2)).to_have_attribute("aria-current", "true")
    card = page.locator(".card").first
    expect(card).to_be_visible()
    many = int(re.match(r"\d+", card.locator(".card-text span").inner_text()).group())  # type: ignore[union-attr]
    card.click()
    expect(page.locator("#word-grid")).to_be_visible()
    expect(page.locator("#codewords-text")).to_contain_text(f"{many} pictures")
    told = page.request.get(f"{site}api/codewords/{state(page)['book']}/{state(page)['word']}").json()
    assert told["count"] == many
    shown = page.locator("#word-grid .tile").first
    expect(shown).to_have_attribute("data-id", str(told["items"][0]["id"]))
    page.reload()
    expect(shown).to_have_attribute("data-id", str(told["items"][0]["id"]))


def test_copies_are_shown_in_groups(page: Page) -> None:
    page.get_by_role("link", name="Copies").click()
    expect(page.locator(".group").first).to_be_visible(timeout=120_000)
    expect(page.locator("#copies-text")).to_contain_text("spq deletes nothing")
    group = page.locator(".group", has_text="again.png").first
    expect(group.locator("figure.kept")).to_have_count(1)
    group.locator("figure a").last.click()
    expect(page.locator("#details dl")).to_be_visible()
    kinds = page.locator("#kinds a")
    kinds.last.click()
    expect(kinds.last).to_have_attribute("aria-current", "true")
    assert state(page)["kind"]


def test_the_map_moves_zooms_and_a_lasso_lists_what_it_holds(page: Page) -> None:
    page.get_by_role("link", name="Map").click()
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    plane = page.locator("#plane")
    box = plane.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.wheel(0, -600)
    until(page, "location.hash.includes('map=')")
    zoomed = [float(value) for value in state(page)["map"].split(",")]
    assert zoomed[2] > 0.5
    plane.focus()
    page.keyboard.press("ArrowRight")
    until(page, "(x) => Number(new URLSearchParams(location.hash.slice(1)).get('map').split(',')[0]) > x", zoomed[0])
    page.keyboard.press("0")
    page.get_by_role("button", name="Lasso").click()
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for x, y in ((0.6, 0.01), (0.6, 0.99), (0.01, 0.99)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
    page.mouse.up()
    expect(page.locator("#map-list img.there").first).to_be_visible()
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
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    expect(page.locator("#map-list")).to_be_hidden()


def test_deep_in_the_map_what_is_in_view_is_still_told_apart(page: Page, site: str) -> None:
    page.goto(f"{site}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    plane = page.locator("#plane")
    plane.focus()
    for _ in range(28):
        page.keyboard.press("+")
    page.keyboard.press("Enter")
    until(page, "location.hash.includes('lasso=') && /map=[^&]*,14(&|$)/.test(location.hash)")
    corners = [float(value) for value in state(page)["lasso"].split(",")]
    x, y, zoom = (float(value) for value in state(page)["map"].split(","))
    assert zoom == 14
    assert corners[0] < x < corners[2]
    assert corners[1] < y < corners[5]
    assert (x - corners[0]) / (corners[2] - corners[0]) == pytest.approx(0.5, abs=0.05)


def test_what_could_not_be_had_of_a_list_is_asked_for_again(page: Page) -> None:
    settled(page)
    failures = []

    def fail_once(route: Any) -> None:
        if failures:
            route.continue_()
        else:
            failures.append(route.request.url)
            route.fulfill(status=500, json={"detail": "broken for a moment"})

    page.route("**/api/browse?*offset=100*", fail_once)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#toast")).to_contain_text("broken for a moment")
    last = "[...document.querySelectorAll('#grid .tile[data-id] img.there')].some((i) => i.closest('.tile').dataset.id > 150)"
    until(page, last)
    assert len(failures) == 1


def test_the_link_past_the_head_leaves_the_search_as_it_is(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3&fold=1")
    settled(page)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert state(page) == {"like": "3", "fold": "1"}


def test_a_button_that_is_drawn_anew_keeps_the_focus(page: Page, site: str) -> None:
    page.goto(f"{site}#like=3&item=5")
    like = page.locator("#details").get_by_role("button", name="Like this", exact=True)
    like.focus()
    page.keyboard.press("Enter")
    expect(like).to_have_attribute("aria-pressed", "true")
    expect(like).to_be_focused()
    page.goto(f"{site}#view=codewords")
    book = page.get_by_role("link", name="Codebook 2", exact=True)
    book.focus()
    page.keyboard.press("Enter")
    expect(book).to_have_attribute("aria-current", "true")
    expect(book).to_be_focused()


def test_codewords_that_cannot_be_had_are_not_asked_for_all_the_time(page: Page, site: str) -> None:
    asked: list[str] = []
    page.route("**/api/codewords/*/*", lambda route: (asked.append(route.request.url), route.abort()))
    page.goto(f"{site}#view=codewords")
    expect(page.locator(".card").first).to_be_visible()
    page.wait_for_timeout(1500)
    assert 0 < len(asked) <= page.locator(".card").count()
    page.unroute("**/api/codewords/*/*")
    expect(page.locator(".card img").first).to_be_visible()


def test_a_filter_holds_on_the_map_and_moves_nothing(page: Page, site: str) -> None:
    page.goto(f"{site}#view=map&lasso=-9,-9,9,-9,9,9,-9,9")
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


def test_the_map_comes_back_when_another_filter_failed(page: Page, site: str) -> None:
    page.goto(f"{site}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    page.route("**/api/map?where=*", lambda route: route.fulfill(status=500, json={"detail": "broken"}))
    page.evaluate("location.hash = '#view=map&where=width+>+130'")
    expect(page.locator("#map-message h2")).to_have_text("The map could not be drawn")
    page.evaluate("location.hash = '#view=map'")
    expect(page.locator("#map-message")).to_be_hidden()
    expect(page.locator("#map-text")).to_have_text("204 pictures")


def test_the_map_tells_what_is_under_the_pointer_and_lists_what_is_in_view(page: Page, site: str) -> None:
    page.goto(f"{site}#view=map")
    expect(page.locator("#map-text")).to_have_text("204 pictures")
    until(
        page,
        "() => { const c = document.querySelector('#plane');"
        " const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 3; i < p.length; i += 4) n += p[i] > 200; return n > 5000; }",
    )  # pictures are drawn
    box = page.locator("#plane").bounding_box()
    found = page.locator("#map-hover")
    for share in np.linspace(0.3, 0.7, 30):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.45 * box["height"])
        page.wait_for_timeout(150)
        if found.is_visible():
            break
    expect(found.locator("b")).to_have_text(re.compile(r"\d+.*\.png"))
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#details dl")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#plane").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#map-list-text")).to_have_text("204 pictures")


# long lists


@pytest.fixture(scope="module")
def long_site(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an index of more than 5,000 pictures."""
    root = tmp_path_factory.mktemp("long")
    (root / "photos").mkdir()
    for position, (picture, _) in enumerate(real_pictures(MANY)):
        picture.resize((32, 32)).save(root / "photos" / f"{position:05d}.png", compress_level=1)
    ImageIndex.build(root / "long.index", tiny_model, root / "photos").close()
    with served(root / "long.index", tiny_model, root / "cache") as address:
        yield address


def test_one_scrolls_to_result_5000_with_few_elements_and_a_reload_stays_there(browser: Any, long_site: str) -> None:
    with tab(browser) as page:
        page.goto(f"{long_site}#like=1")
        settled(page)
        most = 0
        for share in (0.1, 0.3, 0.5, 0.8, 1):
            page.evaluate("(share) => window.scrollTo(0, share * document.documentElement.scrollHeight)", share)
            page.wait_for_timeout(400)
            most = max(most, page.locator(".tile").count())
        assert most < 150
        wanted = page.request.post(f"{long_site}api/search", data={"ids": [1], "offset": 4999, "top": 1}).json()
        page.evaluate("document.activeElement.blur()")
        address = re.sub(r"&at=\d+", "", page.url) + "&at=4999"
        page.goto("about:blank")
        page.goto(address)
        there = page.locator("#grid .tile[data-position='4999']")
        expect(there).to_have_attribute("data-id", str(wanted["hits"][0]["id"]), timeout=PATIENCE)
        expect(there).to_be_in_viewport()
        page.wait_for_timeout(500)  # the place is noted
        page.reload()
        expect(there).to_be_in_viewport(timeout=PATIENCE)


def test_a_long_list_with_a_cut_off_grows_to_its_end(browser: Any, long_site: str) -> None:
    with tab(browser) as page:
        answer = page.request.post(f"{long_site}api/search", data={"ids": [1], "offset": 349, "top": 1}).json()
        limit = answer["hits"][0]["distance"]
        told = page.request.post(f"{long_site}api/search", data={"ids": [1], "max_distance": limit, "top": 1000}).json()
        page.goto(f"{long_site}#like=1&max={limit}")
        settled(page)
        expect(page.locator("#summary")).to_contain_text("more than")
        for _ in range(8):
            page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
            page.wait_for_timeout(400)
        expect(page.locator("#summary")).to_contain_text(f"{len(told['hits'])} pictures within")


def test_a_list_too_tall_for_a_browser_is_scrolled_to_its_end(browser: Any, site: str) -> None:
    total = 3_000_000  # some 100 million pixels; browsers stop drawing at 16 million

    def answer(route: Any) -> None:
        asked = dict(re.findall(r"(\w+)=(\d+)", route.request.url))
        first, last = int(asked["offset"]), min(total, int(asked["offset"]) + int(asked["top"]))
        route.fulfill(json={"items": [{"id": n, "path": f"{n}.png"} for n in range(first, last)], "total": total})

    with tab(browser) as page:
        page.route("**/api/browse*", answer)
        page.route("**/thumbnail*", lambda route: route.abort())
        page.goto(site)
        expect(page.locator("#summary")).to_have_text("3,000,000 pictures")
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        expect(page.locator("#grid .tile[data-id='2999999']")).to_be_in_viewport()
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight / 2)")
        until(page, "Number(document.elementFromPoint(600, 500).closest('.tile')?.dataset.id) > 1e6")
        page.goto(f"{site}#at=1234567")
        expect(page.locator("#grid .tile[data-id='1234567']")).to_be_in_viewport()
        page.locator("#grid [tabindex='0']").focus()
        page.keyboard.press("ArrowDown")
        focused = page.locator("#grid [role=gridcell]:focus")
        expect(focused).to_be_in_viewport()
        assert 1234567 < int(focused.get_attribute("data-id")) < 1234590
        assert page.locator(".tile").count() < 150


# what goes wrong, and what is new


def test_a_server_that_goes_is_told_and_what_was_missed_comes_when_it_is_back(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with tab(browser) as page:
        with served(collection / "photos.index", tiny_model, tmp_path) as address:
            page.goto(address)
            settled(page)
        pictures(page).nth(2).locator(".picture").click()
        expect(page.locator("#banner")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#pictures-message h2")).to_have_text("The server does not answer")
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with served(collection / "photos.index", tiny_model, tmp_path, port):
            expect(page.locator("#summary")).to_have_text("203 pictures, nearest first", timeout=PATIENCE)
            expect(page.locator("#banner")).to_be_hidden()
            expect(page.locator("#pictures-message")).to_be_hidden()
            settled(page)


def test_a_busy_server_is_asked_again(page: Page) -> None:
    settled(page)
    refusals = []

    def busy(route: Any) -> None:
        if len(refusals) < 2:
            refusals.append(route.request.url)
            problem = {"type": "about:blank", "title": "", "status": 503, "detail": "too much to do"}
            route.fulfill(status=503, json=problem, headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**/api/search", busy)
    pictures(page).nth(2).locator(".picture").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first", timeout=PATIENCE)
    assert len(refusals) == 2


def test_a_page_without_its_token_says_so_and_with_it_forgets_it_in_the_address(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with served(collection / "photos.index", tiny_model, tmp_path, token="secret words") as address:
        with tab(browser) as page:
            page.goto(address)
            expect(page.locator("#banner-text")).to_contain_text("needs its token")
            expect(page.locator("#pictures-message h2")).to_have_text("This page needs its token")
        with tab(browser) as page:
            page.goto(f"{address}?token=secret%20words#like=3")
            settled(page)
            assert page.url == f"{address}#like=3"


def test_new_pictures_are_offered_and_shown_when_asked_for(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    some = [picture for picture, _ in real_pictures(60)]

    def add(first: int, last: int) -> None:
        for n in range(first, last):
            some[n].save(photos / f"{n}.png")

    add(0, 30)
    ImageIndex.build(tmp_path / "index", tiny_model, photos).close()
    with served(tmp_path / "index", tiny_model, tmp_path / "cache") as address, tab(browser) as page:
        page.goto(address)
        settled(page)
        add(30, 42)
        with ImageIndex(Store.open(tmp_path / "index"), tiny_model) as writer:
            writer.sync(open_images(str(photos)))
        expect(page.locator("#news-text")).to_have_text("12 new pictures", timeout=PATIENCE)
        expect(page.locator("#summary")).to_have_text("30 pictures")  # nothing moves by itself
        page.locator("#news-show").click()
        expect(page.locator("#summary")).to_have_text("12 new or changed pictures")
        expect(pictures(page)).to_have_count(12)


def test_an_empty_index_says_so_in_every_view(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (30, 30), "teal").save(tmp_path / "photos" / "a.png")
    ImageIndex.build(tmp_path / "index", tiny_model, tmp_path / "photos").close()
    with ImageIndex(Store.open(tmp_path / "index"), tiny_model) as writer:
        writer.remove(["a.png"])
    with served(tmp_path / "index", tiny_model, tmp_path / "cache") as address, tab(browser) as page:
        page.goto(address)
        expect(page.locator("#pictures-message h2")).to_have_text("No pictures yet")
        for view, title in (("map", "No pictures yet"), ("codewords", "No pictures yet"), ("copies", "No copies")):
            page.goto(f"{address}#view={view}")
            expect(page.locator(f"#{view}-message h2")).to_have_text(title, timeout=PATIENCE)


# for everyone


VIEWS = {
    "all": "", "answers": "#like=3&not=9&plus=5", "details": "#like=3&item=5", "filter": "#where=colour+=+red",
    "map": "#view=map", "lasso": "#view=map&lasso=-9,-9,9,-9,9,9,-9,9", "codewords": "#view=codewords",
    "codeword": "#view=codewords&book=1&word={used}", "copies": "#view=copies",
}  # fmt: skip
THERE = {
    "filter": "#where-error", "details": ".bars li", "map": "#map-text:not(:empty)", "lasso": "#map-grid img.there",
    "codewords": ".card img", "codeword": "#word-grid img.there", "copies": ".group",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_in_any_view(browser: Any, site: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python"
    ).Axe()
    found = []
    with tab(browser, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce") as page:
        counts = page.request.get(f"{site}api/codewords").json()["counts"][1]
        for view, address in VIEWS.items():
            page.goto("about:blank")
            page.goto(site + address.format(used=int(np.argmax(counts))))
            expect(page.locator(THERE.get(view, "#grid img.there")).first).to_be_visible(timeout=120_000)
            found += [(view, *told) for told in violations(axe, page)]
        page.keyboard.press("?")
        found += [("help", *told) for told in violations(axe, page)]
        page.keyboard.press("Escape")
        page.goto(f"{site}#like=3")
        settled(page)
        page.keyboard.press("b")
        expect(page.locator("#region-box")).to_be_visible()
        found += [("region", *told) for told in violations(axe, page)]
    assert not found


def violations(axe: Any, page: Page) -> list[tuple[str, str, str]]:
    """(rule, impact, element) of all that WCAG 2.2 AA and axe's good practices object to."""
    answer = axe.run(
        page, options={"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    ).response
    return [(told["id"], told["impact"], node["html"][:160]) for told in answer["violations"] for node in told["nodes"]]


@pytest.mark.parametrize("view", ["", "#like=3", "#like=3&item=5", "#view=map", "#view=codewords", "#view=copies"])
def test_nothing_sticks_out_on_a_phone(browser: Any, site: str, view: str) -> None:
    with tab(browser, viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True) as page:
        page.goto(site + view)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_page_weighs_less_than_200_kb_and_asks_no_other_host(browser: Any, site: str) -> None:
    assert sum(file.stat().st_size for file in PAGE.rglob("*") if file.is_file()) < 200_000
    with tab(browser) as page:
        asked, bytes_ = [], 0
        page.on("requestfinished", lambda request: asked.append(request))
        page.goto(site)
        settled(page)
        for request in asked:
            assert request.url.startswith(site)
            if "/api/" not in request.url:
                bytes_ += len(request.response().body())
    assert 10_000 < bytes_ < 200_000


def test_the_page_has_no_inline_script_or_style_and_names_no_host() -> None:
    html = (PAGE / "index.html").read_text("utf-8")
    assert not re.search(r"\son\w+=|style=|<style|<script(?![^>]*\ssrc=)", html)
    for file in PAGE.iterdir():
        hosts = set(re.findall(r"https?://[\w.-]+", file.read_text("utf-8"))) - {"http://www.w3.org"}
        assert not hosts, file.name
