"""Product quantizer with learned codebooks: soft and hard assignment, decoding, asymmetric distance tables."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spq.config import Distance, QuantizerConfig, check_distance


class Quantizer(nn.Module):
    """M codebooks of K codewords of d numbers. A descriptor (B, D = M*d) consists of M sub-vectors (B, M, d)."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        M, K, d = config.num_codebooks, config.codebook_size, config.codeword_dim
        bound = (6 / (K + M * d)) ** 0.5  # Xavier over the K x (M*d) matrix, as the authors draw it
        self.codebooks = nn.Parameter(torch.empty(M, K, d).uniform_(-bound, bound))

    def split(self, x: Tensor) -> Tensor:
        """Split descriptors (B, M*d) into sub-vectors (B, M, d)."""
        return x.view(x.shape[0], self.config.num_codebooks, self.config.codeword_dim)

    def soft_assign(self, x: Tensor) -> Tensor:
        """Compute probabilities (B, M, K): softmax over k of -||x_m - c_mk||^2 / tau_q (paper, eq. 2)."""
        # tau_q divides: the paper's 5 is 1/0.2
        return torch.softmax(self.closeness(x) / self.config.temperature, dim=-1)

    def closeness(self, x: Tensor) -> Tensor:
        """Compute ||x_m||^2 - ||x_m - c_mk||^2 (B, M, K): largest for the nearest codeword, without differences (B, M, K, d)."""
        C = self.codebooks
        return 2 * torch.einsum("bmd,mkd->bmk", self.split(x), C) - C.square().sum(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute soft quantizations z (B, M*d): the mean of the codewords, weighted by `soft_assign` (paper, eq. 3)."""
        return torch.einsum("bmk,mkd->bmd", self.soft_assign(x), self.codebooks).flatten(1)

    def squared_distances(self, x: Tensor) -> Tensor:
        """Compute ||x_m - c_mk||^2 (B, M, K) from differences, so that it is exactly 0 for equal vectors."""
        return (self.split(x)[:, :, None] - self.codebooks).square().sum(-1)

    def encode(self, x: Tensor) -> Tensor:
        """Compute codes (B, M) uint8: the nearest codeword of each codebook."""
        return self.squared_distances(x).argmin(-1).to(torch.uint8)

    def encode_many(self, x: Tensor) -> Tensor:
        """Compute codes (N, M) uint8 as `encode`, so many rows at a time that the differences (B, M, K, d) need 256 MB."""
        return torch.cat([self.encode(chunk) for chunk in torch.split(x, max(1, 2**26 // self.codebooks.numel()))])

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruct descriptors (B, M*d) from codes (B, M)."""
        m = torch.arange(self.config.num_codebooks, device=codes.device)
        return self.codebooks[m, codes.long()].flatten(1)

    def tables(self, x: Tensor, distance: Distance | None = None) -> Tensor:
        """Compute asymmetric tables T (B, M, K). The distance of a code is sum_m T[m, code_m].

        `l2` sums norms, as the authors' code does. `sqeuclidean` sums their squares, as a plain product quantizer does. `dot`
        sums -(x_m . c_mk), minus the inner product of the descriptor and the decoded code.

        Raises:
            ConfigError: an unknown distance.
        """
        name = distance or self.config.distance
        check_distance(name)
        if name == "dot":  # no matrix product: its rounding depends on the number of queries
            return -(self.split(x)[:, :, None] * self.codebooks).sum(-1)
        squared = self.squared_distances(x)
        return squared.sqrt() if name == "l2" else squared
