"""Networks of timm: made by name, with weights of the hub's cache or of a download, and fitted to an input size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from spq.data.decode import first_line
from spq.errors import ConfigError, WeightsError
from spq.model import hub


def timm_network(name: str, pretrained: bool) -> nn.Module:
    """Make a network without its classifier.

    Raises:
        ConfigError: timm does not know the name or has no weights for it. WeightsError: they are not at hand.
    """
    import timm  # slow to import, and only needed here

    file = _weights_at_hand(name) if pretrained else None
    source = {"file": str(file), "custom_load": False} if file else {}
    try:
        module: nn.Module = timm.create_model(name, pretrained, num_classes=0, pretrained_cfg_overlay=source)
    except RuntimeError as error:
        if "Unknown model" not in str(error):  # no weights with this tag, or no weights
            raise ConfigError(f"timm cannot make {name}: {first_line(error)}") from None
        similar = ", ".join(timm.list_models(f"*{name[:8]}*")[:5]) or "see timm.list_models()"
        raise ConfigError(f"timm has no model {name!r}; similar names: {similar}") from None
    except Exception as error:  # of a download: each version of huggingface_hub has a client with errors of its own
        if not pretrained:
            raise
        if file:
            raise WeightsError(
                f"{file} is damaged ({first_line(error)}); delete it, and it is downloaded again"
            ) from None
        raise hub.unavailable(f"timm/{name}", first_line(error).partition(". ")[0]) from None
    return module


def _weights_at_hand(name: str) -> Path | None:
    """Return the file of the hub's cache to load. None: timm finds the weights by itself, or downloads them.

    Raises:
        WeightsError: they are not cached, and the hub cannot be reached.
    """
    import timm

    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # an unknown tag; timm reports it
        return None
    if config is None or not config.hf_hub_id:
        return None
    repository, wanted = config.hf_hub_id.partition("@")[0], config.hf_hub_filename or hub.FILE
    file = hub.cached_weights(repository, wanted)
    if file is None:
        if reason := hub.unreachable(repository, wanted):
            raise hub.unavailable(repository, reason)
        return None
    return file if file.suffix == ".safetensors" else None


def fit_input(module: nn.Module, name: str, size: int) -> None:
    """Fit a transformer that takes one size only to pictures of `size` pixels, by interpolating its position embeddings.

    Raises:
        ConfigError: `size` is no multiple of its patches, or does not fit otherwise.
    """
    patches: Any = getattr(module, "patch_embed", None)
    fixed = getattr(patches, "strict_img_size", False) and getattr(patches, "img_size", None)
    set_size: Any = getattr(module, "set_input_size", None)
    if not fixed or not set_size or fixed == (size, size):
        return
    (patch, _), (own, _) = patches.patch_size, fixed
    if size % patch:
        low = max(patch, size // patch * patch)
        raise ConfigError(
            f"`image_size` {size} is no multiple of the patches of {name}, {patch} pixels; try {low}, {low + patch} or {own}"
        )
    try:
        set_size((size, size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"`image_size` {size} does not fit {name} ({first_line(error)}); try {own}") from None
