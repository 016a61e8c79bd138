"""Workers of this machine: what happens when they, or the process that started them, are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from spq.errors import DataError
from spq.scale.worker_processes import DEATHS, Done, Failed, in_processes, in_this_process


def work(folder: str, number: int) -> Done:
    """Write the process that does it; what goes wrong depends on the number."""
    tries = len(list(Path(folder).glob(f"{number}-*")))
    (Path(folder) / f"{number}-{os.getpid()}-{tries}").touch()
    if number == 3 and not tries:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 6:
        raise DataError("has changed")
    if number == 7:
        raise KeyError("a bug")
    if number == 99:
        time.sleep(600)
    return Done(number, f"{number}.parquet", number, 0, True)


def test_a_killed_worker_is_replaced_and_its_shard_encoded_again(tmp_path: Path) -> None:
    outcomes = {outcome.number: outcome for outcome in in_processes(partial(work, str(tmp_path)), range(10), 2)}
    assert sorted(outcomes) == list(range(10))
    failed = {number: outcome.error for number, outcome in outcomes.items() if isinstance(outcome, Failed)}
    assert sorted(failed) == [5, 6, 7]
    assert f"died {DEATHS} times; was it out of memory? Use fewer `workers`" in str(failed[5])
    assert (type(failed[6]), str(failed[6])) == (DataError, "has changed")
    assert "KeyError: 'a bug'" in str(failed[7])
    tries = {number: len(list(tmp_path.glob(f"{number}-*"))) for number in range(10)}
    assert tries == {number: {3: 2, 5: DEATHS}.get(number, 1) for number in range(10)}
    pids = {path.name.split("-")[1] for path in tmp_path.iterdir()}
    assert str(os.getpid()) not in pids
    assert len(pids) > DEATHS


def test_in_this_process_every_outcome_comes_in_order(tmp_path: Path) -> None:
    outcomes = list(in_this_process(partial(work, str(tmp_path)), (1, 6, 2)))
    assert [outcome.number for outcome in outcomes] == [1, 6, 2]
    assert [type(outcome) for outcome in outcomes] == [Done, Failed, Done]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(folder: Path, number: int) -> int:
    """The process that works on a number."""
    end = time.monotonic() + 60
    while not (found := list(folder.glob(f"{number}-*"))):
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(found[0].name.split("-")[1])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_workers_end_when_the_generator_is_closed(tmp_path: Path) -> None:
    with closing(in_processes(partial(work, str(tmp_path)), (1, 99), 2)) as outcomes:
        assert next(outcomes).number == 1
        pid = wait_for(tmp_path, 99)
        assert is_alive(pid)
    assert not is_alive(pid)


DRIVER = """if True:
    import sys
    from functools import partial
    sys.path.insert(0, sys.argv[1])
    from test_worker_processes import work
    from spq.scale.worker_processes import in_processes
    if __name__ == "__main__":
        list(in_processes(partial(work, sys.argv[2]), [99, 99], 1))"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_workers_end_when_their_driver_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), str(tmp_path)]
    driver = subprocess.Popen(command)
    pid = wait_for(tmp_path, 99)
    driver.kill()
    driver.wait()
    end = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < end, "the worker outlives its driver"
        time.sleep(0.01)
