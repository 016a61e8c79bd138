"""Slow transcription of the paper's training in float64: network, losses by loops, Adam by its formula. Truth for the tests.

Weights are a dict of tensors by the names of our state dict; stem stride 1, one or more basic blocks per stage.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """By the statistics of this batch, as training does."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def convolved(w: Weights, x: Tensor, conv: str, norm: str, stride: int) -> Tensor:
    kernel = w[f"{conv}.weight"]
    x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    return batch_norm(x, w[f"{norm}.weight"], w[f"{norm}.bias"])


def describe(w: Weights, images: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """(B, 3, S, S) -> (B, M*d): He et al. 2016 with a 3x3 stem, global average pool, Linear, ReLU, Linear."""
    x = convolved(w, images, "backbone.stem.0", "backbone.stem.1", 1).clamp(min=0)
    number = 0
    for stage, count in enumerate(blocks):
        for block in range(count):
            name, stride = f"backbone.stages.{number}", 2 if stage and not block else 1
            y = convolved(w, x, f"{name}.conv1", f"{name}.bn1", stride).clamp(min=0)
            y = convolved(w, y, f"{name}.conv2", f"{name}.bn2", 1)
            if f"{name}.shortcut.0.weight" in w:
                x = convolved(w, x, f"{name}.shortcut.0", f"{name}.shortcut.1", stride)
            x = (y + x).clamp(min=0)
            number += 1
    h = (x.mean((2, 3)) @ w["head.0.weight"].T + w["head.0.bias"]).clamp(min=0)
    return h @ w["head.2.weight"].T + w["head.2.bias"]


def soft_quantize(x: Tensor, codebooks: Tensor, tau_q: float) -> Tensor:
    """Equations 2 and 3, one picture and one codebook at a time: x (B, M*d), codebooks (M, K, d)."""
    M, _, d = codebooks.shape
    rows = []
    for descriptor in x:
        parts = []
        for m in range(M):
            weight = torch.exp(-((descriptor[m * d : (m + 1) * d] - codebooks[m]) ** 2).sum(1) / tau_q)
            parts.append((weight[:, None] * codebooks[m]).sum(0) / weight.sum())
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def cqc_loss(x_a: Tensor, z_a: Tensor, x_b: Tensor, z_b: Tensor, tau: float) -> Tensor:
    """Equations 4 to 6, one row of the similarity matrix at a time."""
    total = x_a.new_zeros(())
    for x, z in ((x_a, z_b), (x_b, z_a)):
        vectors = torch.cat([x, z])
        n = len(x)
        for i, u in enumerate(vectors):
            e = torch.stack([torch.exp(u @ v / (u.norm() * v.norm()) / tau) for v in vectors])
            others = torch.arange(2 * n) != i
            total = total - torch.log(e[(i + n) % (2 * n)] / e[others].sum()) / (2 * n)
    return total


def train(
    initial: Weights, views: list[Tensor], blocks: tuple[int, ...], *, tau: float, tau_q: float, lr: float, decay: float
) -> list[float]:
    """Losses of Adam steps (Kingma and Ba 2015; decay added to the gradient) on pairs of views: views[0] and [1] first."""
    w = {name: t.double().clone().requires_grad_() for name, t in initial.items()}
    first, second = ({name: torch.zeros_like(t) for name, t in w.items()} for _ in range(2))
    losses = []
    for step in range(1, len(views) // 2 + 1):
        x_a, x_b = (describe(w, view.double(), blocks) for view in views[2 * step - 2 : 2 * step])
        z_a, z_b = (soft_quantize(x, w["quantizer.codebooks"], tau_q) for x in (x_a, x_b))
        loss = cqc_loss(x_a, z_a, x_b, z_b, tau)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(w.values()))
        with torch.no_grad():
            for (name, t), gradient in zip(w.items(), gradients, strict=True):
                g = gradient + decay * t
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                t -= lr * first[name] / (1 - 0.9**step) / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
    return losses
