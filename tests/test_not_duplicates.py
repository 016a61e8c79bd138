from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import run_spq


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    (tmp_path / "p").mkdir()
    Image.linear_gradient("L").save(tmp_path / "p" / "a.png")
    shutil.copy(tmp_path / "p" / "a.png", tmp_path / "p" / "b.png")
    return tmp_path / "p"


def test_a_pair_is_ignored_also_after_it_was_renamed_until_it_is_forgotten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("dupes", folder, "--ignore", "a.png", folder / "b.png") == 0
    (folder / "b.png").rename(folder / "renamed.png")
    capsys.readouterr()
    assert run_spq("dupes", folder) == 0
    assert capsys.readouterr().out.startswith("no copies found")
    assert run_spq("dupes", folder, "--ignored", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ignored"] == [["a.png", str(folder / "b.png")]]
    assert run_spq("dupes", folder, "--forget", "a.png", "renamed.png") == 0
    capsys.readouterr()
    assert run_spq("dupes", folder) == 0
    assert capsys.readouterr().out.startswith("identical files: 1 group")


def test_pairs_of_an_index_are_kept_in_it(index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))[:2]
    assert run_spq("dupes", index_folder, "--ignore", a, b) == 0
    assert (index_folder / "not-duplicates.jsonl").exists()
    assert run_spq("dupes", index_folder, "--ignored") == 0
    assert capsys.readouterr().out == f"{a}  {b}\n"


def test_what_cannot_be_remembered_is_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("dupes", folder, "--ignore", "a.png", "c.png") == 1
    assert "has no picture c.png" in capsys.readouterr().err
    assert run_spq("dupes", folder, "--forget", "a.png", "b.png") == 2
    assert "is not an ignored pair" in capsys.readouterr().err
    monkeypatch.delenv("SPQ_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("spq.cli.not_duplicates.lasting_cache", lambda: None)
    assert run_spq("dupes", folder, "--ignore", "a.png", "b.png") == 2
    assert "--ignore cannot be kept, as this user has no home" in capsys.readouterr().err


def test_a_picture_may_be_spelled_as_any_path_to_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "alias").symlink_to(folder)
    assert run_spq("dupes", "p", "--ignore", "alias/a.png", "p/../p/b.png") == 0
    capsys.readouterr()
    assert run_spq("dupes", "p") == 0
    assert capsys.readouterr().out.startswith("no copies found")
    for other in ("a.png", "alias/a.png"):
        assert run_spq("dupes", "p", "--ignore", "p/a.png", other) == 2
        assert "are one picture; give two" in capsys.readouterr().err


def test_a_cache_that_is_no_folder_stops_no_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "file").touch()
    for cache in (folder.parent / "file", folder.parent / "file" / "below"):
        monkeypatch.setenv("SPQ_CACHE", str(cache))
        assert run_spq("dupes", folder) == 0
        assert capsys.readouterr().out.startswith("identical files: 1 group")
        assert run_spq("dupes", folder, "--ignore", "a.png", "b.png") == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "set SPQ_CACHE to a folder" in message
