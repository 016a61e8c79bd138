"""Asymmetric distance computation, one addition at a time. Truth for the tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def search(tables: NDArray[np.float32], codes: NDArray[np.uint8], top: int) -> list[list[tuple[float, int]]]:
    """For each query the `top` smallest (distance, row), ties by row."""
    answers = []
    for table in tables.astype(np.float64):
        scored = [(float(sum(table[m, k] for m, k in enumerate(code))), row) for row, code in enumerate(codes)]
        answers.append(sorted(scored)[:top])
    return answers
