"""Processes that train together, as `torchrun` would start them, for the tests of `spq.training`.

They are forked from a process that has loaded the libraries, so that each starts within milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["spq.training.train", "spq.training.automatic", "torch._dynamo", "conftest"])
SECONDS = 60.0


def start(count: int, work: Callable[..., Any], *given: Any, folder: Path) -> list[BaseProcess]:
    """Start processes that call `work(*given)`; results and what they print go to files of the folder, by rank."""
    with pytest.MonkeyPatch.context() as patch:  # Python 3.11 does not give its path to the process that it forks from
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [CONTEXT.Process(target=_run, args=(rank, count, port, folder, work, *given)) for rank in range(count)]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[BaseProcess]) -> list[int | None]:
    """Wait for processes, and return their exit codes; one that hangs is killed."""
    for process in processes:
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def together(count: int, work: Callable[..., Any], *given: Any, folder: Path) -> list[Any]:
    """Call `work(*given)` in processes that train together, and return their results."""
    codes = finish(start(count, work, *given, folder=folder))
    assert codes == [0] * count, "\n".join(printed(folder, rank) for rank in range(count))
    return [pickle.loads((folder / f"result-{rank}").read_bytes()) for rank in range(count)]


def printed(folder: Path, rank: int) -> str:
    """What a process has printed on stderr."""
    return (folder / f"stderr-{rank}").read_text("utf-8")


def _run(rank: int, count: int, port: int, folder: Path, work: Callable[..., Any], *given: Any) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    with (folder / f"stderr-{rank}").open("w", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 2)
        with redirect_stderr(file):
            result = work(*given)
    (folder / f"result-{rank}").write_bytes(pickle.dumps(result))
    sys.stdout.flush()
