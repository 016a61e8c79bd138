"""What to compute on, and how precisely."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

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


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], device: str) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 where the hardware multiplies it faster, else fp32."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and _cpu_is_faster_in_bf16() else "fp32"


def resolve_compile(option: str, device: str) -> tuple[bool, str]:
    """Whether `torch.compile` is to be used, and a note where it was wanted but its compiler does not work here.

    `auto` wants it on CUDA alone: on a CPU it takes a minute that only long trainings win back.
    """
    if option == "off" or (option == "auto" and device != "cuda"):
        return False, ""
    try:  # of the many things that may be missing (Triton, a C++ compiler, headers) only a trial finds each
        torch.autograd.backward(torch.compile(_trial)(torch.ones(64, device=device, requires_grad=True)))
    except Exception as error:  # any, from any stage of the compiler
        return False, not_compiled(error)
    return True, ""


def not_compiled(error: Exception) -> str:
    """What a user is told where the compiler does not work: its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return f"training is not compiled, which is slower: {(lines or [type(error).__name__])[0]}"


def _trial(x: Tensor) -> Tensor:
    return (x.sin() * 2 + 1).square().sum()


def _cpu_is_faster_in_bf16() -> bool:
    """AMX multiplies bf16 in tiles. Of CPUs that have AVX-512 BF16 alone AMD's gain 1.5x, Intel's lose (docs/log.md)."""
    if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("avx512_bf16")) and str(capabilities.get("cpu_name", "")).startswith("AMD")
