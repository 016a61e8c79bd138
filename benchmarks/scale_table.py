"""How many bytes, hours and machines do 10 million to 10 billion pictures need? Computed from measured constants.

    python benchmarks/scale_table.py [--pictures 10000000 100000000 1000000000 10000000000] [--json FILE]
    python benchmarks/scale_table.py --write docs/scale.md
    python benchmarks/scale_table.py --check search_ms=49 --pictures 100000000

Each constant names the command that measured it, and the date. A line that needs a constant without a value says "not
measured". --check compares measured values, by the name of their line, with the prediction for the first number of pictures; the
exit status is 1 if one is more than 20 % away. --write puts both tables into a page, between its markers.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from _pages import write_table

TOLERANCE = 0.2
SIZES = (10**7, 10**8, 10**9, 10**10)


@dataclass(frozen=True)
class Constant:
    """A measured number; None if it has not been measured. `command` measures it."""

    value: float | None
    unit: str
    command: str
    date: str = ""
    note: str = ""


CONSTANTS = {
    "picture_bytes": Constant(
        28_040, "bytes", "find $SPQ_DATA/clothing -name '*.jpg' -printf '%s\\n' | awk '{s += $1} END {print s / NR}'",
        "2026-11-28", "JPEG, about 400 x 533 pixels",
    ),
    "encode_rate": Constant(
        693 / 2, "pictures a second and core", "benchmarks/encode.py --images $SPQ_DATA/clothing --model MODEL --rounds 2",
        "2026-11-25", "such photos, a model of 64 x 64 pixels, AMD EPYC with AVX-512 BF16",
    ),
    "code_bytes": Constant(8, "bytes a picture", "by definition: 64 bits"),
    "sqlite_bytes": Constant(
        147.3, "bytes a picture on disk, without its path", "benchmarks/store.py --rounds 2", "2026-11-25"
    ),
    "sync_bytes_sqlite": Constant(
        388, "bytes a picture in memory, while an index in SQLite is brought up to date", "history", "2026-11-28"
    ),
    "shard_bytes": Constant(
        93.6, "bytes a picture on disk in a shard: items, codes and derived files; 31 of them are the path",
        "benchmarks/scale_index.py --items 10_000_000", "2026-11-28",
    ),
    "build_memory": Constant(
        200, "bytes in memory for each picture of the shard that is built", "benchmarks/scale_index.py --items 10_000_000",
        "2026-11-28", "176 in shards of 5 million, 220 of 10 million",
    ),
    "serve_memory": Constant(
        27.9, "bytes a picture in memory, while shards with lists are served", "benchmarks/scale_search.py", "2026-11-28",
        "without lists: 10",
    ),
    "sync_memory": Constant(
        66, "bytes a picture in memory, while shards are brought up to date; the list of files is not in it",
        "benchmarks/scale_index.py --items 10_000_000", "2026-11-28",
    ),
    "open_seconds": Constant(
        0.04, "seconds for a million pictures, to open shards", "benchmarks/scale_index.py --items 10_000_000", "2026-11-28",
        "files in the page cache",
    ),
    "scan_ms": Constant(
        0.632, "ms of one thread for a million codes, exact", "benchmarks/scale_search.py", "2026-11-28",
        "1.1 in another hour, when FAISS alone took 1.1, too",
    ),
    "lists_ms": Constant(
        0.039, "ms of one thread for a million codes, through lists, recall 0.95", "benchmarks/scale_search.py", "2026-11-28",
        "measured at 100 million; it grows with the square root",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The machine that is assumed, not measured. `usable`: share of its memory that codes may take."""

    cores: int = 16
    memory: float = 64e9
    usable: float = 0.5
    shard: int = 10**7


MACHINE = Machine()


def known(name: str) -> float:
    """The value of a constant.

    Raises:
        LookupError: it has not been measured.
    """
    value = CONSTANTS[name].value
    if value is None:
        raise LookupError(name)
    return value


@dataclass(frozen=True)
class Line:
    """A line of the table: a number for N pictures."""

    what: str
    compute: Callable[[int], float]
    form: Callable[[float], str]


def size(count: float) -> str:
    """
    >>> size(8e7), size(8e10), size(2.69e14)
    ('80 MB', '80 GB', '269 TB')
    """
    unit, name = next((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1, "B")) if count >= u or u == 1)
    return f"{_short(count / unit)} {name}"


def hours(count: float) -> str:
    return f"{_short(count)} h"


def milliseconds(count: float) -> str:
    return f"{_short(count)} ms"


def whole(count: float) -> str:
    return f"{count:,.0f}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def machines_for(total_bytes: float) -> float:
    return math.ceil(total_bytes / (MACHINE.memory * MACHINE.usable))


def encode_hours(N: int) -> float:
    """Hours of one machine."""
    return N / known("encode_rate") / MACHINE.cores / 3600


LINES = {
    "picture_bytes": Line("pictures", lambda N: N * known("picture_bytes"), size),
    "code_bytes": Line("codes", lambda N: N * known("code_bytes"), size),
    "sqlite_bytes": Line("index in SQLite, without paths", lambda N: N * known("sqlite_bytes"), size),
    "sqlite_sync": Line("memory of an update, SQLite", lambda N: N * known("sync_bytes_sqlite"), size),
    "shards": Line("shards of 10 million", lambda N: math.ceil(N / MACHINE.shard), whole),
    "shard_bytes": Line("index in shards", lambda N: N * known("shard_bytes"), size),
    "build_memory": Line("memory to build it", lambda N: MACHINE.shard * known("build_memory"), size),
    "serve_memory": Line("memory to serve it", lambda N: N * known("serve_memory"), size),
    "sync_memory": Line("memory of an update, shards", lambda N: N * known("sync_memory"), size),
    "open_hours": Line("time to open it", lambda N: N / 1e6 * known("open_seconds") / 3600, hours),
    "encode_hours": Line("encoding on one machine", encode_hours, hours),
    "encode_machines": Line("machines that encode it in a day", lambda N: math.ceil(encode_hours(N) / 24), whole),
    "search_ms": Line("exact search, one thread", lambda N: N / 1e6 * known("scan_ms"), milliseconds),
    "lists_ms": Line(
        "search through lists, one thread", lambda N: math.sqrt(N * 1e8) / 1e6 * known("lists_ms"), milliseconds
    ),
    "code_machines": Line("machines that hold the codes", lambda N: machines_for(N * known("code_bytes")), whole),
    "serve_machines": Line("machines that serve it", lambda N: machines_for(N * known("serve_memory")), whole),
}


def predicted(name: str, N: int) -> float | None:
    """The number of a line for N pictures; None if a constant is missing."""
    try:
        return LINES[name].compute(N)
    except LookupError:
        return None


def table(sizes: list[int]) -> str:
    """All lines for these numbers of pictures, as Markdown."""
    rows = [["", *(f"{N:,}" for N in sizes)], ["---"] * (len(sizes) + 1)]
    for name, line in LINES.items():
        values = [predicted(name, N) for N in sizes]
        rows.append([line.what, *("not measured" if value is None else line.form(value) for value in values)])
    return "\n".join(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in rows)


def constants_table() -> str:
    """The constants and where they come from, as Markdown."""
    rows = ["| constant | value | unit | measured by | date |", "|---|---|---|---|---|"]
    for name, constant in CONSTANTS.items():
        value = "not measured" if constant.value is None else f"{constant.value:g}"
        unit = constant.unit + (f" ({constant.note})" if constant.note else "")
        rows.append(
            f"| `{name}` | {value} | {unit} | `{constant.command.replace('|', chr(92) + '|')}` | {constant.date} |"
        )
    return "\n".join(rows)


def check(measured: list[str], N: int) -> bool:
    """Print measured values beside the prediction, and return whether all are within the tolerance."""
    fine = True
    for text in measured:
        name, _, value = text.partition("=")
        expected = predicted(name, N) if name in LINES else None
        if expected is None:
            raise SystemExit(f"{name} is no line with a prediction; use one of {', '.join(LINES)}")
        away = float(value) / expected - 1
        fine &= abs(away) <= TOLERANCE
        print(f"{name}: predicted {expected:g}, measured {value}, {away:+.0%}")
    return fine


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--check", nargs="+", metavar="LINE=VALUE", help="compare measured values with the prediction")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into a Markdown page")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    if given.write:
        write_table(given.write, "table", table(given.pictures))
        write_table(given.write, "constants", constants_table())
        return
    if given.check:
        if not check(given.check, given.pictures[0]):
            raise SystemExit(1)
        return
    print(f"{table(given.pictures)}\n\n{constants_table()}\n\nassumed, not measured: {MACHINE}")
    if given.json:
        values = {name: {str(N): predicted(name, N) for N in given.pictures} for name in LINES}
        constants = {name: asdict(constant) for name, constant in CONSTANTS.items()}
        facts = {"kind": "computed", "lines": values, "constants": constants, "assumed": asdict(MACHINE)}
        given.json.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
