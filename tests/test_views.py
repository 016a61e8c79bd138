from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

from spq.config import InputConfig, ViewsConfig
from spq.data.decode import load_pixels
from spq.data.open import open_images
from spq.training.views import ViewParams, apply_views, draw_params, make_views

PLAIN = InputConfig(size=28, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Real pictures, tinted so that colour operations have something to do."""
    grey = torch.from_numpy(load_pixels(open_images("sample:test"), 28, positions=range(48)).array).float()
    tint = torch.rand(48, 3, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    return (grey * tint[:, :, 0] + 255 * 0.3 * tint[:, :, 1]).clamp(0, 255).to(torch.uint8)


def oracle(images: Tensor, params: ViewParams, size: int) -> Tensor:
    """torchvision's functions, one picture at a time, in the same order."""
    return torch.stack([_one(image.float() / 255, params, i, size) for i, image in enumerate(images)])


def _one(x: Tensor, params: ViewParams, i: int, size: int) -> Tensor:
    top, left, height, width = params.box[i].tolist()
    x = F.resized_crop(x, top, left, height, width, [size, size], antialias=True)
    x = F.horizontal_flip(x) if params.flip[i] else x
    steps = (
        lambda x: F.adjust_brightness(x, params.brightness[i].item()),
        lambda x: F.adjust_contrast(x, params.contrast[i].item()),
        lambda x: F.adjust_saturation(x, params.saturation[i].item()),
        lambda x: F.adjust_hue(x, params.hue[i].item()),
    )
    for position in params.order[i].tolist():
        x = steps[position](x)
    x = F.rgb_to_grayscale(x, 3) if params.grayscale[i] else x
    sigma = params.sigma[i].item()
    return F.gaussian_blur(x, [3, 3], [sigma, sigma]) if sigma > 0 else x


def draw(config: ViewsConfig, count: int = 48) -> ViewParams:
    return draw_params(count, 28, 28, config, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [20, 28, 40])
def test_crop_flip_greyscale_and_blur_equal_torchvision(images: Tensor, size: int) -> None:
    config = ViewsConfig(jitter=0.0)
    ours = apply_views(images, draw(config), config, replace(PLAIN, size=size))
    assert (ours - oracle(images, draw(config), size)).abs().max() < 1e-3


def test_colour_steps_equal_torchvision_where_nothing_is_clipped(images: Tensor) -> None:
    config = ViewsConfig(jitter=1.0, hue=0.0, brightness=0.1, contrast=0.3, saturation=0.3, blur=0.0)
    muted = (images // 3 + 64).to(torch.uint8)  # far from black and white
    ours = apply_views(muted, draw(config), config, PLAIN)
    assert (ours - oracle(muted, draw(config), 28)).abs().max() < 1e-4


def test_full_views_stay_close_to_torchvision(images: Tensor) -> None:
    config = ViewsConfig()
    ours, theirs = apply_views(images, draw(config), config, PLAIN), oracle(images, draw(config), 28)
    assert (ours - theirs).abs().mean() < 0.03  # garish tints; one clip instead of four, hue in YIQ instead of HSV
    hue_only = replace(config, brightness=0.0, contrast=0.0, saturation=0.0, grayscale=0.0)
    turned = apply_views(images, draw(hue_only), hue_only, PLAIN)
    wrong_way = replace(draw(hue_only), hue=-draw(hue_only).hue)
    error = (turned - oracle(images, draw(hue_only), 28)).abs().mean()
    assert error < 0.5 * (turned - oracle(images, wrong_way, 28)).abs().mean()  # hue turns the same way


def test_parameters_are_drawn_per_image() -> None:
    params = draw(ViewsConfig(jitter=1.0, blur=1.0), count=200)
    for name in ("brightness", "contrast", "saturation", "hue", "sigma"):
        assert len(getattr(params, name).unique()) > 190, name
    assert len(params.box.unique(dim=0)) > 150
    assert len(params.order.unique(dim=0)) == 24
    assert 60 < params.flip.sum() < 140


def test_crops_have_the_configured_area_and_ratio() -> None:
    config = ViewsConfig(crop_scale=(0.2, 0.5))
    box = draw_params(5000, 100, 100, config, torch.Generator().manual_seed(0)).box.float()
    area, ratio = box[:, 2] * box[:, 3] / 1e4, box[:, 3] / box[:, 2]
    assert 0.19 < area.min() < 0.22
    assert 0.48 < area.max() < 0.52
    assert abs(area.mean() - 0.35) < 0.01
    assert 0.73 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.36
    assert ((box[:, 0] + box[:, 2]) <= 100).all()
    assert (box[:, 0] + box[:, 2]).max() == 100


def test_probability_zero_does_not_change_the_picture(images: Tensor) -> None:
    still = ViewsConfig(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter=0, grayscale=0, blur=0)
    view = make_views(images, still, PLAIN, torch.Generator().manual_seed(0))
    torch.testing.assert_close(view, images.float() / 255, atol=1e-5, rtol=0)


def test_the_input_normalisation_is_applied_last(images: Tensor) -> None:
    config, normalised = ViewsConfig(), InputConfig(size=28, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    plain = apply_views(images, draw(config), config, PLAIN)
    expected = (plain - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    torch.testing.assert_close(apply_views(images, draw(config), config, normalised), expected)
