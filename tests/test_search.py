"""`spq search`: from names to a request. tests/test_cli.py runs the whole command."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from spq import ImageIndex
from spq.cli import main as cli
from spq.cli.search import QueryNames, line, read_request
from spq.data.formats import read_file
from spq.errors import ConfigError, ImageError
from spq.index.answers import Hit

OPTIONS = {"box": None, "weights": None, "top": 5}


@pytest.fixture
def index(photo_index: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(photo_index) as opened:
        yield opened


def test_pictures_come_before_items_and_items_are_left_out_of_the_answers(index: ImageIndex, photos: Path) -> None:
    a, b = map(str, sorted(photos.rglob("*.png"))[:2])
    notes: list[str] = []
    request = read_request(QueryNames([a], [7], [b]), index, OPTIONS, on_note=notes.append)
    ((picture, item),) = request.groups
    assert isinstance(picture, Image.Image)
    assert isinstance(item, Image.Image)
    assert (list(request.exclude), len(request.negative), request.top, notes) == ([7], 1, 5, [])


def test_an_item_without_its_picture_is_compared_by_its_code(index_folder: Path, photos: Path) -> None:
    notes: list[str] = []
    with ImageIndex.open(index_folder) as index:
        (photos / index.store.items_by_id([7])[7].path).unlink()
        ((item,),) = read_request(QueryNames([], [7], []), index, OPTIONS, on_note=notes.append).groups
    assert item == 7
    assert notes == ["--id 7: its picture cannot be read or has changed, so spq compares its code; update the index"]


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_unless_a_box_needs_all_pixels(
    index: ImageIndex, tmp_path: Path
) -> None:
    Image.new("RGB", (800, 400), "red").save(tmp_path / "a.jpg")
    names = QueryNames([str(tmp_path / "a.jpg")], [], [])
    (reduced,) = read_request(names, index, OPTIONS).groups[0]
    (whole,) = read_request(names, index, {**OPTIONS, "box": (0, 0, 10, 10)}).groups[0]
    assert isinstance(reduced, Image.Image)
    assert isinstance(whole, Image.Image)
    assert reduced.size == (200, 100)
    assert whole.size == (800, 400)


def test_stdin_is_read_for_a_dash(index: ImageIndex, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = min(photos.rglob("*.png")).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    (picture,) = read_request(QueryNames(["-"], [], []), index, OPTIONS).groups[0]
    assert isinstance(picture, Image.Image)
    assert picture.size == (56, 56)


@pytest.mark.parametrize("arguments", [(), ("--html", "sheet.html")])
def test_each_query_picture_is_opened_once(
    photo_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    for path in (a, b):
        Image.new("RGB", (40, 40), "green").save(path)
    opened: Counter[str] = Counter()

    def count(path: str | Path, **options: str) -> bytes:
        opened[str(path)] += 1
        return read_file(path, **options)

    monkeypatch.setattr("spq.data.decode.read_file", count)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["search", str(photo_index), str(a), "--not", str(b), *arguments]) == 0
    assert (opened[str(a)], opened[str(b)]) == (1, 1)


def test_names_that_are_no_search_are_refused(index: ImageIndex) -> None:
    with pytest.raises(ConfigError, match="no query; give an IMAGE"):
        QueryNames([], [], ["a.jpg"])
    with pytest.raises(ConfigError, match="stdin can be read once"):
        QueryNames(["-"], [], ["-"])
    with pytest.raises(ImageError, match="nowhere"):
        read_request(QueryNames(["nowhere.jpg"], [], []), index, OPTIONS)


def test_a_hit_is_a_line_and_json_has_folded_only_when_asked_for() -> None:
    def nowhere(_: str) -> str:
        return ""

    hit = Hit(3, 17, "a\nb.jpg", 0.5, ("c.jpg",))
    assert line(hit, True, False, lambda path: f"/d/{path}").endswith('"file": "/d/a\\nb.jpg"}')
    assert line(hit, False, True, nowhere) == "   3      0.5000  a\\x0ab.jpg  (and 1 of the same code)"
    assert line(hit, True, False, nowhere) == '{"rank": 3, "id": 17, "path": "a\\nb.jpg", "distance": 0.5}'
    assert line(hit, True, True, nowhere).endswith('"folded": ["c.jpg"]}')
