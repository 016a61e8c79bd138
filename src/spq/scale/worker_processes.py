"""Finish input shards in processes of this machine. A process that dies is replaced, and its shard is encoded again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

from spq.errors import ConfigError, DataError, ModelError, ModelMismatchError, SPQError

DEATHS = 3  # of the processes that encode one shard, until it counts as failed
AT_ONCE = (ConfigError, ModelError, ModelMismatchError)  # errors that every shard would have
DIED = (
    f"the process that encoded it died {DEATHS} times; was it out of memory? "
    "Use fewer `workers`, or smaller input shards in a job of their own"
)


@dataclass(frozen=True)
class Done:
    """An input shard that is finished.

    Attributes:
        name: of its file. is_new: whether it was written now, and not by another worker before.
    """

    number: int
    name: str
    pictures: int
    unreadable: int
    is_new: bool


@dataclass(frozen=True)
class Failed:
    """An input shard that could not be finished."""

    number: int
    error: Exception


Work = Callable[[int], Done]
Outcomes = Generator[Done | Failed, None, None]


def attempt(work: Work, number: int) -> Done | Failed:
    """Do the work, and return its error instead of raising it, in a form that goes from process to process."""
    try:
        return work(number)
    except (SPQError, OSError, MemoryError) as error:
        return Failed(number, error)
    except Exception:  # a bug; its traceback stays here otherwise
        return Failed(number, RuntimeError(traceback.format_exc()))


def in_this_process(work: Work, numbers: Iterable[int]) -> Outcomes:
    """Finish input shards one after the other."""
    for number in numbers:
        yield attempt(work, number)


def in_processes(work: Work, numbers: Iterable[int], workers: int) -> Outcomes:
    """Finish input shards in this many processes, and yield the outcomes as they come.

    When the generator is closed, or this process ends or is killed, the processes end at once.

    Args:
        work: importable by its name, or a `partial` of such a function.
    """
    waiting, deaths = deque(numbers), Counter[int]()
    crew = [_Worker(work) for _ in range(min(workers, len(waiting)))]
    try:
        for worker in crew:
            worker.give(waiting.popleft())
        while crew:
            by_pipe = {worker.pipe: worker for worker in crew}
            for pipe in wait(list(by_pipe)):
                worker = by_pipe[pipe]  # type: ignore[index]
                outcome = worker.outcome()
                if outcome is None:
                    worker.end()
                    deaths[worker.number] += 1
                    if deaths[worker.number] < DEATHS:
                        waiting.appendleft(worker.number)
                    else:
                        outcome = Failed(worker.number, DataError(DIED))
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    crew.remove(worker)
                    worker.end()
                if outcome is not None:
                    yield outcome
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process that finishes one input shard after the other; a new one after its end.

    Attributes:
        number: of the shard that it has.
    """

    def __init__(self, work: Work) -> None:
        self.work, self.number = work, -1
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.work), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def give(self, number: int) -> None:
        if self.pipe.closed:
            self._start()
        self.number = number
        with suppress(OSError):  # it is dead, which its outcome says
            self.pipe.send(number)

    def outcome(self) -> Done | Failed | None:
        """The outcome; None if the process is dead."""
        try:
            outcome: Done | Failed = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return outcome

    def end(self) -> None:
        self.process.kill()  # files are written as a whole, so nothing half remains
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection[Any, Any], work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):
        while True:
            pipe.send(attempt(work, pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
