"""`spq dupes`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

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
    assert {group["keep"]["path"], group["others"][0]["path"]} == {f"bag/{original.name}", "bag/copy of it.png"}
    assert facts["left_out"][0][0] == "bag/broken.jpg"
    assert 0 <= facts["threshold"]["false_matches"] <= 1


WRONG = [
    ("dupes {t}/nowhere", 1, "no index at"),
    ("dupes {m}", 1, "no index at"),
    ("dupes {i} --threshold -1", 2, "--threshold"),
    ("dupes {i} --threshold nan", 2, "--threshold must be a distance of 0 or more, got nan"),
    ("dupes {i} --recall 1.5", 2, "--recall"),
    ("dupes {i} --html {p}", 2, "is a folder"),
    ("dupes {i} --csv {p}", 2, "is a folder"),
    ("dupes {t}/astray", 1, "no such folder or file: /nowhere/photos"),
]


def test_dupes_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
