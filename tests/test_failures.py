"""Ctrl-C: every command says in one line what is kept, and how to continue. Full disks are named."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from conftest import content, run_spq
from spq.cli.failures import explanation
from spq.cli.stopping import when_stopped
from spq.common import files
from spq.common.files import Replacing
from spq.errors import StoppedError

# A command line, a function in the middle of its work, and what is said when Ctrl-C comes there.
STOPPED = [
    ("search {i} {q}", "spq.data.decode.load_image", "the index is as it was, run the same command again"),
    ("dupes {i}", "spq.dupes.find.plausible", "pictures and index are as they were, run the same command again"),
    ("export {i} --to faiss --out {t}/x", "spq.index.export._read", "nothing was written, run the same command again"),
    (
        "eval {m} --gallery {p} --queries sample:test", "spq.evaluation.evaluate.collect",
        "what was written is complete, run the same command again",
    ),
    ("info {i}", "spq.cli.info_command.facts_of", "nothing was changed, run the same command again"),
    ("doctor", "spq.cli.doctor_command.examine", "nothing was changed, run the same command again"),
    ("serve {i} --port 0", "spq.web.server.app.listen", "the server had not started yet, run the same command again"),
    (
        "index {p} --model {m} --out {t}/x",
        "spq.index.build.sync",
        "encoded pictures are kept, go on with: spq index {p} --out {t}/x --model {m}",
    ),
    ("demo {p} --out {t}/d", "spq.training.train.read_pixels", "not finished, the same command starts it again"),
    ("train {p} --out {t}/x --recipe spq", "spq.training.train.read_pixels", "nothing is kept yet, run the same command again"),
    (
        "train {p} --out {t}/x --start {m} --frozen",
        "spq.training.stages.frozen_head.cached_features",
        "the features computed so far are kept, run the same command to continue",
    ),
    (
        "train {p} --out {t}/x --recipe fast --image-size 16 --epochs 1",
        "spq.training.stages.train_network.step_loss",  # the second Ctrl-C, before there is a checkpoint
        "nothing is kept yet, start again with: spq train {p} --out {t}/x --resume",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "function", "text"), STOPPED, ids=[f"{c} {f}" for c, f, _ in STOPPED])
def test_ctrl_c_says_what_is_kept_and_how_to_continue(
    command: str, function: str, text: str, model_folder: Path, index_folder: Path, photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def press_ctrl_c(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyboardInterrupt  # a stage of training notes the first signal only

    module, _, name = function.rpartition(".")
    __import__(module)
    monkeypatch.setattr(sys.modules[module], name, press_ctrl_c)
    names = {"i": index_folder, "m": model_folder, "p": photos, "q": min(photos.rglob("*.png")), "t": tmp_path}
    before = content(photos)
    assert run_spq(*(part.format(**names) for part in command.split())) == 130
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("spq: stopped; ")
    assert text.format(**names) in line
    assert content(photos) == before


def test_a_decorated_command_keeps_its_result_and_its_errors() -> None:
    @when_stopped("nothing is kept")
    def halve(number: int) -> float:
        if number < 0:
            raise KeyboardInterrupt
        return 1 / number

    assert halve(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        halve(0)
    with pytest.raises(StoppedError, match=r"^stopped; nothing is kept$"):
        halve(-1)


FULL = [
    ("dupes {p} --csv {t}/a.csv", "a.csv"),
    ("dupes {p} --html {t}/a.html", "a.html"),
    ("search {i} --id 1 --html {t}/a.html", "a.html"),
    ("info {i} --html {t}/a.html", "a.html"),
    ("export {i} --to codes --out {t}/a.npz", "a.npz"),
    ("export {i} --to codes --out {t}/a.parquet", "a.parquet"),
    ("export {i} --to faiss --out {t}/a", "a.json"),
    ("export {m} --to onnx --out {t}/a.onnx", "a.onnx"),
    ("index {p} --model {m} --out {t}/a", "a/manifest.json"),
    ("index {i} --backup {t}/a", "a"),
    ("train {p} --recipe fast --image-size 16 --epochs 1 --out {t}/a", "a/checkpoints/last.pt"),
]


@pytest.mark.parametrize(("command", "name"), FULL, ids=[command for command, _ in FULL])
def test_a_full_disk_is_named_by_the_file_that_has_no_room(
    command: str, name: str, model_folder: Path, index_folder: Path, photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    names = {"i": index_folder, "m": model_folder, "p": photos, "t": tmp_path}
    assert run_spq(*(part.format(**names) for part in command.split())) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line == f"spq: the disk is full: {tmp_path / name}; free some space"
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "a"] == before
    assert {path.name for path in tmp_path.glob("a/**/.*")} <= {".lock"}


def test_only_temporary_files_without_room_lead_to_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for code in (errno.ENOSPC, errno.EDQUOT):
        for name, remedy in (
            (".", ", or set TMPDIR to a folder on another disk"),
            ("spq-x1/model.safetensors", ", or set TMPDIR to a folder on another disk"),
            ("copies.csv", ""),
        ):
            error = OSError(code, "no room", str(tmp_path / name))
            assert explanation(error) == (f"the disk is full: {tmp_path / name}; free some space{remedy}", 1)


def test_a_full_cache_leads_to_spq_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name, remedy in (("cache/features/a.npy", ", or set SPQ_CACHE to a folder on another disk"), ("cache.csv", "")):
        error = OSError(errno.ENOSPC, "no room", str(tmp_path / name))
        assert explanation(error) == (f"the disk is full: {tmp_path / name}; free some space{remedy}", 1)


def test_a_copy_is_named_by_the_place_that_has_no_room() -> None:
    error = OSError(errno.ENOSPC, "no room", "from/here.js", None, "to/there.js")
    assert explanation(error) == ("the disk is full: to/there.js; free some space", 1)


def test_a_limit_of_the_size_of_files_is_named() -> None:
    error = OSError(errno.EFBIG, "File too large", "a.npz")
    limit = "the disk, or a limit such as ulimit -f, allows no larger file: a.npz; use another place"
    assert explanation(error) == (limit, 1)


def test_what_torch_could_not_write_on_a_full_disk_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FULL", 1 << 62)  # every disk has less room
    with pytest.raises(OSError, match="No space left") as caught, Replacing(tmp_path / "last.pt"):
        raise RuntimeError("[enforce fail at inline_container.cc:595] . unexpected pos 64 vs 0")
    assert explanation(caught.value) == (f"the disk is full: {tmp_path / 'last.pt'}; free some space", 1)


def test_what_torch_could_not_write_is_named(tmp_path: Path) -> None:
    for place in (tmp_path / "last.pt", tmp_path / "model.safetensors"):
        with pytest.raises(RuntimeError) as caught, Replacing(place):
            raise RuntimeError("[enforce fail at inline_container.cc:595] . unexpected pos 64 vs 0")
        assert explanation(caught.value) == (f"writing {place} failed; is the disk full?", 1)


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_a_full_disk_below_standard_output_is_named(command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "spq", command], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (done.returncode, done.stderr) == (1, "spq: the disk is full: standard output; free some space\n")
