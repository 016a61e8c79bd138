"""A head and codebooks that start as product quantization of the features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spq.errors import ConfigError
from spq.model.network import Network
from spq.training.refit import refit


def check_pq(network: Network) -> None:
    """Refuse a network that cannot start as product quantization.

    Raises:
        ConfigError: the head has a hidden layer, or a codebook gets fewer features than a codeword has numbers.
    """
    config, F = network.quantizer.config, network.feature_dim
    M, d = config.num_codebooks, config.codeword_dim
    if len(network.head) > 1:
        raise ConfigError('head.start = "pq" needs a head of one layer; set head.hidden = 0, or head.start = "random"')
    if d > F // M:
        raise ConfigError(
            f"quantizer.codeword_dim must be at most {F // M}, since {M} codebooks share {F} features, got {d}; "
            "give fewer `bits`, or a recipe with a lower codeword_dim"
        )


@torch.no_grad()
def start_at_pq(network: Network, features: NDArray[np.float32]) -> None:
    """Set a one-layer head and the codebooks, in place, to PQ of the features; sub-vector m uses the m-th F/M of them.

    Each sub-vector has the principal axes of its share of the features, and its codebook comes from k-means. Each share of the
    channels of a deep network describes the whole picture. So each codebook clusters all pictures in its own way, and their
    sum is an ensemble. Axes of all features, distributed to the sub-vectors (OPQ), lose this, and trained codes end worse.

    Args:
        features: (N, F).
    Raises:
        ConfigError: as `check_pq`.
    """
    check_pq(network)
    config, layer = network.quantizer.config, network.head[-1]
    assert isinstance(layer, nn.Linear)
    M, d, F = config.num_codebooks, config.codeword_dim, features.shape[1]
    f = torch.from_numpy(np.array(features))
    f -= (mean := f.mean(0))
    weight = torch.zeros(M, d, F)
    for m, columns in enumerate(torch.arange(F).tensor_split(M)):
        part = f[:, columns]
        weight[m][:, columns] = torch.linalg.eigh(part.T @ part).eigenvectors[:, -d:].T
    weight = weight.view(M * d, F)
    weight *= (M / (f @ weight.T).square().sum(1).mean()).sqrt()  # mean squared length of a sub-vector is 1
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ mean)
    x = network.scaled(f @ weight.T)
    rows = torch.linspace(0, len(x) - 1, config.codebook_size).long()
    network.quantizer.codebooks.copy_(network.quantizer.split(x[rows]).transpose(0, 1))
    refit(network.quantizer, x)
