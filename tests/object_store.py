"""A server that answers as S3 does, in a process of its own: that of moto."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SECONDS = 60  # to wait for the start on a busy machine
BUCKET = "bucket"


@contextmanager
def s3_server(log: Path) -> Iterator[dict[str, str]]:
    """Run the server; yield the environment of its clients. It has a bucket, which is empty."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        _wait_for(server, port)
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        make = "import s3fs; s3fs.S3FileSystem().mkdir('bucket')"
        subprocess.run([sys.executable, "-c", make], env=os.environ | environment, check=True, timeout=SECONDS)
        _forget_clients()
        yield environment
    finally:
        _forget_clients()
        server.kill()
        server.wait()


def _forget_clients() -> None:
    """fsspec keeps clients, which know the address of a server that has ended."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.05)
        else:
            return
