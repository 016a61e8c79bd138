"""Image batch (B, 3, S, S) -> feature (B, F): the paper's CIFAR ResNet and its smaller sisters, or any timm model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from spq.config import BackboneConfig, InputConfig
from spq.errors import ConfigError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet with a 3x3 stem and no max-pool. blocks (2, 2, 2, 2), width 64 and stem_stride 1 is the paper's ResNet-18."""

    def __init__(self, blocks: tuple[int, ...], width: int, stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stem_stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        layers: list[nn.Module] = []
        in_channels = width
        for stage, count in enumerate(blocks):
            channels = width * 2**stage
            for block in range(count):
                layers.append(BasicBlock(in_channels, channels, 2 if stage and not block else 1))
                in_channels = channels
        self.stages = nn.Sequential(*layers)
        self.feature_dim = in_channels

    def forward(self, images: Tensor) -> Tensor:
        feature: Tensor = self.stages(self.stem(images)).mean((2, 3))  # global average pool: (B, F, H, W) -> (B, F)
        return feature


def make_backbone(config: BackboneConfig) -> tuple[nn.Module, int]:
    """The backbone and its feature dimension F.

    Raises:
        ConfigError: timm does not know the name, or the weights do not fit.
    """
    if config.name == "resnet":
        resnet = ResNet(config.blocks, config.width, config.stem_stride)
        return _with_weights(resnet, config), resnet.feature_dim
    if config.name.startswith("given/"):
        own = config.name.removeprefix("given/")
        raise ConfigError(
            f"its backbone {own} is code of your own; give it once more, as backbone={own}(...) from Python"
        )
    import timm  # heavy, and only this path needs it

    name = config.name.removeprefix("timm/")
    try:
        module = timm.create_model(name, pretrained=config.pretrained, num_classes=0)
    except RuntimeError as error:
        if "Unknown model" not in str(error):  # no weights of that tag, or none at all
            raise ConfigError(f"timm cannot make {name}: {str(error).splitlines()[0]}") from None
        near = ", ".join(timm.list_models(f"*{name[:8]}*")[:5]) or "see timm.list_models()"
        raise ConfigError(f"timm has no model {name!r}; near it: {near}") from None
    # models with a hidden layer behind the pooling give its width, not num_features
    feature_dim = getattr(module, "head_hidden_size", None) or module.num_features
    return _with_weights(module, config), cast(int, feature_dim)


def trained_input(name: str) -> InputConfig | None:
    """Size, mean and standard deviation that timm's weights of this name were trained with; None where it does not say."""
    import timm  # heavy, and only this path needs it

    try:
        config = timm.models.get_pretrained_cfg(name.removeprefix("timm/"), allow_unregistered=True)
    except RuntimeError:  # a tag that it does not know: making the model will say so
        return None
    if config is None:
        return None
    (a, b, c), (d, e, f) = config.mean, config.std
    return InputConfig(size=config.input_size[-1], mean=(a, b, c), std=(d, e, f))


def given_feature_dim(module: nn.Module, size: int) -> int:
    """F of a module of the caller's own: its `feature_dim`, else what it gives for a black picture of `size` pixels.

    Raises:
        ConfigError: it gives no (B, F).
    """
    known = getattr(module, "feature_dim", None)
    if isinstance(known, int):
        return known
    mode, tensor = module.training, next(module.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            out = module.eval()(torch.zeros(1, 3, size, size, device=tensor.device))
    finally:
        module.train(mode)
    if not isinstance(out, Tensor) or out.ndim != 2:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(f"the given backbone returns {found} for one picture, not (1, F); add pooling and flatten")
    return out.shape[1]


def check_sizes(module: nn.Module, name: str, sizes: Collection[int]) -> None:
    """Refuse a backbone that does not take pictures of all these sides: many transformers take those of one size alone.

    Raises:
        ConfigError: names the size, and what the backbone says.
    """
    mode, tensor = module.training, next(module.parameters(), torch.empty(0))
    try:
        module.eval()
        for size in sorted(sizes):
            with torch.no_grad():
                module(torch.zeros(1, 3, size, size, device=tensor.device))
    except Exception as error:  # of any kind, from the code of any network
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"backbone {name} takes no pictures of {size} x {size} pixels ({said}); give an --image-size that it takes, "
            f"and a recipe with view_scale = 1.0 and small_share = 0.0 if it takes no other"
        ) from None
    finally:
        module.train(mode)


def _with_weights(module: nn.Module, config: BackboneConfig) -> nn.Module:
    if not config.weights:
        return module
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if Path(config.weights).suffix != ".safetensors":
        raise ConfigError(f"weights {config.weights} are not a .safetensors file; pickled weights are not loaded")
    try:
        missing, _ = module.load_state_dict(load_file(config.weights), strict=False)  # a classifier may be left over
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError(f"weights {config.weights} do not fit {config.name}: {str(error).splitlines()[0]}") from None
    if missing:
        raise ConfigError(f"weights {config.weights} lack {len(missing)} tensors of {config.name}, first {missing[0]}")
    return module
