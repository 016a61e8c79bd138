"""What does a query wait for if n shards on n machines answer it? Simulated from the times of one shard.

    python benchmarks/fan_out.py [--codes 1000000] [--queries 10000] [--seed 0] [--json FILE] [--plot FILE] [--write PAGE]
    python benchmarks/fan_out.py --latencies times.json --shards 1 4 16 64 256 --deadline 50

Without --latencies, one shard of random 64-bit codes is searched in this process, on one thread, one query after the other.
--latencies names a JSON list of milliseconds, or an object with such a list under `latencies`, for example of a real server.

The simulation: the n shards of a query take independent times of that distribution, and the answer waits for the slowest. So the
share of answers within t is F(t)^n, where F is the share of the measured times, and no number is drawn. Network, merging and
times that are slow on all machines at once are not in it. A percentile that asks for a rarer time than was measured is a lower
bound, and marked with >=. With a deadline, an answer leaves out the shards that are later, and is partial.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _pages import write_table
from spq.pq.scan import Scan

M, K, TOP = 16, 16, 100
PERCENTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
Floats = NDArray[np.float64]


def measured_latencies(codes: int, queries: int, seed: int) -> Floats:
    """Milliseconds of searches of random codes, one after the other, on one thread."""
    rng = np.random.default_rng(seed)
    scan = Scan(rng.integers(0, K, (codes, M), dtype=np.uint8), K)
    tables = rng.random((queries, M, K), dtype=np.float32)
    scan.search(tables[:1], top=TOP, threads=1)  # makes its structures
    latencies = []
    for table in tables:
        start = time.perf_counter()
        scan.search(table[None], top=TOP, threads=1)
        latencies.append(1000 * (time.perf_counter() - start))
    return np.array(latencies)


def read_latencies(path: Path) -> Floats:
    """The milliseconds of a JSON file.

    Raises:
        SystemExit: it holds no list of positive numbers.
    """
    found = json.loads(path.read_text("utf-8"))
    latencies = np.array(found["latencies"] if isinstance(found, dict) else found, np.float64)
    if latencies.ndim != 1 or not len(latencies) or not (np.isfinite(latencies) & (latencies > 0)).all():
        raise SystemExit(f"{path} is no list of positive milliseconds")
    return latencies


def of_the_slowest(latencies: Floats, shards: int, q: float) -> tuple[float, bool]:
    """The q-quantile of the slowest of n independent times, and whether it is rarer than the measured times tell.

    >>> of_the_slowest(np.arange(1.0, 101), shards=1, q=0.5), of_the_slowest(np.arange(1.0, 101), shards=2, q=0.25)
    ((50.0, False), (50.0, False))
    >>> of_the_slowest(np.arange(1.0, 101), shards=100, q=0.99)
    (100.0, True)
    """
    share = q ** (1 / shards)  # of the times of one shard that are no later
    return float(np.quantile(latencies, share, method="inverted_cdf")), (1 - share) * len(latencies) < 1


def simulated(latencies: Floats, shards: list[int], deadlines: list[float]) -> list[dict[str, Any]]:
    """A row for each number of shards, without deadline and with each."""
    rows = []
    for n in shards:
        found = {name: of_the_slowest(latencies, n, q) for name, q in PERCENTILES.items()}
        row = {"shards": n, "deadline_ms": None, "partial": 0.0, "missing_shards": 0.0}
        at_least = [name for name, (_, is_beyond) in found.items() if is_beyond]
        rows.append({**row, **{name: ms for name, (ms, _) in found.items()}, "at_least": at_least})
        for deadline in deadlines:
            in_time = float(np.mean(latencies <= deadline))
            late = {"deadline_ms": deadline, "partial": 1 - in_time**n, "missing_shards": n * (1 - in_time)}
            cut = {name: min(ms, deadline) for name, (ms, _) in found.items()}
            still = [name for name in at_least if cut[name] < deadline]
            rows.append({**row, **late, **cut, "at_least": still})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table: percentiles without deadline, and the share of partial answers with each."""
    deadlines = sorted({row["deadline_ms"] for row in rows} - {None})
    columns = ["shards", "p50 ms", "p99 ms", "p99.9 ms", *(f"partial answers, deadline {d:.1f} ms" for d in deadlines)]
    lines = [columns, ["---"] * len(columns)]
    for row in (row for row in rows if row["deadline_ms"] is None):
        times = [f"{'>= ' if name in row['at_least'] else ''}{row[name]:.1f}" for name in PERCENTILES]
        partial = {r["deadline_ms"]: r["partial"] for r in rows if r["shards"] == row["shards"]}
        lines.append([str(row["shards"]), *times, *(f"{partial[deadline]:.1%}" for deadline in deadlines)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


def save_plot(rows: list[dict[str, Any]], path: Path, source: str) -> None:
    """Percentiles without deadline, and the share of partial answers at each deadline, over the number of shards."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, partial = figure.subplots(1, 2)
    free = [row for row in rows if row["deadline_ms"] is None]
    for name, colour in zip(PERCENTILES, ("#009e73", "#0072b2", "#d55e00"), strict=True):
        times.plot([r["shards"] for r in free], [r[name] for r in free], marker="o", color=colour, label=name)
    for deadline in sorted({row["deadline_ms"] for row in rows} - {None}):
        mine = [row for row in rows if row["deadline_ms"] == deadline]
        shares = [100 * row["partial"] for row in mine]
        partial.plot([r["shards"] for r in mine], shares, marker="o", label=f"deadline {deadline:.3g} ms")
    times.set(ylabel="milliseconds of the slowest shard", ylim=(0, None))
    partial.set(ylabel="partial answers in %", ylim=(0, 100))
    for axes in (times, partial):
        axes.set_xscale("log", base=2)
        axes.set(xlabel="shards that a query asks")
        axes.set_xticks([r["shards"] for r in free], [str(r["shards"]) for r in free])
        if axes.lines:
            axes.legend(frameon=False)
    figure.suptitle(f"Simulated from {source}", fontsize=10)
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latencies", type=Path, help="JSON list of milliseconds; by default a search is timed")
    parser.add_argument("--codes", type=int, default=1_000_000, help="random codes of the shard that is timed")
    parser.add_argument("--queries", type=int, default=10_000, help="searches that are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--deadline", type=float, nargs="*", help="milliseconds; by default p99 and p99.9 of one shard")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into a Markdown page")
    given = parser.parse_args(arguments)
    if given.latencies:
        latencies, source = read_latencies(given.latencies), given.latencies.name
    else:
        latencies = measured_latencies(given.codes, given.queries, given.seed)
        source = f"{given.codes:,} random codes of 64 bits"
    source = f"{len(latencies):,} measured times of one shard ({source})"
    deadlines = given.deadline
    if deadlines is None:
        deadlines = [of_the_slowest(latencies, 1, PERCENTILES[name])[0] for name in ("p99", "p999")]
    rows = simulated(latencies, given.shards, deadlines)
    print(f"simulated from {source}\n\n{table(rows)}")
    if given.plot:
        save_plot(rows, given.plot, source)
    if given.write:
        write_table(given.write, "fan-out", table(rows))
    if given.json:
        facts = {"kind": "simulated", "source": source, "machine": platform.processor() or platform.machine()}
        facts |= {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
        given.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
