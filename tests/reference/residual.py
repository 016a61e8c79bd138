"""Slow transcription of a residual quantizer, one number at a time, in numpy float64. Truth for the tests, not for use."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def encode(x: Floats, codebooks: Floats, stages: int) -> list[int]:
    """x (P*d,), codebooks (P*S, K, d): at each stage, the codeword nearest to what is left of the sub-vector."""
    M, K, d = codebooks.shape
    code = []
    for part in range(M // stages):
        rest = x[part * d : (part + 1) * d].copy()
        for m in range(part * stages, (part + 1) * stages):
            code.append(min(range(K), key=lambda k, m=m, rest=rest: float(((rest - codebooks[m, k]) ** 2).sum())))
            rest = rest - codebooks[m, code[-1]]
    return code


def decode(code: list[int], codebooks: Floats, stages: int) -> Floats:
    M, _, d = codebooks.shape
    x = np.zeros(M // stages * d)
    for m, k in enumerate(code):
        for i in range(d):
            x[m // stages * d + i] += codebooks[m, k, i]
    return x


def soft_quantize(x: Floats, codebooks: Floats, stages: int, tau_q: float) -> Floats:
    """At each stage the mean of the codewords, weighted by their nearness to what is left; the sum over the stages."""
    M, K, d = codebooks.shape
    z = np.zeros(len(x))
    for part in range(M // stages):
        here = slice(part * d, (part + 1) * d)
        for m in range(part * stages, (part + 1) * stages):
            rest = x[here] - z[here]
            weights = [math.exp(-float(((rest - codebooks[m, k]) ** 2).sum()) / tau_q) for k in range(K)]
            z[here] += sum(w * codebooks[m, k] for k, w in enumerate(weights)) / sum(weights)
    return z
