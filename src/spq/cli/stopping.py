"""Ctrl-C and SIGTERM: the first one ends a command in order, a second one at once. A line says what is kept.

Every change of a file is a commit or a rename, so a process that ends at once loses no more than one that is killed. So it
also ends at once where an exception does harm or is lost: while libraries load, and in code that cannot raise it.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec

from spq.common.parallel import launched
from spq.common.text import printable
from spq.errors import StoppedError

P = ParamSpec("P")

AGAIN, CONTINUE = "run the same command again", "run the same command to continue"
NOT_BEGUN = f"the command had not begun, {AGAIN}"
ENDING = f"what the command finished is kept, {AGAIN}"

_received: list[int] = []  # signals of this process, as the system keeps one handler for it
_kept: list[Callable[[], str]] = [lambda: NOT_BEGUN]  # what the commands that run say, the innermost last


def watch_signals() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt. A second one ends the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in the background of a script
            signal.signal(number, _receive)
    sys.unraisablehook = _end_if_stopped


def ignore_signals() -> None:
    """Let a process end that has said all."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def was_stopped() -> bool:
    """Whether a signal has come, also if a library has turned it into another error."""
    return bool(_received)


def exit_status(status: int) -> int:
    """The status of a command that ends with `status`: 128 + SIGTERM, if that has stopped it."""
    return 128 + signal.SIGTERM if status == StoppedError.exit_status and signal.SIGTERM in _received[:1] else status


def message() -> str:
    """What the innermost command says that was stopped."""
    return f"stopped; {_kept[-1]()}"


@contextmanager
def when_stopped(kept: str | Callable[[], str]) -> Iterator[None]:
    """Say what is kept, and how to continue, if a signal ends the block or the decorated command.

    Args:
        kept: the text, or a function that returns it then.
    """
    _kept.append(kept if callable(kept) else lambda: kept)
    try:
        yield
    except StoppedError:
        raise
    except (KeyboardInterrupt, Exception) as error:
        # a callback of SQLite, for example, turns the first into an error of its own
        if isinstance(error, KeyboardInterrupt) or was_stopped():
            raise StoppedError(message()) from None
        raise
    finally:
        if not was_stopped():  # else a second signal says the same
            _kept.pop()
            _kept[0] = lambda: ENDING


def spoken_by_the_first(work: Callable[P, None]) -> Callable[P, None]:
    """Let only the first of several processes print, which `torchrun` has started for the decorated command.

    The others print an error of their own. When they are stopped, they end without a word.
    """

    @functools.wraps(work)
    def quietly(*args: P.args, **kwargs: P.kwargs) -> None:
        if launched()[0] == 0:
            return work(*args, **kwargs)
        try:
            with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
                return work(*args, **kwargs)
        except StoppedError:
            ignore_signals()
            raise SystemExit(exit_status(StoppedError.exit_status)) from None

    return quietly


def _receive(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) == 1 and not _loads_libraries(frame):
        raise KeyboardInterrupt
    _end()


def _end_if_stopped(lost: sys.UnraisableHookArgs) -> None:
    """Handle an exception in code that cannot raise it, for example in a destructor."""
    if lost.exc_type is KeyboardInterrupt and was_stopped():
        _end()
    sys.__unraisablehook__(lost)


def _loads_libraries(frame: FrameType | None) -> bool:
    """Whether an import is on the stack: C++ libraries abort if a signal raises while they start."""
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _end() -> NoReturn:
    bar = "\n\x1b[?25h" if os.isatty(2) else ""  # below a bar, whose cursor is hidden
    os.write(2, f"{bar}spq: {printable(message())}\n".encode(errors="backslashreplace"))
    os._exit(exit_status(StoppedError.exit_status))
