"""The residual quantizer: several codebooks for the same numbers, each for what those before it left.

Chen, Guan and Wang, Approximate nearest neighbor search by residual vector quantization, Sensors 2010. With several sub-vectors,
each has its own residual quantizer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spq.config import Distance
from spq.config.quantizer_config import CROSS_TERMS
from spq.model.quantizer import (
    CodebookQuantizer,
    closeness,
    refuse_distance,
    squared_distances,
    weighted,
    words_of,
)


class ResidualQuantizer(CodebookQuantizer):
    """Each of P sub-vectors (B, P, d) is the sum of S codewords, one of each stage: M = P * S, D = P * d.

    Inner products of a descriptor with a sum of codewords are sums, so `dot` is served. Squared distances are not.
    """

    distances = ("dot",)

    def soft_assign(self, x: Tensor) -> Tensor:
        """Compute probabilities (B, M, K): at each stage, softmax of -||r_p - c_pk||^2 / tau_q of what is left, r_p."""
        return self._soft(x)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Compute soft quantizations z (B, D): the sum of the stages' weighted means."""
        return self._soft(x)[1]

    def _soft(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts, found = self.split(x), []
        z = torch.zeros_like(parts)
        for C in self.stages:
            found.append(torch.softmax(closeness(parts - z, C) / self.config.temperature, dim=-1))
            z = z + weighted(found[-1], C)
        return torch.stack(found, 2).flatten(1, 2), z.flatten(1)

    def encode(self, x: Tensor) -> Tensor:
        """Compute codes (B, M) uint8: at each stage the codeword nearest to what is left."""
        rest, found = self.split(x), []
        for C in self.stages:
            found.append(squared_distances(rest, C).argmin(-1))
            rest = rest - words_of(found[-1], C)
        return torch.stack(found, 2).flatten(1, 2).to(torch.uint8)

    def tables(self, x: Tensor, distance: Distance | None = None) -> Tensor:
        """Compute tables T (B, M, K) of distance `dot`: -(x_p . c_mk).

        Raises:
            ConfigError: another distance.
        """
        if (name := distance or self.config.distance) != "dot":
            refuse_distance(name, "a residual quantizer", self.distances, CROSS_TERMS)
        return -self.inner_products(x)
