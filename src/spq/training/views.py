"""Random views of a batch of images on their device; each image has its own random parameters.

A view is one matrix per axis and one colour matrix. Crop, resize, flip and Gaussian blur are linear along each axis. Their
product is one (S, H) matrix for the rows and one (S, W) matrix for the columns. Colours are one 3x3 matrix and an offset
(`jitter.py`). So a batch of views costs two batched matrix products and one colour product. With `views.colour = "hsv"`, the
colour steps and the blur follow one after the other, as in torchvision.

Crops are drawn in the picture as it is stored. The images that they are cut from may have other sides, such as a square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from spq.config import InputConfig, ViewsConfig
from spq.training.jitter import ColourParams, as_vector, colour_transforms, jitter_in_steps


@dataclass(frozen=True)
class ViewParams(ColourParams):
    """Random parameters of B views, all on one device.

    Attributes:
        frame: (B, 2) int64 height and width of the pictures that the crops are drawn in.
        box: (B, 4) int64 top, left, height, width of the crop, in pixels of the frame. flip: (B,) bool.
        sigma: (B,) of the blur in pixels of the view; 0: no blur.
    """

    frame: Tensor
    box: Tensor
    flip: Tensor
    sigma: Tensor

    def of(self, rows: Tensor) -> ViewParams:
        """The parameters of some of the views."""
        return ViewParams(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_params(frame: Tensor, config: ViewsConfig, generator: torch.Generator) -> ViewParams:
    """Draw parameters of B views of pictures with heights and widths `frame` (B, 2), on the generator's device."""
    count = len(frame)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, device=generator.device).uniform_(low, high, generator=generator)

    def chance(probability: float) -> Tensor:
        return uniform(0, 1) < probability

    jitter = chance(config.jitter)

    def factor(strength: float) -> Tensor:
        return torch.where(jitter, uniform(max(0.0, 1 - strength), 1 + strength), 1.0)

    return ViewParams(
        frame=frame,
        box=_draw_boxes(frame, config, generator),
        flip=chance(config.flip),
        brightness=factor(config.brightness),
        contrast=factor(config.contrast),
        saturation=factor(config.saturation),
        hue=torch.where(jitter, uniform(-config.hue, config.hue), 0.0),
        order=torch.rand(count, 4, generator=generator, device=generator.device).argsort(1),
        grayscale=chance(config.grayscale),
        sigma=torch.where(chance(config.blur), uniform(*config.blur_sigma), 0.0),
    )


def _draw_boxes(frame: Tensor, config: ViewsConfig, generator: torch.Generator) -> Tensor:
    """Draw boxes (B, 4) by share of the area and log-uniform aspect ratio: the first of ten that fits.

    If none fits, the box is the centre of the picture, as much of it as the aspect ratios allow. torchvision does the same.
    """
    (height, width), shape, device = frame.T, (len(frame), 10), generator.device
    area = (
        torch.empty(shape, device=device).uniform_(*config.crop_scale, generator=generator) * (height * width)[:, None]
    )
    low, high = (math.log(ratio) for ratio in config.crop_ratio)
    ratio = torch.empty(shape, device=device).uniform_(low, high, generator=generator).exp()
    w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
    first = fits.int().argmax(1, keepdim=True)  # argmax of all-False is 0, replaced below
    any_fits = fits.any(1)
    narrow, wide = config.crop_ratio
    h = torch.where(any_fits, h.gather(1, first)[:, 0], (width / narrow).round().long().clamp(min=1).minimum(height))
    w = torch.where(any_fits, w.gather(1, first)[:, 0], (height * wide).round().long().clamp(min=1).minimum(width))
    position = torch.rand(2, len(frame), generator=generator, device=device)
    top, left = (position[0] * (height - h + 1)).long(), (position[1] * (width - w + 1)).long()
    top, left = torch.where(any_fits, top, (height - h) // 2), torch.where(any_fits, left, (width - w) // 2)
    return torch.stack([top, left, h, w], 1)


def apply_views(images: Tensor, params: ViewParams, config: ViewsConfig, input_config: InputConfig) -> Tensor:
    """Make views of images with given parameters.

    Args:
        images: (B, 3, H, W) uint8: whole pictures, whatever the sides of their frames are.
    Returns:
        (B, 3, S, S) float32, `(pixel / 255 - mean) / std`.
    """
    B, _, H, W = images.shape
    S, exact = input_config.size, config.colour == "hsv"
    blur = _blur_matrices(params.sigma, S, config.kernel_for(S))
    tops, lefts, heights, widths = params.box.T
    tops, heights = (side * (H / params.frame[:, 0]) for side in (tops, heights))
    lefts, widths = (side * (W / params.frame[:, 1]) for side in (lefts, widths))
    rows = _resize_matrices(tops, heights, H, S)  # (B, S, H)
    columns = _resize_matrices(lefts, widths, W, S)
    columns = torch.where(params.flip[:, None, None], columns.flip(1), columns)  # (B, S, W)
    rows, columns = (rows, columns) if exact else (blur @ rows, blur @ columns)
    x = images.permute(0, 2, 1, 3).float().div_(255)  # (B, H, 3, W): one product serves the three channels
    x = torch.bmm(rows, x.reshape(B, H, 3 * W)).view(B, S * 3, W)
    x = torch.bmm(x, columns.transpose(1, 2)).view(B, S, 3, S)
    if exact:
        x = jitter_in_steps(x.transpose(1, 2), params)
        x = blur[:, None] @ x @ blur[:, None].transpose(2, 3)
    else:
        matrix, offset = colour_transforms(params, x.mean((1, 3)))
        x = torch.baddbmm(offset[:, :, None], matrix, x.transpose(1, 2).reshape(B, 3, S * S))
    mean, std = (as_vector(v, x.device)[:, None] for v in (input_config.mean, input_config.std))
    return x.reshape(B, 3, S * S).clamp_(0, 1).sub_(mean).div_(std).view(B, 3, S, S)


def make_views(
    images: Tensor,
    config: ViewsConfig,
    input_config: InputConfig,
    generator: torch.Generator,
    drawn: tuple[int, Tensor] | None = None,
    frame: Tensor | None = None,
) -> Tensor:
    """Make one random view of each image, (B, 3, H, W) uint8 -> (B, 3, S, S) float32.

    Args:
        drawn: for how many views parameters are drawn, and which of these the images get; by default one for each image.
        frame: heights and widths (count, 2) of the pictures for which parameters are drawn; by default those of the images.
    """
    if frame is None:
        count = drawn[0] if drawn else len(images)
        frame = torch.stack([torch.full((count,), side, device=generator.device) for side in images.shape[2:]], 1)
    params = draw_params(frame, config, generator)
    return apply_views(images, params.of(drawn[1]) if drawn else params, config, input_config)


def _resize_matrices(start: Tensor, length: Tensor, source: int, target: int) -> Tensor:
    """Make (B, target, source) matrices: bilinear with antialiasing, within start..start+length in pixels (as Pillow does)."""
    length = length.clamp(min=1)  # of a very long picture that was made square, a crop may be less than a pixel
    start = start.minimum(source - length)
    scale = (length / target)[:, None, None]
    i, j = torch.arange(target, device=start.device) + 0.5, torch.arange(source, device=start.device) + 0.5
    centre = start[:, None, None] + i[None, :, None] * scale
    weight = (1 - (j - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    inside = (j >= start[:, None, None]) & (j < (start + length)[:, None, None])
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
