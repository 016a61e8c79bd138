"""`spq eval`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import assert_refused, run_spq
from spq.model.model import Model

WRONG = [
    ("eval {m}", 2, "--protocol"),
    ("eval {m} --protocol nonsense", 2, "no protocol 'nonsense'"),
    ("eval {m} --protocol flickr25k", 2, "--root"),
    ("eval {m} --protocol cifar10-spq --gallery {p} --queries {p}", 2, "either"),
    ("eval {m} --gallery {p}", 2, "--queries"),
    ("eval {m} --gallery {p} --queries {p}", 1, "are the same"),
    ("eval {m} --gallery {t}/broken --queries {p}", 1, "no labels"),
    ("eval {t}/nowhere --gallery {p} --queries sample:test", 1, "no model at"),
    ("eval {m} --gallery {p} --queries sample:test --plots {t}/tiny.toml", 2, "is a file"),
]


def test_a_shorter_code_is_measured_and_plotted(
    tiny_model: Model, tmp_path: Path, shared_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantizer = replace(tiny_model.config.quantizer, prefixes=(4, 8))
    Model(tiny_model.network, replace(tiny_model.config, quantizer=quantizer)).save(tmp_path / "m")
    command = ("eval", tmp_path / "m", "--gallery", shared_photos, "--queries", "sample:test", "--at", 5)
    assert run_spq(*command, "--bits", 16, "--plots", tmp_path / "plots") == 0
    out, err = capsys.readouterr()
    assert "500 queries, 60 in the gallery, 16 bits, l2" in out.splitlines()[0]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["pr.png", "precision.png"]
    assert f"wrote {tmp_path / 'plots' / 'pr.png'}" in err.splitlines()
    assert run_spq(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["bits"] == 32


def test_pictures_without_a_label_are_counted_on_stderr_and_in_json(
    model_folder: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next(photos.rglob("*.png")).rename(photos / "stray.png")
    assert run_spq("eval", model_folder, "--gallery", photos, "--queries", "sample:test", "--json") == 0
    out, err = capsys.readouterr()
    assert f"note: {photos}: 1 of 60 pictures have no label and are left out" in err.splitlines()
    assert (json.loads(out)["gallery"], len(json.loads(out)["remarks"])) == (59, 1)


def test_eval_refuses_in_one_line_and_writes_nothing(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, WRONG, capfd)
