"""What a quantizer is, and the product quantizer with learned codebooks (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import NoReturn, cast

import torch
from torch import Tensor, nn

from spq.config import Distance, QuantizerConfig, check_distance
from spq.errors import ConfigError

AT_ONCE = 2**26  # differences (B, M, K, d) that are in memory together: 256 MB


class Quantizer(nn.Module):
    """Turns descriptors (B, D) into codes (B, M) of M numbers below K, and back. Everything else in spq knows only this much.

    Attributes:
        config: M (`num_codebooks`), K (`codebook_size`), D (`dim`), `bits` and so on.
        distances: those that `tables` serves. A table is exact: its entries add up to the distance to the decoded code.
    """

    config: QuantizerConfig
    distances: tuple[Distance, ...] = ()

    def soft_assign(self, x: Tensor) -> Tensor:
        """Compute probabilities (B, M, K) of the codewords."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Compute soft quantizations z (B, D), through which the loss trains the quantizer."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Compute codes (B, M) uint8."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruct descriptors (B, D) from codes (B, M)."""
        raise NotImplementedError

    def tables(self, x: Tensor, distance: Distance | None = None) -> Tensor:
        """Compute asymmetric tables T (B, M, K). The distance of a code is sum_m T[m, code_m].

        Args:
            distance: one of `distances`; by default that of the configuration.
        Raises:
            ConfigError: another distance.
        """
        raise NotImplementedError

    def refit(self, x: Tensor) -> None:
        """Fit to the final descriptors (N, D), in place. Shipped quantizers are fitted by `spq.training.refit`."""

    def encode_many(self, x: Tensor) -> Tensor:
        """Compute codes (N, M) uint8 as `encode`, so many rows at a time that memory is bounded."""
        q = self.config
        rows = max(1, AT_ONCE // (q.num_codebooks * q.codebook_size * q.codeword_dim))
        return torch.cat([self.encode(chunk) for chunk in torch.split(x, rows)])


class CodebookQuantizer(Quantizer):
    """A quantizer that is codebooks (M, K, d). Each of the P sub-vectors (B, P, d) of a descriptor has M / P of them.

    The codebooks of a sub-vector lie one after the other, so that the first sub-codes are a code of the first numbers.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        M, K, d = config.num_codebooks, config.codebook_size, config.codeword_dim
        bound = (6 / (K + M * d)) ** 0.5  # Xavier over the K x (M*d) matrix, as the authors draw it
        self.codebooks = nn.Parameter(torch.empty(M, K, d).uniform_(-bound, bound))

    def split(self, x: Tensor) -> Tensor:
        """Split descriptors (B, P*d) into sub-vectors (B, P, d)."""
        return x.view(x.shape[0], self.config.parts, self.config.codeword_dim)

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """The codebooks (P, K, d) of each stage, as views."""
        q = self.config
        return self.codebooks.view(q.parts, q.sharing, q.codebook_size, q.codeword_dim).unbind(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruct descriptors (B, P*d) from codes (B, M): the sum of the codewords of each sub-vector."""
        q = self.config
        m = torch.arange(q.num_codebooks, device=codes.device)
        words = self.codebooks[m, codes.long()]  # (B, M, d)
        return (
            words.flatten(1) if q.sharing == 1 else words.view(-1, q.parts, q.sharing, q.codeword_dim).sum(2).flatten(1)
        )

    def inner_products(self, x: Tensor) -> Tensor:
        """Compute x_p . c_mk (B, M, K) of each codebook m of sub-vector p."""
        # no matrix product: its rounding depends on the number of queries
        parts = self.split(x).repeat_interleave(self.config.sharing, 1) if self.config.sharing > 1 else self.split(x)
        return (parts[:, :, None] * self.codebooks).sum(-1)


class ProductQuantizer(CodebookQuantizer):
    """Each of M sub-vectors has a codebook of its own: a descriptor (B, D = M*d) is (B, M, d)."""

    distances = ("l2", "sqeuclidean", "dot")

    def soft_assign(self, x: Tensor) -> Tensor:
        """Compute probabilities (B, M, K): softmax over k of -||x_m - c_mk||^2 / tau_q (paper, eq. 2)."""
        # tau_q divides: the paper's 5 is 1/0.2
        return torch.softmax(closeness(self.split(x), self.codebooks) / self.config.temperature, dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute soft quantizations z (B, M*d): the mean of the codewords, weighted by `soft_assign` (paper, eq. 3)."""
        return weighted(self.soft_assign(x), self.codebooks).flatten(1)

    def squared_distances(self, x: Tensor) -> Tensor:
        """Compute ||x_m - c_mk||^2 (B, M, K) from differences, so that it is exactly 0 for equal vectors."""
        return squared_distances(self.split(x), self.codebooks)

    def encode(self, x: Tensor) -> Tensor:
        """Compute codes (B, M) uint8: the nearest codeword of each codebook."""
        return self.squared_distances(x).argmin(-1).to(torch.uint8)

    def tables(self, x: Tensor, distance: Distance | None = None) -> Tensor:
        """Compute asymmetric tables T (B, M, K). The distance of a code is sum_m T[m, code_m].

        `l2` sums norms, as the authors' code does. `sqeuclidean` sums their squares, as a plain product quantizer does. `dot`
        sums -(x_m . c_mk), minus the inner product of the descriptor and the decoded code.

        Raises:
            ConfigError: an unknown distance.
        """
        name = distance or self.config.distance
        check_distance(name)
        if name == "dot":
            return -self.inner_products(x)
        squared = self.squared_distances(x)
        return squared.sqrt() if name == "l2" else squared


def closeness(parts: Tensor, C: Tensor) -> Tensor:
    """Compute ||x_p||^2 - ||x_p - c_pk||^2 (B, P, K) of sub-vectors (B, P, d) and codebooks (P, K, d).

    It is largest for the nearest codeword, and needs no differences (B, P, K, d).
    """
    return 2 * torch.einsum("bmd,mkd->bmk", parts, C) - C.square().sum(-1)


def squared_distances(parts: Tensor, C: Tensor) -> Tensor:
    """Compute ||x_p - c_pk||^2 (B, P, K) of sub-vectors (B, P, d) and codebooks (P, K, d)."""
    return (parts[:, :, None] - C).square().sum(-1)


def weighted(probabilities: Tensor, C: Tensor) -> Tensor:
    """Compute the mean (B, P, d) of the codewords (P, K, d), weighted by probabilities (B, P, K)."""
    return torch.einsum("bmk,mkd->bmd", probabilities, C)


def words_of(codes: Tensor, C: Tensor) -> Tensor:
    """Return the codewords (B, P, d) that codes (B, P) name in codebooks (P, K, d)."""
    return C[torch.arange(len(C), device=codes.device), codes.long()]


def refuse_distance(name: str, what: str, served: tuple[str, ...], reason: str) -> NoReturn:
    """Refuse a distance whose tables would not add up.

    Raises:
        ConfigError: names the distances that are served, and the reason.
    """
    check_distance(name)
    raise ConfigError(f"{what} has no tables of distance {name}; use {' or '.join(served)}: {reason}")


def codebooks_of(quantizer: Quantizer) -> Tensor:
    """Return the codebooks (M, K, d) of a quantizer that has some.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(quantizer, CodebookQuantizer):
        raise ConfigError(f"{quantizer.config.name} has no codebooks; only shipped quantizers have")
    return cast(Tensor, quantizer.codebooks)
