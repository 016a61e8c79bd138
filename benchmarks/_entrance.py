"""The entry point of a benchmark: its arguments, and errors as one line. Loads nothing heavy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from spq.errors import SPQError


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """An argument parser whose help is the docstring of the benchmark."""
    style = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"spq bench {name}", description=about, formatter_class=style)


def entrance(name: str, main: Callable[[], None]) -> NoReturn:
    """Run a benchmark, and show errors of spq as one line."""
    try:
        main()
    except SPQError as error:
        print(f"spq bench {name}: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print(f"spq bench {name}: stopped; if it has written results, the same command continues", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
