from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import assert_refused
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


@pytest.mark.parametrize("check", [checks.check_folder, checks.check_file])
def test_no_folder_is_made_above_the_place_that_is_named(check: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for name, why in (
        ("fotos/x.csv", f"is in a folder that does not exist: {tmp_path / 'fotos'}; make it, or check the path"),
        ("a/b/c/x.csv", f"is in a folder that does not exist: {tmp_path / 'a'}; make it, or check the path"),
        ("file/x.csv", f"cannot be written, as {tmp_path / 'file'} is a file; give another place"),
        ("lost/x.csv", f"is in a folder that does not exist: {tmp_path / 'lost'}; make it, or check the path"),
    ):
        with pytest.raises(ConfigError, match=f"^--html {tmp_path / name} {why}$"):
            check("--html", tmp_path / name)
    check("--html", tmp_path / "x.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lost"]


NESTED = [
    ("index {p} --model {m} --out {t}/a/b", 2, "is in a folder that does not exist"),
    ("train {p} --out {t}/a/b", 2, "is in a folder that does not exist"),
    ("demo {p} --out {t}/a/b", 2, "is in a folder that does not exist"),
    ("dupes {p} --csv {t}/a/b.csv", 2, "is in a folder that does not exist"),
    ("dupes {p} --html {t}/a/b.html", 2, "is in a folder that does not exist"),
    ("search {i} --id 1 --html {t}/a/b.html", 2, "is in a folder that does not exist"),
    ("info {i} --html {t}/a/b.html", 2, "is in a folder that does not exist"),
    ("eval {m} --gallery {p} --queries {p} --plots {t}/a/b", 2, "is in a folder that does not exist"),
    ("serve {p} --index {t}/a/b", 2, "is in a folder that does not exist"),
    ("serve {p} --cache {t}/a/b", 2, "is in a folder that does not exist"),
    *(
        (f"export {{i}} --to {to} --out {{t}}/a/b{end}", 2, "is in a folder that does not exist")
        for to, end in (("faiss", ""), ("codes", ".npz"), ("onnx", ".onnx"), ("web", ""))
    ),
]


def test_every_command_refuses_a_place_below_a_missing_folder(
    places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert_refused(places, NESTED, capfd)
