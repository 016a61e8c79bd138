"""Label-free signs of how self-training goes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


class Signs:
    """Means over the steps since the last report.

    confident: share of (picture, head) that the network learns from. agreement: of network and teacher on these. certainty: of
    the teacher. largest: share of the largest cluster of any head. used: clusters of a head that hold at least a tenth of an
    even share.
    """

    def __init__(self, heads: int, clusters: int, device: torch.device) -> None:
        self.shape = heads, clusters
        self.totals = torch.zeros(4 + heads * clusters, device=device)  # count, three means, shares of clusters

    @torch.no_grad()
    def add(self, logits: Tensor, target: Tensor, own: Tensor, sure: Tensor) -> None:
        """Add a step.

        Args:
            logits, target: (V * B, M, K). own: (B, M, K) assignments of the teacher. sure: (V * B, M) where the target is
                confident.
        """
        K = own.shape[2]
        hit = logits.argmax(2) == target.argmax(2)
        share = one_hot(own.argmax(2), K).float().mean(0)
        agreement = (hit & sure).sum() / sure.sum().clamp(min=1)
        means = torch.stack([torch.ones_like(agreement), sure.float().mean(), agreement, own.max(2).values.mean()])
        self.totals.add_(torch.cat([means, share.flatten()]))

    def take(self) -> dict[str, float]:
        """Return the means, and start counting again."""
        totals = self.totals.cpu() / self.totals[0].clamp(min=1).cpu()
        self.totals.zero_()
        share = totals[4:].view(self.shape)
        named = dict(zip(("confident", "agreement", "certainty"), totals[1:4], strict=True))
        named |= {"largest": share.max(), "used": (share > 0.1 / self.shape[1]).float().sum(1).mean()}
        return {name: round(float(value), 4) for name, value in named.items()}
