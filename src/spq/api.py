"""`SPQ`: the model with its training attached, for use from Python."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from spq.common.files import scratch_place
from spq.common.parallel import launched
from spq.config import DEFAULT, BackboneConfig, Overrides, Recipe, TrainConfig, load_recipe, to_dict, with_overrides
from spq.config.ranges import plain
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import ConfigError
from spq.model.model import MODEL_BYTES, Model
from spq.model.on_class import on_class

if TYPE_CHECKING:
    from torch import nn

    from spq.training.automatic import Choice
    from spq.training.context import TrainOptions
    from spq.training.losses import Loss
    from spq.training.own_views import Views

__all__ = ["SPQ"]

NEEDS_RECIPE = ("start", "resume", "backbone", "loss", "views", "quantizer")
KEYS = {  # of the recipe, that an option sets
    "image_size": {"input.size"}, "epochs": {"train.epochs"}, "minutes": {"train.minutes"},
    "seed": {"train.seed"}, "precision": {"train.precision"}, "backbone": {"backbone.name"}, "frozen": {"train.frozen"},
}  # fmt: skip
BUDGETS = ("train.epochs", "train.minutes")
LENGTHS = "quantizer.lengths"
DECIDED_LATER = {  # by weights that are there, by sizes that a backbone or views take; and what `bits` stands for
    "backbone.pretrained", "backbone.weights", "train.view_scale", "train.small_share", "cluster.view_scale",
    "quantizer.num_codebooks", "quantizer.prefixes",
}  # fmt: skip
OF_START = ("input", "backbone", "head", "quantizer")  # sections that are those of the start model


class SPQ(Model):
    """A trained model with `embed`, `encode` and `save`; get one from `train`, `load` or `from_pretrained`."""

    @on_class  # `model.train()` is that of `nn.Module`
    def train(  # type: ignore[override]
        cls,
        images: Any,
        *,
        bits: int | Sequence[int] | None = None,
        recipe: str | Path | Recipe | None = None,
        image_size: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        seed: int | None = None,
        overrides: Overrides | None = None,
        loss: Loss | None = None,
        backbone: nn.Module | str | None = None,
        views: Views | None = None,
        quantizer: nn.Module | None = None,
        out: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Train without labels.

        Args:
            images: what `open_images` takes: a folder, Parquet file, tar or named set, a list of paths or pictures, an array, a
                torch or Hugging Face dataset, or an `ImageSet`.
            bits: length of a code, or several lengths that the model gives.
            recipe: a name, a TOML file or a `Recipe`. By default `head` if pretrained weights are on this machine, and `pq` if
                that gives safer codes; else `spq`, from scratch. Options that need a recipe, such as `start`, take `spq`.
            image_size, epochs, minutes, seed: values that replace those of the recipe.
            overrides: other values of the recipe by name, such as `{"train.lr": 1e-3}`.
            out: model folder, with checkpoints and log; by default the model is only returned.
            loss: called as `loss(x, z, rows)` instead of the recipe's loss; see `spq.training.losses`.
            backbone: any module (B, 3, S, S) -> (B, F), or a name such as timm/resnet18.
            views: called as `views(pixels, generator)` instead of the recipe's views; see `spq.training.own_views`.
            quantizer: any module with the methods of a `spq.model.quantizer.Quantizer` instead of the recipe's quantizer.
            options: fields of `TrainOptions` and `Callbacks` by name: device, resume, start, sample, tensorboard, measure,
                deadline, on_load, on_status, on_epoch, on_note, on_part.
        Raises:
            ConfigError: an option out of range. DataError: too few readable pictures.
        """
        from spq.training.automatic import train_checked  # searching and serving load no training code
        from spq.training.context import TrainOptions
        from spq.training.train import train

        if bits is not None and quantizer is not None:
            raise ConfigError("your `quantizer` has codes of a length of its own; omit `bits`")
        source = open_images(images)
        named = backbone if isinstance(backbone, str) else None
        parts = {"loss": loss, "backbone": None if named else backbone, "views": views, "quantizer": quantizer}
        options |= {name: part for name, part in parts.items() if part is not None}
        known = TrainOptions().with_names(**options)
        out = check_out(out, known.resume)
        is_given = recipe or named or overrides or any(options.get(name) not in (None, False) for name in NEEDS_RECIPE)
        choice = None if is_given else choose(source, epochs)
        usual = choice.recipe if choice else "head" if named else DEFAULT
        config = recipe if isinstance(recipe, Recipe) else load_recipe(recipe or usual)
        config = with_overrides(config, overrides or ())
        check_overrides(overrides, has_start=options.get("start") is not None)
        changes: dict[str, Any] = {"image_size": image_size, "epochs": epochs, "minutes": minutes, "seed": seed}
        changes |= {"bits": bits, "backbone": choice.backbone if choice else named}
        config = with_options(config, **changes)
        if known.resume:
            tell_ignored(known, Path(out or ""), config, {"recipe": recipe, **changes, "overrides": overrides})
        if choice:
            known.callbacks.note(choice.reason)
        run = train_checked if choice and choice.backbone else train
        if out is not None:
            model = run(source, config, out, known)
        else:
            with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(MODEL_BYTES)) as folder:
                model = run(source, config, folder, known)
        return cls(model.network, model.config, model.facts)


def check_out(out: str | Path | None, resume: bool) -> str | None:
    """Return the model folder to write as text, or None.

    Raises:
        ConfigError: it is no path, or empty, or there is none to resume.
    """
    path: str | None = plain("out", out, str)
    if path is not None and not path:
        raise ConfigError("`out` is empty; give a folder for the model, or omit it")
    if resume and path is None:
        raise ConfigError("`resume` continues a training in `out`; give that folder, or omit `resume`")
    return path


def check_overrides(overrides: Overrides | None, has_start: bool) -> None:
    """Refuse to override what the model decides that training starts from.

    Raises:
        ConfigError: names the key.
    """
    for name in overrides or ():
        if has_start and name.partition(".")[0].strip() in OF_START:
            raise ConfigError(f"`start` decides {name.partition('=')[0]}; omit this value, or omit `start`")


def ignored_by_resume(out: Path, config: Recipe, options: Mapping[str, Any], apart: Iterable[str] = ()) -> list[str]:
    """Return the options that a resumed training does not use, because it keeps the recipe that it started with.

    Args:
        config: the recipe that the options make together. options: by name: `recipe`, `overrides` and those of `with_options`;
            None is not given. apart: sections or keys of the recipe that something else decides.
    Raises:
        ModelError: the checkpoint is damaged.
    """
    from spq.training.checkpoint import Checkpoint

    given = {name: value for name, value in options.items() if value is not None}
    checkpoint = Checkpoint.load(out) if given else None
    if not checkpoint:
        return []
    asked, used, left_out = _keys(config), _keys(checkpoint.recipe), {*apart, *DECIDED_LATER}
    differs = {key for key in asked if asked[key] != used.get(key) and not left_out & {key, key.partition(".")[0]}}
    overrides = {text.partition("=")[0].strip() for text in given.get("overrides", ())}
    of_option = {name: keys & differs for name, keys in {**KEYS, "overrides": overrides}.items() if name in given}
    explained = set[str]().union(*of_option.values(), BUDGETS if {"epochs", "minutes"} & set(given) else ())
    if "bits" in given:  # one length keeps the shorter ones of a recipe, which may be another here
        wanted, explained = RecipeChanges(bits=given["bits"]).lengths, {*explained, LENGTHS}
        lengths = checkpoint.recipe.quantizer.lengths
        of_option["bits"] = {LENGTHS} if max(wanted) != lengths[-1] or not {*wanted} <= {*lengths} else set()
    names = [name for name in given if of_option.get(name)]
    return ["recipe", *names] if "recipe" in given and differs - explained else names


def _keys(recipe: Recipe) -> dict[str, Any]:
    """The values of a recipe by `section.key`, and the lengths of its codes."""
    sections = {name: section for name, section in to_dict(recipe).items() if isinstance(section, dict)}
    values = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {**values, LENGTHS: recipe.quantizer.lengths}


def tell_ignored(known: TrainOptions, out: Path, config: Recipe, options: Mapping[str, Any]) -> None:
    """Say what a resumed training ignores, in the first of several processes: to `on_note`, or else as a warning."""
    deciding = {
        OF_START: known.start, ("quantizer",): known.quantizer, ("backbone",): known.backbone, BUDGETS: known.deadline,
    }  # fmt: skip
    apart = {key for keys, part in deciding.items() if part is not None for key in keys}
    ignored = ignored_by_resume(out, config, options, apart) if launched()[0] == 0 else []
    if not ignored:
        return
    names = ", ".join(f"`{name}`" for name in ignored)
    text = (
        f"the training in {out} continues with its own recipe and ignores {names}; for other values, give a new `out`"
    )
    if known.callbacks.on_note:
        known.callbacks.note(text)
    else:
        warnings.warn(text, stacklevel=3)


def choose(images: ImageSet, epochs: int | None = None) -> Choice:
    """Choose a recipe by the number of pictures and the pretrained weights on this machine."""
    from spq.model.weights import best_at_hand
    from spq.training.automatic import choose_recipe

    return choose_recipe(len(images), best_at_hand(), epochs)


@dataclass(frozen=True)
class RecipeChanges:
    """Values that replace those of a recipe; None keeps the recipe's.

    Attributes:
        bits: length of a code, or several lengths that one model gives. Numbers may be of NumPy; they become those of Python.
        image_size: side of the network's input in pixels.
        epochs, minutes: the budget; only one of them.
        backbone: name of a timm model. weights: path of a .safetensors file for it.
    """

    bits: int | Sequence[int] | None = None
    image_size: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    seed: int | None = None
    precision: str | None = None
    backbone: str | None = None
    weights: str | None = None
    frozen: bool | None = None

    def __post_init__(self) -> None:
        bits: Any = self.bits
        if isinstance(bits, np.ndarray):
            bits = bits.tolist()
        several = isinstance(bits, Sequence) and not isinstance(bits, str | bytes)
        if several and not bits:
            raise ConfigError("`bits` is empty; give the length of a code, or omit it")
        checked = tuple(plain("bits", each, int) for each in bits) if several else plain("bits", bits, int)
        object.__setattr__(self, "bits", checked)
        for name, kind in _KINDS.items():
            object.__setattr__(self, name, plain(name, getattr(self, name), kind))

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of `bits`; () if they are not given."""
        return (self.bits,) if isinstance(self.bits, int) else tuple(self.bits or ())


_KINDS: dict[str, type] = {
    "image_size": int, "epochs": int, "minutes": float, "seed": int, "precision": str, "backbone": str, "weights": str,
    "frozen": bool,
}  # fmt: skip


def with_options(recipe: Recipe, **changes: Any) -> Recipe:
    """Return the recipe with some values replaced; `changes` are the fields of `RecipeChanges`.

    Raises:
        ConfigError: a value out of range.
    """
    given = RecipeChanges(**changes)
    backbone = _changed_backbone(recipe.backbone, given)
    pixels = recipe.input
    if backbone.name != recipe.backbone.name and (backbone.pretrained or backbone.weights):
        from spq.model.backbone import trained_input

        pixels = trained_input(backbone.name) or pixels
    return replace(
        recipe,
        input=pixels if given.image_size is None else replace(pixels, size=given.image_size),
        backbone=backbone,
        quantizer=recipe.quantizer.with_bits(*given.lengths) if given.lengths else recipe.quantizer,
        train=_changed_settings(recipe.train, given),
    )


def _changed_settings(train: TrainConfig, given: RecipeChanges) -> TrainConfig:
    if given.epochs is not None and given.minutes is not None:
        raise ConfigError(f"`epochs` {given.epochs} and `minutes` {given.minutes:g} are two budgets; give one")
    if given.minutes is not None and not 0 < given.minutes < math.inf:
        raise ConfigError(f"`minutes` must be above 0, got {given.minutes:g}")
    names = ("epochs", "minutes", "seed", "precision", "frozen")
    values = {name: value for name in names if (value := getattr(given, name)) is not None}
    if given.epochs is not None:
        values["minutes"] = 0.0
    return replace(train, **values)


def _changed_backbone(backbone: BackboneConfig, given: RecipeChanges) -> BackboneConfig:
    if given.backbone is not None:
        backbone = replace(backbone, name=given.backbone)
    if given.weights is not None:
        backbone = replace(backbone, weights=given.weights)
    return replace(backbone, pretrained=False) if given.weights else backbone
