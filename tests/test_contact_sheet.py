from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from spq.cli.reports.contact_sheet import BAD, FRAME, GOOD, Answer, Row, answers, draw_png, write_html
from spq.data.open import open_images
from spq.errors import DataError
from spq.index.image_index import Hit


def picture(colour: str, size: tuple[int, int] = (40, 60)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.fixture
def rows() -> list[Row]:
    found = [Answer(picture("red"), "a.jpg", 0.5, True), Answer(picture("blue", (300, 20)), "b.jpg", 1.25, False)]
    return [Row(picture("gray"), "query & co", found), Row(picture("gray"), "<script>alert(1)</script>", found[:1])]


@pytest.fixture
def page(rows: list[Row], tmp_path: Path) -> str:
    write_html(tmp_path / "answers.html", rows, "60 pictures")
    return (tmp_path / "answers.html").read_text("utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_has_no_external_resources(page: str) -> None:
    parser = Tags()
    parser.feed(page)
    assert not parser.open
    tags = {tag for tag, _ in parser.seen}
    assert "script" not in tags
    assert "link" not in tags
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r'src="data:[^"]*"', "", page))


def test_every_picture_has_its_data_an_alt_text_and_a_size(page: str) -> None:
    parser = Tags()
    parser.feed(page)
    images = [attributes for tag, attributes in parser.seen if tag == "img"]
    assert [image["alt"] for image in images] == [
        "query: query & co",
        "answer 1: a.jpg, same class",
        "answer 2: b.jpg, another class",
        "query: <script>alert(1)</script>",
        "answer 1: a.jpg, same class",
    ]
    for image in images:
        data = base64.b64decode(str(image["src"]).removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as shown:
            assert [str(side) for side in shown.size] == [image["width"], image["height"]]
            assert max(shown.size) <= 192


def test_the_page_shows_distances_fits_a_phone_and_both_colour_schemes(page: str) -> None:
    assert "0.500" in page
    assert "1.250" in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "flex-wrap: wrap" in page


def test_the_sheet_marks_the_query_and_the_class_of_answers(rows: list[Row]) -> None:
    sheet = draw_png(rows, tile=40, scale=1)
    colours = {colour for _, colour in sheet.getcolors(100_000) or []}
    for name in (FRAME, GOOD, BAD):
        assert tuple(bytes.fromhex(name[1:])) in colours


def test_without_labels_nothing_is_marked() -> None:
    sheet = draw_png([Row(picture("gray"), "q", [Answer(picture("red"), "a", 0.0)])], tile=40, scale=1)
    colours = {colour for _, colour in sheet.getcolors(100_000) or []}
    assert not {tuple(bytes.fromhex(name[1:])) for name in (GOOD, BAD)} & colours


def test_a_picture_keeps_its_proportions_in_the_sheet() -> None:
    sheet = draw_png([Row(picture("red", (10, 40)), "q", [])], tile=40, scale=1)
    red = sum(count for count, colour in sheet.getcolors(100_000) or [] if colour == (255, 0, 0))
    assert red == pytest.approx(10 * 40, rel=0.1)


def test_answers_have_their_class_if_that_of_the_query_is_known() -> None:
    images = open_images("sample:test")
    assert images.labels is not None
    hits = [Hit(1, 7, images.ids[3], 0.25), Hit(2, 8, images.ids[4], 0.5)]
    first, second = answers(images, hits, int(images.labels[3]))
    assert (first.same, first.caption) == (True, images.class_names[images.labels[3]])
    assert second.same == (images.labels[3] == images.labels[4])
    assert [answer.same for answer in answers(images, hits)] == [None, None]
    assert [answer.caption for answer in answers(images, hits)] == [images.ids[3], images.ids[4]]


def test_a_missing_answer_is_left_out_and_another_collection_is_refused(photos: Path) -> None:
    images = open_images(photos)
    hits = [Hit(1, 1, images.ids[0], 0.0), Hit(2, 2, images.ids[1], 0.5)]
    (photos / images.ids[0]).unlink()
    assert [answer.caption for answer in answers(images, hits)] == [images.ids[1]]
    with pytest.raises(DataError, match="no longer has"):
        answers(open_images("sample:test"), hits)


def test_an_answer_without_a_label_is_named_by_its_path(photos: Path) -> None:
    stray = next(photos.rglob("*.png")).rename(photos / "stray.png")
    images = open_images(photos)
    labelled = next(id_ for id_ in images.ids if id_ != stray.name)
    found = answers(images, [Hit(1, 1, stray.name, 0.0), Hit(2, 2, labelled, 1.0)], 0)
    assert [(answer.caption, answer.same is None) for answer in found] == [
        ("stray.png", True),
        (labelled.split("/")[0], False),
    ]
