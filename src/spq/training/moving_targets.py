"""Targets of a moving average: each view predicts how the network's average sees the other views of the picture.

The average follows the network slowly, so its descriptors change less from step to step than those of the network (Grill et al.,
BYOL, 2020). With several views, the target is the mean of the others, which varies less still (Pototzky et al., FastSiam, 2022).
Other pictures of the batch are negatives, as in the contrastive loss (Chen et al., MoCo v3, 2021). The loss stays
cross-quantized: descriptors predict quantizations, and quantizations predict descriptors.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spq.config import Recipe
from spq.model.network import Network, wide
from spq.training.loss import Outputs


class MovingTargets(nn.Module):
    """The moving average of a network, and the predictor that only training needs."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        super().__init__()
        D, hidden = recipe.quantizer.dim, recipe.train.predictor
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.predictor = nn.Sequential(
            nn.Linear(D, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, D)
        )
        self.momentum = recipe.train.target_momentum
        self.negatives, self.dims = recipe.train.negatives, recipe.quantizer.prefix_dims or (D,)

    @torch.no_grad()
    def outputs(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Compute descriptors and quantizations (B, D) of views, as the average sees them."""
        outputs: tuple[Tensor, Tensor] = self.average(views)
        return outputs

    def loss(self, outputs: Outputs, seen: Outputs, temperature: float, first: int = 0) -> Tensor:
        """Compute how badly each view predicts the mean of the others, averaged over views and prefixes.

        Args:
            outputs: (x, z), each (b, D), of each of the V views. seen: the same, as the average sees the views, but of all B
                rows of the batch. first: the row of the batch that is the first of the outputs.
        """
        V, B = len(outputs), len(outputs[0][0])
        x, z = (torch.stack(part) for part in zip(*outputs, strict=True))  # (V, b, D)
        predicted = wide(self.predictor(torch.cat([x, z]).flatten(0, 1))).view(2, V, B, -1)
        of_x, of_z = (torch.stack(part) for part in zip(*seen, strict=True))
        targets = torch.stack([of_z, of_x])  # what x and what z predict
        losses = [self._compare(predicted[..., :n], targets[..., :n], temperature, first) for n in self.dims]
        return torch.stack(losses).mean()

    def _compare(self, predicted: Tensor, targets: Tensor, temperature: float, first: int) -> Tensor:
        """(2, V, b, n) predictions and (2, V, B, n) descriptions of the views -> the loss."""
        p, t = F.normalize(predicted, dim=3), F.normalize(targets, dim=3)
        t = F.normalize(t.sum(1, keepdim=True) - t, dim=3)  # the mean of the other views
        b = p.shape[2]
        if not self.negatives:
            return 2 - 2 * (p * t[:, :, first : first + b]).sum(3).mean()
        similar = p.flatten(0, 1) @ t.flatten(0, 1).mT / temperature  # (2V, b, B)
        rows = torch.arange(first, first + b, device=p.device).expand(len(similar), b)
        return 2 * F.cross_entropy(similar.flatten(0, 1), rows.flatten())

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move the average a step towards the network."""
        follow(self.average, network, self.momentum)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move the parameters of a moving average a step towards those of the network."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - momentum)
