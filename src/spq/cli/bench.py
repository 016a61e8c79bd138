"""`spq bench`: the scripts of `benchmarks/`, which come with a source checkout and not with the installed package."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import NoReturn

import spq
from spq.errors import ConfigError

FOLDER = Path(spq.__file__).parents[2] / "benchmarks"


def benchmarks(folder: Path = FOLDER) -> dict[str, Path]:
    """Scripts by name; files whose names start with an underscore are parts of them.

    Raises:
        ConfigError: no source checkout.
    """
    scripts = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")}
    if not scripts:
        raise ConfigError("benchmarks come with the source, not with the package; run spq bench from a source checkout")
    return scripts


def listing(folder: Path = FOLDER) -> str:
    """A line for each: its name and the question that it answers."""
    lines = []
    for name, path in benchmarks(folder).items():
        about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        lines.append(f"{name:12s} {about.splitlines()[0] if about else ''}".rstrip())
    return "\n".join(lines)


def run_benchmark(name: str, arguments: list[str], folder: Path = FOLDER) -> NoReturn:
    """Become that script: Ctrl-C reaches it alone, and its exit status is ours.

    Raises:
        ConfigError: no such benchmark.
    """
    scripts = benchmarks(folder)
    if name not in scripts:
        raise ConfigError(f"no benchmark {name!r}; there are {', '.join(scripts)}")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, str(scripts[name]), *arguments])
