"""How fast, exact and memory-efficient is search, compared with FAISS, NumPy and graphs over float descriptors?

    python benchmarks/search.py --model cifar.spq --images cifar10:train --query-images cifar10:test --out search.json
    python benchmarks/search.py --descriptors x.npy --codebooks c.npy --sizes 100000 --bits 64 --queries 100
    python benchmarks/search.py --descriptors x.npy --sizes 1000000 --bits 64 --codewords 16 256 --noise 1 --graphs-up-to 0

The gallery has N real descriptors: those of the pictures, then copies with Gaussian noise of 0.1 of their standard deviation.
`--noise` changes it; with much noise nearly all codes differ. They are encoded with the codebooks of the model, or for another
number of bits or codewords with PQ codebooks of the same descriptors. `--codewords` sets the codewords per codebook, 16 or 256.
Such copies share codes more often than different pictures would, which helps `spq`. The table shows the number of distinct codes,
and `--distinct` keeps each code once for all methods that search codes. Queries are descriptors of other pictures, or noisy
copies without --query-images.

Each query is searched alone. The methods run in turn, several rounds, and medians over all timed queries are printed, of wall
time and of CPU time, which other processes disturb less. FAISS gets the tables of `spq`, since it knows no distance `l2`. With
`sqeuclidean`, the line "IndexPQ, own" has the time with its own tables, which it makes faster. `recall` is
the share of answers that are no farther than the last of the exact `top`, so ties count as correct. Distances are exact, on
the same codes, or on the float descriptors for methods without codes. `exact in` counts the queries for which `spq` gives exactly
the distances of plain sums. Memory of `spq` is measured in a separate process: what it holds after searches, without the codes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from _search_memory import memory
from spq.config import DISTANCES
from spq.evaluation.baselines import encode, train_codebooks
from spq.pq.fastscan import set_identity
from spq.pq.scan import Scan, memory_bytes, rank
from spq.pq.sums import pack
from spq.pq.tables import decode, distance_tables

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]

QUERY_NOISE = 0.1  # of queries that are copies, in the descriptors' standard deviation
CHUNK = 50_000
OURS, IVF = "spq", "spq ivf"
RAW = {16: "IndexPQFastScan", 256: "IndexPQ"}  # the fastest exhaustive search of FAISS, by codewords


@dataclass
class Method:
    """answer: number of a query -> rows (top,). on_codes: recall is measured on codes, else on float descriptors."""

    answer: Callable[[int], Rows]
    bytes_per_vector: float
    on_codes: bool = True


@dataclass
class Result:
    """One line of the table; times in milliseconds per query."""

    gallery: int
    distinct: int
    bits: int
    codewords: int
    method: str
    ms: float
    cpu_ms: float
    ms_low: float
    ms_high: float
    recall: float
    bytes_per_vector: float
    remark: str


@dataclass
class Data:
    """Descriptors of pictures (n, D) and of queries (Q, D), and codebooks by number of bits and codewords."""

    base: Floats
    queries: Floats
    codebooks: dict[tuple[int, int], Floats]
    distance: str
    noise: float
    seed: int

    def gallery(self, N: int) -> Iterator[tuple[int, Floats]]:
        """(start, descriptors) in chunks, the same in each call."""
        rng, scale = np.random.default_rng(self.seed), np.float32(self.noise * self.base.std())
        for start in range(0, N, CHUNK):
            rows = np.arange(start, min(start + CHUNK, N))
            noise = scale * rng.standard_normal((len(rows), self.base.shape[1]), np.float32)
            noise[rows < len(self.base)] = 0
            yield start, self.base[rows % len(self.base)] + noise

    def codes(self, N: int, books: Floats) -> Codes:
        """(N, M) uint8."""
        return np.concatenate([encode(x, books) for _, x in self.gallery(N)])

    def tables(self, books: Floats, codes: Codes | None = None) -> Floats:
        """(Q, M, K) of the queries, or of decoded codes."""
        return distance_tables(self.queries if codes is None else decode(codes, books), books, self.distance)


def load(arguments: argparse.Namespace) -> Data:
    rng = np.random.default_rng(arguments.seed + 1)
    if arguments.model:
        base, queries, codebooks = embedded(arguments.model, arguments.images, arguments.query_images)
    else:
        base, queries = np.load(arguments.descriptors), None
        codebooks = np.load(arguments.codebooks) if arguments.codebooks else np.empty((0, 0, 0), np.float32)
    if queries is None:
        queries = base[rng.integers(0, len(base), arguments.queries)]
        queries = queries + np.float32(QUERY_NOISE * base.std()) * rng.standard_normal(queries.shape, np.float32)
    M, K, _ = codebooks.shape
    own, books = (M * bits_of(K), K), {}
    for bits in arguments.bits:
        for codewords in arguments.codewords:
            sample = base[rng.permutation(len(base))[:20_000]]
            M = bits // bits_of(codewords)
            books[bits, codewords] = (
                codebooks if (bits, codewords) == own else train_codebooks(sample, M, rng, codewords)
            )
    note(
        f"{len(base):,} descriptors of pictures; codebooks are k-means{f', or the model of {own[0]} bits' * (own in books)}"
    )
    return Data(base, queries[: arguments.queries], books, arguments.distance, arguments.noise, arguments.seed)


def bits_of(codewords: int) -> int:
    return codewords.bit_length() - 1


def embedded(model: Path, images: str, query_images: str | None) -> tuple[Floats, Floats | None, Floats]:
    from spq.data.decode import load_pixels
    from spq.data.open import open_images
    from spq.model.model import Model

    loaded = Model.load(model)
    gallery, queries = (
        loaded.embed(load_pixels(open_images(name), loaded.config.input.size).array) if name else None
        for name in (images, query_images)
    )
    assert gallery is not None
    return gallery, queries, loaded.codebooks


def code_methods(
    codes: Codes, tables: Floats, scan: Scan, nprobe: int, arguments: argparse.Namespace
) -> dict[str, Method]:
    """Methods that search codes (N, M) by tables (Q, M, K); with `nprobe`, lists too."""
    top, threads, K = arguments.top, arguments.threads, tables.shape[2]
    x, packed, columns = -tables.reshape(len(tables), -1), pack(codes, K), np.ascontiguousarray(codes.T)
    plain: Any = faiss.IndexPQ(x.shape[1], codes.shape[1], bits_of(K), faiss.METRIC_INNER_PRODUCT)
    set_identity(plain)
    plain.add_sa_codes(packed)
    methods = {
        OURS: Method(lambda q: scan.search(tables[q : q + 1], top, threads=threads)[1][0], 0),
        "IndexPQ": Method(lambda q: plain.search(x[q : q + 1], top)[1][0], packed.shape[1]),
        "numpy": Method(lambda q: gathered(tables[q], columns, top), codes.shape[1]),
    }
    if K == 16:
        fast = faiss.IndexPQFastScan(plain)  # type: ignore[call-overload]
        methods[RAW[K]] = Method(lambda q: fast.search(x[q : q + 1], top)[1][0], packed.shape[1])
    if nprobe:
        methods[IVF] = Method(lambda q: scan.search(tables[q : q + 1], top, "ivf", threads, nprobe)[1][0], 0)
    return methods


def own_tables(data: Data, codes: Codes, books: Floats, top: int) -> Method:
    """FAISS as it is usually called: it knows the codebooks (M, K, d), and makes the tables of `sqeuclidean`."""
    M, K, d = books.shape
    index, packed = faiss.IndexPQ(M * d, M, bits_of(K)), pack(codes, K)
    faiss.copy_array_to_vector(books.ravel(), index.pq.centroids)
    index.is_trained = True
    index.add_sa_codes(packed)
    return Method(lambda q: index.search(data.queries[q : q + 1], top)[1][0], packed.shape[1])


def gathered(table: Floats, columns: Codes, top: int) -> Rows:
    """A simple search in NumPy."""
    d = np.zeros(columns.shape[1], np.float32)
    for values, column in zip(table, columns, strict=True):
        d += values[column]
    near = np.argpartition(d, top - 1)[:top]
    return near[np.argsort(d[near])]


def binary(data: Data, N: int, bits: int, top: int) -> Method:
    """Signs of random projections, compared by Hamming distance."""
    directions = np.random.default_rng(data.seed).normal(size=(data.base.shape[1], bits)).astype(np.float32)
    mean, index = data.base.mean(0), faiss.IndexBinaryFlat(bits)
    for _, x in data.gallery(N):
        index.add(np.packbits((x - mean) @ directions > 0, axis=1))
    query_codes = np.packbits((data.queries - mean) @ directions > 0, axis=1)
    return Method(lambda q: index.search(query_codes[q : q + 1], top)[1][0], bits / 8, on_codes=False)


def graphs(data: Data, N: int, top: int, threads: int) -> dict[str, Method]:
    """hnswlib and usearch, if they are installed, on float descriptors and with default graphs."""
    found, D, queries = {}, data.base.shape[1], data.queries
    if importlib.util.find_spec("hnswlib"):
        import hnswlib

        hnsw = hnswlib.Index("l2", D)
        hnsw.init_index(N)
        for start, x in data.gallery(N):
            hnsw.add_items(x, np.arange(start, start + len(x)))
        hnsw.set_ef(2 * top)
        hnsw.set_num_threads(threads)
        found["hnswlib"] = Method(
            lambda q: hnsw.knn_query(queries[q], top)[0][0].astype(np.int64), hnsw.index_file_size() / N, on_codes=False
        )
    if importlib.util.find_spec("usearch"):
        from usearch.index import Index

        graph = Index(ndim=D, metric="l2sq", dtype="f32", expansion_search=2 * top)
        for start, x in data.gallery(N):
            graph.add(np.arange(start, start + len(x)), x)
        found["usearch"] = Method(
            lambda q: graph.search(queries[q], top, threads=threads).keys.astype(np.int64),
            graph.memory_usage / N,
            on_codes=False,
        )
    for name in {"hnswlib", "usearch"} - set(found):
        note(f"{name} is not installed and left out; pip install {name}")
    return found


def in_turns(methods: dict[str, Method], rounds: int, timed: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds (queries, 2) of wall time and CPU time, after one search of each method that is not timed."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for method in methods.values():
        method.answer(0)
    for turn in range(rounds):
        for name, method in methods.items():
            for query in range(turn * timed, (turn + 1) * timed):
                start, cpu = time.perf_counter(), time.process_time()
                method.answer(query)
                times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return {name: 1e3 * np.array(pairs) for name, pairs in times.items()}


def recall_on_codes(tables: Floats, codes: Codes, rows: Rows, last: Floats) -> float:
    """Share of answers (q, top) whose sum is no larger than the last of the exact top (q,)."""
    M = np.arange(codes.shape[1])
    d = np.array([table[M, codes[found]].astype(np.float64).sum(1) for table, found in zip(tables, rows, strict=False)])
    last = last[: len(d), None]
    return float((d <= last + np.abs(last) * 1e-5 + 1e-6).mean())  # it may be below 0


def recall_on_floats(data: Data, N: int, rows: Rows, last: Floats) -> float:
    """Share of answers (q, top) whose descriptor is no farther than the last of the exact top (q,)."""
    found = np.zeros(rows.shape, bool)
    for start, x in data.gallery(N):
        query, place = np.nonzero((rows >= start) & (rows < start + len(x)))
        d = np.square(x[rows[query, place] - start] - data.queries[query]).sum(1)
        found[query, place] = d <= last[query] * (1 + 1e-4)
    return float(found.mean())


def last_on_floats(data: Data, N: int, top: int, count: int) -> Floats:
    """Squared distances (count,) of the last of the exact top descriptors."""
    best = np.empty((count, 0), np.float32)
    for _, x in data.gallery(N):
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        best = np.sort(np.hstack([best, index.search(data.queries[:count], min(top, len(x)))[0]]), 1)[:, :top]
    return best[:, -1]


def compare(data: Data, N: int, bits: int, codewords: int, arguments: argparse.Namespace) -> list[Result]:
    """All methods on one gallery."""
    books, top = data.codebooks[bits, codewords], arguments.top
    codes, tables = data.codes(N, books), data.tables(books)
    if arguments.distinct:
        codes = codes[np.sort(np.unique(pack(codes, codewords), axis=0, return_index=True)[1])]
    scan = Scan(codes, codewords, lambda some: data.tables(books, some))
    with_lists = codewords == 16 and scan.distinct >= arguments.ivf_from
    nprobe = scan.nprobe_for(arguments.recall_target, arguments.threads) if with_lists else 0
    methods = code_methods(codes, tables, scan, nprobe, arguments)
    if arguments.distance == "sqeuclidean":
        methods["IndexPQ, own"] = own_tables(data, codes, books, top)
    if not arguments.distinct and codewords == arguments.codewords[0]:  # methods that use no codebooks
        methods["IndexBinaryFlat"] = binary(data, N, bits, top)
        if bits == arguments.bits[0] and arguments.graphs_up_to >= N:  # graphs do not depend on bits
            methods |= graphs(data, N, top, arguments.threads)
    peaks = {}
    for lists, held, peak in memory(codes, tables[:20], nprobe, arguments.top):
        name = IVF if lists else OURS
        methods[name].bytes_per_vector, peaks[name] = held, f"peak {peak:.0f} bytes"
    times = in_turns(methods, arguments.rounds, arguments.timed)
    recalls, exact = judge(data, N, codes, tables, scan, methods, arguments)
    raw = RAW[codewords]
    notes = {
        OURS: f"{exact}, {peaks.get(OURS)}",
        IVF: f"{nprobe} lists, {ratio(times, raw, IVF)}, {peaks.get(IVF)}",
        raw: f"spq takes {ratio(times, OURS, raw)}",
    }
    return [
        Result(
            len(codes), scan.distinct, bits, codewords, name, *np.median(ms, 0).tolist(),
            *np.percentile(ms[:, 0], [5, 95]).tolist(), recalls[name], methods[name].bytes_per_vector, notes.get(name, ""),
        )
        for name, ms in times.items()
    ]  # fmt: skip


def judge(
    data: Data,
    N: int,
    codes: Codes,
    tables: Floats,
    scan: Scan,
    methods: dict[str, Method],
    arguments: argparse.Namespace,
) -> tuple[dict[str, float], str]:
    """Recall of each method over the timed queries, and the number of queries with exactly the true distances in `spq`."""
    top, count = arguments.top, arguments.rounds * arguments.timed
    truth = rank(tables, codes, top, arguments.threads)[0]
    same = (scan.search(tables, top, threads=arguments.threads)[0] == truth).all(1).sum()
    last = None if arguments.distinct else last_on_floats(data, N, top, count)
    recalls = {}
    for name, method in methods.items():
        rows = np.array([method.answer(query) for query in range(count)])
        if method.on_codes:
            recalls[name] = recall_on_codes(tables, codes, rows, truth[:, -1])
        else:
            assert last is not None
            recalls[name] = recall_on_floats(data, N, rows, last)
    return recalls, f"exact in {same} of {len(tables)}"


def ratio(times: dict[str, NDArray[np.float64]], one: str, other: str) -> str:
    if one not in times or other not in times:
        return ""
    quotient = float(np.median(times[one][:, 0]) / np.median(times[other][:, 0]))
    return f"{quotient:.2f}x the time" if one == OURS else f"{quotient:.1f}x as quick as {one}"


def show(results: list[Result]) -> None:
    print(
        f"{'gallery':>11s} {'distinct':>11s} {'bits':>4s} {'K':>3s} {'method':16s} {'ms':>9s} {'CPU ms':>9s} {'5..95 %':>17s} "
        f"{'recall':>7s} {'bytes':>7s}"
    )
    for r in results:
        spread = f"{r.ms_low:.3f}..{r.ms_high:.3f}"
        print(
            f"{r.gallery:11,d} {r.distinct:11,d} {r.bits:4d} {r.codewords:3d} {r.method:16s} {r.ms:9.3f} {r.cpu_ms:9.3f} "
            f"{spread:>17s} {r.recall:7.4f} {r.bytes_per_vector:7.1f}  {r.remark}"
        )


def plot(results: list[Result], path: Path) -> None:
    """Plot time against gallery size, one panel for each number of bits and codewords."""
    from matplotlib.figure import Figure

    panels = sorted({(r.bits, r.codewords) for r in results})
    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        shown = [r for r in results if (r.bits, r.codewords) == panel]
        for name in dict.fromkeys(r.method for r in shown):
            points = [(r.gallery, r.ms) for r in shown if r.method == name]
            axes.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=2 if name.startswith(OURS) else 1)
        title = f"{panel[0]} bits" + f", {panel[1]} codewords" * (panel[1] != 16)
        axes.set(title=title, xscale="log", yscale="log", xlabel="gallery", ylabel="ms per query")
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a trained model, with --images")
    parser.add_argument("--images", default="cifar10:train")
    parser.add_argument("--query-images", help="other pictures as queries (default: noisy copies)")
    parser.add_argument("--descriptors", type=Path, help="(n, D) float32 .npy, instead of --model")
    parser.add_argument("--codebooks", type=Path, help="(M, K, d) float32 .npy (default: k-means of the descriptors)")
    parser.add_argument("--distance", choices=DISTANCES, default="l2")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 32, 64, 128], choices=[16, 32, 64, 128])
    parser.add_argument("--codewords", type=int, nargs="+", default=[16], choices=list(RAW), help="per codebook")
    parser.add_argument("--noise", type=float, default=0.1, help="of copies, in standard deviations of the descriptors")
    parser.add_argument("--top", type=int, default=100)
    parser.add_argument("--queries", type=int, default=1000, help="queries whose answers are compared with exact sums")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timed", type=int, default=20, help="queries that each method is timed on in each round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ivf-from", type=int, default=1_000_000, help="use lists from this many distinct codes on")
    parser.add_argument("--recall-target", type=float, default=0.95, help="lists to scan")
    parser.add_argument(
        "--graphs-up-to", type=int, default=1_000_000, help="a graph of 10 million takes hours and 10 GB"
    )
    parser.add_argument("--distinct", action="store_true", help="keep each code once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--plot", type=Path, help="PNG")
    arguments = parser.parse_args()
    if not arguments.model and not arguments.descriptors:
        parser.error("give --model or --descriptors")
    if arguments.queries < arguments.rounds * arguments.timed:
        parser.error(f"--queries {arguments.queries} must be at least rounds x timed; give more, or --rounds 1")
    return arguments


def main() -> None:
    arguments = parsed()
    faiss.omp_set_num_threads(arguments.threads)
    data = load(arguments)
    results: list[Result] = []
    for N in arguments.sizes:
        for bits in arguments.bits:
            note(f"{N:,} codes of {bits} bits; lists would hold {memory_bytes(N, bits // 4, ivf=True) / 1e6:,.0f} MB")
            for codewords in arguments.codewords:
                results += compare(data, N, bits, codewords, arguments)
    show(results)
    if arguments.out:
        facts = {
            "results": [asdict(result) for result in results],
            "arguments": {  # names of files without their folders, which are private
                name: value.name if isinstance(value, Path) else str(value) for name, value in vars(arguments).items()
            },
            "gallery": f"{len(data.base)} descriptors, then copies with noise of {arguments.noise} of their standard deviation",
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "faiss": faiss.__version__,
        }
        arguments.out.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    if arguments.plot:
        plot(results, arguments.plot)


if __name__ == "__main__":
    main()
