from __future__ import annotations

import numpy as np

from spq.config import DISTANCES
from spq.pq.codewords import members, usage
from spq.pq.tables import Codebooks


def codes_and_codebooks(N: int = 300, M: int = 5, K: int = 16, d: int = 3):
    rng = np.random.default_rng(0)
    return rng.integers(K, size=(N, M)).astype(np.uint8), rng.standard_normal((M, K, d)).astype(np.float32)


def test_usage_counts_every_picture_once_in_each_codebook() -> None:
    codes, _ = codes_and_codebooks()
    counts = usage(codes, 16)
    assert counts.shape == (5, 16)
    assert counts.sum(1).tolist() == [300] * 5
    assert counts[2, 7] == sum(int(code[2]) == 7 for code in codes)
    assert usage(codes[:0], 16).tolist() == [[0] * 16] * 5


def test_members_are_all_that_use_a_codeword_nearest_to_their_mean_first() -> None:
    codes, codebooks = codes_and_codebooks()
    for distance in DISTANCES:
        rows = members(codes, 1, 4, Codebooks(codebooks), distance)
        assert sorted(rows.tolist()) == [row for row, code in enumerate(codes) if code[1] == 4]
        decoded = np.stack([codebooks[np.arange(5), code] for code in codes[rows]])  # (n, M, d)
        apart = np.square(decoded - decoded.mean(0)).sum(2)
        truth = (np.sqrt(apart) if distance == "l2" else apart).sum(1)  # of dot, too: typical is near the mean
        assert (np.diff(truth) >= -1e-5).all()
        assert truth[0] < truth[-1]


def test_a_codeword_that_nobody_uses_has_no_members_and_ties_go_by_row() -> None:
    codes = np.zeros((4, 5), np.uint8)
    _, codebooks = codes_and_codebooks()
    assert members(codes, 0, 3, Codebooks(codebooks), "l2").tolist() == []
    assert members(codes, 0, 0, Codebooks(codebooks), "l2").tolist() == [0, 1, 2, 3]
