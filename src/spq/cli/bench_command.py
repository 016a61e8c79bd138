"""`spq bench`: run a script of `benchmarks/`. Only a source checkout has them, the installed package does not."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import spq
from spq.errors import ConfigError

# Runs a script as Python does, and says in a line that Ctrl-C ended it.
RUN = """import runpy, sys
from pathlib import Path
from spq.cli import stopping
from spq.errors import StoppedError

stopping.watch_signals()
del sys.argv[0]
sys.path[0] = str(Path(sys.argv[0]).parent)
try:
    with stopping.when_stopped("what was printed or written is complete, run the same command again"):
        runpy.run_path(sys.argv[0], run_name="__main__")
except StoppedError as error:
    print(f"spq: {error}", file=sys.stderr, flush=True)
    stopping.ignore_signals()
    sys.exit(stopping.exit_status(error.exit_status))
"""
FOLDER = Path(spq.__file__).parents[2] / "benchmarks"


def bench(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Benchmark to run; without it, all are listed.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENT", help="Arguments of the benchmark.")
    ] = None,
) -> None:
    """Run a benchmark of a source checkout. `spq bench NAME --help` shows what it measures, and its options.

    Example: spq bench quality fast --minutes 4
    """
    if name in ("-h", "--help"):
        print(context.get_help())
    elif name is None:
        print(listing(FOLDER))
    else:
        run_benchmark(name, arguments or [], FOLDER)


def benchmarks(folder: Path) -> dict[str, Path]:
    """Scripts by name, without the modules that they share, whose names start with an underscore.

    Raises:
        ConfigError: no source checkout.
    """
    scripts = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")}
    if not scripts:
        raise ConfigError("the installed package has no benchmarks; run spq bench from a source checkout")
    return scripts


def listing(folder: Path) -> str:
    """One line for each benchmark: its name, and the first line of its docstring."""
    scripts = benchmarks(folder)
    width = max(map(len, scripts))
    lines = []
    for name, path in scripts.items():
        about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines.append(f"{name:{width}s}  {about.partition(chr(10))[0]}".rstrip())
    return "\n".join(lines)


def run_benchmark(name: str, arguments: list[str], folder: Path) -> NoReturn:
    """Replace this process by one of the script alone, which sets the exit status.

    Raises:
        ConfigError: no such benchmark.
    """
    scripts = benchmarks(folder)
    if name not in scripts:
        raise ConfigError(f"no benchmark {name!r}; use one of {', '.join(scripts)}")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-c", RUN, str(scripts[name]), *arguments])
