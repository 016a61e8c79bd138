"""The backbone compiled by torch.compile, where that is wanted and possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from spq.config import Recipe
from spq.model.device import not_compiled, resolve_compile
from spq.model.network import Network

Forward = Callable[[Tensor], Tensor]  # the backbone, compiled or not

COMPILE_FROM = 5.0  # minutes of training; compiling takes longer than a shorter training would gain


def compile_backbone(
    network: Network, recipe: Recipe, try_out: Callable[[Forward, int], None], note_user: Callable[[str], None]
) -> Forward:
    """Return the compiled backbone, or the backbone itself with a note to the user if it cannot be compiled.

    Kernels are built here, before the time budget starts. Otherwise warm-up and small views would pass while the compiler
    works.

    Args:
        network: on the device to compute on.
        try_out: runs a forward and a backward pass of a backbone on views of a size.
        note_user: called with the reason if the backbone cannot be compiled.
    """
    train, backbone = recipe.train, network.backbone
    if train.compile == "auto" and 0 < train.minutes < COMPILE_FROM:
        return backbone
    wanted, note = resolve_compile(train.compile, network.device.type)
    if wanted:
        torch.compiler.reset()  # otherwise the kernels of all trainings in a process count towards one limit
        # kernels for each size of the views, of which there are two: one set for all sizes would be slower
        forward = cast(Forward, torch.compile(backbone, dynamic=False))
        try:
            _build_kernels(network, recipe.view_sizes, lambda size: try_out(forward, size))
        except Exception as error:  # the compiler's stages raise errors of any type
            note = not_compiled(error)
        else:
            return forward
    if note:
        note_user(note)
    return backbone


def _build_kernels(network: Network, sizes: set[int], run: Callable[[int], None]) -> None:
    """Run once for each size of the views, then restore buffers such as batch statistics."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        for size in sizes:
            run(size)
    finally:
        network.zero_grad()
        for name, buffer in network.named_buffers():
            buffer.copy_(before[name])
