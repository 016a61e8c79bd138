"""Work on many inputs at once: in order, bounded, and ended cleanly."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spq.common import parallel
from spq.common.parallel import AHEAD, THREAD_VARIABLES, batches, cpu_quota, keep_to_quota, map_in_order


def workers_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("spq-worker")]


def test_results_come_in_the_order_of_the_inputs() -> None:
    def slow_if_even(number: int) -> int:
        time.sleep(0.002 * (number % 2 == 0))
        return number * number

    assert list(map_in_order(slow_if_even, range(50), 4, threading.Event())) == [n * n for n in range(50)]
    assert list(map_in_order(slow_if_even, [], 4, threading.Event())) == []


def test_several_inputs_are_worked_on_at_the_same_time() -> None:
    all_there = threading.Barrier(3)
    results = map_in_order(lambda _: all_there.wait(timeout=30), range(3), 3, threading.Event())
    assert sorted(results) == [0, 1, 2]


def test_inputs_are_read_only_as_fast_as_results_are_taken() -> None:
    read = 0

    def inputs() -> Iterator[int]:
        nonlocal read
        while read < 100:
            read += 1
            yield read

    results = map_in_order(lambda number: number, inputs(), 3, threading.Event())
    assert read == 0
    for taken in range(1, 50):
        next(results)
        assert read <= taken + AHEAD * 3
    results.close()
    assert read < 60


def test_closing_drops_what_waits_and_ends_the_threads() -> None:
    stopped, begun = threading.Event(), list[int]()

    def until_stopped(number: int) -> int:
        begun.append(number)
        if number and not stopped.wait(30):
            raise AssertionError("nobody stopped the work")
        return number

    results = map_in_order(until_stopped, range(100), 2, stopped)
    assert next(results) == 0
    assert workers_left()
    results.close()
    assert stopped.is_set()
    assert len(begun) < AHEAD * 2 + 1
    assert not workers_left()


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_of_the_work_comes_after_the_results_before_it(workers: int) -> None:
    stopped = threading.Event()
    results = map_in_order(lambda number: 1 / (3 - number), range(10), workers, stopped)
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert stopped.is_set()


def test_an_error_of_the_inputs_is_raised_and_ends_the_threads() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise OSError("the list of inputs broke off")

    stopped = threading.Event()
    with pytest.raises(OSError, match="broke off"):
        list(map_in_order(lambda number: number, inputs(), 2, stopped))
    assert stopped.is_set()
    assert not workers_left()


def test_each_thread_is_prepared_once_before_it_works() -> None:
    prepared: list[int] = []

    def is_prepared(_: int) -> bool:
        return threading.get_ident() in prepared

    started = map_in_order(
        is_prepared, range(20), 2, threading.Event(), start=lambda: prepared.append(threading.get_ident())
    )
    assert all(started)
    assert 1 <= len(prepared) <= 2


def test_batches_are_read_one_by_one() -> None:
    values = iter(range(5))
    parts = batches(values, 2)
    assert next(parts) == [0, 1]
    assert next(values) == 2
    assert list(parts) == [[3, 4]]


def what_openmp_reads(calls: str, **variables: str) -> tuple[str, str]:
    """The settings of FAISS's OpenMP after some calls of `parallel`, and what the program prints at its end."""
    code = f"from spq.common.parallel import *; {calls}; import faiss; print(faiss.omp_get_max_threads(), cores())"
    names = {*parallel.THREAD_VARIABLES, *parallel.PASSIVE, *parallel.OTHER_WAIT_VARIABLES}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | {"OMP_DISPLAY_ENV": "VERBOSE"} | variables, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stderr, done.stdout


def test_threads_of_openmp_sleep_while_they_wait_unless_the_user_says_how_they_wait() -> None:
    assert "GOMP_SPINCOUNT = '0'" in what_openmp_reads("print(wait_passively())")[0]
    settings, printed = what_openmp_reads("print(wait_passively())", OMP_WAIT_POLICY="ACTIVE")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in settings  # GNU's library then spins for long
    assert printed.startswith("False")
    settings, printed = what_openmp_reads("import faiss; print(wait_passively())")  # too late, so nothing is changed
    assert "GOMP_SPINCOUNT = '0'" not in settings
    assert printed.startswith("False")


def test_a_given_number_of_threads_holds_for_openmp_loaded_before_or_after_and_for_own_threads() -> None:
    settings, printed = what_openmp_reads("use_threads(3)", OMP_NUM_THREADS="1")
    assert "OMP_NUM_THREADS = '3'" in settings
    assert printed == "3 3\n"
    assert what_openmp_reads("import faiss; use_threads(3)", OMP_NUM_THREADS="1")[1] == "3 3\n"


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/", {"cpu.max": "250000 100000"}, 2.5),  # inside a container
        ("0::/", {"cpu.max": "max 100000"}, math.inf),
        ("0::/", {}, math.inf),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "400000 100000"}, 3),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/docker/1",  # version 1, whose group is the top inside a container
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("2:cpu:/x", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, math.inf),
        ("1:cpuset:/", {"cpu.max": "100000 100000"}, math.inf),
    ],
)
def test_the_limit_of_a_container_is_read(tmp_path: Path, own: str, files: dict[str, str], limit: float) -> None:
    (tmp_path / "own").write_text(f"{own}\n")
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{content}\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == limit
    assert cpu_quota(tmp_path / "groups", tmp_path / "none") == math.inf


@pytest.mark.parametrize(
    ("quota", "given", "set_to"), [(0.5, {}, "1"), (2.5, {}, "3"), (2.5, {"OMP_NUM_THREADS": "7"}, "7")]
)
def test_libraries_start_as_many_threads_as_a_container_may_use(
    quota: float, given: dict[str, str], set_to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parallel, "cpu_quota", lambda: quota)
    monkeypatch.setattr(parallel, "_visible", lambda: 64)
    parallel._allowed.cache_clear()
    try:
        assert keep_to_quota() is not bool(given)
        assert os.environ["OMP_NUM_THREADS"] == set_to
    finally:
        parallel._allowed.cache_clear()
        for name in THREAD_VARIABLES:
            os.environ.pop(name, None)
