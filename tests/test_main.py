"""The entry point: help, errors of any command, exit statuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import assert_refused, content, run_spq
from spq.cli import main as cli
from spq.cli.describe import aligned
from spq.cli.output import note, show
from spq.cli.reports.contact_sheet import escaped
from spq.model.model import Model


def test_help_is_there_for_every_command_and_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("--help") == 0
    listed = capsys.readouterr().out
    for command in ("train", "index", "search", "dupes", "eval", "serve", "info", "export", "doctor", "demo"):
        assert command in listed
        assert run_spq(command, "--help") == 0
        assert f"Example: spq {command}" in capsys.readouterr().out


def test_help_is_shown_without_arguments_and_the_version_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq() == 0
    assert "Usage: spq" in capsys.readouterr().out
    assert run_spq("--version") == 0
    assert capsys.readouterr().out == f"spq {cli.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from spq.cli.main import run; run(['--help']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "spq.cli.main" in loaded
    assert not {"torch", "numpy", "PIL", "faiss", "fastapi"} & set(loaded)


def test_train_index_search_eval_and_info_work_together(
    recipe_file: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    m, i, query = tmp_path / "new.spq", tmp_path / "new.index", min(photos.rglob("*.png"))

    assert run_spq("train", photos, "--out", m, "--recipe", recipe_file, "--bits", 32, "--device", "cpu", "--json") == 0
    trained = json.loads(capsys.readouterr().out)
    assert {"images", "views", "seconds", "epochs", "model"} <= set(trained)
    assert (trained["images"], trained["bits"], trained["epochs"]) == (60, 32, 1)

    assert run_spq("index", photos, "--model", m, "--out", i, "--json") == 0
    assert json.loads(capsys.readouterr().out)["added"] == 60
    assert run_spq("index", photos, "--model", m, "--out", i) == 0
    assert "60 unchanged" in capsys.readouterr().out

    assert run_spq("search", i, query, "--top", 3, "--json", "--html", tmp_path / "answers.html") == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(hit) for hit in hits] == [{"rank", "id", "path", "distance", "file"}] * 3
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert (tmp_path / "answers.html").read_text().count("<img") == 4

    assert run_spq("eval", m, "--gallery", photos, "--queries", "sample:test", "--at", 10, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    wanted = {"protocol", "bits", "map", "map_at", "queries", "gallery", "distance", "seconds"}
    assert wanted <= set(report)
    assert (report["bits"], report["map_at"], report["queries"], report["gallery"]) == (32, 10, 500, 60)

    for path, kind in ((m, "model"), (i, "index")):
        assert run_spq("info", path, "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert {"kind", "images", "bits", "bytes_per_image", "distance", "model"} <= set(facts)
        assert (facts["kind"], facts["images"], facts["bits"], facts["bytes_per_image"]) == (kind, 60, 32, 4)
        assert facts["model"] == trained["hash"]


def test_no_picture_and_no_file_of_an_index_or_a_model_is_overwritten(
    index_folder: Path, model_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = min(photos.rglob("*.png"))
    (tmp_path / "copies.csv").symlink_to(query)
    before = content(photos), content(index_folder), content(model_folder)
    for arguments, reason in [
        (("search", index_folder, query, "--html", query), "is a picture and would be overwritten"),
        (("search", index_folder, query, "--html", photos), "is a folder; give a file"),
        (("dupes", index_folder, "--csv", query), "is a picture"),
        (("dupes", index_folder, "--csv", tmp_path / "copies.csv"), "is a picture"),
        (("export", index_folder, "--to", "faiss", "--out", index_folder / "items.sqlite"), "is a part of"),
        (
            ("export", index_folder, "--to", "onnx", "--out", index_folder / "model" / "model.safetensors"),
            "is a part of",
        ),
        (("info", model_folder, "--html", model_folder / "config.json"), "is a part of"),
    ]:
        assert run_spq(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
    assert (content(photos), content(index_folder), content(model_folder)) == before


def test_an_unknown_command_is_refused_with_a_hint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused({"t": tmp_path}, [("nonsense", 2, "No such command 'nonsense'; see spq --help")], capfd)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            OSError(28, "No space left on device", "/full/model.safetensors"),
            1,
            "the disk is full: /full/model.safetensors; free",
        ),
        (PermissionError(13, "Permission denied", "/locked"), 1, "Permission denied: /locked"),
        (OSError("a disk of its own kind"), 1, "a disk of its own kind"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 9 vs 1"), 1, "is the disk full?"),
        (MemoryError(), 1, "out of memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), 1, "out of memory while a library"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate 2 GiB"),
            1,
            "out of memory; close other programs",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "out of memory; close other programs",
        ),
        (KeyboardInterrupt(), 130, "spq: stopped; nothing was changed, run the same command again"),
    ],
)
def test_failures_of_the_machine_are_one_line(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("spq.cli.info_command.facts_of", fail)
    assert run_spq("info", "anything") == status
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert len(err.splitlines()) <= 1


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("spq.cli.info_command.facts_of", fail)
    with pytest.raises(ZeroDivisionError):
        run_spq("info", "anything")


def test_a_closed_pipe_ends_the_command_without_an_error(tmp_path: Path) -> None:
    code = "import sys; from spq.cli import main as cli; cli.app.command('many')(lambda: print('x\\n' * 10**6)); cli.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "many"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout
    assert process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_a_thread_that_still_computes_does_not_abort_the_process_at_its_end(tmp_path: Path) -> None:
    """Python stops such threads where they are; in torch, this ended in "terminate called without an active exception"."""
    code = """
import sys, threading, time
from spq.cli import main as cli

def busy():
    import torch
    x = torch.eye(200)
    def work():
        while True:
            torch.linalg.svd(x)
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    print("done")

cli.app.command("busy")(busy)
sys.argv = ["spq", "busy"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ('"$0" -m spq --version >&-', 0, ""),
        ('"$0" -m spq --version >&- 2>&-', 0, ""),
        ('"$0" -m spq search i - <&-', 1, "spq: no index at i"),
        ('mkdir gone; cd gone; rmdir ../gone; "$0" -m spq --version', 1, "spq: the working directory no longer exists"),
    ],
)
def test_closed_streams_and_a_deleted_working_directory_bring_no_traceback(
    script: str, status: int, said: str, tmp_path: Path
) -> None:
    run = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == status
    assert "Traceback" not in run.stderr
    assert said in run.stderr


def test_a_model_with_distance_dot_works_in_every_command(
    tiny_model: Model, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    q = replace(tiny_model.config.quantizer, distance="dot")
    model = Model(tiny_model.network, replace(tiny_model.config, quantizer=q))
    model.save(tmp_path / "m")
    assert run_spq("index", photos, "--model", tmp_path / "m", "--out", tmp_path / "i") == 0
    capsys.readouterr()
    assert run_spq("search", tmp_path / "i", "--id", 3, "--json") == 0
    distances = [json.loads(line)["distance"] for line in capsys.readouterr().out.splitlines()]
    assert distances == sorted(distances)
    assert distances[0] < 0
    assert run_spq("search", tmp_path / "i", "--id", 3, "--max-distance", distances[4], "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5
    assert run_spq("export", tmp_path / "i", "--to", "faiss", "--out", tmp_path / "x.faiss") == 0
    assert "distance dot (FAISS returns inner products, the largest first" in capsys.readouterr().out
    queries = ("--gallery", photos, "--queries", "sample:test", "--at", 10, "--json")
    scores = {}
    for distance in ("dot", "l2"):
        assert run_spq("eval", tmp_path / "m", *queries, "--distance", distance) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["distance"] == distance
        scores[distance] = report["map"]
    assert run_spq("eval", tmp_path / "m", *queries) == 0
    assert json.loads(capsys.readouterr().out)["map"] == scores["dot"] != scores["l2"]
    assert run_spq("eval", tmp_path / "m", *queries, "--distance", "cosine") == 2
    assert "'cosine' is not one of 'l2', 'sqeuclidean', 'dot'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "train nowhere --out {t}/m", "index nowhere --model {t}/m --out {t}/i", "search {t}/i q.jpg", "dupes {t}/i",
        "serve {t}/i", "eval {t}/m --gallery nowhere --queries nowhere", "export {t}/i --to faiss --out {t}/x",
        "demo nowhere --out {t}/d",
    ],
)  # fmt: skip
def test_a_number_of_threads_is_set_before_a_command_begins(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[int] = []
    monkeypatch.setattr("spq.cli.options.use_threads", given.append)
    words = command.format(t=tmp_path).split()
    assert run_spq(*words) == 1  # there is nothing to work on
    assert given == []
    assert run_spq(*words, "--threads", 3) == 1
    assert given == [3]
    assert run_spq(*words, "--threads", 0) == 2
    assert "'--threads'" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_spelled_out(encoding: str, photo_index: Path, tmp_path: Path) -> None:
    shutil.copytree(photo_index, tmp_path / "\u017elut\u00fd.index")
    environment = os.environ | {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": encoding,
    }
    command = [sys.executable, "-m", "spq", "index", tmp_path / "\u017elut\u00fd.index", "--verify"]
    run = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.endswith(b".index: no fault found\n")


def test_every_text_on_stdout_and_stderr_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    show("a\x1b[2Jb\nc\u202ed")
    note("e\x07f")
    assert tuple(capsys.readouterr()) == ("a\\x1b[2Jb\nc\\u202ed\n", "e\\x07f\n")
    assert aligned({"key\x1b[31m": 1}) == "key\\x1b[31m  1"
    assert "\u202e" not in escaped("a\u202egpj.exe")
    assert escaped("<a href='javascript:x'>\"&") == "&lt;a href=&#x27;javascript:x&#x27;&gt;&quot;&amp;"


@pytest.mark.parametrize(
    "command", [["info"], ["index", "--verify"], ["search", "1"], ["dupes"], ["export", "--to", "npz"]]
)
def test_no_command_passes_on_what_commands_a_terminal(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = f"{tmp_path}/x\x1b]0;owned\x07\u202e"
    assert run_spq(*command, odd) != 0
    told = capsys.readouterr()
    assert not {"\x1b", "\x07", "\u202e"}.intersection(told.out + told.err)
    assert len(told.err.splitlines()) == 1


def test_notes_and_results_have_no_commands_of_a_terminal(
    photo_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("red\x1b[31m.index", "back\u202ewards.index"):
        shutil.copytree(photo_index, tmp_path / name)
        assert run_spq("index", tmp_path / name, "--verify") == 0
        assert run_spq("info", tmp_path / name, "--html", tmp_path / f"{name}.html") == 0
        out, err = capsys.readouterr()
        assert not {"\x1b", "\u202e"}.intersection(out + err)
        assert "no fault found" in out
