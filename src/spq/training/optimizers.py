"""Optimizers, their parameter groups, and the learning rate over the training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Adam, Optimizer

from spq.config import Recipe
from spq.model.network import Network
from spq.training.muon import Muon


def make_optimizers(
    network: Network,
    recipe: Recipe,
    *,
    backbone: bool = True,
    more: Sequence[nn.Module] = (),
    of_loss: Sequence[nn.Parameter] = (),
) -> list[Optimizer]:
    """Make Adam for all parameters, or Muon for normalised convolutions and Adam for the rest. Each group stores its `peak_lr`.

    With `backbone_lr_scale`, the parameters of the backbone are separate groups with lower rates.

    Args:
        backbone: whether its parameters learn. more: modules that learn at the rate of the head.
        of_loss: parameters of the loss, a group of Adam without weight decay.
    """
    config = recipe.train
    excluded = set() if backbone else {id(p) for p in network.backbone.parameters()}
    params = [
        p for module in (network, *more) for p in module.parameters() if p.requires_grad and id(p) not in excluded
    ]
    optimizers: list[Optimizer] = []
    if config.optimizer == "muon":
        normalised = normalised_filters(network.backbone)
        filters = [p for p in params if id(p) in normalised]
        params = [p for p in params if id(p) not in normalised]
        if groups := _groups(filters, network, config.muon_lr, config.backbone_lr_scale):
            optimizers.append(Muon(groups, lr=config.muon_lr, momentum=config.muon_momentum))
    groups = _groups(params, network, config.lr, config.backbone_lr_scale)
    if of_loss:
        groups.append({"params": list(of_loss), "lr": config.lr, "weight_decay": 0.0})
    optimizers.append(Adam(groups, lr=config.lr, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def normalised_filters(backbone: nn.Module) -> set[int]:
    """Return the `id` of each convolution filter that Muon may take: a normalisation follows, so that its scale has no effect.

    What the backbone registers next counts as what follows. Everything else learns with Adam: linear layers, biases, scales,
    class tokens, position embeddings, and the patch embedding of a transformer, since its scale does have an effect.
    """
    chain = [m for m in backbone.modules() if _is_norm(m) or isinstance(m, nn.Conv2d) or not list(m.children())]
    return {id(a.weight) for a, b in pairwise(chain) if isinstance(a, nn.Conv2d) and _is_norm(b)}


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm) or type(module).__name__.endswith("Norm2d")


def _groups(params: list[nn.Parameter], network: Network, lr: float, scale: float) -> list[dict[str, Any]]:
    """Group the parameters: head and codebooks at `lr`, then the backbone at `lr * scale`; one group if `scale` is 1."""
    if scale == 1:
        return [{"params": params, "lr": lr}]
    pretrained = {id(p) for p in network.backbone.parameters()}
    parts = [p for p in params if id(p) not in pretrained], [p for p in params if id(p) in pretrained]
    return [{"params": part, "lr": rate} for part, rate in zip(parts, (lr, lr * scale), strict=True) if part]


def set_lr(group: dict[str, Any], lr: float) -> None:
    """Set the learning rate of a group; a recorded step reads it from a tensor, which stays in its place."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def lr_factor(done: float, warmup: float, schedule: str) -> float:
    """Return the share of the peak learning rate after share `done` of the budget: linear warm-up, then cosine to zero.

    >>> [round(lr_factor(done, 0.1, "cosine"), 3) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < warmup:
        return done / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
