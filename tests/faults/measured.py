"""Run many small pieces of work in forked processes, and measure each: its time, its peak of memory, how it ended."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST = 10.0  # seconds of processor time of one piece; more is a hang
WALL = 90.0  # seconds on a busy machine until a piece is stopped
MOST = 900_000_000  # bytes of one process, without the 70 MB that it takes before


@dataclass(frozen=True)
class Outcome:
    """How one piece ended.

    Attributes:
        answer: what the work returned. fault: empty, or "crash", "hang", "memory" or a traceback.
        seconds: of processor time. peak: bytes of the process, without those that it had before.
    """

    number: int
    answer: str
    fault: str
    seconds: float
    peak: int


def run(work: Callable[[int], str], numbers: Sequence[int], workers: int) -> Iterator[Outcome]:
    """Call `work` with each number, in processes that are forked from this one, and yield the outcomes as they come.

    A process that crashes or hangs is replaced, and its number counts as a fault.
    """
    waiting = list(reversed(numbers))
    running: dict[int, _Worker] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                worker = _Worker(work, waiting)
                running[worker.pipe] = worker
            ready, _, _ = select.select(list(running), [], [], 0.5)
            for pipe in ready:
                yield from running[pipe].outcomes()
            for pipe, worker in list(running.items()):
                fault = worker.fault()
                if fault and worker.number is not None:
                    yield Outcome(worker.number, "", fault, time.monotonic() - worker.since, 0)
                if fault or worker.is_done:
                    del running[pipe]
                    waiting += reversed(worker.close())
    finally:
        for worker in running.values():
            worker.close()


class _Worker:
    """A process with some of the numbers."""

    def __init__(self, work: Callable[[int], str], waiting: list[int]) -> None:
        self.left = [waiting.pop() for _ in range(min(50, len(waiting)))]
        self.number: int | None = self.left[0]
        self.since, self.is_done, self._read = time.monotonic(), False, bytearray()
        self.pipe, end = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.pipe)
            _work(work, self.left, end)
        os.close(end)

    def outcomes(self) -> Iterator[Outcome]:
        got = os.read(self.pipe, 1 << 20)
        self.is_done = not got
        self._read += got
        while len(self._read) >= 4 and len(self._read) >= 4 + (size := struct.unpack("<I", self._read[:4])[0]):
            outcome: Outcome = pickle.loads(bytes(self._read[4 : 4 + size]))
            del self._read[: 4 + size]
            self.left.remove(outcome.number)
            self.number, self.since = (self.left[0] if self.left else None), time.monotonic()
            yield outcome

    def fault(self) -> str:
        if self.is_done and self.number is not None:
            return "crash"
        return "hang" if time.monotonic() - self.since > WALL else ""

    def close(self) -> list[int]:
        """End the process, and return the numbers that it has not begun."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.pipe)
            self.pid = 0
        return self.left[1:]


def _work(work: Callable[[int], str], numbers: Sequence[int], pipe: int) -> None:
    limit, start = _status("VmSize") + 8 * MOST, resident_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # so that a mistake does not take the machine down
    for number in numbers:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak counts from now
        before, fault, answer = time.process_time(), "", ""
        try:
            answer = work(number)
        except BaseException as error:
            fault = f"{type(error).__name__}: {error}"[:300]
        seconds, peak = time.process_time() - before, max(0, peak_bytes() - start)
        fault = fault or ("hang" if seconds > LONGEST else "memory" if peak > MOST else "")
        data = pickle.dumps(Outcome(number, answer, fault, seconds, peak))
        os.write(pipe, struct.pack("<I", len(data)) + data)
    os._exit(0)


def peak_bytes() -> int:
    """Return the largest memory of this process so far."""
    return _status("VmHWM")


def resident_bytes() -> int:
    """Return the memory of this process now."""
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def summary(outcomes: Sequence[Outcome], what: str) -> str:
    """Say in one line how all ended."""
    refused = sum("refused: " in outcome.answer and not outcome.fault for outcome in outcomes)
    faults = Counter(outcome.fault.partition(":")[0] for outcome in outcomes if outcome.fault)
    slowest = max((outcome.seconds for outcome in outcomes), default=0)
    largest = max((outcome.peak for outcome in outcomes), default=0)
    return (
        f"{len(outcomes):,} {what}: {len(outcomes) - refused - faults.total():,} read, {refused:,} refused with a reason, "
        f"{faults.total()} faults {dict(faults)}; at most {slowest:.1f} s and {largest >> 20} MiB"
    )


def refused(error: Exception) -> str:
    """Return the reason of an error as an answer.

    Raises:
        AssertionError: it is empty, or has several lines.
    """
    assert len(str(error).splitlines()) == 1, repr(str(error))
    return f"refused: {str(error).partition(': ')[2] or error}"
