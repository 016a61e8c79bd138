"""Fit the codebooks again to the final descriptors, by k-means from where training left them.

Training optimises soft quantizations of views. Search uses hard codes of whole pictures, and for these the error of the nearest
codeword counts (Jegou et al., Product Quantization, 2011, section II).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spq.model.quantizer import Quantizer

ITERATIONS = 20


@torch.no_grad()
def refit(
    quantizer: Quantizer, x: Tensor, iterations: int = ITERATIONS, progress: Callable[[int], None] | None = None
) -> None:
    """Run Lloyd's algorithm in each codebook, in place. A codeword without sub-vectors does not change.

    Args:
        x: (N, D) descriptors of the pictures. progress: called with the number of iterations that are done.
    """
    C, parts = quantizer.codebooks, quantizer.split(x)  # (M, K, d), (N, M, d)
    M, K, d = C.shape
    for number in range(iterations):
        codes = torch.cat([quantizer.closeness(chunk).argmax(-1) for chunk in torch.split(x, 4096)])  # (N, M)
        slots = (codes + K * torch.arange(M, device=x.device)).flatten()
        sums = x.new_zeros(M * K, d).index_add_(0, slots, parts.reshape(-1, d))
        counts = x.new_zeros(M * K, 1).index_add_(0, slots, x.new_ones(len(slots), 1))
        C.copy_(torch.where(counts > 0, sums / counts.clamp(min=1), C.view(M * K, d)).view(M, K, d))
        if progress:
            progress(number + 1)
