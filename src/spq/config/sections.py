"""Sections of a recipe, with their defaults. Each checks its values when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from spq.errors import CodebookError, ConfigError

# The distance of a code is a sum over the codebooks: of norms (l2, the paper's code), of squared norms (plain PQ), or of negative
# inner products (dot), which may be below 0. Smaller is nearer.
Distance = Literal["l2", "sqeuclidean", "dot"]
DISTANCES: tuple[Distance, ...] = ("l2", "sqeuclidean", "dot")


def check_distance(name: str) -> None:
    """Refuse a name that is not in `DISTANCES`.

    Raises:
        ConfigError: lists the names that are allowed.
    """
    if name not in DISTANCES:
        *others, last = DISTANCES
        raise ConfigError(f"unknown distance {name!r}; use {', '.join(others)} or {last}")


@dataclass(frozen=True)
class InputConfig:
    """Input of the network: `size` x `size` RGB pixels, normalized to `(pixel / 255 - mean) / std`."""

    size: int = 32
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024:
            raise ConfigError(f"`image_size` must be from 8 to 1024, got {self.size}; try 32, 64 or 224")
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"input.std must be above 0, got {list(self.std)}; try 0.25")

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
    blocks: tuple[int, ...] = (2, 2, 2, 2)  # basic blocks per stage; each stage doubles the width and halves the side
    width: int = 64  # channels of the first stage
    stem_stride: int = 1
    pretrained: bool = False
    weights: str = ""  # a local .safetensors file; empty: no weights

    def __post_init__(self) -> None:
        if self.name not in ("resnet", "lite0") and not self.name.startswith(("timm/", "given/")):
            raise ConfigError(f"unknown backbone {self.name!r}; use lite0, resnet or timm/NAME, such as timm/resnet18")


@dataclass(frozen=True)
class HeadConfig:
    """Feature -> descriptor: Linear -> ReLU -> Linear if `hidden` > 0, else one Linear."""

    hidden: int = 512
    batch_norm: bool = False  # after the hidden layer, as in the head of SimCLR
    # > 0: descriptors are scaled so that the root mean square length of their sub-vectors is this number. Each part between two
    # of the quantizer's prefixes is scaled separately, so that a prefix needs no numbers behind it.
    norm: float = 0.0
    unit: bool = False  # features are scaled to length 1 first
    # All but random need a frozen backbone. pq and opq: product quantization of its features, with a share of the features or of
    # their principal axes for each codebook. smooth: of features that are smoothed over the neighbours of a picture.
    start: Literal["random", "pq", "opq", "smooth"] = "random"
    # > 0: each sub-vector is a softmax of the head's numbers divided by this temperature, the soft assignment to
    # codeword_dim clusters.
    softmax: float = 0.0

    def __post_init__(self) -> None:
        if self.softmax < 0:
            raise ConfigError(f"head.softmax must be a temperature above 0, or 0 for none, got {self.softmax}")
        if self.softmax and self.norm:
            raise ConfigError(f"head.softmax needs head.norm = 0, got {self.norm}; set one of them to 0")


@dataclass(frozen=True)
class QuantizerConfig:
    """M codebooks of K codewords of d numbers, and the temperature of soft assignment."""

    num_codebooks: int = 8  # M
    codebook_size: int = 16  # K, a power of two
    codeword_dim: int = 16  # d
    temperature: float = 0.2  # tau_q is a divisor; the paper prints the factor 5 = 1/0.2
    distance: Distance = "l2"
    prefixes: tuple[int, ...] = ()  # numbers of leading sub-codes that are codes too, rising to M; empty: only M

    def __post_init__(self) -> None:
        K = self.codebook_size
        if K < 2 or K > 256 or K & (K - 1):
            raise CodebookError(f"codebook size must be a power of two up to 256, got K={K}; try 16, 64 or 256")
        if self.num_codebooks < 1 or self.codeword_dim < 1:
            raise CodebookError(
                f"num_codebooks and codeword_dim must be 1 or more, got {self.num_codebooks}, {self.codeword_dim}"
            )
        if not self.temperature > 0:
            raise CodebookError(f"quantizer.temperature must be above 0, got {self.temperature}; try 0.2")
        check_distance(self.distance)
        steps, M = (0, *self.prefixes), self.num_codebooks
        if self.prefixes and (self.prefixes[-1] != M or any(a >= b for a, b in pairwise(steps))):
            raise CodebookError(
                f"quantizer.prefixes must rise to M={M}, got {list(self.prefixes)}; for example [{M // 2}, {M}]"
            )

    @property
    def bits(self) -> int:
        """Bits of a code: M * log2(K)."""
        return self.num_codebooks * (self.codebook_size.bit_length() - 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Bits of each prefix that is a code, and of the whole code last."""
        per_codebook = self.bits // self.num_codebooks
        return tuple(p * per_codebook for p in self.prefixes) or (self.bits,)

    @property
    def prefix_dims(self) -> tuple[int, ...]:
        """How many numbers of a descriptor each of `lengths` needs: the first p * d."""
        return tuple(p * self.codeword_dim for p in self.prefixes) or (self.dim,)

    @property
    def bytes(self) -> int:
        """Bytes of a packed code."""
        return math.ceil(self.bits / 8)

    @property
    def dim(self) -> int:
        """Dimension of a descriptor: D = M * d."""
        return self.num_codebooks * self.codeword_dim

    def with_bits(self, *bits: int) -> QuantizerConfig:
        """The same K and d, with enough codebooks for `bits`. Of several lengths, the shorter ones become prefixes.

        One length keeps the prefixes that are shorter.
        """
        per_codebook = self.codebook_size.bit_length() - 1
        for length in bits:
            if length < per_codebook or length % per_codebook:
                raise CodebookError(
                    f"`bits` must be a multiple of log2(K) = {per_codebook} bits per codebook, got {length}; try 16, 32 or 64"
                )
        numbers = sorted({length // per_codebook for length in bits})
        M = numbers[-1]
        shorter = numbers[:-1] if len(numbers) > 1 else [p for p in self.prefixes if p < M]
        return replace(self, num_codebooks=M, prefixes=(*shorter, M) if shorter else ())


@dataclass(frozen=True)
class ViewsConfig:
    """Random views of an image. All parameters are drawn for each image."""

    crop_scale: tuple[float, float] = (0.08, 1.0)  # share of the area
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8  # probability of colour jitter
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # of a full turn
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    blur_kernel: int = 3  # pixels, odd

    def __post_init__(self) -> None:
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
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise ConfigError(f"views.blur_kernel must be an odd number above 0, got {self.blur_kernel}; try 3")
        _check_range(self, "views", 0, 1, "flip", "jitter", "grayscale", "blur")  # probabilities
        _check_range(self, "views", 0, 1, "brightness", "contrast", "saturation", "hue")  # strengths


@dataclass(frozen=True)
class TrainConfig:
    """Loss, optimizer, schedule and budget."""

    temperature: float = 0.5  # tau of the contrastive loss
    late_temperature: float = 0.5  # tau in the last part of the budget
    late_share: float = 0.0  # of the budget at its end, with late_temperature
    batch_size: int = 256
    epochs: int = 3000  # 0, if frozen: no training steps; head and codebooks stay as they start
    minutes: float = 0.0  # > 0: a wall-clock budget instead of `epochs`
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = 3e-4  # learning rate of Adam
    weight_decay: float = 1e-5
    muon_lr: float = 0.1  # learning rate of convolutions if optimizer is muon
    muon_momentum: float = 0.6
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.0  # share of the budget with a rising learning rate
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: Literal["auto", "on", "off"] = "auto"  # with torch.compile; auto: on CUDA, for 5 minutes or more
    graph: bool = False  # on CUDA: record a step as one CUDA graph
    checkpoint_minutes: float = 10.0
    seed: int = 0
    num_views: int = 2  # of each image in a batch; the loss is averaged over their pairs
    one_pass: bool = False  # one forward pass for all views of a step, which uses a GPU better
    target_momentum: float = (
        0.0  # of a moving average whose descriptors are the targets; 0: views are targets of each other
    )
    predictor: int = 1024  # hidden units of the predictor of these targets
    negatives: bool = True  # other pictures of the batch are negatives; false, with moving targets: views only attract
    view_scale: float = 1.0  # side of a view divided by side of the input
    small_share: float = 0.0  # of the budget at its start, with views of small_scale
    small_scale: float = 0.5
    backbone_lr_scale: float = 1.0  # factor of the backbone's learning rates: below 1 if it is pretrained
    frozen: bool = False  # the backbone is not trained; head and codebooks learn from cached features
    cached_views: int = 8  # of each picture besides the whole picture, if frozen
    neighbours: int = 0  # pictures with similar features that are positives too; features are those at the start
    refit: bool = False  # fit the codebooks to the final descriptors at the end

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(f"train.batch_size must be 2 or more, got {self.batch_size}; try 256")
        if self.num_views < 2:
            raise ConfigError(f"train.num_views must be 2 or more, got {self.num_views}; try 2")
        if not (0 < self.view_scale <= 2 and 0 < self.small_scale <= 2):
            raise ConfigError(
                f"train.view_scale and small_scale must be above 0 and at most 2, got {self.view_scale} and {self.small_scale}; "
                "try 0.75 and 0.5"
            )
        for name in ("temperature", "late_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"train.{name} must be above 0, got {getattr(self, name)}; try 0.2")
        if not (self.negatives or self.target_momentum):
            raise ConfigError(
                "train.negatives = false needs moving targets, or all descriptors become equal; set train.target_momentum to 0.99"
            )
        _check_range(self, "train", 0, 2**32 - 1, "seed")
        _check_range(self, "train", 0, 1, "muon_momentum", "warmup", "small_share", "late_share")
        _check_range(self, "train", 0, 0.9999, "target_momentum")
        _check_range(self, "train", 1, 2**16, "predictor")
        _check_range(self, "train", 0, math.inf, "lr", "muon_lr", "weight_decay", "backbone_lr_scale")
        _check_range(self, "train", 0, math.inf, "neighbours", "cached_views")
        if not math.isfinite(self.minutes):
            raise ConfigError(
                f"`minutes` must be a finite number, got {self.minutes}; Ctrl-C ends a training at any time"
            )
        if self.epochs < 1 and self.minutes <= 0 and not self.frozen:
            raise ConfigError(
                f"`epochs` {self.epochs} and `minutes` {self.minutes} are no budget; set one of them above 0"
            )


@dataclass(frozen=True)
class FinishConfig:
    """After the backbone: train head and codebooks again on its features, with views and neighbours as positives."""

    epochs: int = 0  # over the cached features; 0: no finish
    share: float = 0.1  # of the training's minutes that is reserved for it; 0: it takes additional time
    views: int = 3  # of each picture, besides the whole picture
    neighbours: int = 50  # pictures that random walks over the features reach most often
    temperature: float = 0.3
    batch_size: int = 256
    lr: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"finish.share must satisfy 0 <= share < 1, got {self.share}; try 0.1")
        if self.views < 0:
            raise ConfigError(f"finish.views must be 0 or more, got {self.views}; try 3")
        if self.epochs < 0:
            raise ConfigError(f"finish.epochs must be 0 or more, got {self.epochs}; try 16, or 0 for no finish")
        if self.batch_size < 2:
            raise ConfigError(f"finish.batch_size must be 2 or more, got {self.batch_size}; try 256")
        if not (self.temperature > 0 and self.lr > 0):
            raise ConfigError(
                f"finish.temperature and lr must be above 0, got {self.temperature}, {self.lr}; try 0.3, 1e-2"
            )
        if self.epochs and self.neighbours < 1:
            raise ConfigError(f"finish.neighbours must be 1 or more, got {self.neighbours}; try 50")


@dataclass(frozen=True)
class ClusterConfig:
    """After the backbone: each codebook becomes a clustering of the pictures, then the network learns from its own clusters."""

    share: float = 0.0  # of the training's minutes for this stage; 0: no such stage
    clusters: int = 16  # of each head; also the length of a sub-vector
    neighbours: int = 20  # pictures that should share the clusters of a picture
    balance: float = 2.0  # weight of the entropy that keeps clusters in use
    candidates: int = 3  # heads that are fitted for each that is kept
    head_steps: int = 1000  # on frozen features
    head_batch: int = 1024
    head_lr: float = 3e-3
    temperature: float = 4.0  # of the softmax whose values are quantized
    rounds: int = 2  # of self-training, with new heads after each; 0: none, the first heads stay
    certainty: float = 0.65  # mean largest assignment of the heads that self-training needs
    epochs: int = 40  # of self-training at most; it also ends with the minutes
    batch_size: int = 1024  # pictures; two views of each
    view_scale: float = 0.75
    confidence: float = 0.9  # a head learns from pictures above it; 0: from all, with sharpened assignments
    sharpness: float = 4.0  # exponent of sharpened assignments
    teacher_momentum: float = 0.99
    own_share: float = 0.5  # of the teacher's own assignment in a target; the rest is that of the neighbours
    contrast: float = 0.1  # weight of the contrastive loss, which continues
    muon_lr: float = 0.02
    lr: float = 1e-3
    mixup: float = 0.0  # share of another picture that is mixed into each strong view, at most half of this value
    cutout: float = 0.5  # side of the square that is cut out, as a share of the view's side
    refresh: int = 3  # how often neighbours are computed again

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"cluster.share must satisfy 0 <= share < 1, got {self.share}; try 0.3")
        for name in ("temperature", "view_scale", "head_lr", "lr", "sharpness"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"cluster.{name} must be above 0, got {getattr(self, name)}; omit it for its default")
        _check_range(self, "cluster", 2, math.inf, "clusters", "batch_size", "head_batch")
        _check_range(self, "cluster", 1, math.inf, "neighbours", "candidates", "head_steps", "epochs")
        _check_range(self, "cluster", 0, math.inf, "balance", "contrast", "muon_lr", "refresh", "rounds")
        _check_range(self, "cluster", 0, 1, "certainty", "own_share", "cutout", "mixup", "teacher_momentum")
        _check_range(self, "cluster", 0, 0.999, "confidence")
        _check_range(self, "cluster", 0, 2, "view_scale")


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
        if self.train.frozen and self.train.epochs < 1 and self.head.start == "random":
            raise ConfigError(
                f"`epochs` {self.train.epochs} leaves head and codebooks random; "
                'set head.start = "pq", or train.epochs above 0'
            )
        if self.views.blur_kernel // 2 >= (side := min(self.shown_sizes)):
            raise ConfigError(
                f"views.blur_kernel {self.views.blur_kernel} is too large for views of {side} pixels; try 3"
            )

    def at_temperature(self, temperature: float) -> Recipe:
        """Return the recipe with another temperature of the loss."""
        return replace(self, train=replace(self.train, temperature=temperature))

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


def _check_range(config: Any, section: str, low: float, high: float, *names: str) -> None:
    allowed = f"{low} or more" if high == math.inf else f"from {low} to {high}"
    for name in names:
        if not low <= (value := getattr(config, name)) <= high:
            raise ConfigError(f"{section}.{name} must be {allowed}, got {value}; omit it for its default")
