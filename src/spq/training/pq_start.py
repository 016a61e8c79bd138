"""A head and codebooks that start as product quantization of the features: PQ, or OPQ."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spq.config import QuantizerConfig
from spq.errors import ConfigError
from spq.model.network import Network
from spq.model.quantizer import CodebookQuantizer
from spq.training.refit import assigned, refit

ROTATIONS = 15
TINY = 1e-12
FITTED_STEPS = 4  # of a start, until the codebooks are fitted
START_STEPS = FITTED_STEPS + ROTATIONS
Progress = Callable[[int], None]


def check_pq(network: Network) -> None:
    """Refuse a network that cannot start as product quantization.

    Raises:
        ConfigError: the head has a hidden layer, or a codebook gets fewer features than a codeword has numbers.
    """
    config, F = network.quantizer.config, network.feature_dim
    M, d = config.parts, config.codeword_dim
    if len(network.head) > 1:
        raise ConfigError(
            'head.start = "pq" or "opq" needs a head of one layer; set head.hidden = 0, or head.start = "random"'
        )
    if d > F // M:
        raise ConfigError(
            f"quantizer.codeword_dim must be at most {F // M}, since {M} codebooks share {F} features, got {d}; "
            "give fewer `bits`, or a recipe with a lower codeword_dim"
        )


@torch.no_grad()
def start_at_pq(
    network: Network, features: NDArray[np.float32], start: str = "pq", progress: Progress | None = None
) -> None:
    """Set a one-layer head and the codebooks, in place, to PQ or OPQ of the features.

    The axes are principal axes: with `pq` those of a share of the features for each codebook, with `opq` those of all features,
    rotated. Codebooks come from k-means.

    Args:
        features: (N, F). start: pq or opq, as `start` of the head. progress: called with the number of steps that are done.
    Raises:
        ConfigError: as `check_pq`.
    """
    check_pq(network)
    layer, M = network.head[-1], network.quantizer.config.parts
    assert isinstance(layer, nn.Linear)
    f = torch.from_numpy(np.array(features))
    mean = f.mean(0)
    find_axes = shared_axes if start == "opq" else axes_of_shares
    weight = find_axes(f, network.quantizer.config)
    spread = ((f - mean) @ weight.T).square().sum(1).mean().clamp(min=TINY)  # 0 if all pictures are the same
    weight *= (M / spread).sqrt()  # mean squared length of a sub-vector is 1
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ mean)
    fit_codebooks(network, f)
    if progress:
        progress(FITTED_STEPS)
    if start == "opq":
        rotate(network, f, progress)


def axes_of_shares(f: Tensor, config: QuantizerConfig) -> Tensor:
    """Find d principal axes of each m-th share of the features (N, F): weights (M * d, F) of a head.

    Each share of the channels of a deep network describes the whole picture. So each codebook clusters all pictures in its own
    way, and their sum is an ensemble.
    """
    M, d, F = config.parts, config.codeword_dim, f.shape[1]
    weight = torch.zeros(M, d, F)
    for m, columns in enumerate(torch.arange(F).tensor_split(M)):
        part = f[:, columns] - f[:, columns].mean(0)
        weight[m][:, columns] = torch.linalg.eigh(part.T @ part).eigenvectors[:, -d:].T
    return weight.view(M * d, F)


def shared_axes(f: Tensor, config: QuantizerConfig, count: int | None = None) -> Tensor:
    """Divide the first principal axes of features (N, F), scaled to length 1, among the codebooks: (M * d, F).

    The products of the variances of the codebooks are about equal (Ge et al., Optimized Product Quantization, 2013, 3.2). With
    prefixes, each prefix has the first axes. If there are fewer axes than numbers, the last numbers of each codebook are 0.

    Args:
        count: number of axes, at most M * d, the default.
    """
    M, d = config.parts, config.codeword_dim
    unit = functional.normalize(f, dim=1)
    unit -= unit.mean(0)
    variances, axes = torch.linalg.eigh((unit.T @ unit / len(unit)).double())
    count = min(count or M * d, M * d, len(axes))
    logs, axes = variances.flip(0).clamp(min=1e-12 * float(variances[-1])).log(), axes.flip(1)
    weight, first = f.new_zeros(M, d, f.shape[1]), 0
    for start, end in pairwise((0, *(dim // d for dim in config.prefix_dims))):
        last = count * end // M
        for m, positions in enumerate(_dealt(logs[first:last], end - start)):
            weight[start + m, : len(positions)] = axes[:, [first + i for i in positions]].T.float()
        first = last
    return weight.flatten(0, 1)


def _dealt(logs: Tensor, M: int) -> list[list[int]]:
    """Deal numbers, the largest first, to M groups of about equal size and equal sums; return positions in each group."""
    shares = logs - logs.min() + 1.0 if len(logs) else logs  # positive, so that each number fills its group
    groups: list[list[int]] = [[] for _ in range(M)]
    for position in range(len(logs)):
        open_groups = [group for group in groups if len(group) < -(-len(logs) // M)]
        min(open_groups, key=lambda group: float(shares[group].sum())).append(position)
    return groups


@torch.no_grad()
def fit_codebooks(network: Network, f: Tensor) -> None:
    """Fit the codebooks to the descriptors of features (N, F), in place, by k-means from evenly spaced pictures."""
    x = network.project(f)
    rows = torch.linspace(0, len(x) - 1, network.quantizer.config.codebook_size).long()
    refit(network.quantizer, x, starts=rows)


@torch.no_grad()
def rotate(network: Network, f: Tensor, progress: Progress | None = None) -> None:
    """Rotate the descriptors of features (N, F) so that the codebooks lose less of them, in place (OPQ, Ge et al. 2013, 3.1).

    Rotation and codebooks are fitted alternately. A head with prefixes stays as it is: a rotation would mix their numbers.
    """
    quantizer, layer = network.quantizer, network.head[-1]
    assert isinstance(layer, nn.Linear)
    assert isinstance(quantizer, CodebookQuantizer)
    if len(quantizer.config.lengths) > 1:
        return
    x = network.project(f)
    turn = torch.eye(x.shape[1])
    for step in range(ROTATIONS):
        turned = x @ turn
        refit(quantizer, turned, iterations=1)
        u, _, vt = torch.linalg.svd(x.T @ quantizer.decode(assigned(quantizer, turned)))
        turn = u @ vt
        if progress:
            progress(FITTED_STEPS + step + 1)
    layer.weight.copy_(turn.T @ layer.weight)
    layer.bias.copy_(turn.T @ layer.bias)
    refit(quantizer, x @ turn)
