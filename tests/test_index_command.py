"""`spq index`."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from conftest import assert_refused, run_spq


def test_a_change_of_the_collection_is_reported(
    index_folder: Path, model_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("index", photos / "bag", "--model", model_folder, "--out", index_folder) == 0
    assert f"held the pictures of {photos}" in capsys.readouterr().err


def test_index_lists_unreadable_pictures_and_continues(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bag" / "broken.jpg").write_bytes(b"no picture")
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "new") == 0
    out, err = capsys.readouterr()
    assert "60 added" in out
    assert "1 unreadable" in out
    assert "not indexed: bag/broken.jpg: " in err


def test_index_verifies_and_compacts_without_pictures_or_model(
    index_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("index", "--verify", "--compact", "--out", index_folder) == 0
    shrunk, checked = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{index_folder}: [\d,]+ bytes before, [\d,]+ after", shrunk)
    assert checked == f"{index_folder}: no fault found"
    with sqlite3.connect(index_folder / "items.sqlite") as database:
        database.execute("UPDATE items SET code = x'00' WHERE id = 3")
        database.execute("UPDATE items SET code = NULL WHERE id = 5")
    database.close()
    assert run_spq("index", "--verify", "--out", index_folder) == 1
    out, err = capsys.readouterr()
    assert [line.split(" (")[0] for line in out.splitlines()] == ["item 3", "item 5"]
    assert err == ""
    assert run_spq("index", "--verify", "--json", "--out", index_folder) == 1
    assert len(json.loads(capsys.readouterr().out)["faults"]) == 2


def test_index_keeps_missing_pictures_on_request(
    index_folder: Path, model_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list(photos.rglob("*.*g")))
    for path in sorted(photos.rglob("*.png"))[:4]:
        path.unlink()
    assert run_spq("index", photos, "--model", model_folder, "--out", index_folder, "--keep-missing") == 0
    assert f"{before} pictures at 32 bits" in (out := capsys.readouterr().out)
    assert "4 kept without a file" in out
    assert run_spq("index", photos, "--model", model_folder, "--out", index_folder, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["removed"], facts["kept"]) == (before - 4, 4, 0)


def test_a_name_that_is_not_utf8_is_shown_and_kept(
    model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        shutil.copy(min(photos.rglob("*.png")), photos / odd)
    except OSError:  # a file system that only takes UTF-8 has no such names
        return
    assert run_spq("index", photos, "--model", model_folder, "--out", tmp_path / "odd") == 0
    capsys.readouterr()
    assert run_spq("search", tmp_path / "odd", photos / odd, "--top", 2) == 0
    assert "caf\\xe9.png" in capsys.readouterr().out


WRONG = [
    ("index {p} --model {t}/nowhere --out {t}/new", 1, "no model at"),
    ("index {p} --model {t}/newer --out {t}/new", 1, "has format 99"),
    ("index {p} --model {t}/damaged --out {t}/new", 1, "damaged"),
    ("index {t}/nowhere --model {m} --out {t}/new", 1, "no such folder or file"),
    ("index {t}/empty --model {m} --out {t}/new", 1, "no pictures"),
    ("index {t}/broken --model {m} --out {t}/new", 1, "none of the 20 pictures"),
    ("index {p} --model {m} --out {p}", 1, "exists and is not an index"),
    ("index {p} --out {t}/new", 2, "give IMAGES and --model MODEL, or only --compact"),
    ("index --out {i}", 2, "give IMAGES and --model MODEL"),
    ("index --model {m} --verify --out {i}", 2, "give IMAGES and --model MODEL"),
    ("index --verify --out {t}/nowhere", 1, "no index at"),
    ("index --compact --out {p}", 1, "no index at"),
    ("index {t}/empty --model {m} --out {i}", 1, "no pictures"),
    ("index {p} --model {m} --out {t}/tiny.toml", 2, "is a file"),
    ("index {p} --model {t}/other --out {i}", 1, "codes of two models do not mix"),
    ("index {p} --model {m} --out {t}/new --device gpu", 2, "unknown device 'gpu'"),
]


def test_index_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
