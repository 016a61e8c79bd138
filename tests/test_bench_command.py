"""`spq bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import run_spq
from spq.cli.bench_command import FOLDER, listing
from spq.errors import ConfigError

ECHO = """import json, sys
print(json.dumps(sys.argv[1:]))
sys.exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of benchmarks."""
    (tmp_path / "echo.py").write_text(ECHO)
    (tmp_path / "a_long_name.py").write_text('"""How long is a name?\n\nThis line is not listed."""\n')
    (tmp_path / "b.py").write_text('"""What is b?"""\n')
    (tmp_path / "_shared.py").write_text('"""No benchmark."""\n')
    return tmp_path


def test_benchmarks_are_listed_in_two_columns(folder: Path) -> None:
    assert listing(folder).splitlines() == ["a_long_name  How long is a name?", "b            What is b?", "echo"]


def test_every_benchmark_of_the_source_is_listed_with_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("bench") == 0
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0] for line in lines}
    assert listed == {path.stem for path in FOLDER.glob("[a-z]*.py")} >= {"quality", "official", "search", "views"}
    starts = {len(line) - len(line.split(None, 1)[1]) for line in lines}
    assert len(starts) == 1


def test_arguments_and_exit_status_are_those_of_the_benchmark(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spq.cli import bench_command, main; "
        "bench_command.FOLDER = Path(sys.argv[1]); sys.exit(main.run(sys.argv[2:]))"
    )
    arguments = ["-h", "--json", "a b", "--", "--minutes=3"]
    command = [sys.executable, "-c", code, str(folder), "bench", "echo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (json.loads(done.stdout), done.returncode) == (arguments, 3)


def test_without_a_source_checkout_a_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run spq bench from a source checkout"):
        listing(tmp_path)


def test_an_unknown_benchmark_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_spq("bench", "qualty") == 2
    assert "no benchmark 'qualty'; use one of agreement, " in capsys.readouterr().err
