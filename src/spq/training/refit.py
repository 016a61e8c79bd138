"""Fit the codebooks again to the final descriptors, by k-means from where training left them.

Training optimises soft quantizations of views. Search uses hard codes of whole pictures, and for these the error of the nearest
codeword counts (Jegou et al., Product Quantization, 2011, section II).

A codeword that no picture has is dead: it costs bits and tells nothing. After k-means, dead codewords move to sub-vectors that
the others represent badly, drawn as k-means++ draws its centres (Arthur and Vassilvitskii, 2007), and k-means goes on. A
codeword that nobody has can move without cost, so the error only falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from spq.model.quantizer import CodebookQuantizer, Quantizer, closeness, words_of

ITERATIONS = 20
CHUNK = 4096  # pictures whose distances to all codewords are in memory together
ROUNDING = 1e-6  # of a squared length: smaller errors are none


@torch.no_grad()
def refit(
    quantizer: Quantizer,
    x: Tensor,
    iterations: int = ITERATIONS,
    progress: Callable[[int], None] | None = None,
    starts: Tensor | None = None,
) -> None:
    """Run Lloyd's algorithm in each codebook, in place, and again after dead codewords have moved, if there are any.

    The stages of a residual quantizer are fitted one after the other, each to what those before it leave. A quantizer of the
    caller's own does it by its method `refit(x)`, and stays as it is without.

    Args:
        x: (N, D) descriptors of the pictures. progress: called with the number of iterations that are done.
        starts: (K,) rows of x whose sub-vectors the codewords start at; by default they start where they are.
    """
    if not isinstance(quantizer, CodebookQuantizer):
        quantizer.refit(x)
        return
    before, rest, sharing = quantizer.codebooks.clone(), quantizer.split(x), quantizer.config.sharing  # rest: (N, P, d)
    error = _error(quantizer, x) if sharing > 1 and starts is None else math.inf
    for number, C in enumerate(quantizer.stages):
        if starts is not None:
            C.copy_(rest[starts].transpose(0, 1))
        for done in range(iterations):
            lloyd_step(C, rest)
            if progress:
                progress((number * iterations + done + 1) // sharing)
        for _ in range(iterations):
            if not revive(C, rest):
                break
            lloyd_step(C, rest)
        rest = rest - words_of(_nearest(C, rest)[0], C)
    if error < math.inf and _error(quantizer, x) > error:  # training had fitted the stages to each other
        quantizer.codebooks.copy_(before)


def assigned(quantizer: CodebookQuantizer, x: Tensor) -> Tensor:
    """Return the codes (N, M) of descriptors (N, D), as `encode` but for rounding, in less time."""
    rest, found = quantizer.split(x), []
    for C in quantizer.stages:
        found.append(_nearest(C, rest)[0])
        rest = rest - words_of(found[-1], C)
    return torch.stack(found, 2).flatten(1)


def lloyd_step(C: Tensor, parts: Tensor) -> None:
    """Move each codeword (P, K, d) to the mean of its sub-vectors (N, P, d), in place. One without any stays."""
    P, K, d = C.shape
    slots = (_nearest(C, parts)[0] + K * torch.arange(P, device=C.device)).flatten()
    sums = parts.new_zeros(P * K, d).index_add_(0, slots, parts.reshape(-1, d))
    counts = parts.new_zeros(P * K, 1).index_add_(0, slots, parts.new_ones(len(slots), 1))
    C.copy_(torch.where(counts > 0, sums / counts.clamp(min=1), C.reshape(P * K, d)).view(P, K, d))


def _nearest(C: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest codeword of each sub-vector (N, P, d), and the squared distance to it, both (N, P)."""
    found = [closeness(chunk, C).max(-1) for chunk in torch.split(parts, CHUNK)]
    near = torch.cat([each.values for each in found])
    return torch.cat([each.indices for each in found]), parts.square().sum(-1) - near


def revive(C: Tensor, parts: Tensor) -> Tensor:
    """Move dead codewords (P, K, d) to sub-vectors (N, P, d) drawn with their error as weight, in place.

    Returns:
        whether any codeword moved (a scalar). None does if all are in use, or if the others represent all sub-vectors exactly.
    """
    codes, errors = _nearest(C, parts)
    errors = torch.where(errors > ROUNDING * parts.square().sum(-1), errors, 0).cpu().double()
    # the same for each codebook, so that codebooks of a prefix are those of a model that has the prefix alone
    chances = torch.rand(len(errors), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # the largest n of these keys are a sample of n without replacement (Efraimidis and Spirakis, 2006)
    rows = (chances.log() / errors).topk(min(len(errors), C.shape[1]), dim=0).indices.T.to(C.device)  # (P, n)
    is_dead = _counts(codes, C.shape[1]) == 0  # (P, K)
    place = is_dead.cumsum(1) - 1  # of a dead codeword among those of its codebook
    moves = is_dead & (place < (errors > 0).sum(0).to(C.device)[:, None].clamp(max=rows.shape[1]))
    drawn = parts.transpose(0, 1).gather(
        1, rows.gather(1, place.clamp(0, rows.shape[1] - 1))[..., None].expand(C.shape)
    )
    C.copy_(torch.where(moves[..., None], drawn, C))
    return moves.any()


def _counts(codes: Tensor, K: int) -> Tensor:
    """Count how many of the codes (N, P) have each number below K: (P, K)."""
    counts = torch.zeros(codes.shape[1], K, dtype=torch.long, device=codes.device)
    return counts.scatter_add_(1, codes.T, torch.ones_like(codes.T))


def _error(quantizer: CodebookQuantizer, x: Tensor) -> float:
    """Compute the squared quantization error of descriptors (N, D)."""
    return float((x - quantizer.decode(assigned(quantizer, x))).square().sum())
