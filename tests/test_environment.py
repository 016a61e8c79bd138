from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from spq import SPQ, __version__
from spq.model.model import Model
from spq.training.environment import commit, environment


def test_versions_device_precision_and_threads_are_told() -> None:
    facts = environment(torch.device("cpu"), True, 3)
    assert (facts["spq"], facts["python"], facts["torch"]) == (__version__, platform.python_version(), version("torch"))
    assert (facts["device"], facts["precision"], facts["processes"]) == ("cpu", "bf16", 3)
    assert facts["threads"] == torch.get_num_threads()
    assert environment(torch.device("cpu"), False)["precision"] == "fp32"


def test_the_commit_is_that_of_the_checkout_and_says_if_files_were_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) == commit(tmp_path / "nowhere")  # that of an installation from a repository, or none
    for arguments in (
        ("init", "-q"), ("config", "user.email", "a@b"), ("config", "user.name", "a"),
        ("commit", "-q", "--allow-empty", "-m", "x"),
    ):  # fmt: skip
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    first = commit(tmp_path)
    assert len(first) == 40
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").touch()
    assert commit(tmp_path) == f"{first}+"


def test_no_git_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) == ""


def test_the_folder_of_a_model_has_them(tiny_model: Model, tmp_path: Path) -> None:
    facts = {"environment": environment(torch.device("cpu"), False)}
    Model(tiny_model.network, tiny_model.config, facts).save(tmp_path / "m")
    assert SPQ.load(tmp_path / "m").facts == facts
    card = (tmp_path / "m" / "README.md").read_text("utf-8")
    assert f"- environment: spq {__version__}, " in card
