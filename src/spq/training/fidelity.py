"""What codes keep, measured without labels: do copies find their originals, and do rankings stay the same?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spq.config import Distance, InputConfig, ViewsConfig
from spq.model.network import Network
from spq.model.quantizer import Quantizer
from spq.training.health import Health, measure
from spq.training.views import make_views

PICTURES, QUERIES, TOP = 5000, 500, 10
CHUNK, QUERIES_AT_ONCE = 4096, 64  # codes and queries in memory together
# An altered copy: cropped, mirrored, recoloured. They are always the same, so models of different recipes are comparable.
COPY = ViewsConfig(crop_scale=(0.4, 1.0), blur=0.0)


@dataclass(frozen=True)
class Fidelity:
    """Codes of one length on a sample of the training pictures. All shares are between 0 and 1.

    Attributes:
        codeword_use, entropy: as in `Health`. dead_codewords: how many of the M*K codewords no picture has.
        error: share of the descriptors' variance that is lost.
        copy_at_1, copy_at_10: share of altered copies whose original is the nearest picture, or among the 10 nearest.
        float_copy_at_1, float_copy_at_10: the same without quantization; codes can hardly exceed it.
        kept: share of the 10 nearest pictures without quantization that are among the 10 nearest by code.
        pictures, queries: size of the sample. Compare shares only at equal sizes: they fall as collections grow.
    """

    bits: int
    codeword_use: float
    dead_codewords: int
    entropy: float
    error: float
    copy_at_1: float
    copy_at_10: float
    float_copy_at_1: float
    float_copy_at_10: float
    kept: float
    pictures: int
    queries: int


def evenly_spaced(count: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of `count` row numbers, evenly spaced, because collections are often sorted by class.

    >>> evenly_spaced(10, 4).tolist()
    [0, 2, 5, 7]
    """
    return np.arange(min(count, limit)) * count // max(1, min(count, limit))


@torch.no_grad()
def describe_copies(network: Network, pixels: NDArray[np.uint8], config: InputConfig, batch_size: int) -> Tensor:
    """Describe an altered copy of each picture, (N, 3, S, S) uint8 -> (N, D) on the CPU; the copies are always the same."""
    device = network.device
    generator = torch.Generator(device).manual_seed(0)
    found = [
        network.describe(make_views(batch.to(device), COPY, config, generator)).cpu()
        for batch in torch.split(torch.from_numpy(np.ascontiguousarray(pixels)), batch_size)
    ]
    return torch.cat(found)


@torch.no_grad()
def measure_fidelity(
    x: Tensor,
    copies: Tensor,
    originals: NDArray[np.int64],
    quantizer: Quantizer,
    progress: Callable[[int], None] | None = None,
) -> list[Fidelity]:
    """Return one report for each code length that a model gives, the longest last.

    Args:
        x: (N, D) descriptors of the pictures. copies: (Q, D) of altered copies of those in rows `originals` (Q,).
        progress: called with the number of lengths that are done.
    """
    config, codes = quantizer.config, quantizer.encode_many(x)
    decoded = torch.cat([quantizer.decode(chunk) for chunk in torch.split(codes, CHUNK)])
    own = torch.from_numpy(originals)
    tables = [
        torch.cat([quantizer.tables(chunk) for chunk in torch.split(queries, QUERIES_AT_ONCE)])
        for queries in (copies, x[own])
    ]
    reports = []
    for bits, dim in zip(config.lengths, config.prefix_dims, strict=True):
        M, d = bits // (config.bits // config.num_codebooks), config.codeword_dim
        if config.is_given and config.distance == "l2":  # its tables add up one norm for each sub-code
            d = dim // M
        sample = _Sample(x[:, :dim], decoded[:, :dim], codes[:, :M], dim // d, config.distance)
        health = measure(sample.codes.numpy(), sample.x.numpy(), config.codebook_size)
        by_code = [sample.by_code(table[:, :M]) for table in tables]
        by_float = [sample.by_float(queries[:, :dim]) for queries in (copies, x[own])]
        reports.append(_fidelity(bits, sample, health, own, (by_code, by_float)))
        if progress:
            progress(len(reports))
    return reports


@dataclass(frozen=True)
class _Sample:
    """x (N, D), what its codes (N, M) decode to (N, D), and the number of sub-vectors, of one length."""

    x: Tensor
    decoded: Tensor
    codes: Tensor
    parts: int
    distance: Distance

    def by_code(self, tables: Tensor) -> Tensor:
        """Compute distances (Q, N) to the codes, from tables (Q, M, K)."""
        total = torch.zeros(len(tables), len(self.codes))
        for m, column in enumerate(self.codes.T):
            total += tables[:, m, column.long()]
        return total

    def by_float(self, queries: Tensor) -> Tensor:
        """Compute distances (Q, D) -> (Q, N) to the descriptors themselves."""
        total = torch.zeros(len(queries), len(self.x))
        for sub, others in zip(
            *(each.reshape(len(each), self.parts, -1).unbind(1) for each in (queries, self.x)), strict=True
        ):
            far = -(sub @ others.T) if self.distance == "dot" else torch.cdist(sub, others)
            total += far.square() if self.distance == "sqeuclidean" else far
        return total


def _fidelity(
    bits: int, sample: _Sample, health: Health, originals: Tensor, distances: tuple[list[Tensor], list[Tensor]]
) -> Fidelity:
    """Compute one report.

    Args:
        originals: (Q,). distances: (Q, N) by code and by descriptor; of each first those of the copies, then of the originals.
    """
    (by_code, among_codes), (by_float, among_float) = distances
    x, own, top = sample.x, originals[:, None], min(TOP, len(sample.x) - 1)
    among_codes, among_float = (far.scatter(1, own, math.inf) for far in (among_codes, among_float))
    nearest = among_float.topk(top, largest=False).indices
    return Fidelity(
        bits=bits,
        codeword_use=health.codeword_use,
        dead_codewords=health.dead_codewords,
        entropy=health.entropy,
        error=float((x - sample.decoded).square().sum() / (x - x.mean(0)).square().sum().clamp(min=1e-12)),
        copy_at_1=in_top(by_code, own, 1),
        copy_at_10=in_top(by_code, own, TOP),
        float_copy_at_1=in_top(by_float, own, 1),
        float_copy_at_10=in_top(by_float, own, TOP),
        kept=in_top(among_codes, nearest, top),
        pictures=len(x),
        queries=len(by_code),
    )


def in_top(distances: Tensor, rows: Tensor, top: int) -> float:
    """Return the share of the given rows that are among the `top` nearest; ties count as a random order would on average.

    Args:
        distances: (Q, N). rows: (Q, J), those of each query.

    >>> in_top(torch.tensor([[0.1, 0.5, 0.5, 0.9]]), torch.tensor([[0, 1]]), 2)  # the first, and one of two
    0.75
    """
    shares = []
    for column in rows.T:
        mine = distances.gather(1, column[:, None])
        nearer, equal = (distances < mine).sum(1), (distances == mine).sum(1)
        shares.append(((top - nearer) / equal).clamp(0, 1))
    return float(torch.stack(shares).mean())
