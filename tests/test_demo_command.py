"""`spq demo`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from conftest import assert_refused, run_spq
from spq.config import load_recipe


def test_the_demo_answers_from_the_users_own_pictures(
    recipe_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.cli.demo_command.load_recipe", lambda name: load_recipe(recipe_file))
    for _ in range(2):  # a second one takes the place of the first
        assert run_spq("demo", photos, "--out", tmp_path / "d", "--minutes", 0.01, "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["images"], facts["bits"]) == (60, 64)
    page = (tmp_path / "d" / "answers.html").read_text()
    assert page.count("<section>") == 8
    assert page.count("<img") == 8 * 9  # each query and eight answers, itself not among them
    with Image.open(tmp_path / "d" / "answers.png") as sheet:
        assert sheet.width > 500


WRONG = [
    ("demo {t}/nowhere --out {t}/new", 1, "no such folder or file"),
    ("demo {t}/broken --out {t}/new --minutes 0.01", 1, "none of the 20 pictures"),
    ("demo {p} --out {p}", 2, "holds other files"),
]


def test_demo_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
