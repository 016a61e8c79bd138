"""Search a hundred million codes in parts: memory, time, and exactness.

    python benchmarks/scale_search.py --descriptors train.npy --query-descriptors test.npy --folder /tmp/codes
    python benchmarks/scale_search.py --model cifar.spq --images cifar10:train --query-images cifar10:test --folder /tmp/codes

Codes are made once (`_scale_codes.py` says how, 30 minutes for a hundred million) and kept in --folder as memory maps of --part
rows each. Queries are descriptors of other pictures, without noise. Then two processes of their own run:

- build: trains the coarse quantizer on a sample, puts the codes of each part into lists, and tunes the number of lists. Its
  peak of memory is reported.
- serve: opens everything, searches, and compares: exact answers with plain sums, lists with exact answers, two threads with one.
  Times are CPU time per query and medians; those of one and two threads are wall time, in turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _scale_codes import Plan, distinct_share, make, part_paths
from spq.pq import sums
from spq.pq.coarse import SAMPLE, Coarse, default_nlist
from spq.pq.parts import Part, PartedScan
from spq.pq.scan import Scan
from spq.pq.tables import decode, distance_tables

Floats = NDArray[np.float32]
TOP = 100


def opened(folder: Path, plan: Plan, coarse: Coarse | None, distance: str) -> PartedScan:
    """The parts as they lie on disk; with a coarse quantizer, also their lists."""
    books, parts, start = np.load(folder / "books.npy"), [], 0
    for path in part_paths(folder, plan):
        packed = np.load(path, mmap_mode="r")
        scan = Scan.of_packed(packed, plan.M, 16, distinct=len(packed), ids=range(start, start + len(packed)))
        if coarse is not None:
            order, sizes = (np.load(list_path(path, name), mmap_mode="r") for name in ("order", "sizes"))
            scan.add_lists(coarse, order, sizes)
        parts.append(Part(scan))
        start += len(packed)
    return PartedScan(parts, None, coarse, lambda codes: distance_tables(decode(codes, books), books, distance))


def list_path(path: Path, name: str) -> Path:
    return path.with_name(path.name.replace("codes", name))


def build(folder: Path, plan: Plan, distance: str, nlist: int, threads: int) -> dict[str, Any]:
    """Make and save the lists."""
    started = time.perf_counter()
    scan = opened(folder, plan, None, distance)
    nlist = nlist or default_nlist(plan.rows)
    sample = scan.sample(SAMPLE * nlist, np.random.default_rng(0))
    coarse = Coarse.train(sample, plan.M, nlist, scan.tables_of, 0, threads)
    trained = time.perf_counter()
    for part, path in zip(scan.parts, part_paths(folder, plan), strict=True):
        for name, array in zip(("order", "sizes"), part.scan.order(coarse, threads), strict=True):
            np.save(list_path(path, name), array)
    ordered = time.perf_counter()
    tuned = PartedScan(scan.parts, None, coarse, scan.tables_of).tuned(threads)
    np.savez(folder / "coarse.npz", **tuned.to_arrays())  # type: ignore[arg-type]
    return {
        "lists": len(coarse),
        "training, s": trained - started,
        "lists of all parts, s": ordered - trained,
        "tuning, s": time.perf_counter() - ordered,
        "peak of memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def serve(folder: Path, plan: Plan, distance: str, queries: int, checked: int, recall: float) -> dict[str, Any]:
    """Open, search and compare."""
    started, cpu = time.perf_counter(), time.process_time()
    with np.load(folder / "coarse.npz") as arrays:
        coarse = Coarse.from_arrays(dict(arrays))
    scan = opened(folder, plan, coarse, distance)
    books, x = np.load(folder / "books.npy"), np.load(folder / "queries.npy")
    tables = distance_tables(x[np.random.default_rng(1).permutation(len(x))[:queries]], books, distance)
    scan.search(tables[:1], TOP, threads=1)
    facts: dict[str, Any] = {"opening, s": time.perf_counter() - started, "opening, CPU s": time.process_time() - cpu}
    facts["memory when opened, GB"] = memory()
    exact, facts["exact, CPU ms"] = timed(lambda table: scan.search(table, TOP, threads=1), tables)
    lists, facts["lists, CPU ms"] = timed(
        lambda table: scan.search(table, TOP, "ivf", threads=1, recall_target=recall), tables
    )
    facts["lists read"] = coarse.nprobe_for(recall)
    sizes = np.sum([part.scan.list_sizes for part in scan.parts], 0)
    facts["share of codes read"] = float(
        np.mean([sizes[coarse.nearest(table, facts["lists read"])[1]].sum() for table in tables]) / plan.rows
    )
    pairs = zip(exact, lists, strict=True)
    facts["recall@100 of lists"] = float(np.mean([np.isin(a[1], b[1]).mean() for a, b in pairs]))
    facts["memory after searches, GB"] = memory()
    facts["one query, two threads"] = speed_up(lambda threads: scan.search(tables[:1], TOP, threads=threads), 15)
    facts["a batch, two threads"] = speed_up(lambda threads: scan.search(tables[:20], TOP, threads=threads), 3)
    facts["a batch in lists, two threads"] = speed_up(
        lambda threads: scan.search(tables, TOP, "ivf", threads, recall_target=recall), 5
    )
    facts["equal to plain sums"] = f"{equal(folder, plan, tables[:checked], exact)} of {checked}"
    return facts


def timed(
    search: Callable[[Floats], sums.Ranking], tables: Floats
) -> tuple[list[tuple[Floats, NDArray[np.int64]]], float]:
    """The answers to each query alone, and the median of CPU time in ms."""
    search(tables[:1])
    answers, times = [], []
    for query in range(len(tables)):
        start = time.process_time()
        distances, rows = search(tables[query : query + 1])
        times.append(time.process_time() - start)
        answers.append((distances[0], rows[0]))
    return answers, 1e3 * float(np.median(times))


def speed_up(search: Callable[[int], object], rounds: int) -> float:
    """How many times as fast two threads are: medians of wall time, in turns."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for threads, seen in times.items():
            start = time.perf_counter()
            search(threads)
            seen.append(time.perf_counter() - start)
    return float(np.median(times[1]) / np.median(times[2]))


def equal(folder: Path, plan: Plan, tables: Floats, answers: list[tuple[Floats, NDArray[np.int64]]]) -> int:
    """How many queries have exactly the rows and distances of plain sums of all codes."""
    best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in tables]
    start = 0
    for path in part_paths(folder, plan):
        packed = np.load(path)
        distances, rows = sums.nearest(tables, packed, min(TOP, len(packed)))
        for query, (d, r) in enumerate(best):
            d, r = np.concatenate([d, distances[query]]), np.concatenate([r, rows[query] + start])
            order = np.lexsort((r, d))[:TOP]
            best[query] = d[order], r[order]
        start += len(packed)
    pairs = zip(best, answers, strict=False)
    return sum(bool((a[0] == b[0]).all() and (a[1] == b[1]).all()) for a, b in pairs)


def memory() -> dict[str, float]:
    """Gigabytes of this process, its own and of mapped files."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return {
        name: int(line.split()[1]) / 1e6 for line in lines for name in ("RssAnon", "RssFile") if line.startswith(name)
    }


def descriptors(arguments: argparse.Namespace) -> tuple[Floats, Floats]:
    if arguments.descriptors:
        return np.load(arguments.descriptors), np.load(arguments.query_descriptors)
    from spq.data.open import open_images
    from spq.model.model import Model

    model, found = Model.load(arguments.model), []
    for name in (arguments.images, arguments.query_images):
        images = open_images(name)
        found.append(model.embed([images.image(row) for row in range(len(images))]))
    return found[0], found[1]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the codes and lists")
    parser.add_argument("--descriptors", type=Path, help="(n, D) float32 .npy, of real pictures")
    parser.add_argument("--query-descriptors", type=Path, help="of other pictures")
    parser.add_argument("--model", type=Path, help="a trained model, instead of --descriptors")
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument("--query-images", default="cifar10:test")
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--part", type=int, default=10_000_000, help="rows of a part")
    parser.add_argument("--noise", type=float, default=0.3, help="in standard deviations of each principal component")
    parser.add_argument("--distance", default="sqeuclidean")
    parser.add_argument("--nlist", type=int, default=0, help="lists (default: by the number of rows)")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--checked", type=int, default=100, help="queries that are compared with plain sums")
    parser.add_argument("--recall", type=float, default=0.95, help="target of lists")
    parser.add_argument("--threads", type=int, default=2, help="for building")
    parser.add_argument("--no-build", action="store_true", help="use the lists of an earlier run")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    plan = Plan(arguments.rows, arguments.part, arguments.noise)
    if not (arguments.folder / "plan.json").exists():
        make(arguments.folder, plan, *descriptors(arguments))
    facts: dict[str, Any] = {"rows": plan.rows, "distinct": distinct_share(part_paths(arguments.folder, plan))}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        if not arguments.no_build:
            job = pool.submit(build, arguments.folder, plan, arguments.distance, arguments.nlist, arguments.threads)
            facts |= job.result()
            print(json.dumps(facts), file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, spawn) as pool:
        few = arguments.queries, arguments.checked, arguments.recall
        facts |= pool.submit(serve, arguments.folder, plan, arguments.distance, *few).result()
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
