"""How sure is a mean over queries, and does it differ between two methods? Bootstrap intervals and a paired test.

The queries are a sample of all queries that could be asked. What is random in training is not in these figures: for that, train
with several seeds and look at their spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 10_000
CELLS = 4_000_000  # numbers that are drawn at a time
ROUNDING = 1e-12  # relative; sums of the same numbers in another order are the same sum


def bootstrap_interval(values: Floats, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Compute the BCa bootstrap interval of a mean (Efron, 1987; bias-corrected and accelerated).

    Args:
        values: (Q,) one number for each query.
    Returns:
        lower and upper end; both are the mean if all values are equal.

    >>> low, high = bootstrap_interval(np.arange(100) / 100)
    >>> round(low, 2), round(high, 2)
    (0.44, 0.55)
    """
    mean = float(values.mean())
    deviations = values - mean
    spread = float(np.square(deviations).sum())
    if math.isclose(float(values.min()), float(values.max()), rel_tol=ROUNDING, abs_tol=ROUNDING) or not spread:
        return mean, mean
    means = _resampled_means(values, resamples, seed)
    normal = NormalDist()
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means == mean) / 2) / resamples
    bias = normal.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    # from the jackknife, whose means lie at -deviation / (Q - 1) from the mean
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(tail)
        ends.append(normal.cdf(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(means, ends)
    return float(low), float(high)


def paired_p_value(differences: Floats, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Compute the two-sided p-value of Fisher's paired randomisation test (Smucker et al., CIKM 2007).

    If the methods do not differ, each query's difference could as well have the other sign. The p-value is the share of random
    signs whose mean is at least as far from 0 as the observed one, with the observed one counted (Phipson and Smyth, 2010).

    Args:
        differences: (Q,) score of one method minus score of the other, for each query.

    >>> paired_p_value(np.zeros(5)), paired_p_value(np.ones(20)) < 0.001
    (1.0, True)
    """
    observed = abs(float(differences.sum()))
    limit = observed - ROUNDING * float(np.abs(differences).sum())
    rng, extreme = np.random.default_rng(seed), 0
    for count in _chunks(resamples, len(differences)):
        plus = rng.integers(0, 2, (count, len(differences)), np.uint8).astype(np.float64)
        extreme += int((np.abs(2 * (plus @ differences) - differences.sum()) >= limit).sum())
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests (Holm, 1979), so that the chance of any false positive stays at the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, test in enumerate(sorted(range(len(p_values)), key=lambda test: p_values[test])):
        worst = max(worst, (len(p_values) - place) * p_values[test])
        adjusted[test] = min(1.0, worst)
    return adjusted


def _resampled_means(values: Floats, resamples: int, seed: int) -> Floats:
    """(resamples,) means of Q values drawn with replacement."""
    rng, Q = np.random.default_rng(seed), len(values)
    return np.concatenate([values[rng.integers(0, Q, (n, Q), np.int32)].mean(1) for n in _chunks(resamples, Q)])


def _chunks(total: int, width: int) -> Iterator[int]:
    """Numbers of rows of this width that add up to the total, each with a bounded number of cells."""
    step = max(1, CELLS // max(width, 1))
    for start in range(0, total, step):
        yield min(step, total - start)
