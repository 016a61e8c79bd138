"""`spq dupes`."""

from __future__ import annotations

import base64
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import assert_refused, run_spq


def test_copies_are_reported_as_text_json_csv_and_html(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = min((photos / "bag").iterdir())
    shutil.copy(original, photos / "bag" / "copy of it.png")
    (photos / "bag" / "broken.jpg").write_bytes(b"no picture")
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "new") == 0
    capsys.readouterr()

    assert run_spq("dupes", tmp_path / "new", "--csv", tmp_path / "d.csv", "--html", tmp_path / "d.html") == 0
    out, err = capsys.readouterr()
    assert out.startswith("identical files: 1 group, 1 besides those to keep\n  = bag/")
    assert "nothing was deleted" in out
    assert err.splitlines() == [line for line in err.splitlines() if line.startswith("left out: bag/broken.jpg: ")]
    assert "copy of it.png" in (tmp_path / "d.csv").read_text()
    assert "copy of it.png" in (tmp_path / "d.html").read_text()

    assert run_spq("dupes", tmp_path / "new", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    (group,) = (group for group in facts["groups"] if group["kind"] == "identical")
    assert Path(group["others"][0]["file"]).is_absolute()
    assert {group["keep"]["path"], group["others"][0]["path"]} == {f"bag/{original.name}", "bag/copy of it.png"}
    assert facts["left_out"][0][0] == "bag/broken.jpg"
    assert 0 <= facts["threshold"]["false_matches"] <= 1


def test_paths_have_no_dots_and_are_those_of_prefer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    for name in ("a.png", "sub/b.png", "sub/c.png"):
        Image.linear_gradient("L").save(tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path / "here")
    for given in ("../in", "../here/../in", str(tmp_path / "here" / ".." / "in")):
        assert run_spq("dupes", given, "--paths-only", "--prefer", tmp_path / "in" / "sub" / "c.png") == 0
        out, err = capsys.readouterr()
        assert "matches no picture" not in err
        assert out.splitlines() == [str(tmp_path / "in" / name) for name in ("a.png", "sub/b.png")]


def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may read everything, so the calls of the system are replaced."""
    closed, stat, scandir = tmp_path / "closed", os.stat, os.scandir
    closed.mkdir()

    def shut(call: Callable[..., Any], path: Any, *args: Any, **options: Any) -> Any:
        name = "" if isinstance(path, int) else os.fsdecode(path)
        if name.startswith(str(closed)) and (name != str(closed) or call is scandir):
            raise PermissionError(13, "Permission denied", name)
        return call(path, *args, **options)

    monkeypatch.setattr(os, "stat", partial(shut, stat))
    monkeypatch.setattr(os, "scandir", partial(shut, scandir))
    assert run_spq("dupes", closed) == 1
    assert capsys.readouterr().err == f"spq: cannot list {closed}: Permission denied; make the folder readable\n"


def test_paths_of_copies_go_to_other_programs_and_formulas_do_not_run(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    Image.linear_gradient("L").save(folder / "a.png")
    for name in (b"=cmd.png", b"@sum(1).png", b"caf\xe9.png", "esc\x1b[2J\u202e.png".encode()):
        shutil.copy(folder / "a.png", os.fsencode(folder) + b"/" + name)
    assert run_spq("dupes", folder, "-0", "--keep", "shortest-path", "--csv", tmp_path / "d.csv") == 0
    paths = capfdbinary.readouterr().out.split(b"\0")
    assert paths.pop() == b""
    assert sorted(paths) == sorted(os.fsencode(p) for p in folder.iterdir() if p.name != "a.png")
    with (tmp_path / "d.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"'=cmd.png", "'@sum(1).png"} <= {row["path"] for row in rows}
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    named = {base64.b64decode(row["file_bytes"]) if row["file_bytes"] else row["file"].encode() for row in rows}
    assert named == {os.fsencode(path) for path in folder.iterdir()}
    assert run_spq("dupes", folder, "--paths-only") == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 4
    assert run_spq("dupes", folder) == 0
    shown = capfdbinary.readouterr().out
    assert b"\x1b" not in shown
    assert "\u202e".encode() not in shown
    assert shown.endswith(b" bytes would be freed\n")


def test_new_pictures_that_a_collection_has_already_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    Image.linear_gradient("L").save(tmp_path / "old" / "a.png")
    Image.radial_gradient("L").save(tmp_path / "new" / "other.png")
    shutil.copy(tmp_path / "old" / "a.png", tmp_path / "new" / "again.png")
    assert (
        run_spq("dupes", tmp_path / "new", "--against", tmp_path / "old", "--paths-only", "--html", tmp_path / "d.html")
        == 0
    )
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'again.png'}\n"
    assert (tmp_path / "d.html").read_text("utf-8").count("<img") == 2
    assert run_spq("dupes", tmp_path, "--against", tmp_path / "old") == 0
    said = capsys.readouterr()
    assert f"not compared: 1 picture of {tmp_path}, files that --against has too" in said.err
    assert f"= {tmp_path / 'old' / 'a.png'}  " in said.out
    assert "new/again.png  " in said.out


def test_what_is_no_picture_of_a_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "@eaDir/b.png", "c.jxl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    Image.linear_gradient("L").save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert run_spq("dupes", tmp_path) == 0
    said = capsys.readouterr().err
    assert "passed over: 1 picture in side folders" in said
    assert "not read: 1 .jxl" in said
    assert "pipe.jpg: not a regular file" in said


WRONG = [
    ("dupes {t}/nowhere", 1, "no such folder or file"),
    ("dupes {m}", 1, "no pictures in"),
    ("dupes {i} --threshold -1", 2, "--threshold"),
    ("dupes {i} --threshold nan", 2, "--threshold must be a distance of 0 or more, got nan"),
    ("dupes {i} --recall 1.5", 2, "--recall"),
    ("dupes {p} --threshold 1", 2, "only an index has"),
    ("dupes {i} {p}", 2, "give it alone, or folders"),
    ("dupes {p} --keep best", 2, "--keep"),
    ("dupes {p} --against {t}/nowhere", 1, "no such folder or file"),
    ("dupes {p} --json --paths-only", 2, "two forms of the answer"),
    ("dupes {i} --html {p}", 2, "is a folder"),
    ("dupes {i} --csv {p}", 2, "is a folder"),
    ("dupes {t}/astray", 1, "no such folder or file: /nowhere/photos"),
]


def test_dupes_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_files_are_written_also_if_the_reader_of_the_answer_has_gone(option: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.linear_gradient("L").save(tmp_path / "in" / name)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        words = [sys.executable, "-u", "-m", "spq", "dupes", str(tmp_path / "in"), option, str(tmp_path / "out")]
        done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert "b.png" in (tmp_path / "out").read_text("utf-8")
