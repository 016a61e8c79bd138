"""What pictures of a batch share that several processes compute: the rows they are compared with, and batch statistics.

Each process computes a share of the loss; the shares add up to the loss of the whole batch. So the gradient of what all
processes use is the sum of what each of them finds.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from spq.model.network import wide
from spq.training.loss import Outputs
from spq.training.processes import Processes


class _Gather(Function):
    """(..., b, D) of this process -> (..., B, D) of all, with the gradient that all of them find for the own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return torch.cat(tuple(processes.gather(own)), -2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = ctx.processes.sum(grads[0].clone(memory_format=torch.contiguous_format))
        return total[..., ctx.processes.own(total.shape[-2]), :], None


def gather_with_gradient(outputs: Outputs, processes: Processes) -> Outputs:
    """Collect the descriptors and quantizations (b, D) of each view from all processes: (B, D), in the order of the batch."""
    flat = torch.stack([tensor for pair in outputs for tensor in pair])  # (2V, b, D)
    parts = _Gather.apply(flat, processes).unbind(0)
    return list(zip(parts[::2], parts[1::2], strict=True))


def shared_statistics(processes: Processes) -> AbstractContextManager[object]:
    """Let batch normalisation in training mode use the statistics of the rows of all processes, on any device.

    The layers themselves do not change: what they save, and what is made of them, is the same as with one process.
    """
    return _SharedStatistics(processes) if processes.several else nullcontext()


class _SharedStatistics(TorchFunctionMode):
    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.batch_norm:
            return func(*args, **(kwargs or {}))
        call = _BATCH_NORM.bind(*args, **(kwargs or {}))
        call.apply_defaults()
        given = call.arguments
        if not given["training"]:
            return func(*args, **(kwargs or {}))
        out, mean, var = _Normalise.apply(given["input"], given["weight"], given["bias"], given["eps"], self.processes)
        if given["running_mean"] is not None:
            _follow(given["running_mean"], mean, given["momentum"])
            n = self.processes.count * given["input"].numel() // len(mean)
            _follow(given["running_var"], var * n / max(n - 1, 1), given["momentum"])
        return out


_BATCH_NORM = inspect.signature(F.batch_norm)


@torch.no_grad()
def _follow(running: Tensor, value: Tensor, momentum: float) -> None:
    running.lerp_(value.to(running.dtype), momentum)


class _Normalise(Function):
    """Batch normalisation of (b, C, ...) by mean and variance (C,) of all processes, which it also returns.

    Statistics are float32 also for inputs of fewer bits, and float64 for those of more.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor]:
        full = wide(x)
        var, mean = torch.var_mean(full, _others(x), correction=0)
        means, variances = processes.gather(torch.stack([mean, var])).unbind(1)  # as many rows in each process
        mean, var = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        inverse = torch.rsqrt(var + eps)
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.processes = processes
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(_along(shift, x), full, _along(scale, x)).to(x.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        g = wide(grads[0])
        normal = (wide(x) - _along(mean, x)) * _along(inverse, x)
        own = torch.stack([g.sum(_others(x)), (g * normal).sum(_others(x))])  # (2, C): of bias and weight
        total = ctx.processes.sum(own.clone()) / (ctx.processes.count * x.numel() // len(mean))
        scale = inverse if weight is None else inverse * weight
        grad_x = (g - _along(total[0], x) - normal * _along(total[1], x)) * _along(scale, x)
        needs = ctx.needs_input_grad
        of_weight = own[1].to(weight.dtype) if weight is not None and needs[1] else None
        return grad_x.to(x.dtype), of_weight, own[0] if needs[2] else None, None, None


def _others(x: Tensor) -> list[int]:
    """The axes beside the channels."""
    return [axis for axis in range(x.ndim) if axis != 1]


def _along(values: Tensor, x: Tensor) -> Tensor:
    """View (C,) so that it goes along the channels of x."""
    return values.view(-1, *[1] * (x.ndim - 2))
