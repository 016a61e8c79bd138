"""`SPQ`: the model with its training attached, for use from Python."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from spq.config import Recipe, load_recipe
from spq.data.image_set import ImageSet
from spq.data.open import open_images
from spq.errors import ConfigError
from spq.model.model import Model

__all__ = ["SPQ"]


class SPQ(Model):
    """A trained model: `embed`, `encode`, `save`; made by `train`, `load` or `from_pretrained`."""

    @classmethod
    def train(
        cls,
        images: str | Path | ImageSet,
        *,
        bits: int | Sequence[int] | None = None,
        recipe: str | Path | Recipe = "spq",
        image_size: int | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        seed: int | None = None,
        out: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Train without labels.

        Args:
            images: a folder, Parquet file, tar, named set or `ImageSet`.
            bits: length of a code, or several that the model shall give; image_size, epochs, minutes, seed: in place of the
                recipe's.
            out: model folder, with checkpoints and log; by default only the model in memory is kept.
            options: as `spq.training.train.train` takes them (device, resume, backbone, start, callbacks).
        """
        from spq.training.train import train  # serving never loads training code

        config = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        config = with_options(config, bits=bits, image_size=image_size, epochs=epochs, minutes=minutes, seed=seed)
        source = open_images(images) if isinstance(images, str | Path) else images
        if out is not None:
            model = train(source, config, out, **options)
        else:
            with tempfile.TemporaryDirectory(prefix="spq-") as folder:
                model = train(source, config, folder, **options)
        return cls(model.network, model.config, model.training)


def with_options(
    recipe: Recipe,
    *,
    bits: int | Sequence[int] | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    precision: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    frozen: bool | None = None,
) -> Recipe:
    """The recipe with what is given in place of its own.

    Raises:
        ConfigError: a value that cannot be.
    """
    if epochs is not None and minutes is not None:
        raise ConfigError(f"`epochs` {epochs} and `minutes` {minutes:g} are two budgets; give one")
    if minutes is not None and not 0 < minutes < math.inf:
        raise ConfigError(f"`minutes` must be above 0, got {minutes:g}")
    changes: dict[str, Any] = {
        "epochs": epochs,
        "minutes": minutes,
        "seed": seed,
        "precision": precision,
        "frozen": frozen,
    }
    if epochs is not None:
        changes["minutes"] = 0.0
    training = replace(recipe.train, **{key: value for key, value in changes.items() if value is not None})
    lengths = [bits] if isinstance(bits, int) else bits
    quantizer = recipe.quantizer.with_bits(*lengths) if lengths else recipe.quantizer
    source: dict[str, Any] = {"name": backbone, "weights": weights, "pretrained": False if weights else None}
    chosen = replace(recipe.backbone, **{key: value for key, value in source.items() if value is not None})
    pixels = recipe.input
    if backbone is not None and backbone != recipe.backbone.name and (chosen.pretrained or chosen.weights):
        from spq.model.backbone import trained_input

        pixels = trained_input(chosen.name) or pixels
    return replace(
        recipe,
        input=pixels if image_size is None else replace(pixels, size=image_size),
        backbone=chosen,
        quantizer=quantizer,
        train=training,
    )
