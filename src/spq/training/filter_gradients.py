"""Gradients of convolution filters as one matrix product over the batch, where a CPU with AMX is faster that way.

oneDNN adds up the gradient of a filter picture by picture. In the last stages of a network a picture has as few as four
positions, so that most of each AMX tile is empty. One product over the positions of all pictures fills the tiles. `spq bench
filter_gradients` measures what that saves.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import conv2d, pad
from torch.overrides import TorchFunctionMode

from spq.model.device import has_amx
from spq.training.compiled import Forward

MOST_POSITIONS = 36  # of the output, H * W; with more of them oneDNN is as fast or faster
CHUNK = 2**22  # numbers that are copied for a product at a time: as many as stay in the cache


def fast_filter_gradients(forward: Forward, device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """Let the backward pass of convolutions called inside use `filter_gradient`, in bfloat16 on a CPU with AMX.

    Args:
        forward: the backbone that is called inside; if it is compiled, nothing changes.
    """
    is_compiled = hasattr(forward, "_orig_mod")
    return _Fast() if bf16 and device.type == "cpu" and has_amx() and not is_compiled else nullcontext()


def filter_gradient(
    x: Tensor, grad: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Compute the gradient of the filters of a convolution without groups or dilation.

    Args:
        x: (B, C, H, W) input. grad: (B, F, H', W') gradient of the output.
    Returns:
        (F, C, *kernel), channels last; float32 for bfloat16.
    """
    (F, C), (height, width) = (grad.shape[1], x.shape[1]), kernel
    size = height * width * C
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)  # (B, H, W, C)
    if any(padding):
        x = pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    pictures = max(1, CHUNK // (grad.shape[1] * grad.shape[2] * size))
    total = torch.zeros(F, size, dtype=torch.promote_types(torch.float32, x.dtype))
    for start in range(0, len(x), pictures):
        windows = x[start : start + pictures].unfold(1, height, stride[0]).unfold(2, width, stride[1])
        columns = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, size)  # of (b, H', W', C, height, width)
        total += grad[start : start + pictures].reshape(-1, F).T @ columns
    return total.view(F, height, width, C).permute(0, 3, 1, 2)


class _Convolution(Function):
    """A convolution in bfloat16, without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        x, weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = torch.ops.aten.convolution_backward(
                grads[0], x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, (True, False, False)
            )
        return of_x, filter_gradient(x, grads[0], weight.shape[2:], ctx.stride, ctx.padding), None, None


class _Fast(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is conv2d and not kwargs and len(args) == 7 and _fits(*args):  # as nn.Conv2d calls it
            x, weight, _, stride, padding = args[:5]
            return _Convolution.apply(x, weight, stride, padding)
        return func(*args, **(kwargs or {}))


def _fits(x: Tensor, weight: Tensor, *rest: Any) -> bool:
    """Whether `_Convolution` can do it, a gradient is wanted, and the output is small."""
    bias, stride, padding, dilation, groups = rest
    if bias is not None or groups != 1 or tuple(dilation) != (1, 1) or isinstance(padding, str) or x.ndim != 4:
        return False
    if not (torch.is_grad_enabled() and weight.requires_grad and torch.is_autocast_enabled("cpu")):
        return False
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    positions: int = prod((side + 2 * more - kernel) // step + 1 for side, kernel, step, more in sides)
    return positions <= MOST_POSITIONS
