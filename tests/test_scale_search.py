from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scan as scan_benchmark
from _scale_codes import Plan, distinct_share, make, part_paths
from scale_search import build, serve
from spq.data.open import open_images


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """Codes of the sample's pictures, in three parts."""
    sample = open_images("sample:train")
    x = np.array([np.asarray(sample.image(row).resize((8, 8))).ravel() for row in range(400)], np.float32)
    folder, plan = tmp_path_factory.mktemp("codes"), Plan(rows=5000, part=2000, noise=0.3)
    make(folder, plan, x[:300], x[300:])
    return folder, plan


def test_the_codes_are_in_parts_and_mostly_different(made: tuple[Path, Plan]) -> None:
    folder, plan = made
    assert [len(np.load(path)) for path in part_paths(folder, plan)] == [2000, 2000, 1000]
    assert distinct_share(part_paths(folder, plan), sample_bits=1) > 0.8


def test_parts_are_served_exactly_and_lists_reach_most_answers(made: tuple[Path, Plan]) -> None:
    folder, plan = made
    built = build(folder, plan, "sqeuclidean", 0, 1)
    facts = serve(folder, plan, "sqeuclidean", queries=20, checked=10, recall=0.9)
    assert facts["equal to plain sums"] == "10 of 10"
    assert facts["recall@100 of lists"] > 0.7
    assert facts["lists read"] < built["lists"]


def test_random_codes_are_searched_as_exactly_in_parts() -> None:
    packed = np.random.default_rng(0).integers(0, 256, (30_000, 8)).astype(np.uint8)
    tables = scan_benchmark.tables_of_kinds(16, 3, np.random.default_rng(1))["normal"]
    whole, parted = (scan_benchmark.searched(packed, 16, parts).search(tables, 100) for parts in (1, 3))
    np.testing.assert_array_equal(whole[1], parted[1])
    assert "x (" in scan_benchmark.alone(
        scan_benchmark.searched(packed, 16, 1), scan_benchmark.raw_index(packed, 16), tables, 3
    )
