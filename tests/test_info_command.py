"""`spq info`."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import assert_refused, run_spq

WRONG = [
    ("info {t}/nowhere", 1, "nothing at"),
    ("info {p}", 1, "no model at"),
    ("info {t}/q.png", 1, "q.png is a file; give a model or an index folder"),
    ("info {t}/newer", 1, "has format 99"),
]


def test_a_model_and_its_index_are_described_as_text(photo_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("info", photo_index) == 0
    facts = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert (facts["kind"], facts["images"], facts["bits"], facts["pictures"]) == ("index", "60", "32", "60")
    assert run_spq("info", photo_index / "model") == 0
    model = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert (model["kind"], model["codebooks"], model["model"]) == ("model", "8 x 16 x 4", facts["model"])


def test_damaged_facts_of_a_model_in_an_index_are_passed_over(
    index_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = index_folder / "model" / "config.json"
    for text in ("[" * 100_000, config.read_text("utf-8").replace('"training": {}', '"training": {"codes": [3]}')):
        config.write_text(text, "utf-8")
        assert run_spq("info", index_folder) == 0
        assert "kind" in capsys.readouterr().out


def test_info_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
