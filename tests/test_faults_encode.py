"""The drill of encoding jobs notices what it is for, and the benchmark of the driver runs."""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import encode_job

DRILL = Path(__file__).parent / "faults" / "encode.py"


@pytest.fixture(scope="module")
def drill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("encode_drill", DRILL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["encode_drill"] = module
    spec.loader.exec_module(module)
    return module


def test_a_shard_that_is_encoded_again_is_noticed(drill: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("begin 1\nbegin 2\nbegin 1\nend 1\nend 2\n")  # killed once, and then finished
    assert drill.encoded_again(log) == []
    log.write_text("begin 1\nend 1\nbegin 2\nbegin 1\n")
    assert drill.encoded_again(log) == [1]


def test_other_files_are_noticed(drill: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "job" / "items").mkdir(parents=True)
    (tmp_path / "job" / "items" / "a").write_bytes(b"a")
    (tmp_path / "job.log").touch()
    bench = drill.Bench(tmp_path, random.Random(0), list, str(tmp_path), {}, False)
    for expected, wrong in (({"a": b"a"}, 0), ({"a": b"b"}, 1), ({"a": b"a", "b": b""}, 2)):
        bench.compare("job", f"{tmp_path}/job", tmp_path / "job.log", expected)
        assert len(bench.wrong) == wrong


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_processes_below_a_process_are_found(drill: ModuleType) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert "input()" in drill.descendants(os.getpid())[child.pid]
        child.kill()


def test_the_driver_of_a_job_of_tars_takes_little_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = encode_job.measure_driver(argparse.Namespace(shards=40, ray=False))
    assert facts["shards"] == 40
    assert "40 input shards by 2 processes: the driver takes" in capsys.readouterr().out
