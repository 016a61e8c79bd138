from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.errors import StoreError
from spq.evaluation import on_gpu, scoring
from spq.evaluation.evaluate import evaluate
from spq.model.model import Model
from spq.pq.sums import rank

CPU = torch.device("cpu")


@pytest.mark.parametrize(("M", "K"), [(4, 16), (5, 16), (3, 64), (8, 256)])
def test_distances_and_rows_equal_those_on_the_cpu_to_the_last_bit(M: int, K: int) -> None:
    rng = np.random.default_rng(M * K)
    tables = rng.random((7, M, K), np.float32) - np.float32(0.5)  # of both signs, as those of `dot`
    codes = rng.integers(0, K, (500, M), np.uint8)
    for top in (1, 20, 1000):
        for ours, truth_rows in zip(on_gpu.rank(tables, codes, top, CPU), rank(tables, codes, top), strict=True):
            np.testing.assert_array_equal(ours, truth_rows)


def test_ties_go_to_the_lower_row() -> None:
    tables = np.zeros((2, 2, 16), np.float32)
    tables[:, 0, 3] = 1
    codes = np.random.default_rng(0).integers(0, 16, (300, 2), np.uint8)
    rows = on_gpu.rank(tables, codes, 300, CPU)[1]
    np.testing.assert_array_equal(rows[1], np.argsort(codes[:, 0] == 3, kind="stable"))


def test_few_queries_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tables, codes = rng.random((9, 4, 16), np.float32), rng.integers(0, 16, (50, 4), np.uint8)
    whole = on_gpu.rank(tables, codes, 10, CPU)
    monkeypatch.setattr(on_gpu, "CELLS", 200)
    for ours, truth_rows in zip(on_gpu.rank(tables, codes, 10, CPU), whole, strict=True):
        np.testing.assert_array_equal(ours, truth_rows)


def test_tables_that_are_not_finite_are_refused() -> None:
    with pytest.raises(StoreError, match="not finite"):
        on_gpu.rank(np.full((1, 2, 16), np.nan, np.float32), np.zeros((5, 2), np.uint8), 3, CPU)


def test_a_report_made_with_it_is_the_same(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, queries = subset(open_images("sample:train"), range(500)), subset(open_images("sample:test"), range(50))
    protocol = Protocol("small", queries, gallery, gallery, 100)
    expected = evaluate(tiny_model, protocol)
    monkeypatch.setattr(scoring, "ranker", lambda model: partial(on_gpu.rank, device=model.device))
    report = evaluate(tiny_model, protocol)
    assert report.to_dict() | {"seconds": 0} == expected.to_dict() | {"seconds": 0}
