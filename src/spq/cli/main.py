"""The entry point of `spq`: its commands, and its errors as one line on stderr.

Each command has a file of its own. Heavy libraries are imported inside the functions that need them.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from functools import cache
from typing import Annotated, Any

import typer

from spq import __version__
from spq.cli import stopping
from spq.cli.bench_command import bench
from spq.cli.compare_command import compare
from spq.cli.demo_command import demo
from spq.cli.doctor_command import doctor
from spq.cli.dupes_command import dupes
from spq.cli.encode_command import encode
from spq.cli.eval_command import evaluate
from spq.cli.export_command import export
from spq.cli.failures import as_options, explanation
from spq.cli.index_command import index
from spq.cli.info_command import info
from spq.cli.output import fail
from spq.cli.search_command import search
from spq.cli.serve_command import serve
from spq.cli.train_command import train
from spq.cli.weights_command import weights
from spq.common.files import set_library_caches
from spq.common.parallel import end_at_once_if_threads_work, keep_to_quota, wait_passively
from spq.errors import SPQError, StoppedError

app = typer.Typer(
    name="spq",
    help="Search your own pictures by picture, with 2-8 byte codes learned from them without labels.\n\n"
    "A command creates its output file or folder, but no folder above it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(index)
app.command()(encode)
app.command()(search)
app.command()(dupes)
app.command()(serve)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(info)
app.command()(export)
app.command()(weights)
app.command()(doctor)
app.command(
    # all options after the name of a benchmark go to the benchmark
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
)(bench)
app.command()(demo)


def main() -> None:
    """Run the command line of this process, and exit with its status."""
    _prepare_streams()
    wait_passively()
    keep_to_quota()
    set_library_caches()
    if not _has_working_directory():
        sys.exit(fail("the working directory no longer exists; change to another folder", 1))
    status: list[int] = []
    atexit.register(_end_at_once, status)  # the first one runs last
    try:
        status.append(run_stoppable(sys.argv[1:]))
    except SystemExit as end:  # of one of several processes
        status.append(end.code if isinstance(end.code, int) else 1)
        raise
    sys.exit(status[0])


def _end_at_once(status: list[int]) -> None:
    end_at_once_if_threads_work(status[0] if status else 1)


def _prepare_streams() -> None:
    """Replace streams that were closed before the start; characters that a stream cannot show are spelled out."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 (open until the end)
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _has_working_directory() -> bool:
    """Whether the working directory is there; without it, libraries end the process with messages of their own."""
    try:
        return bool(os.getcwd())  # noqa: PTH109
    except OSError:
        return False


def run_stoppable(arguments: list[str]) -> int:
    """Run one command line of this process, which Ctrl-C and SIGTERM end; returns its exit status, 143 after SIGTERM."""
    status = None
    try:
        stopping.watch_signals()
        status = run(arguments)
        stopping.ignore_signals()
    except KeyboardInterrupt:  # before the begin, while an error was being printed, or after the end
        if status is None:
            status = _say_stopped(stopping.message())
        stopping.ignore_signals()
    if stopping.was_stopped():
        exec("")  # forgets a signal that came inside of another exec; else Python would end by that signal
    return stopping.exit_status(status)


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status: 0, 1 (failed), 2 (usage), 130 (stopped)."""
    try:
        status = _command()(arguments or ["--help"], prog_name="spq", standalone_mode=False)
        sys.stdout.flush()  # raises here, and not while Python exits, if the reader has closed the pipe
    except StoppedError as error:
        return _say_stopped(str(error))
    except SPQError as error:
        return fail(as_options(str(error), _options()), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return _say_stopped(stopping.message())
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if stopping.was_stopped():
            return _say_stopped(stopping.message())
        if isinstance(error, OSError) and not error.filename and not _prints():
            error.filename = "standard output"
        explained = explanation(error)
        if not explained:
            raise  # a bug in spq: show the whole traceback
        return fail(*explained)
    if status == 130:  # newer versions of typer turn Ctrl-C into this status, without a word
        return _say_stopped(stopping.message())
    return status if isinstance(status, int) else 0


def _say_stopped(message: str) -> int:
    """Print the line of a command that was stopped, once."""
    if stopping.was_stopped():
        stopping.ignore_signals()  # a second one would print it again
    return fail(message, StoppedError.exit_status)


def _prints() -> bool:
    """Whether stdout can be written. If not, what is still to be written is dropped: Python would fail again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"spq {__version__}")
        raise typer.Exit


@cache
def _command() -> Any:
    """The commands as click knows them."""
    return typer.main.get_command(app)


def _options() -> set[str]:
    """Every long option of every command."""
    return {
        option for command in _command().commands.values() for parameter in command.params for option in parameter.opts
    }
