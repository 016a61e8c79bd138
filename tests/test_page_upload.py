"""The page: pictures that are dropped, pasted or chosen."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from spq.model.model import Model
from web import (
    NEEDS_BROWSER,
    Page,
    drop,
    expect,
    first_ids,
    paste,
    picture_file,
    pictures_in,
    served,
    state,
    tab,
    wait_for_pictures,
    wait_until,
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
    wait_for_pictures(page)
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
    wait_for_pictures(page)
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


def test_a_picture_is_sent_once_whatever_follows_and_again_after_a_restart(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    picture = picture_file(collection, 40).read_bytes()
    bodies: list[bytes] = []
    with tab(browser) as page:
        with served(collection / "photos.index", tiny_model, tmp_path, bodies=bodies) as address:
            port = int(address.rstrip("/").rpartition(":")[2])
            page.goto(address)
            wait_for_pictures(page)
            drop(page, picture)
            expect(page.locator("#summary")).to_have_text("204 pictures, nearest first")
            expect(page.locator("#cut")).to_be_visible()  # measured by two more searches
            everything = first_ids(page)
            last = "scrollTo(0, 1e6), document.querySelector('.tile:not(.waits)[data-position=\"203\"] [data-act=details]')"
            wait_until(page, f"({last}) !== null")  # another page of results
            page.evaluate(f"({last}).click()")
            expect(page.locator("#details .why")).to_contain_text("Distance")
            page.locator("#fold").check()
            expect(page.locator("#grid")).to_have_attribute("aria-busy", "false")
            page.locator("#where").fill("width >= 160")
            page.keyboard.press("Enter")
            expect(page.locator("#summary")).not_to_contain_text("204")
            page.locator("#region-button").click()
            expect(page.locator("#region-text")).to_contain_text("pixels")
            page.locator("#region-use").click()
            wait_until(page, "location.hash.includes('box=')")
            expect(page.locator("#grid")).to_have_attribute("aria-busy", "false")
            page.goto(re.sub(r"#.*", f"#like={state(page)['like']}", page.url))
            page.reload()
            assert first_ids(page) == everything
            assert pictures_in(bodies) == [picture]
            assert sum(map(len, bodies)) < len(picture) + 8 * 1000  # of some eight requests
        with served(collection / "photos.index", tiny_model, tmp_path, port, bodies):
            page.reload()
            assert first_ids(page) == everything
            expect(page.locator("#cut")).to_be_visible()
            assert pictures_in(bodies) == [picture, picture]


def test_what_is_too_large_or_far_away_is_made_smaller_and_stays_upright(
    browser: Any, collection: Path, tiny_model: Model, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    many_pixels, buffer = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8000, 5400), "teal").save(many_pixels, "JPEG", exif=exif)
    noise = Image.effect_noise((2400, 400), 80).convert("RGBA")
    noise.putalpha(Image.effect_noise(noise.size, 80))
    noise.save(buffer, "PNG", compress_level=1)
    assert buffer.tell() > 1e6
    hosts = ("photos.localhost",)
    bodies: list[bytes] = []
    with served(collection / "photos.index", tiny_model, tmp_path, 0, bodies, allowed_hosts=hosts) as address:
        for host, picture, kind, size in (
            ("127.0.0.1", many_pixels.getvalue(), "JPEG", (1382, 2048)),
            (hosts[0], buffer.getvalue(), "PNG", (1448, 241)),  # at 2048 pixels it is still over 1 MB
        ):
            bodies.clear()
            with tab(browser) as page:
                page.goto(address.replace("127.0.0.1", host))
                wait_for_pictures(page)
                page.locator("#file").set_input_files({"name": "a", "mimeType": "image/png", "buffer": picture})
                expect(page.locator("#summary")).to_contain_text("nearest first")
                (data,) = pictures_in(bodies)
                with Image.open(io.BytesIO(data)) as opened:
                    assert (opened.format, opened.size, opened.getexif().get(0x0112, 1)) == (kind, size, 1)
