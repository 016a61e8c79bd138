from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torch import Tensor

from spq.config import InputConfig, ViewsConfig
from spq.data.decode import load_pixels, to_pixels
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
    sigma, kernel = params.sigma[i].item(), ViewsConfig().kernel_for(size)
    return F.gaussian_blur(x, [kernel, kernel], [sigma, sigma]) if sigma > 0 else x


def draw(config: ViewsConfig, count: int = 48) -> ViewParams:
    return draw_params(torch.tensor([[28, 28]]).expand(count, 2), config, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [20, 28, 64])  # kernels of 3, 3 and 7 pixels
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


def test_views_in_hsv_equal_torchvision(images: Tensor) -> None:
    config = ViewsConfig(colour="hsv")
    params, kernel = draw(config), config.kernel_for(28)
    ours, theirs = apply_views(images, params, config, PLAIN), oracle(images, params, 28)
    assert kernel == 3
    assert ((ours - theirs).abs() < 1e-5).float().mean() > 0.99  # the rest: resizing rounds in another order
    assert (ours - theirs).abs().max() < 1 / 255


def test_views_are_cut_from_the_picture_and_not_from_a_copy_of_the_size_of_the_input() -> None:
    tiles = torch.from_numpy(load_pixels(open_images("sample:test"), 28, positions=range(480)).array)
    pictures = tiles.view(24, 4, 5, 3, 28, 28).permute(0, 3, 1, 4, 2, 5).reshape(24, 3, 112, 140)
    config = ViewsConfig(crop_scale=(0.2, 1.0), jitter=0.0, grayscale=0.0, blur=0.0)
    frame = torch.tensor([[112, 140]]).expand(24, 2)
    params = draw_params(frame, config, torch.Generator().manual_seed(3))
    wanted = apply_views(pictures, params, config, PLAIN)
    assert (wanted - oracle(pictures, params, 28)).abs().max() < 1e-3

    def sharpness(views: Tensor) -> float:
        return float(views.diff(dim=3).abs().mean() / wanted.diff(dim=3).abs().mean())

    def squeezed(side: int) -> Tensor:
        as_images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
        return apply_views(torch.stack([_lanczos(image, side) for image in as_images]), params, config, PLAIN)

    assert 0.95 < sharpness(squeezed(56)) < 1.05
    assert sharpness(squeezed(28)) < 0.92
    assert (squeezed(56) - wanted).abs().mean() < 0.5 * (squeezed(28) - wanted).abs().mean()


def _lanczos(image: Image.Image, side: int) -> Tensor:
    return torch.from_numpy(to_pixels(image, side, Image.Resampling.LANCZOS).copy())


def test_a_crop_of_a_long_picture_is_its_centre_as_in_torchvision() -> None:
    frame = torch.tensor([[5, 5000], [5000, 5], [40, 40]])
    params = draw_params(frame, ViewsConfig(), torch.Generator().manual_seed(0))
    assert params.box[:2].tolist() == [[0, 2496, 5, 7], [2496, 0, 7, 5]]
    square = torch.arange(16, dtype=torch.uint8).expand(3, 3, 16, 16) * 10
    still = ViewsConfig(jitter=0, grayscale=0, blur=0)
    view = apply_views(square, draw_params(frame, still, torch.Generator().manual_seed(0)), still, PLAIN)
    assert view.isfinite().all()
    assert 69 / 255 <= view[0].min() <= view[0].max() <= 81 / 255  # less than a pixel in the middle


def test_parameters_are_drawn_per_image() -> None:
    params = draw(ViewsConfig(jitter=1.0, blur=1.0), count=200)
    for name in ("brightness", "contrast", "saturation", "hue", "sigma"):
        assert len(getattr(params, name).unique()) > 190, name
    assert len(params.box.unique(dim=0)) > 150
    assert len(params.order.unique(dim=0)) == 24
    assert 60 < params.flip.sum() < 140


def test_crops_have_the_configured_area_and_ratio() -> None:
    config = ViewsConfig(crop_scale=(0.2, 0.5))
    box = draw_params(torch.tensor([[100, 100]]).expand(5000, 2), config, torch.Generator().manual_seed(0)).box.float()
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
