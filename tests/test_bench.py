from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spq.cli.bench_command import FOLDER, benchmarks, listing
from spq.cli.main import run
from spq.errors import ConfigError


def spq(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spq", "bench", *words], capture_output=True, text=True, env=os.environ
    )


def test_each_benchmark_is_listed_with_its_question() -> None:
    names = benchmarks()
    assert {"quality", "official", "search", "views"} <= set(names)
    assert not [name for name in names if name.startswith("_")]
    for line in listing().splitlines():
        name, about = line.split(None, 1)
        assert about in (FOLDER / f"{name}.py").read_text("utf-8").splitlines()[0]


def test_arguments_reach_the_benchmark_as_they_are() -> None:
    told = spq("report", "--help")
    assert told.returncode == 0
    assert "usage: spq bench report [-h]" in told.stdout
    assert spq("report", "--no-such-option").returncode == 2


def test_without_a_source_checkout_a_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run spq bench from a source checkout"):
        benchmarks(tmp_path)


def test_an_unknown_benchmark_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "qualty"]) == 2
    assert "no benchmark 'qualty'; use one of agreement, " in capsys.readouterr().err
