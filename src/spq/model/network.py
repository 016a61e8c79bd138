"""Backbone -> head -> descriptor -> soft quantization."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spq.config import Recipe
from spq.model.backbone import make_backbone
from spq.model.quantizer import Quantizer


class Network(nn.Module):
    """`describe` gives descriptors for retrieval, `forward` also their soft quantizations for training.

    Args:
        config: its `backbone`, `head` and `quantizer` decide the shapes.
        backbone: any module (B, 3, S, S) -> (B, F) with an int attribute `feature_dim`, in place of the configured one.
    """

    def __init__(self, config: Recipe, backbone: nn.Module | None = None) -> None:
        super().__init__()
        if backbone is None:
            self.backbone, feature_dim = make_backbone(config.backbone)
        else:
            self.backbone, feature_dim = backbone, cast(int, backbone.feature_dim)
        hidden, D = config.head.hidden, config.quantizer.dim
        layers: list[nn.Module] = []
        if hidden:
            layers += [nn.Linear(feature_dim, hidden), nn.ReLU()]
        last = nn.Linear(hidden or feature_dim, D)
        nn.init.xavier_uniform_(last.weight)
        self.head = nn.Sequential(*layers, last)
        self.norm = config.head.norm * config.quantizer.num_codebooks**0.5
        self.quantizer = Quantizer(config.quantizer)

    def describe(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) normalised float -> descriptors (B, D) float32."""
        x = cast(Tensor, self.head(self.backbone(images))).float()
        return self.norm * F.normalize(x, dim=1) if self.norm else x

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors x and their soft quantizations z, both (B, D) float32: what the loss compares."""
        x = self.describe(images)
        with torch.autocast(x.device.type, enabled=False):  # softmax of distances over tau_q wants all its digits
            return x, self.quantizer(x)
