"""`spq search`: from names to a request. tests/test_cli.py runs the whole command."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from spq.cli import main as cli
from spq.cli.search import QueryNames, line, read_request
from spq.data.formats import read_file
from spq.errors import ConfigError, ImageError
from spq.index.answers import Hit

OPTIONS = {"box": None, "weights": None, "top": 5}


def test_pictures_come_before_ids_and_ids_are_left_out_of_the_answers(photos: Path) -> None:
    a, b = map(str, sorted(photos.rglob("*.png"))[:2])
    request = read_request(QueryNames([a], [7], [b]), 28, OPTIONS)
    ((picture, id_),) = request.groups
    assert isinstance(picture, Image.Image)
    assert (id_, list(request.exclude), len(request.negative), request.top) == (7, [7], 1, 5)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_unless_a_box_needs_all_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (800, 400), "red").save(tmp_path / "a.jpg")
    names = QueryNames([str(tmp_path / "a.jpg")], [], [])
    (reduced,) = read_request(names, 28, OPTIONS).groups[0]
    (whole,) = read_request(names, 28, {**OPTIONS, "box": (0, 0, 10, 10)}).groups[0]
    assert isinstance(reduced, Image.Image)
    assert isinstance(whole, Image.Image)
    assert reduced.size == (200, 100)
    assert whole.size == (800, 400)


def test_stdin_is_read_for_a_dash(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = min(photos.rglob("*.png")).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    (picture,) = read_request(QueryNames(["-"], [], []), 28, OPTIONS).groups[0]
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


def test_names_that_are_no_search_are_refused() -> None:
    with pytest.raises(ConfigError, match="no query; give an IMAGE"):
        QueryNames([], [], ["a.jpg"])
    with pytest.raises(ConfigError, match="stdin can be read once"):
        QueryNames(["-"], [], ["-"])
    with pytest.raises(ImageError, match="nowhere"):
        read_request(QueryNames(["nowhere.jpg"], [], []), 28, OPTIONS)


def test_a_hit_is_a_line_and_json_has_folded_only_when_asked_for() -> None:
    def nowhere(_: str) -> str:
        return ""

    hit = Hit(3, 17, "a\nb.jpg", 0.5, ("c.jpg",))
    assert line(hit, True, False, lambda path: f"/d/{path}").endswith('"file": "/d/a\\nb.jpg"}')
    assert line(hit, False, True, nowhere) == "   3      0.5000  a\\x0ab.jpg  (and 1 of the same code)"
    assert line(hit, True, False, nowhere) == '{"rank": 3, "id": 17, "path": "a\\nb.jpg", "distance": 0.5}'
    assert line(hit, True, True, nowhere).endswith('"folded": ["c.jpg"]}')
