"""Random views of a batch of images on their device; each image has its own random parameters.

A view is one matrix per axis and one colour matrix. Crop, resize, flip and Gaussian blur are linear along each axis. Their
product is one (S, H) matrix for the rows and one (S, W) matrix for the columns. Brightness, contrast, saturation, hue and
greyscale are affine in (r, g, b). Their product is one 3x3 matrix and an offset. So a batch of views costs two batched matrix
products and one colour product. There are two differences from torchvision. It clips after every colour step, spq clips once at
the end. And hue rotates the colour plane of YIQ instead of HSV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor

from spq.config import InputConfig, ViewsConfig

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as torchvision and Pillow
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class ViewParams:
    """Random parameters of B views, all on one device.

    Attributes:
        box: (B, 4) int64 top, left, height, width of the crop in pixels. flip: (B,) bool.
        brightness, contrast, saturation: (B,) factors; 1 changes nothing. hue: (B,) in turns; 0 changes nothing.
        order: (B, 4) in which order the four colour steps are applied. grayscale: (B,) bool.
        sigma: (B,) of the blur in pixels of the view; 0: no blur.
    """

    box: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor
    grayscale: Tensor
    sigma: Tensor

    def of(self, rows: Tensor) -> ViewParams:
        """The parameters of some of the views."""
        return ViewParams(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_params(count: int, height: int, width: int, config: ViewsConfig, generator: torch.Generator) -> ViewParams:
    """Draw parameters of `count` views of height x width images, on the generator's device."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, device=generator.device).uniform_(low, high, generator=generator)

    def chance(probability: float) -> Tensor:
        return uniform(0, 1) < probability

    jitter = chance(config.jitter)

    def factor(strength: float) -> Tensor:
        return torch.where(jitter, uniform(max(0.0, 1 - strength), 1 + strength), 1.0)

    return ViewParams(
        box=_draw_boxes(count, height, width, config, generator),
        flip=chance(config.flip),
        brightness=factor(config.brightness),
        contrast=factor(config.contrast),
        saturation=factor(config.saturation),
        hue=torch.where(jitter, uniform(-config.hue, config.hue), 0.0),
        order=torch.rand(count, 4, generator=generator, device=generator.device).argsort(1),
        grayscale=chance(config.grayscale),
        sigma=torch.where(chance(config.blur), uniform(*config.blur_sigma), 0.0),
    )


def _draw_boxes(count: int, height: int, width: int, config: ViewsConfig, generator: torch.Generator) -> Tensor:
    """Draw boxes (B, 4) by share of the area and log-uniform aspect ratio: the first of ten that fits, else the whole image."""
    shape, device = (count, 10), generator.device
    area = torch.empty(shape, device=device).uniform_(*config.crop_scale, generator=generator) * (height * width)
    low, high = (math.log(ratio) for ratio in config.crop_ratio)
    ratio = torch.empty(shape, device=device).uniform_(low, high, generator=generator).exp()
    w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)  # argmax of all-False is 0, replaced below
    any_fits = fits.any(1)
    h = torch.where(any_fits, h.gather(1, first)[:, 0], height)
    w = torch.where(any_fits, w.gather(1, first)[:, 0], width)
    position = torch.rand(2, count, generator=generator, device=device)
    top, left = (position[0] * (height - h + 1)).long(), (position[1] * (width - w + 1)).long()
    return torch.stack([top, left, h, w], 1)


def apply_views(images: Tensor, params: ViewParams, config: ViewsConfig, input_config: InputConfig) -> Tensor:
    """Make views of images with given parameters.

    Args:
        images: (B, 3, H, W) uint8.
    Returns:
        (B, 3, S, S) float32, `(pixel / 255 - mean) / std`.
    """
    B, _, H, W = images.shape
    S = input_config.size
    blur = _blur_matrices(params.sigma, S, config.blur_kernel)
    rows = blur @ _resize_matrices(params.box[:, 0], params.box[:, 2], H, S)  # (B, S, H)
    columns = _resize_matrices(params.box[:, 1], params.box[:, 3], W, S)
    columns = blur @ torch.where(params.flip[:, None, None], columns.flip(1), columns)  # (B, S, W)
    x = images.permute(0, 2, 1, 3).float().div_(255)  # (B, H, 3, W): one product serves the three channels
    x = torch.bmm(rows, x.reshape(B, H, 3 * W)).view(B, S * 3, W)
    x = torch.bmm(x, columns.transpose(1, 2)).view(B, S, 3, S)
    matrix, offset = _colour_transforms(params, x.mean((1, 3)))
    x = torch.baddbmm(offset[:, :, None], matrix, x.transpose(1, 2).reshape(B, 3, S * S))
    mean, std = (_vector(v, x.device)[:, None] for v in (input_config.mean, input_config.std))
    return x.clamp_(0, 1).sub_(mean).div_(std).view(B, 3, S, S)


def make_views(
    images: Tensor,
    config: ViewsConfig,
    input_config: InputConfig,
    generator: torch.Generator,
    drawn: tuple[int, Tensor] | None = None,
) -> Tensor:
    """Make one random view of each image, (B, 3, H, W) uint8 -> (B, 3, S, S) float32.

    Args:
        drawn: for how many views parameters are drawn, and which of these the images get; by default one for each image.
    """
    count = drawn[0] if drawn else len(images)
    params = draw_params(count, images.shape[2], images.shape[3], config, generator)
    return apply_views(images, params.of(drawn[1]) if drawn else params, config, input_config)


def _resize_matrices(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """Make (B, target, source) matrices: bilinear with antialiasing, within pixels start..start+length-1 (as Pillow does)."""
    scale = (length / target)[:, None, None]
    i, j = torch.arange(target, device=start.device) + 0.5, torch.arange(source, device=start.device) + 0.5
    centre = start[:, None, None] + i[None, :, None] * scale
    weight = (1 - (j - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    inside = (j > start[:, None, None]) & (j < (start + length)[:, None, None])
    weight = weight * inside
    return weight / weight.sum(2, keepdim=True)


def _blur_matrices(sigma: Tensor, size: int, kernel: int) -> Tensor:
    """Make (B, size, size) matrices of a Gaussian blur along one axis, with reflected borders; the identity for sigma 0."""
    reach = kernel // 2
    offsets = torch.arange(-reach, reach + 1, device=sigma.device)
    weight = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)
    weight = weight / weight.sum(1, keepdim=True)  # (B, kernel)
    at = (torch.arange(size, device=sigma.device)[:, None] + offsets).abs()
    at = torch.where(at < size, at, 2 * (size - 1) - at)  # (size, kernel)
    band = torch.zeros(kernel, size, size, device=sigma.device)
    band.scatter_(2, at.T[:, :, None], 1.0)
    return (weight @ band.view(kernel, -1)).view(-1, size, size)


def _colour_transforms(params: ViewParams, mean_colour: Tensor) -> tuple[Tensor, Tensor]:
    """Make matrix (B, 3, 3) and offset (B, 3) that apply the four colour steps in each image's order, then greyscale.

    Contrast blends with the current mean grey of the image. Affine maps transform the mean as they transform pixels, so it is
    known without the pixels.
    """
    B, device = len(params.flip), mean_colour.device
    eye = torch.eye(3, device=device)
    luma = _vector(_LUMA, device)
    grey = luma.expand(3, 3)  # each output channel is the luma

    def blend(factor: Tensor) -> Tensor:  # factor * x + (1 - factor) * grey(x)
        f = factor[:, None, None]
        return f * eye + (1 - f) * grey

    steps = torch.stack(  # (B, 4, 3, 3): brightness, contrast (its matrix part), saturation, hue
        [
            params.brightness[:, None, None] * eye,
            params.contrast[:, None, None] * eye,
            blend(params.saturation),
            _hue_rotations(params.hue),
        ],
        1,
    )
    matrix, offset = eye.expand(B, 3, 3), torch.zeros(B, 3, device=device)
    row = torch.arange(B, device=device)
    for position in range(4):
        step = params.order[:, position]
        current_mean = (matrix @ mean_colour[:, :, None])[:, :, 0] + offset
        pull = torch.where(step == 1, (1 - params.contrast) * (current_mean @ luma), 0.0)
        A = steps[row, step]
        matrix, offset = A @ matrix, (A @ offset[:, :, None])[:, :, 0] + pull[:, None]
    to_grey = blend(1 - params.grayscale.float())
    return to_grey @ matrix, (to_grey @ offset[:, :, None])[:, :, 0]


def _hue_rotations(hue: Tensor) -> Tensor:
    """Make (B, 3, 3) rotations of the chroma plane by `hue` turns; the luma does not change."""
    to_yiq, from_yiq = _yiq(hue.device)
    angle = -2 * math.pi * hue  # I-Q turns in the opposite direction of HSV's hue
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(hue), torch.ones_like(hue)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return from_yiq @ rotation @ to_yiq


@cache  # otherwise each step would copy it to the GPU, and the host would wait
def _vector(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values).to(device)


@cache
def _yiq(device: torch.device) -> tuple[Tensor, Tensor]:
    """RGB -> YIQ and back, each (3, 3)."""
    to_yiq = torch.tensor(_TO_YIQ)
    return to_yiq.to(device), torch.linalg.inv(to_yiq).to(device)
