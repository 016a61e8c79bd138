from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from spq.pq.projection import project, sample
from spq.pq.tables import Codebooks, decode


def test_the_map_equals_scikit_learns_pca_of_decoded_codes() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(16, size=(9000, 4)).astype(np.uint8)  # more than a chunk
    codebooks = (rng.standard_normal((4, 16, 3)) * np.array([5, 2, 1, 0.5])[:, None, None] + 3).astype(np.float32)
    ours = project(codes, Codebooks(codebooks))
    reference = PCA(2, svd_solver="full").fit_transform(decode(codes, codebooks))
    signs = np.sign((ours * reference).sum(0))
    np.testing.assert_allclose(ours, reference * signs, atol=1e-3)
    assert ours.dtype == np.float32
    assert ours[:, 0].var() > ours[:, 1].var() > 0


@pytest.mark.parametrize(("N", "M", "d"), [(0, 2, 2), (1, 2, 2), (5, 1, 1)])
def test_few_pictures_and_few_numbers_have_a_map_too(N: int, M: int, d: int) -> None:
    codebooks = np.arange(M * 4 * d, dtype=np.float32).reshape(M, 4, d)
    points = project(np.zeros((N, M), np.uint8), Codebooks(codebooks))
    assert points.shape == (N, 2)
    assert np.allclose(points, 0)  # all at one place


def test_the_same_codes_give_the_same_map() -> None:
    rng = np.random.default_rng(1)
    codes, codebooks = rng.integers(16, size=(500, 4)).astype(np.uint8), rng.standard_normal((4, 16, 3), np.float32)
    assert np.array_equal(project(codes, Codebooks(codebooks)), project(codes, Codebooks(codebooks)))


def test_a_sample_keeps_its_pictures_when_others_are_added() -> None:
    ids = np.arange(1, 5001)
    assert sample(ids[:100], 100).tolist() == list(range(100))
    before, after = set(ids[sample(ids[:4000], 1000)]), set(ids[sample(ids, 1000)])
    assert len(before) == len(after) == 1000
    assert {i for i in after if i <= 4000} <= before
    assert 700 < len(after & before) < 900  # four fifths of all are old ones


def test_early_and_late_ids_are_equally_likely_in_a_sample() -> None:
    rows = sample(np.arange(10_000).astype(np.uint32), 1000)
    assert (np.diff(rows) > 0).all()
    assert 450 < (rows < 5000).sum() < 550
