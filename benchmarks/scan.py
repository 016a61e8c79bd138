"""Exact search of different random codes, compared with raw FastScan, and a batch in two threads.

    python benchmarks/scan.py
    python benchmarks/scan.py --rows 10000000 --parts 10 --queries 100

The codes are random bytes, so (nearly) all differ. Tables are uniform or normal numbers, or distances of random descriptors to
random codewords. Raw FastScan is FAISS's index with its default settings, and is not exact. Single queries run in turns on one
thread: medians and 25th percentiles of CPU time, and how many queries equal plain sums. Then all queries run as one batch, in
turns with one thread and with two. --parts splits the rows, as shards do.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from spq.pq.fastscan import set_identity
from spq.pq.parts import Part, PartedScan
from spq.pq.scan import Scan
from spq.pq.sums import nearest
from spq.pq.tables import distance_tables

Floats = NDArray[np.float32]
TOP = 100


def tables_of_kinds(M: int, queries: int, rng: np.random.Generator) -> dict[str, Floats]:
    shape = (queries, M, 16)
    x, books = rng.normal(size=(queries, M * 8)).astype(np.float32), rng.normal(size=(M, 16, 8)).astype(np.float32)
    made = {"uniform": rng.random(shape, np.float32), "normal": rng.normal(size=shape).astype(np.float32)}
    return made | {distance: distance_tables(x, books, distance) for distance in ("l2", "sqeuclidean", "dot")}


def raw_index(packed: NDArray[np.uint8], M: int) -> Any:
    plain = faiss.IndexPQ(M * 16, M, 4, faiss.METRIC_INNER_PRODUCT)
    set_identity(plain)
    plain.add_sa_codes(packed)
    return faiss.IndexPQFastScan(plain)  # type: ignore[call-overload]


def searched(packed: NDArray[np.uint8], M: int, parts: int) -> Scan | PartedScan:
    if parts == 1:
        return Scan.of_packed(packed, M, 16, len(packed), range(len(packed)))
    made, start = [], 0
    for some in np.array_split(packed, parts):
        made.append(Part(Scan.of_packed(some, M, 16, len(some), range(start, start + len(some)))))
        start += len(some)
    return PartedScan(made)


def alone(scan: Scan | PartedScan, raw: Any, tables: Floats, timed: int) -> str:
    """Single queries, in turns."""
    x, times = -tables.reshape(len(tables), -1), np.empty((timed, 2))
    scan.search(tables[:1], TOP, threads=1)
    raw.search(x[:1], TOP)
    for query in range(timed):
        moments = [time.process_time()]
        raw.search(x[query : query + 1], TOP)
        moments.append(time.process_time())
        scan.search(tables[query : query + 1], TOP, threads=1)
        moments.append(time.process_time())
        times[query] = np.diff(moments) * 1e3
    (raw_low, low), (raw_median, median) = np.percentile(times, [25, 50], axis=0)
    return f"raw {raw_median:.3f} ms, spq {median:.3f} ms: {median / raw_median:.2f}x ({low / raw_low:.2f}x at 25 %)"


def batch(scan: Scan | PartedScan, tables: Floats, rounds: int) -> str:
    """All queries at once, in turns with one thread and two."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for threads, seen in times.items():
            start = time.perf_counter()
            scan.search(tables, TOP, threads=threads)
            seen.append(time.perf_counter() - start)
    one, two = (min(times[threads]) for threads in (1, 2))
    return f"{len(tables)} queries: {one:.3f} s with one thread, {two:.3f} s with two: {one / two:.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=100, help="single queries of each kind")
    parser.add_argument(
        "--checked", type=int, default=10, help="queries of each kind that are compared with plain sums"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of the batch")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    rng, M = np.random.default_rng(0), arguments.bits // 4
    packed = rng.integers(0, 256, (arguments.rows, M // 2)).astype(np.uint8)
    raw, scan = raw_index(packed, M), searched(packed, M, arguments.parts)
    for kind, tables in tables_of_kinds(M, arguments.queries, rng).items():
        line = alone(scan, raw, tables, min(arguments.timed, len(tables)))
        truth, ours = nearest(tables[: arguments.checked], packed, TOP), scan.search(tables[: arguments.checked], TOP)
        same = sum(
            bool((a == b).all() and (c == d).all())
            for a, b, c, d in zip(truth[0], ours[0], truth[1], ours[1], strict=True)
        )
        print(f"{kind:12s} {line}; equal to plain sums: {same} of {len(truth[0])}", flush=True)
    print(f"{kind:12s} {batch(scan, tables, arguments.rounds)}", flush=True)


if __name__ == "__main__":
    main()
