"""Several processes that serve one index at one address, and the one that starts them and replaces those that end.

All of them accept connections on one socket: whichever is free first takes the next one. Each follows the index by itself, so
for about half a second two of them may answer from different generations. Only the first one keeps the index in step with its
collection.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType

from spq.common.parallel import end_at_once_if_threads_work
from spq.errors import SPQError, StoreError
from spq.index.image_index import ImageIndex
from spq.web.server.addresses import address_of, notes_of, warning_of
from spq.web.server.app import create_app, listen, log_to_stderr, run
from spq.web.server.background import log_failure
from spq.web.server.edition import Newer
from spq.web.server.peers import Peers
from spq.web.server.settings import Settings

STOP_SECONDS = 15.0  # for requests in work, after Ctrl-C
SOON = 10.0  # seconds: a replica that ends sooner is started again after a pause
MAX_PAUSE = 30.0
LOOK_SECONDS = 0.2
_LOG = logging.getLogger("spq.serve")


@dataclass(frozen=True)
class Replica:
    """What each process needs. It is sent to a new process.

    Attributes:
        peers: folder in which the replicas tell each other their counts.
        newer: as `Editions` explains it; it can be sent to a process.
    """

    folder: Path
    settings: Settings
    peers: Path
    newer: Newer | None = None

    def serve(self, number: int, listener: socket.socket, is_up: Event, is_again: bool) -> None:
        """Serve in this process until SIGTERM, or until the process that started it ends.

        Args:
            is_again: whether there was a replica of this number before.
        """
        if hasattr(os, "setsid"):
            os.setsid()  # Ctrl-C goes to the process that started this one, which then sends SIGTERM
        log_to_stderr()
        settings = replace(self.settings, watch=self.settings.watch and number == 0)
        try:
            with ImageIndex.open(self._newest() if is_again else self.folder) as index:
                app = create_app(index, settings, self.newer, Peers(self.peers, number))
                threading.Thread(target=_end_with_parent, daemon=True).start()
                run(app, listener, settings, is_up.set)
        except (SPQError, OSError) as error:
            _LOG.error("replica %d: %s", number, error)
            end_at_once_if_threads_work(1)
            sys.exit(1)
        end_at_once_if_threads_work(0)

    def _newest(self) -> Path:
        """The folder to begin with: a replica that is started again takes no older index than the others."""
        try:
            return (self.newer and self.newer(self.folder)) or self.folder
        except (SPQError, OSError) as error:
            log_failure("the index is served as it was", error)
            return self.folder


def serve_replicas(
    folder: Path,
    settings: Settings,
    count: int,
    open_page: bool,
    note: Callable[[str], None],
    newer: Newer | None = None,
) -> None:
    """Serve an index by `count` processes until Ctrl-C.

    Args:
        newer: as `Editions` explains it. Each process gets a copy of it.
    Raises:
        ConfigError: the port is in use, or the address is not of this machine.
        StoreError, ModelError: the index or its model cannot be opened.
    """
    log_to_stderr()
    each = replace(settings, workers=max(1, -(-settings.workers // count)))  # they share the cores
    with (
        listen(settings.host, settings.port) as listener,
        tempfile.TemporaryDirectory(prefix="spq-serve-", ignore_cleanup_errors=True) as peers,
    ):
        note(warning_of(settings))
        with ImageIndex.open(folder) as index:
            pictures = len(index)
        with _stop_signals() as stopped:
            port = listener.getsockname()[1]
            address, running = address_of(settings, port), list[_Running]()
            try:
                for number in range(count):
                    running.append(_Running(Replica(folder, each, Path(peers), newer), number, listener))
                note(f"{pictures:,} pictures at {address}  ({count} replicas, Ctrl-C ends)")
                sys.stderr.write(notes_of(settings, port, sys.stderr.isatty()))
                if open_page:
                    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
                _keep(running, stopped)
            finally:
                listener.close()  # so that no connection waits for a process that has stopped to accept any
                _end(running, stopped)
        note("stopped")


def _keep(running: Sequence[_Running], stopped: Sequence[int]) -> None:
    """Start each replica again that ends, until a signal comes."""
    while not stopped:
        wait([each.process.sentinel for each in running if each.process], LOOK_SECONDS)
        for each in running:
            each.look(has_begun=any(other.has_served for other in running))


def _end(running: Sequence[_Running], stopped: Sequence[int]) -> None:
    """End all replicas in order; at once after a second signal."""
    for each in running:
        each.terminate()
    end = time.monotonic() + STOP_SECONDS
    for each in running:
        each.join(end - time.monotonic(), is_cut=lambda: len(stopped) > 1)


class _Running:
    """One replica, started again whenever it ends."""

    def __init__(self, replica: Replica, number: int, listener: socket.socket) -> None:
        self.replica, self.number, self.listener = replica, number, listener
        self.process: SpawnProcess | None = None
        self.has_served, self._is_again = False, False
        self._pause, self._next = 1.0, 0.0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._is_up, self._started = context.Event(), time.monotonic()
        arguments = (self.number, self.listener, self._is_up, self._is_again)
        self.process = context.Process(target=self.replica.serve, args=arguments, name=f"spq-replica-{self.number}")
        with _no_interrupt():
            self.process.start()
        self._is_again = True

    def look(self, has_begun: bool) -> None:
        """Start it again if it has ended.

        Args:
            has_begun: whether any replica has served yet.
        Raises:
            StoreError: none has, and this one has given up.
        """
        self.has_served |= self._is_up.is_set()
        if self.process and not self.process.is_alive():
            status = self.process.exitcode
            self.process.join()
            self.process = None
            if status == 1 and not (has_begun or self.has_served):
                raise StoreError(f"replica {self.number} could not serve {self.replica.folder}; see the line above")
            lived = time.monotonic() - self._started
            self._pause = min(2 * self._pause, MAX_PAUSE) if lived < SOON else 0.0
            _LOG.warning("replica %d ended (%s) and is started again", self.number, _reason(status))
            self._next = time.monotonic() + self._pause
            self._pause = max(self._pause, 0.5)
        if not self.process and time.monotonic() >= self._next:
            self._start()

    def terminate(self) -> None:
        if self.process:
            self.process.terminate()

    def join(self, seconds: float, is_cut: Callable[[], bool]) -> None:
        """Wait until it has ended, and end it at once if it takes too long or `is_cut`."""
        end = time.monotonic() + max(0.0, seconds)
        while self.process and self.process.is_alive():
            if time.monotonic() > end or is_cut():
                self.process.kill()
            self.process.join(LOOK_SECONDS)


def _reason(status: int | None) -> str:
    if status is not None and status < 0:
        with suppress(ValueError):
            return f"by {signal.Signals(-status).name}"
    return f"with status {status}"


def _end_with_parent() -> None:
    """End as after SIGTERM when the process that started this one has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C does not reach a process that is just being started: this one will end it in order."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The signals that have come since."""
    stopped: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
