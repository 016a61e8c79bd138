"""Recipes: frozen dataclasses, and the TOML and JSON that they are read from. Imports nothing of spq but errors."""

from __future__ import annotations

from spq.config.quantizer_config import DISTANCES, Distance, QuantizerConfig, check_distance
from spq.config.recipe_files import DEFAULT, Overrides, load_recipe, recipe_names, split_recipe, with_overrides
from spq.config.sections import (
    BackboneConfig,
    ClusterConfig,
    FinishConfig,
    HeadConfig,
    InputConfig,
    Recipe,
    TrainConfig,
    ViewsConfig,
)
from spq.config.strict import from_dict, to_dict

__all__ = [
    "DEFAULT",
    "DISTANCES",
    "BackboneConfig",
    "ClusterConfig",
    "Distance",
    "FinishConfig",
    "HeadConfig",
    "InputConfig",
    "Overrides",
    "QuantizerConfig",
    "Recipe",
    "TrainConfig",
    "ViewsConfig",
    "check_distance",
    "from_dict",
    "load_recipe",
    "recipe_names",
    "split_recipe",
    "to_dict",
    "with_overrides",
]
