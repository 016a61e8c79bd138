"""Slow transcription of the paper, one number at a time, in numpy float64. Truth for the tests, not for use."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def soft_quantize(x: Floats, codebooks: Floats, tau_q: float) -> Floats:
    """Equations 2 and 3: x (M*d,), codebooks (M, K, d)."""
    M, K, d = codebooks.shape
    z = []
    for m in range(M):
        sub = x[m * d : (m + 1) * d]
        weights = [math.exp(-float(((sub - codebooks[m, k]) ** 2).sum()) / tau_q) for k in range(K)]
        z.append(sum(w * codebooks[m, k] for k, w in enumerate(weights)) / sum(weights))
    return np.concatenate(z)


def cosine(u: Floats, v: Floats) -> float:
    return float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))


def cqc_loss(x_a: Floats, z_a: Floats, x_b: Floats, z_b: Floats, tau: float) -> float:
    """Equations 4 to 6 by a double loop."""
    total = 0.0
    for x, z in ((x_a, z_b), (x_b, z_a)):
        vectors = [*x, *z]
        n = len(x)
        rows = []
        for i, u in enumerate(vectors):
            positive = vectors[(i + n) % (2 * n)]
            denominator = sum(math.exp(cosine(u, v) / tau) for j, v in enumerate(vectors) if j != i)
            rows.append(-math.log(math.exp(cosine(u, positive) / tau) / denominator))
        total += sum(rows) / len(rows)
    return total


def hard_code(x: Floats, codebooks: Floats) -> list[int]:
    M, K, d = codebooks.shape
    return [
        min(range(K), key=lambda k, m=m: float(np.linalg.norm(x[m * d : (m + 1) * d] - codebooks[m, k])))
        for m in range(M)
    ]


def asymmetric_distance(x: Floats, code: list[int], codebooks: Floats, distance: str) -> float:
    """Distance of a descriptor (M*d,) to the codewords of a code, one number at a time.

    l2: sum of the distances of the sub-vectors, as the authors compute it. sqeuclidean: sum of their squares. dot: minus the
    inner product with the reconstruction.
    """
    M, _, d = codebooks.shape
    total = 0.0
    for m in range(M):
        sub, word = x[m * d : (m + 1) * d], codebooks[m, code[m]]
        if distance == "dot":
            total -= sum(float(a) * float(b) for a, b in zip(sub, word, strict=True))
        else:
            squared = sum((float(a) - float(b)) ** 2 for a, b in zip(sub, word, strict=True))
            total += math.sqrt(squared) if distance == "l2" else squared
    return total
