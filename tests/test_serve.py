"""`spq serve` as a process: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import copy
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spq.cli import main as cli
from spq.index.build import BuildOptions, build
from spq.model import lite0
from spq.model.model import Model
from spq.web.server.app import listen
from web import jpeg, png


@contextmanager
def serving(index: Path, *options: object, preexec: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address that it prints. preexec: code that runs before it in its own process."""
    arguments = ["spq", "serve", str(index), "--port", "0", *map(str, options)]
    code = f"import signal, sys\n{preexec}\nfrom spq.cli.main import main\nsys.argv = {arguments!r}\nmain()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stderr=pipe, stdout=pipe, text=True) as process:
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            assert process.stderr
            lines = []
            while not (found := re.search(r" pictures at (http://\S+)", "".join(lines))):
                lines.append(process.stderr.readline())
                assert lines[-1], "".join(lines)
            yield process, found[1]
        finally:
            process.kill()
            watchdog.cancel()


def get(address: str, body: dict[str, object] | None = None, token: str = "") -> dict[str, object]:
    """The answer to a request, which sends JSON if there is a body."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Content-Type": "application/json"} if body else {}
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=60) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def upload(address: str, picture: bytes, token: str) -> int:
    """The status of a search with one picture."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    request = urllib.request.Request(address, head + picture + b"\r\n--b--\r\n")
    request.add_header("Content-Type", "multipart/form-data; boundary=b")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        with suppress(urllib.error.URLError, ConnectionError):
            if is_so():
                return
        assert time.monotonic() < end
        time.sleep(0.2)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit status and the one line of a command that is refused."""
    status = cli.run(["serve", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("spq: ")
    assert err.count("\n") == 1
    return status, err


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_stop_also_with_another_model_of_its_index(
    index_folder: Path, photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    """By SIGTERM; by Ctrl-C: test_a_token_lets_in_max_pixels_counts_and_ctrl_c_ends_it."""
    other = copy.deepcopy(tiny_model.network)
    other.quantizer.codebooks.data.mul_(2)
    new = Model(other, tiny_model.config)
    how = "signal.signal(signal.SIGINT, signal.SIG_IGN)"  # as a shell starts a job in the background
    with serving(index_folder, "--cache", tmp_path / "thumbnails", preexec=how) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert get(f"{address}healthz") == {"status": "ok"}
        before = get(f"{address}api/status")
        assert before["images"] == 60
        build(index_folder, new, photos, options=BuildOptions(replace_model=True)).store.close()
        wait_until(lambda: get(f"{address}api/status")["model"] != before["model"])
        assert get(f"{address}api/search", {"ids": [1], "top": 5})["total"] == 59
        process.terminate()
        out, err = process.communicate(timeout=60)
        *told, last = err.splitlines()
        assert (out, last) == ("", "stopped")
        assert all(line.startswith("spq: ") for line in told), err
    assert process.returncode == 0


EARLY = """
import os, signal, uvicorn
run = uvicorn.Server.run
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    run(*arguments)
uvicorn.Server.run = killed
"""


@pytest.mark.slow
def test_a_signal_before_the_server_is_up_ends_it_too(photo_index: Path) -> None:
    with serving(photo_index, preexec=EARLY) as (process, _):
        assert process.communicate(timeout=60) == ("", "stopped\n")
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("lite0_at_hand")
def test_a_folder_is_indexed_and_served_and_the_next_start_follows_its_changes(photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.rglob("*.png"))[4:]:
        path.unlink()  # describing one takes long
    count = len(list(photos.rglob("*.jpg"))) + 4
    patch = f"from spq.model import lite0\nlite0.TENSORS_SHA256 = {lite0.TENSORS_SHA256!r}"
    with serving(photos, "--cache", tmp_path / "thumbnails", preexec=patch) as (process, address):
        assert get(f"{address}api/status")["images"] == count
        assert get(f"{address}api/search", {"ids": [1], "top": 5})["total"] == count - 1
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert (tmp_path / "photos.index" / "manifest.json").exists()
    (photos / "new.png").write_bytes(min(photos.rglob("*.png")).read_bytes() + b" ")
    with serving(photos, "--cache", tmp_path / "thumbnails", preexec=patch) as (process, address):
        wait_until(lambda: get(f"{address}api/status")["images"] == count + 1)


@pytest.mark.slow
def test_a_token_lets_in_max_pixels_counts_and_ctrl_c_ends_it(photo_index: Path, tmp_path: Path) -> None:
    how = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # also where the tests run in the background
    options = ("--max-pixels", 10_000, "--token", "s3cret", "--cache", tmp_path)
    with serving(photo_index, *options, preexec=how) as (process, address):
        base, _, query = address.partition("?")
        assert query == "token=s3cret"
        assert get(f"{base}api/status", token="s3cret")["images"] == 60
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(f"{base}api/status")
        for data, status in ((png((100, 100)), 200), (jpeg((400, 150)), 200), (png((101, 100)), 422)):
            assert upload(f"{base}api/search", data, "s3cret") == status
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "stopped\n")
    assert process.returncode == 0


@pytest.mark.slow
def test_a_network_that_does_not_load_ends_the_server(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = index_folder / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1  # of the network; the codebooks come last
    weights.write_bytes(bytes(data))
    assert cli.run(["serve", str(index_folder), "--port", "0"]) == 1
    assert "copy it again" in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken_is_one_line(photo_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, line = refused(capsys, photo_index, "--port", port)
    assert status == 2
    assert line == f"spq: port {port} of 127.0.0.1 is in use; end the other program, or choose another --port\n"


def test_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listener:  # asyncio looks at the protocol before it sets TCP_NODELAY
        assert (listener.type, listener.proto) == (socket.SOCK_STREAM, socket.IPPROTO_TCP)


def test_what_cannot_be_served_is_one_line(
    photo_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, tmp_path / "nothing", "--port", 0) == (
        1, f"spq: no such folder or file: {tmp_path}/nothing; check the path (you are in {Path.cwd()})\n",
    )  # fmt: skip
    status, line = refused(capsys, photo_index, "--exclude", "x")
    assert status == 2
    assert "is an index; omit --index, --exclude" in line
    status, line = refused(capsys, photo_index.parent / "photos" / "bag", "--index", photo_index, "--port", 0)
    assert status == 2
    assert "holds the pictures of" in line
    status, line = refused(capsys, photo_index, "--host", "no.such.host.invalid", "--no-token")
    assert status == 2
    assert "cannot listen on no.such.host.invalid, port 8765" in line
    status, line = refused(capsys, photo_index, "--port", 99999)
    assert status == 2
    assert "--port" in line
    (tmp_path / "file").write_text("")
    status, line = refused(capsys, photo_index, "--cache", tmp_path / "file")
    assert status == 2
    assert "is a file; give a folder" in line


def test_a_network_is_shown_nothing_without_a_token_unless_that_is_meant(
    photo_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.9", "photos.example"):
        status, line = refused(capsys, photo_index, "--host", host)
        assert status == 2
        assert f"--host {host} makes your pictures visible on the network; add --token" in line
    assert "contradict" in refused(capsys, photo_index, "--token", "x", "--no-token")[1]
    assert "ASCII" in refused(capsys, photo_index, "--token", "ü")[1]


def test_a_server_for_others_warns_first(
    photo_index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)  # of this whole process
    for given, told in [
        ({}, "everyone who can reach 0.0.0.0 can"),
        ({"SPQ_TOKEN": "s3cret"}, "0.0.0.0 and has the token can"),
    ]:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        options = [] if given else ["--no-token"]
        assert cli.run(["serve", str(photo_index), "--host", "0.0.0.0", "--port", "0", *options]) == 0
        warning, address, *others, end = capsys.readouterr().err.splitlines()
        assert warning.startswith("warning: ")
        assert told in warning
        assert re.match(r"60 pictures at http://127\.0\.0\.1:\d+/" + (r"\?token=s3cret" if given else " "), address)
        assert all(line.startswith("on other machines: http://") for line in others)  # none without a network
        assert end == "stopped"
