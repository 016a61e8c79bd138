from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest
import torch

from spq.config import BackboneConfig, HeadConfig, QuantizerConfig, Recipe, load_recipe, recipe_names
from spq.config.ranges import Range
from spq.config.sections import MOST_PARAMETERS
from spq.errors import ConfigError
from spq.model.network import Network

SECTIONS = {name: hint for name, hint in typing.get_type_hints(Recipe).items() if dataclasses.is_dataclass(hint)}
NUMBERS = [
    (name, field.name)
    for name, section in SECTIONS.items()
    for field in dataclasses.fields(section)
    if not isinstance(field.default, bool | str)
]


def with_number(section: Any, name: str, number: object) -> object:
    """Make a section with this number, or with a list of it, in a field."""
    default = section.__dataclass_fields__[name].default
    return section(**{name: (number,) * max(1, len(default)) if isinstance(default, tuple) else number})


def test_all_sections_are_found() -> None:
    assert len(SECTIONS) == 8
    assert len(NUMBERS) > 60


@pytest.mark.parametrize(("section", "name"), NUMBERS)
def test_no_number_of_a_recipe_may_be_huge_negative_or_no_number(section: str, name: str) -> None:
    allowed: Range = SECTIONS[section].__dataclass_fields__[name].metadata["range"]
    for number in (2**63, 10**5000, 1e300, -1e9, float("nan"), float("inf"), True, "8"):
        with pytest.raises(ConfigError, match=r"must be (from|above) ") as caught:
            with_number(SECTIONS[section], name, number)
        named = {"size": "`image_size`", "epochs": "`epochs`", "minutes": "`minutes`"}.get(name, f"{section}.{name}")
        assert named in str(caught.value) or f"{section}.{name}" in str(caught.value)
        assert str(allowed) in str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", recipe_names())
def test_the_number_of_parameters_is_known_before_the_network_is_made(name: str) -> None:
    recipe = load_recipe(name)
    if recipe.backbone.name != "resnet":
        assert recipe.parameters < 10_000_000
        return
    with torch.device("meta"):
        network = Network(recipe)
    found = sum(p.numel() for p in network.parameters())
    biases = sum(p.numel() for p in network.head.parameters() if p.ndim == 1)
    assert recipe.parameters == found - biases


@pytest.mark.parametrize("blocks", [(0,), (1, 0, 2), (0, 3), (2, 1, 1, 1, 1)])
def test_unusual_blocks_are_counted_too(blocks: tuple[int, ...]) -> None:
    recipe = Recipe(backbone=BackboneConfig(blocks=blocks, width=8), head=HeadConfig(hidden=0))
    with torch.device("meta"):
        network = Network(recipe)
    assert recipe.backbone.parameters == sum(p.numel() for p in network.backbone.parameters())
    assert recipe.backbone.feature_dim == network.feature_dim


@pytest.mark.parametrize(
    "sections",
    [
        {"backbone": BackboneConfig(blocks=(100,) * 8, width=4096)},
        {"head": HeadConfig(hidden=65_536), "quantizer": QuantizerConfig(num_codebooks=1024, codeword_dim=4096)},
        {"quantizer": QuantizerConfig(num_codebooks=1024, codebook_size=256, codeword_dim=4096)},
    ],
)
def test_a_network_that_would_fill_the_memory_is_refused_before_it_is_made(sections: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"parameters, more than {MOST_PARAMETERS:,}; lower backbone.width"):
        Recipe(**sections)


def test_stages_of_a_backbone_are_limited() -> None:
    for count in (0, 9, 100_000):
        with pytest.raises(ConfigError, match=f"1 to 8 stages, got {count}"):
            BackboneConfig(blocks=(1,) * count)


def test_a_code_of_a_huge_length_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="`bits` must be at most 4096, got 9223372036854775808"):
        QuantizerConfig().with_bits(2**63)
