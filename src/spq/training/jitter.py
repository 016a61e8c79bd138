"""Random colours of views: brightness, contrast, saturation and hue in a random order for each image, then greyscale.

There are two ways. `colour_transforms` makes one matrix for all of it: brightness, contrast, saturation and greyscale are affine
in (r, g, b), and so is hue as a rotation of the colour plane of YIQ; colours are clipped once, at the end. `jitter_in_steps`
does what torchvision does: hue is that of HSV, and colours are clipped after each step. It takes several times as long.
docs/method.md has the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow
_TORCHVISION_LUMA = (0.2989, 0.587, 0.114)
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_CONTRAST, _HUE = 1, 3  # numbers of two of the four steps


@dataclass(frozen=True)
class ColourParams:
    """Random colours of B views, all on one device.

    Attributes:
        brightness, contrast, saturation: (B,) factors; 1 changes nothing. hue: (B,) in turns; 0 changes nothing.
        order: (B, 4) in which order these four steps are applied. grayscale: (B,) bool.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor
    grayscale: Tensor


def jitter_in_steps(x: Tensor, params: ColourParams) -> Tensor:
    """Apply the four steps in each image's order, then greyscale, as torchvision does; x is (B, 3, H, W) in 0..1.

    All images take their hue at the same time: before it, each has up to three other steps, and after it the rest. Where an
    image has fewer, a step that changes nothing takes their place, so no number is needed on the host.
    """
    at = (params.order == _HUE).int().argmax(1)  # (B,) the position of hue
    for position in range(3):
        x = _blend_step(x, params, torch.where(position < at, params.order[:, position], _HUE))
    x = _turn_hue(x, params.hue)
    for position in range(1, 4):
        x = _blend_step(x, params, torch.where(position > at, params.order[:, position], _HUE))
    grey = _grey(x).expand_as(x)
    return torch.where(params.grayscale[:, None, None, None], grey, x)


def _blend_step(x: Tensor, params: ColourParams, step: Tensor) -> Tensor:
    """Apply the step (B,) of each image: 0 brightness, 1 contrast, 2 saturation; 3 changes nothing."""
    factors = torch.stack([params.brightness, params.contrast, params.saturation, torch.ones_like(params.hue)], 1)
    f = factors.gather(1, step[:, None])[:, :, None, None]
    step = step[:, None, None, None]
    grey = _grey(x)
    mean = grey.mean((2, 3), keepdim=True)
    other = torch.where(step == 1, mean, torch.where(step == 2, grey, 0.0))  # what is blended with
    return torch.where(step == _HUE, x, (f * x + (1 - f) * other).clamp(0, 1))


def _turn_hue(x: Tensor, hue: Tensor) -> Tensor:
    """Turn the hue (B,) in HSV (Smith 1978): saturation and value of each pixel stay."""
    value, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - low
    safe = torch.where(chroma == 0, 1.0, chroma)
    r, g, b = ((value - x) / safe).unbind(1)
    sector = torch.where(x[:, 0] == value[:, 0], b - g, torch.where(x[:, 1] == value[:, 0], 2 + r - b, 4 + g - r))
    sector = (sector + 6 * hue[:, None, None]) % 6
    # each channel is `low` plus its share of the chroma, a trapezium over the hue
    offsets = as_vector((5.0, 3.0, 1.0), x.device)[:, None, None]
    k = (offsets + sector[:, None]) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    return (x * as_vector(_TORCHVISION_LUMA, x.device)[:, None, None]).sum(1, keepdim=True)


def colour_transforms(params: ColourParams, mean_colour: Tensor) -> tuple[Tensor, Tensor]:
    """Make matrix (B, 3, 3) and offset (B, 3) that apply the four colour steps in each image's order, then greyscale.

    Contrast blends with the current mean grey of the image. Affine maps transform the mean as they transform pixels, so it is
    known without the pixels.
    """
    B, device = len(params.hue), mean_colour.device
    eye = torch.eye(3, device=device)
    luma = as_vector(_LUMA, device)
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
def as_vector(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values).to(device)


@cache
def _yiq(device: torch.device) -> tuple[Tensor, Tensor]:
    """RGB -> YIQ and back, each (3, 3)."""
    to_yiq = torch.tensor(_TO_YIQ)
    return to_yiq.to(device), torch.linalg.inv(to_yiq).to(device)
