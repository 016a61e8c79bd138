from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from small_training import Patches, small_recipe
from spq.config import InputConfig
from spq.model.network import Network
from spq.training.muon import Muon
from spq.training.optimizers import lr_factor, make_optimizers, normalised_filters


def peak_rates(network: Network, optimizers: list[Any]) -> dict[int, float]:
    return {
        id(p): group["peak_lr"] for made in optimizers for group in made.param_groups for p in group["params"]
    }  # fmt: skip


def test_muon_moves_the_filters_and_adam_the_rest() -> None:
    network = Network(small_recipe())
    muon, adam = make_optimizers(network, small_recipe(optimizer="muon"))
    assert isinstance(muon, Muon)
    assert {p.ndim for group in muon.param_groups for p in group["params"]} == {4}
    moved = [p for made in (muon, adam) for group in made.param_groups for p in group["params"]]
    assert len(moved) == len({id(p) for p in moved}) == len(list(network.parameters()))
    (only,) = make_optimizers(network, small_recipe(optimizer="adam"))
    assert isinstance(only, torch.optim.Adam)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet18", {}, 20),  # all
        ("vit_tiny_patch16_224", {"depth": 1}, 0),  # the patch embedding meets no normalisation
        (
            "convnext_atto",
            {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
            5,
        ),  # of the stem and before each block's first LayerNorm
        ("efficientnet_b0", {}, 49),  # but not those of squeeze-and-excitation
    ],
)
def test_muon_takes_filters_before_a_normalisation_only(name: str, options: dict[str, Any], expected: int) -> None:
    backbone: nn.Module = timm.create_model(name, num_classes=0, **options)
    taken = normalised_filters(backbone)
    names = [name for name, p in backbone.named_parameters() if id(p) in taken]
    assert len(names) == expected, names
    assert not [name for name in names if "se." in name or "embed" in name]
    network = Network(replace(small_recipe(), input=InputConfig(size=32)), backbone)
    made = make_optimizers(network, small_recipe(optimizer="muon"))
    moved = [p for each in made for group in each.param_groups for p in group["params"]]
    assert len(moved) == len(list(network.parameters()))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_pretrained_backbone_learns_at_its_share_of_the_rate(optimizer: str) -> None:
    recipe, backbone = small_recipe(optimizer=optimizer, backbone_lr_scale=0.1, lr=1e-3, muon_lr=0.1), Patches()
    network = Network(recipe, backbone)
    rates = peak_rates(network, make_optimizers(network, recipe))
    of_backbone = {id(p) for p in backbone.parameters()}
    filters = {id(p) for p in backbone.parameters() if p.ndim == 4}
    assert len(rates) == len(list(network.parameters()))
    assert {rates[id(p)] for p in network.parameters() if id(p) not in of_backbone} == {1e-3}
    assert [rates[i] for i in of_backbone - filters] == pytest.approx([1e-4] * 3)
    assert [rates[i] for i in filters] == pytest.approx([0.01 if optimizer == "muon" else 1e-4])


def test_a_backbone_may_be_left_out_and_other_modules_join() -> None:
    recipe, more = small_recipe(optimizer="adam"), nn.Linear(2, 2)
    network = Network(recipe)
    rates = peak_rates(network, make_optimizers(network, recipe, backbone=False, more=[more]))
    expected = [*network.head.parameters(), *network.quantizer.parameters(), *more.parameters()]
    assert set(rates) == {id(p) for p in expected}


def test_a_constant_schedule_still_warms_up() -> None:
    assert [lr_factor(done, 0.5, "constant") for done in (0.0, 0.25, 0.5, 0.9)] == [0.0, 0.5, 1.0, 1.0]
