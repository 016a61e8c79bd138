"""A large gallery of codes in memory-mapped parts, made from real descriptors, for scale_search.py.

Real pictures are too few for a hundred million. Each row mixes the descriptor of one picture with up to a half of another's, and
adds Gaussian noise in each principal component, in proportion to its standard deviation. So most codes are different.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spq.evaluation.baselines import encode, train_codebooks
from spq.pq.sums import pack

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

CHUNK = 4_000  # rows at a time, which fit into the cache
COMPONENTS = 128  # principal components of the descriptors that are kept
MOST_OF_THE_OTHER = 0.5  # share of the second picture


@dataclass(frozen=True)
class Plan:
    """What the codes are made of. rows: of all parts. noise: in standard deviations of each component."""

    rows: int
    part: int
    noise: float
    seed: int = 0
    M: int = 16


def components(x: Floats, others: Floats) -> tuple[Floats, Floats]:
    """The first principal components of x, and of others along the same axes."""
    mean = x.mean(0)
    axes = np.linalg.eigh(np.cov((x - mean).T))[1][:, : -COMPONENTS - 1 : -1].astype(np.float32)
    spread = np.argsort(np.arange(axes.shape[1]) % 16, kind="stable")  # each sub-space gets some strong components
    return (x - mean) @ axes[:, spread], (others - mean) @ axes[:, spread]


def mixed(x: Floats, rows: int, noise: float, rng: np.random.Generator) -> Floats:
    """Descriptors (rows, D) between two pictures each, with noise."""
    one, other = rng.integers(0, len(x), (2, rows))
    share = MOST_OF_THE_OTHER * rng.random((rows, 1), np.float32)
    y = rng.standard_normal((rows, x.shape[1]), np.float32)
    y *= np.float32(noise) * x.std(0)
    y += x[one]
    y += share * (x[other] - x[one])
    return y


def part_paths(folder: Path, plan: Plan) -> list[Path]:
    return [folder / f"codes-{number:03d}.npy" for number in range(-(-plan.rows // plan.part))]


def make(folder: Path, plan: Plan, descriptors: Floats, queries: Floats) -> None:
    """Write codes-*.npy (packed), books.npy and queries.npy, if the folder does not have those of this plan."""
    facts = folder / "plan.json"
    if facts.exists() and json.loads(facts.read_text("utf-8")) == asdict(plan):
        return
    folder.mkdir(parents=True, exist_ok=True)
    x, q = components(descriptors, queries)
    rng = np.random.default_rng(plan.seed)
    books = train_codebooks(mixed(x, 20_000, plan.noise, rng), plan.M, rng, 16)
    np.save(folder / "books.npy", books)
    np.save(folder / "queries.npy", q)
    for number, path in enumerate(part_paths(folder, plan)):
        started, rows = time.perf_counter(), min(plan.part, plan.rows - number * plan.part)
        packed = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, plan.M // 2))
        for start, codes in _encoded(x, books, rows, plan, number):
            packed[start : start + len(codes)] = codes
        packed.flush()
        print(f"{path.name}: {rows:,} rows in {time.perf_counter() - started:.0f} s", flush=True)
    facts.write_text(json.dumps(asdict(plan)), "utf-8")


def _encoded(x: Floats, books: Floats, rows: int, plan: Plan, number: int) -> Iterator[tuple[int, Codes]]:
    for start in range(0, rows, CHUNK):
        rng = np.random.default_rng([plan.seed, number, start])
        yield start, pack(encode(mixed(x, min(CHUNK, rows - start), plan.noise, rng), books), 16)


def distinct_share(paths: list[Path], sample_bits: int = 4) -> float:
    """The share of different codes among all rows, by the codes whose hash is in one of 2**sample_bits classes."""
    kept = []
    for path in paths:
        words = np.load(path, mmap_mode="r").view(np.uint64).ravel()
        for start in range(0, len(words), 1_000_000):
            chunk = np.array(words[start : start + 1_000_000])
            kept.append(chunk[(chunk * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - sample_bits) == 0])
    all_kept = np.concatenate(kept)
    return len(np.unique(all_kept)) / len(all_kept)
