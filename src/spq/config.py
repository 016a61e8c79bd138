"""Frozen configuration. Every number that training uses stands in a recipe file (`spq/recipes/*.toml`), read strictly."""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import tomllib
import typing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from spq.errors import CodebookError, ConfigError

# A code's distance is a sum over the codebooks: of unsquared norms (the paper's code), of squared ones (plain PQ), or of negative
# inner products, which may be below 0. The smaller, the nearer.
Distance = Literal["l2", "sqeuclidean", "dot"]
DISTANCES: tuple[Distance, ...] = ("l2", "sqeuclidean", "dot")
T = TypeVar("T")


def check_distance(name: str) -> None:
    """Refuse a name that is none of `DISTANCES`.

    Raises:
        ConfigError: names those that there are.
    """
    if name not in DISTANCES:
        *others, last = DISTANCES
        raise ConfigError(f"unknown distance {name!r}; use {', '.join(others)} or {last}")


@dataclass(frozen=True)
class InputConfig:
    """What the network sees: `size` x `size` RGB, `(pixel / 255 - mean) / std`."""

    size: int = 32
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 1024:
            raise ConfigError(f"image size {self.size} is outside 8..1024; try 32, 64 or 224")
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"input.std {list(self.std)} divides and must be above 0; try 0.25")

    def scaled(self, scale: float) -> InputConfig:
        """Of a side about `scale` times as long, a multiple of 4."""
        return self if scale == 1 else replace(self, size=max(8, 4 * round(self.size * scale / 4)))


@dataclass(frozen=True)
class BackboneConfig:
    """`resnet` (blocks, width, stem_stride), or `timm/NAME` with optional pretrained or local weights.

    `given/CLASS` is written by training with a module of the caller's own, which loading then needs as well.
    """

    name: str = "resnet"
    blocks: tuple[int, ...] = (2, 2, 2, 2)  # basic blocks per stage; the width doubles and the side halves per stage
    width: int = 64  # channels of the first stage
    stem_stride: int = 1
    pretrained: bool = False
    weights: str = ""  # a local .safetensors file; empty: none

    def __post_init__(self) -> None:
        if self.name != "resnet" and not self.name.startswith(("timm/", "given/")):
            raise ConfigError(f"unknown backbone {self.name!r}; use 'resnet' or 'timm/NAME', for example timm/resnet18")


@dataclass(frozen=True)
class HeadConfig:
    """Feature -> descriptor: Linear -> ReLU -> Linear with `hidden` > 0, one Linear with 0."""

    hidden: int = 512
    batch_norm: bool = False  # of the hidden layer, as in SimCLR's own head
    # > 0: descriptors are scaled so that their sub-vectors have this length in the mean square, in each stretch between two
    # of the quantizer's prefixes by itself: a prefix then spends no bits on length either, and needs nothing behind it
    norm: float = 0.0
    start: Literal["random", "pq"] = "random"  # pq, with a frozen backbone: product quantization of its features
    # > 0: each sub-vector is a softmax of the head's numbers divided by this temperature: the soft assignment to
    # codeword_dim clusters
    softmax: float = 0.0

    def __post_init__(self) -> None:
        if self.softmax < 0 or (self.softmax and self.norm):
            raise ConfigError(
                f"head.softmax {self.softmax} must be 0 or a temperature, and needs head.norm = 0, got {self.norm}"
            )


@dataclass(frozen=True)
class QuantizerConfig:
    """M codebooks of K codewords of d numbers, and the temperature of soft assignment."""

    num_codebooks: int = 8  # M
    codebook_size: int = 16  # K, a power of two
    codeword_dim: int = 16  # d
    temperature: float = 0.2  # tau_q divides; the paper prints the multiplier (5 == 1/0.2)
    distance: Distance = "l2"
    prefixes: tuple[int, ...] = ()  # so many first sub-codes are codes themselves, rising to M; empty: only all M are

    def __post_init__(self) -> None:
        K = self.codebook_size
        if K < 2 or K > 256 or K & (K - 1):
            raise CodebookError(f"codebook size must be a power of two up to 256, got K={K}; try 16, 64 or 256")
        if self.num_codebooks < 1 or self.codeword_dim < 1:
            raise CodebookError(f"need M >= 1 and d >= 1, got M={self.num_codebooks}, d={self.codeword_dim}")
        if not self.temperature > 0:
            raise CodebookError(f"soft-quantization temperature must be positive, got {self.temperature}; try 0.2")
        check_distance(self.distance)
        steps, M = (0, *self.prefixes), self.num_codebooks
        if self.prefixes and (self.prefixes[-1] != M or any(a >= b for a, b in pairwise(steps))):
            raise CodebookError(
                f"prefixes {list(self.prefixes)} do not rise to M={M}; give for example [{M // 2}, {M}]"
            )

    @property
    def bits(self) -> int:
        """Bits of a code: M * log2(K)."""
        return self.num_codebooks * (self.codebook_size.bit_length() - 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Bits of each code that a model gives: of each prefix, the whole code last."""
        per_codebook = self.bits // self.num_codebooks
        return tuple(p * per_codebook for p in self.prefixes) or (self.bits,)

    @property
    def prefix_dims(self) -> tuple[int, ...]:
        """Numbers of a descriptor that each of `lengths` needs: its first p * d."""
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
        """The same K and d with as many codebooks as give `bits`; of several lengths, the shorter ones as prefixes.

        With one, prefixes that are shorter stay.
        """
        per_codebook = self.codebook_size.bit_length() - 1
        for length in bits:
            if length < per_codebook or length % per_codebook:
                raise CodebookError(
                    f"--bits {length} is not a multiple of log2(K) = {per_codebook} bits per codebook; try 16, 32 or 64"
                )
        numbers = sorted({length // per_codebook for length in bits})
        M = numbers[-1]
        shorter = numbers[:-1] if len(numbers) > 1 else [p for p in self.prefixes if p < M]
        return dataclasses.replace(self, num_codebooks=M, prefixes=(*shorter, M) if shorter else ())


@dataclass(frozen=True)
class ViewsConfig:
    """Random views of an image; all parameters are drawn per image."""

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
                f"views.crop_scale {list(self.crop_scale)} is no rising share of the area; try [0.2, 1.0]"
            )
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ConfigError(f"views.crop_ratio {list(self.crop_ratio)} does not rise from above 0; try [0.75, 1.333]")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ConfigError(f"views.blur_sigma {list(self.blur_sigma)} does not rise from above 0; try [0.1, 2.0]")
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise ConfigError(f"views.blur_kernel {self.blur_kernel} is not odd; try 3")
        _check_range(self, "views", 0, 1, "flip", "jitter", "grayscale", "blur")  # probabilities
        _check_range(self, "views", 0, 1, "brightness", "contrast", "saturation", "hue")  # strengths


@dataclass(frozen=True)
class TrainConfig:
    """Loss, optimizer, schedule and budget."""

    temperature: float = 0.5  # tau of the contrastive loss
    batch_size: int = 256
    epochs: int = 3000
    minutes: float = 0.0  # > 0: a budget of wall clock instead of `epochs`
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = 3e-4  # Adam's
    weight_decay: float = 1e-5
    muon_lr: float = 0.1  # of convolutions, when optimizer is muon
    muon_momentum: float = 0.6
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.0  # share of the budget
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    channels_last: bool = False
    compile: Literal["auto", "on", "off"] = "auto"  # the network, by torch.compile; auto: on CUDA, from 5 minutes on
    graph: bool = False  # on CUDA: record a step once as a graph, and launch its kernels together
    checkpoint_minutes: float = 10.0
    seed: int = 0
    num_views: int = 2  # of each image in a batch; the loss is averaged over their pairs
    one_pass: bool = False  # all views of a step in one forward pass, which fills a GPU better than one for each view
    view_scale: float = 1.0  # side of a view by side of the input
    small_share: float = 0.0  # of the budget: the first part sees views of small_scale
    small_scale: float = 0.5
    backbone_lr_scale: float = 1.0  # of the backbone's learning rates: below 1 for a pretrained one
    frozen: bool = False  # the backbone stays as it is: head and codebooks learn from cached features
    cached_views: int = 8  # of each picture, beside the whole picture, when frozen
    neighbours: int = 0  # pictures near by the features it starts with that a picture is to agree with, beside itself
    refit: bool = False  # codebooks fitted once more, to the final descriptors of the training pictures

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ConfigError(f"batch size {self.batch_size} leaves no negatives; try 256")
        if self.num_views < 2:
            raise ConfigError(f"{self.num_views} views of an image make no pair; give 2 or more")
        if not (0 < self.view_scale <= 2 and 0 < self.small_scale <= 2):
            raise ConfigError(f"view scales {self.view_scale}, {self.small_scale} are outside 0..2; try 0.75 and 0.5")
        if not self.temperature > 0:
            raise ConfigError(f"train.temperature {self.temperature} divides and must be above 0; try 0.2")
        _check_range(self, "train", 0, 2**32 - 1, "seed")
        _check_range(self, "train", 0, 1, "muon_momentum", "warmup", "small_share")
        _check_range(self, "train", 0, math.inf, "lr", "muon_lr", "weight_decay", "backbone_lr_scale")
        _check_range(self, "train", 0, math.inf, "neighbours", "cached_views")
        if not math.isfinite(self.minutes):
            raise ConfigError(f"minutes {self.minutes} have no end; give a number, Ctrl-C ends a training at any time")
        if self.epochs < 1 and self.minutes <= 0:
            raise ConfigError(f"nothing to train: epochs {self.epochs}, minutes {self.minutes}; give one of them")


@dataclass(frozen=True)
class FinishConfig:
    """When the backbone is trained: head and codebooks learned anew on its features, with views and neighbours as positives."""

    epochs: int = 0  # of the pictures' features; 0: the training ends with the backbone's, as a frozen one's does
    share: float = 0.1  # of a training's minutes that is kept for it; 0: it takes its epochs after them
    views: int = 3  # of each picture whose features are computed, beside those of the whole picture
    neighbours: int = 50  # pictures that random walks over the features lead to
    temperature: float = 0.3
    batch_size: int = 256
    lr: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ConfigError(f"finish.share {self.share} is no share of the minutes; try 0.1")
        if self.views < 0:
            raise ConfigError(f"finish.views {self.views} is no number of views; try 3")
        if self.epochs < 0:
            raise ConfigError(f"finish.epochs {self.epochs} is no number of epochs; try 16, or 0 for no finish")
        if self.batch_size < 2:
            raise ConfigError(f"finish.batch_size {self.batch_size} leaves no negatives; try 256")
        if not (self.temperature > 0 and self.lr > 0):
            raise ConfigError(f"finish.temperature {self.temperature} and lr {self.lr} must be above 0; try 0.3, 1e-2")
        if self.epochs and self.neighbours < 1:
            raise ConfigError(f"finish.neighbours {self.neighbours} leaves nothing to agree with; try 50")


@dataclass(frozen=True)
class ClusterConfig:
    """After the backbone: each codebook becomes a clustering of the pictures, then the network learns from its own clusters."""

    share: float = 0.0  # of a training's minutes that the stage gets; 0: no such stage
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
        _check_range(self, "cluster", 0, 1, "certainty", "own_share", "cutout", "teacher_momentum")
        _check_range(self, "cluster", 0, 0.999, "confidence")
        _check_range(self, "cluster", 0, 2, "view_scale")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training."""

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
            raise ConfigError(f"{other} and cluster.share exclude each other; give one of them")
        if self.views.blur_kernel // 2 >= (side := min(self.shown_sizes)):
            raise ConfigError(f"views.blur_kernel {self.views.blur_kernel} is too large for views of {side} px; try 3")

    @property
    def shown_sizes(self) -> set[int]:
        """Sides in pixels of all pictures that a backbone is shown: views, those of stage `cluster`, whole pictures."""
        more = {self.input.scaled(self.cluster.view_scale).size} if self.cluster.share else set()
        return {self.input.size, *self.view_sizes, *more}

    @property
    def view_sizes(self) -> set[int]:
        """Sides in pixels of the views that a backbone trains on: one or two."""
        train = self.train
        scales = (train.view_scale, train.small_scale) if train.small_share else (train.view_scale,)
        return {self.input.scaled(scale).size for scale in scales}


def _check_range(config: Any, section: str, low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= (value := getattr(config, name)) <= high:
            raise ConfigError(f"{section}.{name} {value} is outside {low}..{high}; omit it for its default")


def recipe_names() -> list[str]:
    """Names of the recipes that come with spq."""
    folder = importlib.resources.files("spq") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_file: str | Path) -> Recipe:
    """A recipe by its name, or from a TOML file. Unknown keys and wrong types are refused.

    Raises:
        ConfigError: no such recipe, not TOML, an unknown key, a value of the wrong type.
    """
    text = str(name_or_file)
    if text in recipe_names():
        source = (importlib.resources.files("spq") / "recipes" / f"{text}.toml").read_text("utf-8")
    elif text.endswith(".toml"):
        try:
            source = Path(text).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read recipe {text}: {_reason(error)}; check the path") from None
    else:
        raise ConfigError(f"no recipe {text!r}; there are {', '.join(recipe_names())}, or give a .toml file")
    try:
        table = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {text} is not TOML: {error}") from None
    return from_dict(Recipe, {"name": Path(text).stem, **table}, where=f"recipe {text}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], table: Any, where: str) -> T:
    """A dataclass from plain JSON/TOML types, strictly.

    Raises:
        ConfigError: names the key and what it should have been.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table, got {table!r}")
    if cls is ClusterConfig and "self_training" in table:  # of models before `rounds`
        table = {key: value for key, value in table.items() if key != "self_training"} | {
            "rounds": int(table["self_training"])
        }
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(hints)}")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where} = {value!r}; use one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        variadic = len(args) == 2 and args[1] is ...
        if not isinstance(value, list | tuple) or (not variadic and len(value) != len(args)):
            raise ConfigError(f"{where} = {value!r}; expected a list of {'numbers' if variadic else len(args)}")
        kinds = [args[0]] * len(value) if variadic else list(args)
        return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(hint, type) or not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} = {value!r}; expected {getattr(hint, '__name__', hint)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} = {value!r}; expected a finite number")
    return value


def _reason(error: Exception) -> str:
    """The operating system's words without the path (which the message already names)."""
    return getattr(error, "strerror", None) or str(error)
