"""`SPQ`: the model with its training attached, for use from Python."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from spq.common.files import scratch_place
from spq.config import DEFAULT, BackboneConfig, Recipe, TrainConfig, load_recipe
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import ConfigError
from spq.model.model import MODEL_BYTES, Model

if TYPE_CHECKING:
    from spq.training.automatic import Choice

__all__ = ["SPQ"]

NEEDS_RECIPE = ("start", "resume", "backbone", "objective")


class SPQ(Model):
    """A trained model with `embed`, `encode` and `save`; get one from `train`, `load` or `from_pretrained`."""

    @classmethod
    def train(
        cls,
        images: Any,
        *,
        bits: int | Sequence[int] | None = None,
        recipe: str | Path | Recipe | None = None,
        image_size: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        seed: int | None = None,
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
            out: model folder, with checkpoints and log; by default the model is only returned.
            options: fields of `TrainOptions` and `Callbacks` by name: device, resume, backbone, start, objective, sample,
                tensorboard, measure, deadline, on_load, on_status, on_epoch, on_note, on_part.
        Raises:
            ConfigError: an option out of range. DataError: too few readable pictures.
        """
        from spq.training.automatic import train_checked  # searching and serving load no training code
        from spq.training.context import TrainOptions
        from spq.training.train import train

        source = open_images(images)
        is_given = recipe or any(options.get(name) for name in NEEDS_RECIPE)
        choice = None if is_given else choose(source, epochs)
        config = recipe if isinstance(recipe, Recipe) else load_recipe(recipe or (choice.recipe if choice else DEFAULT))
        changes = {"image_size": image_size, "epochs": epochs, "minutes": minutes, "seed": seed}
        config = with_options(config, bits=bits, backbone=choice.backbone if choice else None, **changes)
        known = TrainOptions().with_names(**options)
        if choice:
            known.callbacks.note(choice.reason)
        run = train_checked if choice and choice.backbone else train
        if out is not None:
            model = run(source, config, out, known)
        else:
            with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(MODEL_BYTES)) as folder:
                model = run(source, config, folder, known)
        return cls(model.network, model.config, model.training)


def choose(images: ImageSet, epochs: int | None = None) -> Choice:
    """Choose a recipe by the number of pictures and the pretrained weights on this machine."""
    from spq.model.weights import best_at_hand
    from spq.training.automatic import choose_recipe

    return choose_recipe(len(images), best_at_hand(), epochs)


@dataclass(frozen=True)
class RecipeChanges:
    """Values that replace those of a recipe; None keeps the recipe's.

    Attributes:
        bits: length of a code, or several lengths that one model gives.
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


def with_options(recipe: Recipe, **changes: Any) -> Recipe:
    """Return the recipe with some values replaced; `changes` are the fields of `RecipeChanges`.

    Raises:
        ConfigError: a value out of range.
    """
    given = RecipeChanges(**changes)
    lengths = [given.bits] if isinstance(given.bits, int) else given.bits
    backbone = _changed_backbone(recipe.backbone, given)
    pixels = recipe.input
    if backbone.name != recipe.backbone.name and (backbone.pretrained or backbone.weights):
        from spq.model.backbone import trained_input

        pixels = trained_input(backbone.name) or pixels
    return replace(
        recipe,
        input=pixels if given.image_size is None else replace(pixels, size=given.image_size),
        backbone=backbone,
        quantizer=recipe.quantizer.with_bits(*lengths) if lengths else recipe.quantizer,
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
