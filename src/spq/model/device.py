"""What to compute on, and how precisely."""

from __future__ import annotations

import torch

from spq.errors import ConfigError


def resolve_device(device: str) -> str:
    """`auto` is CUDA, then Apple's MPS, then the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: this machine has no usable CUDA GPU; use --device cpu")
    if device not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or mps")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """`auto` is bf16 where the hardware multiplies it faster, else fp32."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # on CPUs that only have AVX-512 BF16, fp32 convolutions were faster (docs/log.md); AMX multiplies bf16 in tiles
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return "bf16" if device == "cpu" and has_amx else "fp32"
