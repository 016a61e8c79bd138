from __future__ import annotations

import numpy as np

from spq.training.health import measure


def test_one_code_for_all_is_a_collapse() -> None:
    x = np.ones((100, 8), np.float32)
    report = measure(np.zeros((100, 4), np.uint8), x, 16)
    assert (report.codeword_use, report.entropy) == (1 / 16, 0.0)
    assert report.spread < 1e-6
    assert "collapse" in (report.warning or "")


def test_even_codes_of_different_descriptors_are_healthy() -> None:
    rng = np.random.default_rng(0)
    codes = np.tile(np.arange(16, dtype=np.uint8), 64)[:, None].repeat(4, 1)
    report = measure(codes, rng.normal(size=(1024, 32)).astype(np.float32), 16)
    assert report.codeword_use == 1.0
    assert abs(report.entropy - 1) < 1e-6
    assert abs(report.spread - 1) < 0.01
    assert report.warning is None


def test_spread_is_one_minus_the_mean_cosine_of_all_pairs() -> None:
    x = np.random.default_rng(1).normal(1, 1, (20, 5)).astype(np.float32)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [float(unit[i] @ unit[j]) for i in range(20) for j in range(20) if i != j]
    assert abs(measure(np.zeros((20, 1), np.uint8), x, 4).spread - (1 - np.mean(pairs))) < 1e-5
