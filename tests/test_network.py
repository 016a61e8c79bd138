from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from small_training import Patches, small_recipe
from spq.config import BackboneConfig, HeadConfig, Recipe
from spq.errors import ConfigError, ModelError
from spq.model.network import Network, check_numbers


def test_forward_gives_descriptors_and_their_soft_quantizations() -> None:
    network, images = Network(small_recipe()).eval(), torch.randn(3, 3, 16, 16)
    x, z = network(images)
    torch.testing.assert_close(x, network.describe(images))
    torch.testing.assert_close(z, network.quantizer(x))
    assert x.shape == z.shape == (3, 4 * 8)


def test_a_head_with_batch_normalisation_has_no_bias_before_it() -> None:
    recipe = small_recipe()
    head = Network(replace(recipe, head=replace(recipe.head, hidden=32, batch_norm=True))).head
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert head[0].bias is None
    (only,) = Network(replace(recipe, head=replace(recipe.head, hidden=0, batch_norm=False))).head
    assert isinstance(only, nn.Linear)


def test_softmax_makes_soft_assignments_of_each_sub_vector() -> None:
    recipe = small_recipe()
    network = Network(replace(recipe, head=replace(recipe.head, hidden=0, batch_norm=False, norm=0.0, softmax=2.0)))
    logits = torch.randn(5, 32)
    found = network.scaled(logits).view(5, 4, 8)
    expected = torch.exp(logits.view(5, 4, 8) / 2.0)
    torch.testing.assert_close(found, expected / expected.sum(2, keepdim=True))


def test_quantization_keeps_full_precision_under_autocast() -> None:
    network = Network(small_recipe()).eval()
    features = torch.randn(4, network.feature_dim)
    with torch.autocast("cpu", torch.bfloat16):
        x, z = network.quantized(features)
    assert x.dtype == z.dtype == torch.float32
    torch.testing.assert_close(z, network.quantizer(x), rtol=0, atol=0)


def test_the_width_of_a_given_backbone_is_found_and_its_mode_kept() -> None:
    backbone = Patches().train()
    network = Network(small_recipe(), backbone)
    assert network.feature_dim == 96
    assert backbone.training
    assert int(backbone.norm.num_batches_tracked) == 0  # batch statistics did not change


def test_a_backbone_without_features_of_two_axes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"returns \(1, 24, 6, 6\) for one picture, not \(1, F\); add pooling"):
        Network(small_recipe(), nn.Conv2d(3, 24, 5, 2))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda n: n.quantizer.codebooks.data[0, 0].fill_(torch.nan),
            "quantizer.codebooks has numbers that are not finite",
        ),
        (lambda n: next(n.backbone.buffers()).fill_(torch.inf), "not finite"),
        (lambda n: n.quantizer.codebooks.data.zero_(), "all weights of quantizer.codebooks are zero"),
        (lambda n: n.head[-1].weight.data.zero_(), r"all weights of head\.\d\.weight are zero"),
        (lambda n: [p.data.zero_() for p in n.backbone.parameters()], "all weights of the backbone are zero"),
    ],
)
def test_weights_that_are_not_finite_or_all_zero_are_refused(spoil: Callable[[Any], object], reason: str) -> None:
    torch.manual_seed(0)
    network = Network(Recipe(backbone=BackboneConfig(blocks=(1,), width=4), head=HeadConfig(hidden=8)))
    check_numbers(network, "m")
    network.head[-1].bias.data.zero_()  # a bias may be zero
    check_numbers(network, "m")
    spoil(network)
    with pytest.raises(ModelError, match=f"^m: .*{reason}"):
        check_numbers(network, "m")
