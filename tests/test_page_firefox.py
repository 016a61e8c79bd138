"""The main paths of the page in a second browser, Firefox."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

import firefox
from firefox import Firefox, running_firefox
from web import DROP_OR_PASTE, Site, picture_file

pytestmark = [
    pytest.mark.skipif(firefox.PROGRAM is None, reason="needs Firefox: apt install firefox-esr"),
    pytest.mark.slow,
]
SHOWN = "document.querySelector('#grid[aria-busy=false] img.loaded') !== null"
FIRST = "document.querySelector('#grid .tile[data-position=\"0\"]').dataset.id"
IS_DRAWN = """(() => {
  const canvas = document.querySelector("#plane");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size > 3;
})()"""


@pytest.fixture(scope="module")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with running_firefox(tmp_path_factory.mktemp("firefox") / "profile") as started:
        yield started


def test_search_filter_details_map_and_copies(fox: Firefox, server: str, collection: Path) -> None:
    fox.open(server)
    fox.wait(SHOWN)
    fox.write("#file", str(picture_file(collection, 3)))
    fox.wait("document.querySelector('#summary').textContent.includes('nearest first')")
    fox.wait(SHOWN)
    picture = base64.b64encode(picture_file(collection, 70).read_bytes()).decode()
    fox.evaluate(f"({DROP_OR_PASTE})(arguments[0])", ["drop", "a.png", "image/png", picture, "[data-how=like]"])
    fox.wait("document.querySelectorAll('#query-pictures .chip.for img').length === 2")
    fox.click("#grid .tile[data-position='0'] a")
    fox.wait("/like=\\d+$/.test(location.hash)")
    fox.wait(SHOWN)
    fox.write("#where", "width >= 160\ue007")
    fox.wait("location.hash.includes('where=')")
    fox.wait(SHOWN)
    before = fox.evaluate(FIRST)
    fox.send("WebDriver:Refresh")
    fox.wait(SHOWN)
    assert fox.evaluate(FIRST) == before
    fox.evaluate("document.querySelector('#grid .tile[data-position=\"0\"] [data-act=details]').click()")
    fox.wait("document.querySelector('#details .why')?.textContent.includes('.') ?? false")
    fox.click("nav.views [data-view=map]")
    fox.wait(f"!document.querySelector('#map').hidden && {IS_DRAWN}")
    fox.click("nav.views [data-view=copies]")
    fox.wait("document.querySelectorAll('#groups img').length > 1")


def test_a_static_site_searches_on_a_file_server_and_says_what_to_do_from_the_disk(fox: Firefox, site: Site) -> None:
    fox.open(site.address)
    fox.wait(SHOWN)
    fox.click("#grid .tile[data-position='0'] a")
    fox.wait("document.querySelector('#summary').textContent.includes('nearest first')")
    fox.wait(SHOWN)
    fox.open((site.out / "index.html").as_uri())
    fox.wait("document.body.textContent.includes('python3 -m http.server')")
