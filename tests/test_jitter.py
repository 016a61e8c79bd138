"""Colours of views: the exact steps are those of torchvision, and one matrix comes close to them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from spq.training.jitter import ColourParams, colour_transforms, jitter_in_steps

ORDERS = torch.tensor(list(itertools.permutations(range(4))))


@pytest.fixture
def colours() -> Tensor:
    """(24, 3, 12, 12) in 0..1: any colours, with black, white, greys and pure ones among them."""
    x = torch.rand(24, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    x[:, :, 0] = x[:, :1, 0]  # greys
    x[:, :, 1] = x[:, :, 1].round()
    x[:, 2, 2] = x[:, 1, 2]  # two channels are equal
    return x


@pytest.fixture
def params() -> ColourParams:
    generator = torch.Generator().manual_seed(1)
    factors = 0.3 + 1.4 * torch.rand(3, 24, generator=generator)
    hue = torch.rand(24, generator=generator) - 0.5
    hue[3], factors[:, 5] = 0.0, 1.0
    return ColourParams(*factors, hue, ORDERS, torch.arange(24) % 5 == 0)


def one(x: Tensor, params: ColourParams, i: int) -> Tensor:
    """torchvision's functions in the order of picture i."""
    for step in params.order[i].tolist():
        if step == 0:
            x = F.adjust_brightness(x, params.brightness[i].item())
        elif step == 1:
            x = F.adjust_contrast(x, params.contrast[i].item())
        elif step == 2:
            x = F.adjust_saturation(x, params.saturation[i].item())
        else:
            x = F.adjust_hue(x, params.hue[i].item())
    return F.rgb_to_grayscale(x, 3) if params.grayscale[i] else x


def test_exact_steps_equal_torchvision_in_every_order(colours: Tensor, params: ColourParams) -> None:
    wanted = torch.stack([one(x, params, i) for i, x in enumerate(colours)])
    found = jitter_in_steps(colours, params)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_matrix_turns_hue_the_same_way_and_keeps_the_luma(colours: Tensor) -> None:
    still, hue = torch.ones(24), torch.full((24,), 0.1)
    only_hue = ColourParams(still, still, still, hue, ORDERS, torch.zeros(24, dtype=torch.bool))
    muted = 0.3 * colours + 0.35  # nothing is clipped

    def fast(params: ColourParams) -> Tensor:
        matrix, offset = colour_transforms(params, muted.mean((2, 3)))
        return (matrix @ muted.flatten(2) + offset[:, :, None]).view_as(muted)

    exact = jitter_in_steps(muted, only_hue)
    assert (fast(only_hue) - exact).abs().mean() < 0.5 * (fast(replace(only_hue, hue=-hue)) - exact).abs().mean()
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((luma * fast(only_hue)).sum(1), (luma * muted).sum(1), atol=1e-4, rtol=0)
