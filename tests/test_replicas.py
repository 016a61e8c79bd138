"""`spq serve --replicas`: several processes at one address."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_serve import get, serving, wait_until


def children(process: subprocess.Popen[str]) -> list[int]:
    """The replicas of a server. (Its other child keeps account of semaphores.)"""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process.pid and b"spawn_main" in command:
            found.append(int(place.name))
    return sorted(found)


def is_ready(address: str) -> bool:
    return get(f"{address}readyz") == {"status": "ready"}


def metrics(address: str) -> str:
    return subprocess.check_output(["curl", "-s", f"{address}metrics"], text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_replicas_answer_at_one_address_and_one_that_is_killed_comes_back(photo_index: Path, tmp_path: Path) -> None:
    with serving(photo_index, "--replicas", 2, "--cache", tmp_path) as (process, address):
        wait_until(lambda: is_ready(address))
        first = get(f"{address}api/search", {"ids": [3], "top": 5})["hits"]
        wait_until(
            lambda: {'spq_items{replica="0"} 60', 'spq_items{replica="1"} 60'} <= set(metrics(address).split("\n"))
        )
        os.kill(killed := children(process)[0], signal.SIGKILL)
        assert [get(f"{address}api/search", {"ids": [3], "top": 5})["hits"] for _ in range(20)] == [first] * 20
        wait_until(lambda: len(children(process)) == 2)
        left = children(process)
        assert killed not in left
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""
    assert re.fullmatch(r"spq: replica \d ended \(by SIGKILL\) and is started again\nstopped\n", err)
    assert not any(Path("/proc", str(pid)).exists() for pid in left)


@pytest.mark.drill
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_replicas_end_when_the_process_that_started_them_is_killed(photo_index: Path, tmp_path: Path) -> None:
    with serving(photo_index, "--replicas", 2, "--cache", tmp_path) as (process, address):
        wait_until(lambda: is_ready(address))
        left = children(process)
        process.kill()
        end = time.monotonic() + 60
        while any(Path("/proc", str(pid), "cmdline").exists() for pid in left):
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.drill
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_slow_request_does_not_keep_a_server_from_ending(photo_index: Path, tmp_path: Path, replicas: int) -> None:
    with serving(photo_index, "--replicas", replicas, "--cache", tmp_path) as (process, address):
        wait_until(lambda: is_ready(address))
        port = int(address.rsplit(":", 1)[1].strip("/"))
        with socket.create_connection(("127.0.0.1", port)) as slow:
            head = f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
            time.sleep(0.5)
            process.send_signal(signal.SIGHUP if replicas > 1 else signal.SIGTERM)
            time.sleep(1.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 503")
    assert "Traceback" not in err
    assert err.endswith("stopped\n")


@pytest.mark.slow
def test_a_network_that_does_not_load_ends_all(index_folder: Path, tmp_path: Path) -> None:
    weights = index_folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    command = [sys.executable, "-m", "spq", "serve", str(index_folder), "--port", "0", "--replicas", "2", "--cache"]
    done = subprocess.run([*command, str(tmp_path / "c")], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "copy of the model does not load" in done.stderr
    assert re.search(r"spq: replica \d could not serve .*; see the line above$", done.stderr.strip())
