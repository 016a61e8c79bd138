"""Backbones, images (B, 3, S, S) -> features (B, F): the paper's CIFAR ResNet, smaller ones, lite0, or any timm model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from spq.config import BackboneConfig, InputConfig
from spq.data.decode import first_line
from spq.errors import ConfigError, WeightsError
from spq.model import lite0
from spq.model.tensors_file import read_tensors
from spq.model.timm_network import fit_input, timm_network

# how the weights of lite0 were trained: (x - 127) / 128 on 0..255. timm states other numbers for its own copy
LITE0_INPUT = InputConfig(224, (0.49803921568627,) * 3, (0.50196078431373,) * 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

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
    """ResNet with a 3x3 stem and no max-pool; blocks (2, 2, 2, 2), width 64, stem_stride 1 give the paper's ResNet-18."""

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


def make_backbone(config: BackboneConfig, size: int | None = None) -> tuple[nn.Module, int]:
    """Make the backbone; return it and its feature dimension F.

    Args:
        size: side of its input in pixels, for a transformer that takes one size only.
    Raises:
        ConfigError: timm does not know the name, or weights or size do not fit. WeightsError: the weights are not at hand,
            or not finite.
    """
    module, feature_dim = _make(config, size)
    if config.pretrained or config.weights:
        _check_numbers(module, config)
    return module, feature_dim


def _make(config: BackboneConfig, size: int | None) -> tuple[nn.Module, int]:
    if config.name == "resnet":
        resnet = ResNet(config.blocks, config.width, config.stem_stride)
        return _with_weights(resnet, config), resnet.feature_dim
    if config.name.startswith("given/"):
        name = config.name.removeprefix("given/")
        raise ConfigError(f"its backbone {name} is your own code; pass it again in Python, as backbone={name}(...)")
    made = (
        _lite0(config.pretrained)
        if config.name == "lite0"
        else timm_network(config.name.removeprefix("timm/"), config.pretrained)
    )
    module = _with_weights(made, config)
    if size:
        fit_input(module, config.name, size)
    # models with a hidden layer after the pooling return its width, not num_features
    return module, cast(int, getattr(module, "head_hidden_size", None) or module.num_features)


def _lite0(pretrained: bool) -> nn.Module:
    import timm  # slow to import, and only needed here

    module: nn.Module = timm.create_model(lite0.NETWORK, num_classes=0)
    if pretrained:
        module.load_state_dict(lite0.load_weights())
    return module


def trained_input(name: str) -> InputConfig | None:
    """Return size, mean and standard deviation that the weights were trained with; None if they are not known."""
    if name in ("lite0", f"timm/{lite0.NETWORK}"):
        return LITE0_INPUT
    import timm  # slow to import, and only needed here

    try:
        config = timm.models.get_pretrained_cfg(name.removeprefix("timm/"), allow_unregistered=True)
    except RuntimeError:  # an unknown tag; make_backbone reports it
        return None
    if config is None:
        return None
    (a, b, c), (d, e, f) = config.mean, config.std
    # timm states 518 for DINOv2. Its training was at 224 except for the end, and 518 takes seven to ten times as long on a CPU
    size = 224 if "dinov2" in name else config.input_size[-1]
    return InputConfig(size=size, mean=(a, b, c), std=(d, e, f))


def given_feature_dim(module: nn.Module, size: int) -> int:
    """Return F of the caller's module: its `feature_dim`, or the width of its output for a black picture of `size` pixels.

    A transformer of timm for another size is fitted to this one.

    Raises:
        ConfigError: its output is not (B, F).
    """
    fit_input(module, type(module).__name__, size)
    known = getattr(module, "feature_dim", None)
    if isinstance(known, int):
        return known
    check_sizes(module, type(module).__name__, {size})
    mode, tensor = module.training, next(module.parameters(), torch.empty(0))
    with torch.no_grad():
        out = module.eval()(torch.zeros(1, 3, size, size, device=tensor.device))
    module.train(mode)
    if not isinstance(out, Tensor) or out.ndim != 2:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(f"the given backbone returns {found} for one picture, not (1, F); add pooling and flatten")
    return out.shape[1]


def check_sizes(module: nn.Module, name: str, sizes: Collection[int], dim: int = 0) -> None:
    """Refuse a backbone that does not accept pictures of all these sides; many transformers accept only one size.

    Args:
        dim: length of its features that is expected; by default, the same for all sides.
    Raises:
        ConfigError: names the size, and the error of the backbone or the lengths of its features.
    """
    mode, tensor = module.training, next(module.parameters(), torch.empty(0))
    shapes: dict[int, tuple[int, ...]] = {}
    try:
        module.eval()
        for size in sorted(sizes):
            with torch.no_grad():
                out = module(torch.zeros(1, 3, size, size, device=tensor.device))
            if not isinstance(out, Tensor):
                raise TypeError(f"it returns {type(out).__name__}, not a tensor")
            shapes[size] = tuple(out.shape)
    except Exception as error:  # networks raise errors of any type
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"backbone {name} takes no pictures of {size} x {size} pixels ({reason}); set `image_size` to one that it takes"
            f"{_own_size(module)}"
        ) from None
    finally:
        module.train(mode)
    found = ", ".join(f"{shape} for {size} x {size} pixels" for size, shape in shapes.items())
    one = next(iter(shapes.values()))
    if len(set(shapes.values())) > 1 or (dim and len(one) != 2):
        wanted = "(1, F) with the same F for all sizes"
        raise ConfigError(
            f"backbone {name} returns {found}, not {wanted}; end it with an average over all places, and flatten"
        )
    if dim and one != (1, dim):
        raise ConfigError(
            f"backbone {name} returns {found}, and its `feature_dim` is {dim}; set that to {one[1]}, or omit it"
        )


def _own_size(module: nn.Module) -> str:
    """The side that a network of timm or torchvision was made for, in words for an error."""
    config: Any = getattr(module, "default_cfg", None) or {}
    size = getattr(module, "image_size", None) or (config.get("input_size") or [None])[-1]
    return f", such as {size}" if isinstance(size, int) else ""


def _with_weights(module: nn.Module, config: BackboneConfig) -> nn.Module:
    """Load the recipe's own file of weights, if it names one."""
    if not config.weights:
        return module
    from safetensors import SafetensorError

    if Path(config.weights).suffix != ".safetensors":
        raise ConfigError(
            f"`weights` must be a .safetensors file, since pickled weights are unsafe, got {config.weights}"
        )
    counts = "num_batches_tracked"  # of batches; some files lack them
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(counts)}
    try:  # the file may also have a classifier
        module.load_state_dict(read_tensors(Path(config.weights), wanted, strict=False), strict=False)
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise ConfigError(f"weights {config.weights} do not fit {config.name}: {first_line(error)}") from None
    return module


def _check_numbers(module: nn.Module, config: BackboneConfig) -> None:
    """Refuse pretrained weights that are all zero, or not finite."""
    finite = all(bool(tensor.isfinite().all()) for tensor in module.state_dict().values())
    if not finite or not any(bool(p.any()) for p in module.parameters()):
        raise WeightsError(
            f"pretrained weights {config.weights or config.name} are all zero or not finite; get them again, or use others"
        )
