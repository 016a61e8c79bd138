"""Views of the caller: how training calls them, and what they must return.

They are called as `views(pixels, generator)`:

- pixels: (B, 3, C, C) uint8 RGB on the device that trains, of B whole pictures, resized to squares of the side of the input, or
  of up to twice that where pictures are larger;
- generator: a `torch.Generator` on the same device. The global generator of torch has a seed of its own in each call, so that
  transforms of torchvision, which use it, also repeat.

They return one view of each picture, (B, 3, S, S): uint8 from 0 to 255, or float from 0 to 1. spq normalises them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spq.config import InputConfig, Recipe
from spq.errors import ConfigError
from spq.model.model import normalise
from spq.model.own_parts import check_call, full_name
from spq.training.losses import check_stages
from spq.training.pixel_memory import LARGER

Views = Callable[[Tensor, torch.Generator], Tensor]
MOST = 1.01  # of a float view, since interpolation may leave 0..1 by a little


def call_views(views: Views, pixels: Tensor, generator: torch.Generator, config: InputConfig, rank: int = 0) -> Tensor:
    """Make one view of each picture; return them normalised, (B, 3, S, S) float32.

    Args:
        rank: of this process, which draws other random numbers than the others.
    Raises:
        ConfigError: the views have another shape, type or range.
    """
    device = pixels.device
    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device)) + rank
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        made = views(pixels, torch.Generator(device).manual_seed(seed))
    check_views(made, views, len(pixels))
    if made.dtype == torch.uint8:
        return normalise(made.to(device), config)
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (config.mean, config.std))
    return (made.to(device).float() - mean) / std


def check_views(made: Any, views: Views, count: int) -> None:
    """Refuse what are not views of `count` pictures.

    Raises:
        ConfigError: names the views, what they returned, and what is wanted.
    """
    name = f"`views` {full_name(views)}"
    wanted = f"return one square view of each picture, ({count}, 3, S, S)"
    if not isinstance(made, Tensor):
        raise ConfigError(f"{name} return {type(made).__name__}, not a tensor; {wanted}")
    if made.ndim != 4 or made.shape[:2] != (count, 3) or made.shape[2] != made.shape[3]:
        raise ConfigError(f"{name} return shape {tuple(made.shape)}; {wanted}")
    if made.dtype != torch.uint8 and not made.is_floating_point():
        raise ConfigError(f"{name} return {made.dtype}; return uint8 from 0 to 255, or float from 0 to 1")
    if made.is_floating_point():
        low, high = (float(value) for value in made.aminmax())
        if not (low >= 1 - MOST and high <= MOST):
            raise ConfigError(
                f"{name} return numbers from {low:.3g} to {high:.3g}; return float from 0 to 1, and spq normalises them"
            )


def view_sizes(views: Views, config: InputConfig, device: torch.device) -> set[int]:
    """Return the sides of views of random pictures as small and as large as training may give.

    What `call_views` refuses is refused here, before pictures are read.
    """
    sizes, generator = set(), torch.Generator(device).manual_seed(0)
    for side in (config.size, LARGER * config.size):
        pixels = torch.randint(0, 256, (2, 3, side, side), generator=generator, device=device)
        sizes.add(call_views(views, pixels.to(torch.uint8), generator, config).shape[-1])
    return sizes


def check_own_views(views: Views | None, recipe: Recipe) -> None:
    """Refuse views that the stages of a recipe would not use.

    Raises:
        ConfigError: names the setting, and the value to give it.
    """
    if views is None:
        return
    check_call("views", views, ["pixels", "generator"])
    check_stages("views", recipe)


def with_own_views(recipe: Recipe) -> Recipe:
    """Return the recipe for views of the caller, who decides their size: a backbone sees no others than these and the input."""
    return replace(recipe, train=replace(recipe.train, view_scale=1.0, small_share=0.0))
