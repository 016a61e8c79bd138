"""The copies view as a review: many groups decided by keys, kept over a restart, and saved as a list and a script."""

from __future__ import annotations

import csv
import io
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from spq.index.image_index import ImageIndex
from spq.model.model import Model
from web import NEEDS_BROWSER, Page, expect, real_pictures, served, state, tab, wait_until

pytestmark = NEEDS_BROWSER


def write_pairs(root: Path, model: Model, count: int) -> Path:
    """Write `photos` with `count` small pictures, each of them twice, and their index; returns `root`."""
    for number, (picture, _) in enumerate(real_pictures(count)):
        for name in ("old phone", "holidays/2024"):
            (root / "photos" / name).mkdir(parents=True, exist_ok=True)
            picture.resize((48, 48)).save(root / "photos" / name / f"{number:03d}.png")
    ImageIndex.build(root / "photos.index", model, root / "photos").close()
    return root


def compare(server: str) -> None:
    end = time.monotonic() + 300
    while httpx2.get(f"{server}api/duplicates").status_code == 202:
        assert time.monotonic() < end
        time.sleep(0.1)


def decided(page: Page, many: int, of: int) -> None:
    expect(page.locator(".how-far p").first).to_contain_text(f"{many} of {of} groups decided")


def groups(page: Page) -> Any:
    return page.locator(".group[data-key]")


@pytest.fixture(scope="module")
def pairs(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), tiny_model, 12)


def review(browser: Any, folder: Path, model: Model, count: int) -> float:
    """Decide all groups, restart the server, save, and run the script. Return the seconds of the actions in the page."""
    index = folder / "photos.index"
    with served(index, model, folder / "cache") as server:
        compare(server)
        with tab(browser) as page:
            page.goto(f"{server}#view=copies&kind=identical")
            expect(groups(page).first).to_be_visible()
            start = time.monotonic()
            page.keyboard.press("j")
            for number in range(count):
                page.keyboard.press("2" if number % 10 == 3 else "n" if number % 10 == 5 else "Enter")
            decided(page, count, count)
            took = time.monotonic() - start
    report = httpx2_report(folder, model)
    assert report["progress"]["kinds"]["identical"] == {"groups": count, "decided": count}
    apart = len([n for n in range(count) if n % 10 == 5])
    with served(index, model, folder / "cache") as server, tab(browser, accept_downloads=True) as page:
        page.goto(f"{server}#view=copies&kind=identical")
        expect(page.locator("#copies-message h2")).to_have_text(f"All {count} groups decided")
        start = time.monotonic()
        page.get_by_role("button", name="Save").first.click()
        with page.expect_download() as table:
            page.get_by_role("link", name="Save as CSV").click()
        with page.expect_download() as script:
            page.get_by_role("link", name="Save the script").click()
        took += time.monotonic() - start
        rows = list(csv.DictReader(io.StringIO(Path(table.value.path()).read_text("utf-8"))))
        rows = [row for row in rows if row["kind"] == "identical"]
        assert len([row for row in rows if row["decision"] == "drop"]) == count - apart
        assert len([row for row in rows if row["decision"] == "no duplicate"]) == 2 * apart
        assert script.value.suggested_filename == "move-copies.sh"
        done = subprocess.run(["sh", script.value.path(), "--go"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((folder / "photos").rglob("*.png"))) == count + apart
    assert len(list((folder / "photos.trash").rglob("*.png"))) == count - apart
    return took


def httpx2_report(folder: Path, model: Model) -> Any:
    with served(folder / "photos.index", model, folder / "cache") as server:
        compare(server)
        return httpx2.get(f"{server}api/duplicates").json()


def test_groups_are_decided_by_keys_kept_over_a_restart_and_saved(
    browser: Any, tiny_model: Model, tmp_path: Path
) -> None:
    review(browser, write_pairs(tmp_path, tiny_model, 12), tiny_model, 12)


@pytest.mark.drill
def test_a_hundred_groups_are_decided_in_a_minute(browser: Any, tiny_model: Model, tmp_path: Path) -> None:
    took = review(browser, write_pairs(tmp_path, tiny_model, 100), tiny_model, 100)
    print(f"100 groups: {took:.1f} s")
    assert took <= 60


def test_a_group_is_decided_by_mouse_undone_and_shared_with_another_tab(
    browser: Any, pairs: Path, tiny_model: Model
) -> None:
    with served(pairs / "photos.index", tiny_model, pairs / "cache") as server:
        compare(server)
        with tab(browser) as page, tab(browser) as other:
            for each in (page, other):
                each.goto(f"{server}#view=copies&kind=identical")
                expect(groups(each).first).to_be_visible()
            first = groups(page).first
            expect(first.locator(".status")).to_have_text("Suggested")
            uses = "[...document.querySelectorAll('use')].map((use) => use.getAttribute('href'))"
            assert not page.evaluate(f"{uses}.filter((name) => !document.querySelector(name))"), (
                "icons that are not there"
            )
            expect(first.locator(".folder").first).to_have_text("old phone")
            expect(first.locator("figcaption").first).to_contain_text("48 \N{MULTIPLICATION SIGN} 48")
            first.get_by_role("button", name="Drop: 000.png").first.click()  # the one that was suggested to be kept
            expect(page.locator("#toast")).to_contain_text("One picture of a group stays")
            first.get_by_role("button", name="Keep: 000.png").last.click()
            expect(first.locator(".status")).to_have_text("Decided: all stay")
            first.get_by_role("button", name="Drop: 000.png").first.click()
            expect(first.locator(".status")).to_have_text("Decided: 1 dropped")
            expect(first.locator("figure.dropped .folder")).to_have_text("old phone")
            other.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            expect(other.locator("#toast")).to_contain_text("Another tab has decided 1 group")
            expect(groups(other).first.locator(".status")).to_have_text("Decided: 1 dropped")
            page.keyboard.press("u")
            expect(first.locator(".status")).to_have_text("Decided: all stay")
            page.get_by_role("button", name="Undo").click()
            expect(first.locator(".status")).to_have_text("Suggested")

            page.get_by_role("button", name="Rules").click()
            page.get_by_label("Keep what is in this folder").check()
            page.get_by_role("combobox", name="Folder").select_option("holidays")
            expect(page.locator("#rule-effect")).to_contain_text("Decides 12 of 12 groups: 12 pictures dropped")
            page.get_by_role("button", name="Decide 12 groups").click()
            decided(page, 12, 12)
            expect(groups(page).nth(1).locator("figure.kept .folder")).to_have_text("holidays/2024")
            page.get_by_role("button", name="Undo").click()
            decided(page, 0, 12)
            expect(page.locator(".how-far p").first).to_contain_text("would be freed in all kinds")
            page.locator("#kinds a").first.click()
            expect(page.locator(".how-far p").first).not_to_contain_text("in all kinds")


def test_pictures_that_only_look_alike_are_shown_on_request(browser: Any, pairs: Path, tiny_model: Model) -> None:
    with served(pairs / "photos.index", tiny_model, pairs / "cache") as server:
        compare(server)
        kinds = httpx2.get(f"{server}api/duplicates").json()["progress"]["kinds"]
        assert kinds["similar"]["groups"]
        with tab(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as page:
            page.goto(f"{server}#view=copies")
            expect(groups(page).first).to_be_visible()
            assert "Only similar" not in page.locator("#kinds").inner_text()
            page.get_by_label("of pictures that only look alike").tap()
            expect(page.locator("#kinds a").last).to_contain_text("Only similar")
            page.locator("#kinds a").last.tap()
            assert state(page)["kind"] == "similar"
            wait_until(page, "document.querySelector('.group[data-key]')?.innerText.includes('Only similar')")
            expect(groups(page).first.locator("figure.dropped")).to_have_count(0)  # nothing is suggested
            groups(page).first.get_by_role("button", name="Keep all").tap()
            expect(groups(page).first.locator(".status")).to_have_text("Decided: all stay")
            page.reload()
            decided(page, 1, kinds["similar"]["groups"])


def test_two_pictures_are_compared_and_the_place_where_they_differ_is_marked(
    browser: Any, pairs: Path, tiny_model: Model
) -> None:
    region = [0.25, 0.5, 0.5, 0.25]

    def mark(route: Any) -> None:
        answer = route.fetch()
        report = answer.json()
        for group in report.get("groups", []):
            group["items"][1]["region"] = region
            group["items"][0]["width"], group["items"][0]["height"] = 100, 50  # a wide picture, in a square box
        route.fulfill(response=answer, json=report)

    with served(pairs / "photos.index", tiny_model, pairs / "cache") as server, tab(browser) as page:
        compare(server)
        page.route("**/api/duplicates?**", mark)
        page.goto(f"{server}#view=copies&kind=identical")
        expect(groups(page).first.locator(".place")).to_have_count(2)
        for n in (0, 1):
            picture = groups(page).first.locator("img").nth(n).bounding_box()
            place = groups(page).first.locator(".place").nth(n).bounding_box()
            assert place["x"] + place["width"] / 2 == pytest.approx(picture["x"] + 0.5 * picture["width"], abs=1)
            assert place["y"] + place["height"] / 2 == pytest.approx(picture["y"] + 0.625 * picture["height"], abs=1)
            assert picture["width"] / picture["height"] == pytest.approx((2, 1)[n], rel=0.02)
        ids = [groups(page).first.locator("a[data-details]").nth(n).get_attribute("data-details") for n in (0, 1)]
        groups(page).first.get_by_role("button", name="Compare").click()
        expect(page.locator("#lightbox")).to_be_visible()
        assert (state(page)["against"], state(page)["show"]) == (ids[0], ids[1])
        page.keyboard.press("2")  # it decides nothing behind the lightbox
        page.keyboard.press("Escape")
        expect(page.locator("#lightbox")).to_be_hidden()
        decided(page, 0, 12)
