from __future__ import annotations

from pathlib import Path

import pytest

from spq.cli import checks
from spq.cli.checks import check_model_out
from spq.errors import ConfigError


def test_a_stray_file_does_not_prevent_a_resume(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    for stray in (".DS_Store", ".model.safetensors.123", "train.log"):
        (tmp_path / stray).touch()
    check_model_out(tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"holds other files \(train.log\)"):
        check_model_out(tmp_path, resume=False)


def test_a_folder_with_other_files_is_neither_written_nor_resumed(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    check_model_out(tmp_path, resume=False)
    with pytest.raises(ConfigError, match="nothing to resume"):
        check_model_out(tmp_path, resume=True)
    (tmp_path / "holiday.jpg").touch()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="holds other files"):
            check_model_out(tmp_path, resume)


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks.os, "access", lambda place, mode: place != tmp_path)
    for check, path in (
        (checks.check_folder, tmp_path / "new" / "m.spq"),
        (checks.check_file, tmp_path / "answers.html"),
    ):
        with pytest.raises(
            ConfigError, match=f"--out {path} cannot be written, as {tmp_path} is read-only; give another place"
        ):
            check("--out", path)
    checks.check_folder("--out", None)
