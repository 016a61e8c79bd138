"""Label-free signs of collapse: are all codewords used, and do different pictures have different descriptors?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Health:
    """Health of a sample of pictures.

    Attributes:
        codeword_use: share of the M*K codewords that occur.
        entropy: mean over codebooks of the entropy of the codes / log K.
        dead_codewords: how many of the M*K codewords do not occur.
        spread: 1 - mean cosine between different descriptors; 0 means that all pictures have the same descriptor.
    """

    codeword_use: float
    entropy: float
    spread: float
    dead_codewords: int = 0

    @property
    def warning(self) -> str | None:
        """One line if training has collapsed or soon will; else None."""
        if self.spread < 0.02:
            return f"collapse: descriptors of different pictures have mean cosine {1 - self.spread:.3f}; lower the lr"
        if self.entropy < 0.25:
            return f"collapse: codes carry {self.entropy:.0%} of their bits; lower the lr or raise the batch size"
        return None


def measure(codes: NDArray[np.uint8], x: NDArray[np.float32], codebook_size: int) -> Health:
    """Measure the health of a sample.

    Args:
        codes: (N, M) uint8. x: (N, D) their descriptors. N should be 10 K or more: the entropy of fewer comes out too low.

    >>> even = np.arange(32, dtype=np.uint8)[:, None] % 4
    >>> report = measure(even, np.eye(32, dtype=np.float32), 4)
    >>> (report.codeword_use, round(report.entropy, 3), round(report.spread, 3))
    (1.0, 1.0, 1.0)
    """
    use, entropy = use_and_entropy(codes, codebook_size)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    n = len(x)
    mean_cosine = (np.square(unit.sum(0)).sum() - n) / max(1, n * (n - 1))  # without the diagonal, n ones
    return Health(use, entropy, float(1 - mean_cosine), round(codes.shape[1] * codebook_size * (1 - use)))


def use_and_entropy(codes: NDArray[np.uint8], codebook_size: int) -> tuple[float, float]:
    """Compute `Health.codeword_use` and `Health.entropy` of codes (N, M)."""
    counts = np.stack([np.bincount(column, minlength=codebook_size) for column in codes.T])  # (M, K)
    share = counts / max(1, len(codes))
    entropy = (share * -np.log(np.where(share > 0, share, 1))).sum(1).mean() / np.log(codebook_size) + 0.0  # no -0
    return float((counts > 0).mean()), float(entropy)
