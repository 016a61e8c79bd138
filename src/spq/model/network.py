"""Backbone -> head -> descriptor -> soft quantization."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spq.config import QuantizerConfig, Recipe
from spq.errors import ConfigError, ModelError
from spq.model.backbone import given_feature_dim, make_backbone
from spq.model.given_quantizer import GivenQuantizer, given_config
from spq.model.quantizer import CodebookQuantizer, ProductQuantizer, Quantizer, codebooks_of
from spq.model.residual import ResidualQuantizer

SHIPPED: dict[str, type[CodebookQuantizer]] = {"product": ProductQuantizer, "residual": ResidualQuantizer}


class Network(nn.Module):
    """Gives descriptors for retrieval (`describe`), and for training also their soft quantizations (`forward`).

    Args:
        config: its `backbone`, `head` and `quantizer` set the shapes.
        backbone: any module (B, 3, S, S) -> (B, F), instead of the configured one.
        quantizer: the caller's own, which the configuration names.
    """

    def __init__(self, config: Recipe, backbone: nn.Module | None = None, quantizer: nn.Module | None = None) -> None:
        super().__init__()
        if backbone is None:
            self.backbone, self.feature_dim = make_backbone(config.backbone, config.input.size)
        else:
            self.backbone, self.feature_dim = backbone, given_feature_dim(backbone, config.input.size)
        hidden, feature_dim, D = config.head.hidden, self.feature_dim, config.quantizer.dim
        layers: list[nn.Module] = []
        if hidden:
            is_normed = config.head.batch_norm  # removes any bias
            layers += [nn.Linear(feature_dim, hidden, bias=not is_normed)]
            layers += [nn.BatchNorm1d(hidden)] if is_normed else []
            layers += [nn.ReLU()]
        last = nn.Linear(hidden or feature_dim, D)
        nn.init.xavier_uniform_(last.weight)
        self.head = nn.Sequential(*layers, last)
        self.norm, self.softmax, self.unit = config.head.norm, config.head.softmax, config.head.unit
        self.quantizer = _make_quantizer(config.quantizer, quantizer)

    @property
    def device(self) -> torch.device:
        return cast(nn.Linear, self.head[-1]).weight.device

    def describe(self, images: Tensor) -> Tensor:
        """Compute descriptors (B, D) float32 of normalised images (B, 3, S, S)."""
        return self.project(self.backbone(images))

    def project(self, features: Tensor) -> Tensor:
        """Compute descriptors (B, D) float32 from features (B, F)."""
        features = F.normalize(features, dim=1) if self.unit else features
        return self.scaled(wide(self.head(features)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute descriptors x and their soft quantizations z, both (B, D) float32, for the loss."""
        return self.quantized(self.backbone(images))

    def quantized(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute descriptors and their soft quantizations, both (B, D) float32, from features (B, F)."""
        x = self.project(features)
        with torch.autocast(x.device.type, enabled=False):  # a softmax of distances over tau_q needs full precision
            return x, self.quantizer(x)

    def truncated(self, quantizer: QuantizerConfig) -> Network:
        """Return a copy with the first sub-vectors only; its descriptors are prefixes of these descriptors."""
        network = copy.deepcopy(self)
        whole, M = cast(nn.Linear, network.head[-1]), quantizer.num_codebooks
        last = nn.Linear(whole.in_features, quantizer.dim)
        last.load_state_dict({name: tensor[: quantizer.dim] for name, tensor in whole.state_dict().items()})
        network.head[-1] = last.to(whole.weight)
        short = SHIPPED[quantizer.kind](quantizer).to(whole.weight)
        short.codebooks.data.copy_(codebooks_of(self.quantizer)[:M])
        network.quantizer = short
        return network

    def scaled(self, x: Tensor) -> Tensor:
        """Turn the output of the head (B, D) into descriptors (B, D).

        With `head.softmax` these are soft assignments. With `head.norm` each part between two prefixes has this norm. Otherwise
        nothing changes.
        """
        d = self.quantizer.config.codeword_dim
        if self.softmax:
            return torch.softmax(x.view(len(x), -1, d) / self.softmax, 2).flatten(1)
        if not self.norm:
            return x
        sizes = [b - a for a, b in pairwise((0, *self.quantizer.config.prefix_dims))]
        parts = zip(sizes, torch.split(x, sizes, 1), strict=True)
        return torch.cat([self.norm * (size // d) ** 0.5 * F.normalize(part, dim=1) for size, part in parts], 1)


def _make_quantizer(config: QuantizerConfig, module: nn.Module | None) -> Quantizer:
    """Make the quantizer of a recipe, or take the caller's module.

    Raises:
        ConfigError: the module does not make codes of these shapes.
    """
    if not config.is_given:
        return SHIPPED[config.kind](config)
    if module is None:
        raise ConfigError(f"the model needs your own quantizer {config.name}; give it as `quantizer`")
    found = given_config(module, config)
    if found.shape != config.shape:
        raise ConfigError(
            f"the model has {config.described}, and yours is {found.described}; make it with the sizes of the model"
        )
    return GivenQuantizer(module, config)


def wide(x: Tensor) -> Tensor:
    """Return x in float32, or as it is if it has float64."""
    return x if x.dtype == torch.float64 else x.float()


def check_numbers(network: Network, name: str) -> None:
    """Refuse weights that are not finite, and parts of a network whose weights are all zero.

    Args:
        name: of the model, for the error.
    Raises:
        ModelError: names the tensor.
    """
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"{name}: {key} has numbers that are not finite; train again at a lower learning rate")
    parts = {"the backbone": list(network.backbone.parameters())}
    if isinstance(network.quantizer, CodebookQuantizer):
        parts["quantizer.codebooks"] = [network.quantizer.codebooks]
    parts |= {f"head.{key}": [weight] for key, weight in network.head.named_parameters() if weight.ndim > 1}
    for key, weights in parts.items():
        if weights and not any(bool(weight.any()) for weight in weights):
            raise ModelError(f"{name}: all weights of {key} are zero; train again, or use another copy")
