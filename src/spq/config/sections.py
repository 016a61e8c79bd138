"""Sections of a recipe, with their defaults. Each checks its values when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from spq.config.quantizer_config import QuantizerConfig
from spq.config.ranges import check_ranges, ranged
from spq.errors import ConfigError

MOST_PARAMETERS = 200_000_000  # of a resnet with its head and codebooks: 800 MB; recipe paper has 11 million
_HIGH = 1_000_000  # for numbers without a natural limit


@dataclass(frozen=True)
class InputConfig:
    """Input of the network: `size` x `size` RGB pixels, normalized to `(pixel / 255 - mean) / std`."""

    size: int = ranged(32, 8, 1024)
    mean: tuple[float, float, float] = ranged((0.5, 0.5, 0.5), -1000, 1000)
    std: tuple[float, float, float] = ranged((0.25, 0.25, 0.25), 0, 1000, above=True)

    def __post_init__(self) -> None:
        check_ranges(self, "input")

    def scaled(self, scale: float) -> InputConfig:
        """The same input with a side about `scale` times as long, a multiple of 4."""
        return self if scale == 1 else replace(self, size=max(8, 4 * round(self.size * scale / 4)))


@dataclass(frozen=True)
class BackboneConfig:
    """`resnet` (blocks, width, stem_stride), `lite0` (EfficientNet-Lite0) or `timm/NAME`.

    The last two may start from pretrained weights, and all three from a local file.

    Training with the caller's own module writes `given/CLASS`. Loading the model then needs that module.
    """

    name: str = "resnet"
    # basic blocks per stage; each stage doubles the width and halves the side
    blocks: tuple[int, ...] = ranged((2, 2, 2, 2), 0, 100)
    width: int = ranged(64, 1, 4096)  # channels of the first stage
    stem_stride: int = ranged(1, 1, 8)
    pretrained: bool = False
    weights: str = ""  # a local .safetensors file; empty: no weights

    def __post_init__(self) -> None:
        if self.name not in ("resnet", "lite0") and not self.name.startswith(("timm/", "given/")):
            raise ConfigError(f"unknown backbone {self.name!r}; use lite0, resnet or timm/NAME, such as timm/resnet18")
        if not 1 <= len(self.blocks) <= 8:
            raise ConfigError(f"backbone.blocks must have 1 to 8 stages, got {len(self.blocks)}; try [1, 1, 1]")
        check_ranges(self, "backbone")

    @property
    def feature_dim(self) -> int:
        """Dimension F of a resnet's features."""
        return self.width << max((stage for stage, count in enumerate(self.blocks) if count), default=0)

    @property
    def parameters(self) -> int:
        """Number of a resnet's weights; 0 for other networks, whose name decides it."""
        if self.name != "resnet":
            return 0
        total, before = 29 * self.width, self.width  # 3 x 3 x 3 filters and a normalization
        for stage, count in enumerate(self.blocks):
            channels = self.width * 2**stage
            for block in range(count):
                total += 9 * channels * (before + channels) + 4 * channels
                total += channels * (before + 2) if before != channels or (stage and not block) else 0  # the shortcut
                before = channels
        return total


@dataclass(frozen=True)
class HeadConfig:
    """Feature -> descriptor: Linear -> ReLU -> Linear if `hidden` > 0, else one Linear."""

    hidden: int = ranged(512, 0, 65_536)
    batch_norm: bool = False  # after the hidden layer, as in the head of SimCLR
    # > 0: descriptors are scaled so that the root mean square length of their sub-vectors is this number. Each part between two
    # of the quantizer's prefixes is scaled separately, so that a prefix needs no numbers behind it.
    norm: float = ranged(0.0, 0, 1000)
    unit: bool = False  # features are scaled to length 1 first
    # All but random need a frozen backbone. pq and opq: product quantization of its features, with a share of the features or of
    # their principal axes for each codebook. smooth: of features that are smoothed over the neighbours of a picture.
    start: Literal["random", "pq", "opq", "smooth"] = "random"
    # > 0: each sub-vector is a softmax of the head's numbers divided by this temperature, the soft assignment to
    # codeword_dim clusters.
    softmax: float = ranged(0.0, 0, 1000)

    def __post_init__(self) -> None:
        check_ranges(self, "head")
        if self.softmax and self.norm:
            raise ConfigError(f"head.softmax needs head.norm = 0, got {self.norm}; set one of them to 0")


@dataclass(frozen=True)
class ViewsConfig:
    """Random views of an image. All parameters are drawn for each image."""

    crop_scale: tuple[float, float] = ranged((0.08, 1.0), 0, 1)  # share of the area
    crop_ratio: tuple[float, float] = ranged((3 / 4, 4 / 3), 0, 1000)
    flip: float = ranged(0.5, 0, 1)  # probability, as jitter, grayscale and blur
    jitter: float = ranged(0.8, 0, 1)  # of colours
    brightness: float = ranged(0.4, 0, 1)  # strength, as the next three
    contrast: float = ranged(0.4, 0, 1)
    saturation: float = ranged(0.4, 0, 1)
    hue: float = ranged(0.1, 0, 1)  # of a full turn
    grayscale: float = ranged(0.2, 0, 1)
    blur: float = ranged(0.5, 0, 1)
    blur_sigma: tuple[float, float] = ranged((0.1, 2.0), 0, 1000)  # pixels of the view
    blur_kernel: int = ranged(0, 0, 1023)  # pixels, odd; 0: a tenth of the view's side, as in SimCLR, at least 3
    # how colours change. hsv: as torchvision does. matrix: in one product, which is faster and nearly the same
    colour: Literal["hsv", "matrix"] = "matrix"

    def __post_init__(self) -> None:
        check_ranges(self, "views")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ConfigError(
                f"views.crop_scale must satisfy 0 < min <= max <= 1, got {list(self.crop_scale)}; try [0.2, 1.0]"
            )
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ConfigError(
                f"views.crop_ratio must satisfy 0 < min <= max, got {list(self.crop_ratio)}; try [0.75, 1.333]"
            )
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ConfigError(
                f"views.blur_sigma must satisfy 0 < min <= max, got {list(self.blur_sigma)}; try [0.1, 2.0]"
            )
        if self.blur_kernel and self.blur_kernel % 2 == 0:
            raise ConfigError(f"views.blur_kernel must be 0 or an odd number, got {self.blur_kernel}; try 0 or 3")

    def kernel_for(self, side: int) -> int:
        """Return the side of the blur kernel for views of a side.

        >>> [ViewsConfig().kernel_for(side) for side in (16, 32, 64, 224)]
        [3, 3, 7, 23]
        """
        return self.blur_kernel or max(3, side // 10 // 2 * 2 + 1)


@dataclass(frozen=True)
class TrainConfig:
    """Loss, optimizer, schedule and budget."""

    temperature: float = ranged(0.5, 0, 1000, above=True)  # tau of the contrastive loss
    late_temperature: float = ranged(0.5, 0, 1000, above=True)  # tau in the last part of the budget
    late_share: float = ranged(0.0, 0, 1)  # of the budget at its end, with late_temperature
    batch_size: int = ranged(256, 2, 65_536)
    epochs: int = ranged(3000, 0, _HIGH)  # 0, if frozen: no training steps; head and codebooks stay as they start
    minutes: float = ranged(0.0, 0, _HIGH)  # > 0: a wall-clock budget instead of `epochs`
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = ranged(3e-4, 0, 1000)  # learning rate of Adam
    weight_decay: float = ranged(1e-5, 0, 1000)
    muon_lr: float = ranged(0.1, 0, 1000)  # learning rate of convolutions if optimizer is muon
    muon_momentum: float = ranged(0.6, 0, 1)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = ranged(0.0, 0, 1)  # share of the budget with a rising learning rate
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: Literal["auto", "on", "off"] = "auto"  # with torch.compile; auto: on CUDA, for 5 minutes or more
    graph: bool = False  # on CUDA: record a step as one CUDA graph
    checkpoint_minutes: float = ranged(10.0, 0, _HIGH)
    seed: int = ranged(0, 0, 2**32 - 1)
    num_views: int = ranged(2, 2, 64)  # of each image in a batch; the loss is averaged over their pairs
    one_pass: bool = False  # one forward pass for all views of a step, which is faster
    # of a moving average whose descriptors are the targets; 0: views are targets of each other
    target_momentum: float = ranged(0.0, 0, 0.9999)
    predictor: int = ranged(1024, 1, 65_536)  # hidden units of the predictor of these targets
    negatives: bool = True  # other pictures of the batch are negatives; false, with moving targets: views only attract
    view_scale: float = ranged(1.0, 0, 2, above=True)  # side of a view divided by side of the input
    small_share: float = ranged(0.0, 0, 1)  # of the budget at its start, with views of small_scale
    small_scale: float = ranged(0.5, 0, 2, above=True)
    # factor of the backbone's learning rates: below 1 if it is pretrained
    backbone_lr_scale: float = ranged(1.0, 0, 1000)
    frozen: bool = False  # the backbone is not trained; head and codebooks learn from cached features
    cached_views: int = ranged(8, 0, 1000)  # of each picture besides the whole picture, if frozen
    # pictures with similar features that are positives too; features are those at the start
    neighbours: int = ranged(0, 0, 10_000)
    refit: bool = False  # fit the codebooks to the final descriptors at the end

    def __post_init__(self) -> None:
        check_ranges(self, "train")
        if not (self.negatives or self.target_momentum):
            raise ConfigError(
                "train.negatives = false needs moving targets, or all descriptors become equal; set train.target_momentum to 0.99"
            )
        if self.epochs < 1 and self.minutes <= 0 and not self.frozen:
            raise ConfigError(
                f"`epochs` {self.epochs} and `minutes` {self.minutes} are no budget; set one of them above 0"
            )


@dataclass(frozen=True)
class FinishConfig:
    """After the backbone: train head and codebooks again on its features, with views and neighbours as positives."""

    epochs: int = ranged(0, 0, _HIGH)  # over the cached features; 0: no finish
    # of the training's minutes that is reserved for it; 0: it takes additional time
    share: float = ranged(0.1, 0, 0.99)
    views: int = ranged(3, 0, 1000)  # of each picture, besides the whole picture
    neighbours: int = ranged(50, 0, 10_000)  # pictures that random walks over the features reach most often
    temperature: float = ranged(0.3, 0, 1000, above=True)
    batch_size: int = ranged(256, 2, 65_536)
    lr: float = ranged(1e-2, 0, 1000, above=True)

    def __post_init__(self) -> None:
        check_ranges(self, "finish")
        if self.epochs and self.neighbours < 1:
            raise ConfigError(f"finish.neighbours must be 1 or more, got {self.neighbours}; try 50")


@dataclass(frozen=True)
class ClusterConfig:
    """After the backbone: each codebook becomes a clustering of the pictures, then the network learns from its own clusters."""

    share: float = ranged(0.0, 0, 0.99)  # of the training's minutes for this stage; 0: no such stage
    clusters: int = ranged(16, 2, 4096)  # of each head; also the length of a sub-vector
    neighbours: int = ranged(20, 1, 10_000)  # pictures that should share the clusters of a picture
    balance: float = ranged(2.0, 0, 1000)  # weight of the entropy that keeps clusters in use
    candidates: int = ranged(3, 1, 100)  # heads that are fitted for each that is kept
    head_steps: int = ranged(1000, 1, _HIGH)  # on frozen features
    head_batch: int = ranged(1024, 2, 65_536)
    head_lr: float = ranged(3e-3, 0, 1000, above=True)
    temperature: float = ranged(4.0, 0, 1000, above=True)  # of the softmax whose values are quantized
    rounds: int = ranged(2, 0, 100)  # of self-training, with new heads after each; 0: none, the first heads stay
    certainty: float = ranged(0.65, 0, 1)  # mean largest assignment of the heads that self-training needs
    epochs: int = ranged(40, 1, _HIGH)  # of self-training at most; it also ends with the minutes
    batch_size: int = ranged(1024, 2, 65_536)  # pictures; two views of each
    view_scale: float = ranged(0.75, 0, 2, above=True)
    # a head learns from pictures above it; 0: from all, with sharpened assignments
    confidence: float = ranged(0.9, 0, 0.999)
    sharpness: float = ranged(4.0, 0, 1000, above=True)  # exponent of sharpened assignments
    teacher_momentum: float = ranged(0.99, 0, 1)
    # of the teacher's own assignment in a target; the rest is that of the neighbours
    own_share: float = ranged(0.5, 0, 1)
    contrast: float = ranged(0.1, 0, 1000)  # weight of the contrastive loss, which continues
    muon_lr: float = ranged(0.02, 0, 1000)
    lr: float = ranged(1e-3, 0, 1000, above=True)
    # share of another picture that is mixed into each strong view, at most half of this value
    mixup: float = ranged(0.0, 0, 1)
    cutout: float = ranged(0.5, 0, 1)  # side of the square that is cut out, as a share of the view's side
    refresh: int = ranged(3, 0, _HIGH)  # how often neighbours are computed again

    def __post_init__(self) -> None:
        check_ranges(self, "cluster")


@dataclass(frozen=True)
class Recipe:
    """All settings of a training."""

    name: str = "paper"
    input: InputConfig = field(default_factory=InputConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finish: FinishConfig = field(default_factory=FinishConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if self.cluster.share and (self.finish.epochs or self.train.frozen):
            other = "finish.epochs" if self.finish.epochs else "train.frozen"
            raise ConfigError(f"{other} and cluster.share exclude each other; set one of them to 0 or false")
        if (self.cluster.share or self.head.softmax) and self.quantizer.kind != "product":
            setting = "cluster.share" if self.cluster.share else "head.softmax"
            raise ConfigError(
                f'{setting} needs quantizer.kind = "product", got {self.quantizer.kind}; set {setting} = 0'
            )
        if self.train.frozen and self.train.epochs < 1 and self.head.start == "random":
            raise ConfigError(
                f"`epochs` {self.train.epochs} leaves head and codebooks random; "
                'set head.start = "pq", or train.epochs above 0'
            )
        if self.parameters > MOST_PARAMETERS:
            raise ConfigError(
                f"backbone, head and codebooks have {self.parameters:,} parameters, more than {MOST_PARAMETERS:,}; "
                "lower backbone.width, head.hidden or quantizer.codeword_dim"
            )
        if self.views.blur_kernel // 2 >= (side := min(self.shown_sizes)):
            raise ConfigError(
                f"views.blur_kernel {self.views.blur_kernel} is too large for views of {side} pixels; try 3"
            )

    @property
    def parameters(self) -> int:
        """Number of weights in backbone, head and codebooks; at least, if the name of the backbone decides its size."""
        q, hidden = self.quantizer, self.head.hidden
        features = self.backbone.feature_dim if self.backbone.name == "resnet" else 1
        head = features * hidden + hidden * q.dim if hidden else features * q.dim
        return self.backbone.parameters + head + q.parameters

    @property
    def shown_sizes(self) -> set[int]:
        """Sides in pixels of everything that the backbone sees: views, views of stage `cluster`, whole pictures."""
        more = {self.input.scaled(self.cluster.view_scale).size} if self.cluster.share else set()
        return {self.input.size, *self.view_sizes, *more}

    @property
    def view_sizes(self) -> set[int]:
        """Sides in pixels of the views that a backbone trains on: one or two."""
        train = self.train
        scales = (train.view_scale, train.small_scale) if train.small_share else (train.view_scale,)
        return {self.input.scaled(scale).size for scale in scales}
