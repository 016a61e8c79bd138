"""Losses as modules: that of the paper, NT-Xent, and how training calls a loss of the caller.

A loss is called in each step as `loss(x, z, rows)`, or as `loss(x, z, rows, target_x, target_z)` if the recipe has a moving
average of the network (`train.target_momentum`):

- x, z: (V, B, D) float32, descriptors of V views of B pictures, and their soft quantizations;
- rows: (B,) int64, the position of each picture among those that training learns from;
- target_x, target_z: (V, B, D), the same views as the moving average describes them; without a gradient.

It returns one number. Its own parameters learn with Adam at the recipe's `train.lr`. The loss, or a module inside it, may have a
method `prepare(network, count)`. That is called before each stage with the network and the number of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spq.config import Recipe
from spq.errors import ConfigError
from spq.model.network import Network
from spq.model.own_parts import check_call, full_name
from spq.training.loss import Outputs, multi_view

Loss = nn.Module | Callable[..., Tensor]


class CrossQuantized(nn.Module):
    """Cross-quantized contrastive loss (paper, section 3.3), averaged over all pairs of views: the loss of every recipe.

    Args:
        temperature: tau, a divisor; by default that of the recipe, with its `late_temperature` and that of its finish.
    Attributes:
        dims: lengths of the prefixes of a descriptor that are codes too; the loss is the mean over them.
    """

    def __init__(self, temperature: float | Tensor | None = None) -> None:
        super().__init__()
        self.follows_recipe = temperature is None
        self.temperature: float | Tensor = 0.5 if temperature is None else temperature
        self.dims: tuple[int, ...] = ()

    def prepare(self, network: Network, count: int) -> None:
        self.dims = network.quantizer.config.prefix_dims

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
        """Compute the loss of (V, B, D) descriptors and quantizations; `own`: only the share of these rows."""
        return multi_view(list(zip(x, z, strict=True)), self.temperature, self.dims, own)

    def extra_repr(self) -> str:
        return "" if self.follows_recipe else f"{self.temperature}"


class NTXent(CrossQuantized):
    """NT-Xent of SimCLR (Chen et al. 2020) between the descriptors of each pair of views, averaged over the pairs.

    It gives the codebooks no gradient: use it with `train.refit = true`, which fits them at the end.

    Args:
        temperature: as in `CrossQuantized`.
    """

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
        """Compute the loss of (V, B, D) descriptors."""
        return super().forward(x, x, rows, own) / 2  # both directions of a pair are added there


class _Called(nn.Module):
    """A function as a loss."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


class Criterion:
    """The loss of one stage of a training, ready to be called.

    Attributes:
        module: the caller's loss, or that of the recipe. is_own: whether it is the caller's.
    """

    def __init__(self, loss: Loss | None, network: Network, count: int) -> None:
        self.network, self.is_own = network, loss is not None
        self.module = loss if isinstance(loss, nn.Module) else CrossQuantized() if loss is None else _Called(loss)
        for part in self.module.modules():
            if callable(prepare := getattr(part, "prepare", None)):
                prepare(network, count)
        self.module.to(network.device).train()

    def __call__(
        self, outputs: Outputs, rows: Tensor, temperature: float, own: slice | None = None, seen: Outputs | None = None
    ) -> Tensor:
        """Compute the loss of a batch, or a share of it.

        Args:
            outputs: (x, z), each (B, D), of each view. rows: (B,). temperature: of the recipe, for losses that follow it.
            own: rows of this process. It computes a share of the loss; the shares of all processes add up to the loss.
            seen: the outputs of the moving average, if the loss gets them.
        """
        for part in self.module.modules():
            if isinstance(part, CrossQuantized) and part.follows_recipe:
                part.temperature = temperature
        given = [torch.stack(part) for pair in (outputs, seen or []) for part in zip(*pair, strict=True)]
        if own is not None and type(self.module) in (CrossQuantized, NTXent):  # a subclass may do more than add up rows
            share: Tensor = self.module(*given, rows, own)
            return share
        value = checked(self.module(*given[:2], rows, *given[2:]), self.module)
        return value if own is None else value * ((own.stop - own.start) / len(rows))

    def parameters(self) -> list[nn.Parameter]:
        """Its own parameters that learn, without those of the network that it holds."""
        return [
            p for _, p in self._own(self.module.named_parameters()) if isinstance(p, nn.Parameter) and p.requires_grad
        ]

    def state(self) -> dict[str, Any]:
        """Its own parameters and buffers, for the checkpoint."""
        return {name: t.detach() for name, t in self._own(self.module.state_dict(keep_vars=True).items())}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            ConfigError: this loss has other parameters or shapes.
        """
        try:
            if set(state) != set(self.state()):
                raise ValueError
            self.module.load_state_dict(state, strict=False)
        except (RuntimeError, ValueError):
            raise ConfigError(
                "the given `loss` does not fit the checkpoint; give one with the same parameters"
            ) from None

    def _own(self, named: Any) -> Iterator[tuple[str, Tensor]]:
        of_network = {id(tensor) for tensor in self.network.state_dict(keep_vars=True).values()}
        return ((name, tensor) for name, tensor in named if isinstance(tensor, Tensor) and id(tensor) not in of_network)


def checked(value: Any, loss: nn.Module) -> Tensor:
    """Refuse what is not one number with a gradient.

    Raises:
        ConfigError: names the loss, and what it returned.
    """
    shown = full_name(loss.function if isinstance(loss, _Called) else loss)
    if not isinstance(value, Tensor) or value.ndim:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"`loss` {shown} returns {found}, not one number; return a tensor without axes, such as a mean"
        )
    if not value.requires_grad:
        raise ConfigError(f"`loss` {shown} returns a number without a gradient; compute it from x or z, without detach")
    return value


def check_stages(part: str, recipe: Recipe) -> None:
    """Refuse a part of the caller that the stages of a recipe would not use.

    Args:
        part: its option, such as loss.
    Raises:
        ConfigError: names the setting, and the value to give it.
    """
    for setting, is_on, off in (
        ("cluster.share", recipe.cluster.share, "0"),
        ("train.graph", recipe.train.graph, "false"),
    ):
        if is_on:
            raise ConfigError(
                f"recipe {recipe.name} has {setting}, which does not work with `{part}`; set it to {off} with `overrides`"
            )


def check_loss(loss: Loss | None, recipe: Recipe) -> None:
    """Refuse a loss that the stages of a recipe would not use, or cannot call.

    Raises:
        ConfigError: names the setting, and the value to give it.
    """
    if loss is None:
        return
    check_stages("loss", recipe)
    has_targets = bool(recipe.train.target_momentum) and not recipe.train.frozen
    if has_targets and recipe.finish.epochs:
        raise ConfigError(
            f"recipe {recipe.name} has finish.epochs, and the finish has no moving average for `loss`; set finish.epochs or "
            "train.target_momentum to 0 with `overrides`"
        )
    names = ["x", "z", "rows", *(["target_x", "target_z"] if has_targets else [])]
    why = " as train.target_momentum is set" if has_targets else ""
    check_call("loss", loss, names, why)
    for part in loss.modules() if isinstance(loss, nn.Module) else ():
        if callable(prepare := getattr(part, "prepare", None)):
            check_call("loss", prepare, ["network", "count"])
