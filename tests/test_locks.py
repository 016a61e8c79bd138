"""Locks between processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from math import inf
from pathlib import Path

import pytest

from spq.common.locks import held

HOLDER = """
import sys, time
from pathlib import Path
from spq.common.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[bytes]:
    """Another process that holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with holder(lock) as process:
        with pytest.raises(BlockingIOError), held(lock):
            pass
        start = time.monotonic()
        with pytest.raises(BlockingIOError), held(lock, wait=0.2):
            pass
        assert time.monotonic() - start >= 0.2
        process.send_signal(signal.SIGKILL)
    with held(lock):
        assert lock.exists()


def test_who_waits_without_end_comes_next(tmp_path: Path) -> None:
    lock, order = tmp_path / "a.lock", []
    with holder(lock) as process:

        def wait() -> None:
            with held(lock, wait=inf):
                order.append("second")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        order.append("first")
        process.kill()
        thread.join(30)
    assert order == ["first", "second"]


def test_the_lock_is_free_after_an_error_and_two_threads_do_not_share_it(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with pytest.raises(ValueError, match="oops"), held(lock):
        raise ValueError("oops")
    found = []

    def attempt() -> None:
        try:
            with held(lock):
                found.append(True)
        except BlockingIOError:
            found.append(False)

    with held(lock), pytest.raises(BlockingIOError), held(lock):
        pass
    with held(lock):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(30)
    assert found == [False]


def test_after_its_folder_was_replaced_the_new_file_is_locked(tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    lock = tmp_path / "i" / ".lock"
    with holder(lock) as process:
        got = threading.Event()
        done = threading.Event()

        def wait() -> None:
            with held(lock, wait=inf):
                got.set()
                done.wait(30)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        assert not got.is_set()
        (tmp_path / "i").rename(tmp_path / "old")
        (tmp_path / "i").mkdir()
        (tmp_path / "i" / ".lock").touch()
        assert got.wait(30)  # although the first process still holds the old file
        with pytest.raises(BlockingIOError), held(lock):
            pass
        done.set()
        thread.join(30)
        process.kill()


def test_a_lock_in_a_folder_that_does_not_exist_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), held(tmp_path / "nowhere" / "a.lock", wait=1):
        pass


def test_a_lock_file_may_be_removed_at_the_end_and_the_next_holder_makes_it_again(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    for _ in range(2):
        with held(lock, stays=False):
            assert lock.exists()
            with pytest.raises(BlockingIOError), held(lock):
                pass
        assert not lock.exists()


def test_those_who_wait_for_a_lock_file_that_is_removed_hold_it_one_after_the_other(tmp_path: Path) -> None:
    lock, inside, most = tmp_path / "a.lock", [], []

    def work() -> None:
        for _ in range(5):
            with held(lock, wait=60, stays=False):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most == [1] * 15


def test_a_pipe_a_link_or_a_folder_in_the_place_of_a_lock_is_an_error_of_the_system(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        with (
            pytest.raises(OSError, match=r"no lock file: it is (not a regular file|a link|a folder); delete it"),
            held(tmp_path / name),
        ):
            pass
    assert not (tmp_path / "elsewhere").exists()
