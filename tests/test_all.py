"""`spq bench all`: each part is run, a failure stops no other, and a second call does what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import all as everything
from all import NEEDS, PARTS, Part, Runner, listing, parse
from conftest import run_spq
from spq.cli.bench_command import FOLDER
from spq.errors import ConfigError

OK = ["python -c \"print('numbers')\""]
COUNT = ["python -c \"open('{out}/count', 'a').write('x')\""]


def test_a_failure_stops_no_other_part_and_is_all_that_is_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        Part("bad", "a table", ["false", *OK], OK),
        Part("once", "a table", ["false"], OK),
        Part("count", "another table", COUNT, OK),
        Part("checkout", "a third", OK, OK, fast_needs=["--official, a checkout of the authors' code"]),
    ]
    assert Runner(tmp_path, "fast", None).run(parts) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["bad", "failed"]
    assert lines[4].split()[:2] == ["count", "done"]
    assert lines[5].split()[:2] == ["checkout", "skipped"]
    assert "needs --official, a checkout" in lines[5]
    assert lines[-1].startswith("4 parts in")
    parts[0] = Part("bad", "a table", OK, OK)
    assert Runner(tmp_path, "fast", None).run(parts[:1] + parts[2:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["done", "done", "skipped"]
    assert lines[1].split()[1:3] == ["done", "before"]
    assert (tmp_path / "count").read_text() == "x"
    assert (tmp_path / "logs" / "bad.txt").read_text() == "numbers\n"
    Runner(tmp_path, "fast", None).run([replace(parts[2], again=True)])
    assert (tmp_path / "count").read_text() == "xx"
    parts[2] = Part("count", "another table", [COUNT[0].replace("x", "y")], OK)  # another command is not done yet
    Runner(tmp_path, "fast", None).run(parts[2:3])
    assert (tmp_path / "count").read_text() == "xxy"


def test_a_stopped_call_ends_its_part_and_keeps_what_is_done(tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a job in the background ignores it
        "import all as a; from pathlib import Path; from _entrance import entrance; "
        "parts = [a.Part('one', 't', [\"python -c ''\"], []), "
        "a.Part('two', 't', ['python -c \"import os, time; print(os.getpid(), flush=True); time.sleep(60)\"'], [])]; "
        f"entrance('all', lambda: a.Runner(Path({str(tmp_path)!r}), 'fast', None).run(parts))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log, until = tmp_path / "logs" / "two.txt", time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"stopped; if it has written results, the same command continues" in err
    assert list(json.loads((tmp_path / "done.json").read_text())) == ["one"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_every_command_of_every_part_is_one_that_there_is(tmp_path: Path) -> None:
    scripts = {path.stem for path in FOLDER.glob("[a-z]*.py")}
    for part in PARTS:
        assert {*part.needs, *part.fast_needs} <= set(NEEDS)
        for mode in ("fast", "full"):
            for command in part.commands(mode, tmp_path, tmp_path):
                if command[:2] == ["spq", "bench"]:
                    assert command[2] in scripts
                elif command[0] == "python":
                    assert (FOLDER.parent / command[1]).is_file()
                else:
                    assert command[:2] in (["spq", "demo"], ["spq", "train"])
                assert not any(str(FOLDER / "results") in word or "docs/" in word for word in command)
    text = listing(PARTS, Path("OUT"))
    assert "quality: README and results.md" in text
    assert "--json OUT/quality.json" in text


def test_a_mode_is_needed_and_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([])
    assert "one of the arguments --fast --full --list is required" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no part 'qualty'; use some of demo, quality"):
        everything.main(["--fast", "--only", "qualty"])


def test_results_md_names_a_part_for_each_table() -> None:
    page = (FOLDER.parent / "docs" / "results.md").read_text("utf-8")
    for name in ("quality", "authors", "report", "gpu", "search"):
        assert f"`{name}`" in page.split("## How each number is made")[1]


def test_all_is_listed_among_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("bench") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("all ")
