"""`spq search`."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import assert_refused, run_spq
from spq.cli import search_command
from spq.index.image_index import ImageIndex
from spq.pq import scan


def test_a_picture_from_stdin_gives_the_same_answers_as_its_file(
    photo_index: Path, shared_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = min(shared_photos.rglob("*.jpg"))
    assert run_spq("search", photo_index, query, "--json") == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(query.read_bytes())))
    assert run_spq("search", photo_index, "-", "--json") == 0
    assert capsys.readouterr().out == expected


def answers(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """The lines of `spq search --json`."""
    assert run_spq("search", *arguments, "--json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_option_gives_the_answers_of_the_python_api(
    photo_index: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = sorted(shared_photos.rglob("*.png"))[:3]
    with ImageIndex.open(photo_index) as opened:
        id_ = opened.store.item(a.relative_to(shared_photos).as_posix()).id
        for arguments, query, options in [
            ((a, b), [a, b], {}),
            ((a, "--not", b, "--not", c), a, {"negative": [b, c]}),
            ((a, "--box", "5,6,20,30"), a, {"box": (5, 6, 20, 30)}),
            ((a, "--where", "label in (shirt, coat) and width >= 56 and path ~ *.png"), a,
             {"where": "path ~ *.png and (label = coat or label = shirt)"}),
            ((a, "--max-distance", "0.3"), a, {"max_distance": 0.3}),
            ((a, "--fold"), a, {"fold": True}),
            ((a, b, "--not", c, "--weights", "2,1,0.5"), [a, b], {"negative": [c], "weights": [2, 1, 0.5]}),
            ((a, "--offset", 10, "--top", 5), a, {"offset": 10, "top": 5}),
            (("--id", id_), a, {"exclude": [id_]}),
            (("--id", id_, "--box", "5,6,20,30"), a, {"box": (5, 6, 20, 30), "exclude": [id_]}),
            ((b, "--id", id_, "--not", c), [b, a], {"negative": [c], "exclude": [id_]}),
        ]:  # fmt: skip
            found = answers(capsys, photo_index, *arguments)
            expected = opened.search(query, **{"top": 10, **options})
            assert expected
            assert [(hit["rank"], hit["path"], hit["id"]) for hit in found] == [
                (h.rank, h.path, h.id) for h in expected
            ]
            assert ("folded" in found[0]) == ("--fold" in arguments)
            assert all(hit["id"] != id_ for hit in found) or "--id" not in arguments


def test_wrong_weights_and_an_empty_answer_are_reported_in_one_line(
    photo_index: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = min(shared_photos.rglob("*.png"))
    for weights, reason in (
        ("1,2", "--weights must hold 1 numbers, one for each of 1 query and 0 negative pictures, got 2"),
        ("x", "write --weights 1,2,0.5"),
        ("-1", "--weights must lie between 0 and 1,000,000, got -1"),
    ):
        assert run_spq("search", photo_index, query, "--weights", weights) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
    assert run_spq("search", photo_index, query, "--where", "label = nothing") == 0
    out, err = capsys.readouterr()
    assert not out
    assert err == "no pictures found; try a wider --where\n"
    assert run_spq("search", photo_index, query, "--offset", "99", "--max-distance", "1") == 0
    assert "try a larger --max-distance or a smaller --offset" in capsys.readouterr().err


def test_folded_copies_are_shown_as_text_and_in_json(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "bag" / "001.jpg", photos / "bag" / "copy.jpg")
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "new") == 0
    capsys.readouterr()
    query = (tmp_path / "new", photos / "bag" / "001.jpg", "--fold", "--where", "path in (bag/001.jpg, bag/copy.jpg)")
    (hit,) = answers(capsys, *query)
    assert sorted([hit["path"], *hit["folded"]]) == ["bag/001.jpg", "bag/copy.jpg"]
    assert run_spq("search", *query) == 0
    assert capsys.readouterr().out.endswith("  (and 1 of the same code)\n")


def test_the_contact_sheet_shows_queries_and_answers(
    index_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = sorted(photos.rglob("*.png"))[:3]
    sheet = tmp_path / "sheet.html"
    asked = (index_folder, a, b, "--id", 3, "--not", c, "--top", 4, "--offset", 4, "--html", sheet)
    paths = [hit["path"] for hit in answers(capsys, *asked)]
    alts = re.findall('alt="([^"]*)"', sheet.read_text("utf-8"))
    with ImageIndex.open(index_folder) as opened:
        third = opened.store.paths([3])[3]
    shown = [a.name, b.name, third, f"not {c.name}"]
    assert alts == [f"query: {name}" for name in shown] + [f"answer {n}: {path}" for n, path in enumerate(paths, 5)]
    assert run_spq("search", index_folder, a, "--box", "0,0,20,40", "--html", sheet) == 0
    assert 'width="80" height="160"' in sheet.read_text("utf-8")  # the region, enlarged
    assert run_spq("search", index_folder, a, "--where", "width = 1", "--html", sheet) == 0
    assert sheet.read_text("utf-8").count("<img") == 1
    (photos / third).unlink()
    capsys.readouterr()
    assert run_spq("search", index_folder, "--id", 3, "--html", sheet) == 1
    assert "no longer holds" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [("--method", "exact"), ("--method", "fast", "--threads", 1), ("--method", "ivf"), ("--recall-target", 0.9),
                ("--method", "ivf", "--nprobe", 1000), ("--method", "ivf", "--recall-target", 1)],
)  # fmt: skip
def test_every_method_finds_the_same_in_a_small_index(
    photo_index: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...]
) -> None:
    query = next(shared_photos.rglob("*.png"))
    assert run_spq("search", photo_index, query, "--top", 60) == 0
    expected = capsys.readouterr().out
    assert run_spq("search", photo_index, query, "--top", 60, *options) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert ("lists" in err) == ("ivf" in options)


def test_the_methods_of_the_command_line_are_those_of_the_scan() -> None:
    assert search_command.Method == scan.Method


def test_data_goes_to_stdout_and_nothing_else_does(
    photo_index: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("search", photo_index, min(shared_photos.rglob("*.png")), "--top", 2) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err == ""


WRONG = [
    ("search {t}/nowhere q.jpg", 1, "no index at"),
    ("search {i} {t}/nowhere.jpg", 1, "nowhere.jpg"),
    ("search {i} {t}/broken/00.jpg", 1, "00.jpg"),
    ("search {i} {p}", 1, "photos"),
    ("search {i} q.jpg --top 0", 2, "--top"),
    ("search {i}", 2, "the search has no query"),
    ("search {i} --not {p}/bag/001.jpg", 2, "the search has no query"),
    ("search {i} - --not -", 2, "stdin can be read once"),
    ("search {i} {p}/bag/001.jpg --not {t}/nowhere.jpg", 1, "nowhere.jpg"),
    ("search {i} --id 999", 1, "no picture with id 999"),
    ("search {i} --id one", 2, "--id"),
    ("search {i} {p}/bag/001.jpg --box 1,2,3", 2, "--box 1,2,3 is not x,y,width,height"),
    ("search {i} {p}/bag/001.jpg --box 0,0,57,56", 2, "not inside the picture of 56 x 56 pixels"),
    ("search {i} {p}/bag/001.jpg {p}/bag/011.jpg --box 0,0,5,5", 2, "--box belongs to one picture"),
    ("search {i} --id 1 --id 2 --box 0,0,5,5", 2, "--box belongs to one picture"),
    ("search {i} --id 1 --where label=", 2, "--where: ends at 7; expected a value"),
    ("search {i} --id 1 --where colour=red", 2, "--where: unknown column colour at 1; columns are path, width"),
    ("search {i} --id 1 --where width=wide", 2, "--where: width is a number"),
    ("search {i} --id 1 --where width>1 --method ivf", 2, "--method ivf does not work with --where: a filtered search"),
    ("search {i} --id 1 --where width>1 --nprobe 3", 2, "--nprobe 3 does not work with --where"),
    ("search {i} --id 1 --where width>1 --recall-target 0.9", 2, "--recall-target 0.9 does not work with --where"),
    ("search {i} --id 1 --max-distance near", 2, "--max-distance"),
    ("search {i} --id 1 --max-distance nan", 2, "--max-distance must be a number, got nan"),
    ("search {i} --id 1 --offset -1", 2, "--offset"),
    ("search {i} {t}/q.png --method quick", 2, "quick"),
    ("search {i} {t}/q.png --method bucket", 2, "bucket is for codes of up to 16 bits"),
    ("search {i} {t}/q.png --threads 0", 2, "--threads"),
    ("search {i} {t}/q.png --nprobe 0", 2, "--nprobe"),
    ("search {i} {t}/q.png --recall-target 2", 2, "--recall-target must be above 0 and at most 1, got 2.0"),
    ("search {i} {t}/q.png --recall-target 0.9 --nprobe 3", 2, "give one of them"),
    ("search {i} {t}/q.png --method exact --nprobe 3", 2, "exact searches all codes"),
]


def test_search_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
