"""The device and the precision of computations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from spq.errors import ConfigError


def resolve_device(device: str) -> str:
    """Return the device; `auto` is CUDA if there is one, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: an unknown device, or CUDA without a GPU.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` cuda: this machine has no usable CUDA GPU; use cpu")
    if device not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"unknown device {device!r}; use auto, cpu, cuda or mps")
    return device


def resolve_precision(precision: Literal["auto", "fp32", "bf16"], device: str) -> Literal["fp32", "bf16"]:
    """Return the precision; `auto` is bf16 if the hardware multiplies it faster, else fp32."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and _cpu_is_faster_in_bf16() else "fp32"


def resolve_compile(option: str, device: str) -> tuple[bool, str]:
    """Decide whether to use `torch.compile`; the second value is a note if it is wanted but does not work here.

    `auto` uses it on CUDA only: on a CPU it takes a minute, and only long trainings gain more than that.
    """
    if option == "off" or (option == "auto" and device != "cuda"):
        return False, ""
    try:  # many things may be missing (Triton, a C++ compiler, headers); only a trial finds out
        torch.autograd.backward(torch.compile(_trial)(torch.ones(64, device=device, requires_grad=True)))
    except Exception as error:  # the compiler's stages raise errors of any type
        return False, not_compiled(error)
    return True, ""


def not_compiled(error: Exception) -> str:
    """Return the note to the user when the compiler fails: the first useful line of its error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return f"training is not compiled, which is slower: {(lines or [type(error).__name__])[0]}"


def _trial(x: Tensor) -> Tensor:
    return (x.sin() * 2 + 1).square().sum()


def has_amx() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 in tiles (Intel AMX)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _cpu_is_faster_in_bf16() -> bool:
    """CPUs with AMX are faster. With AVX-512 BF16 only, AMD's are 1.5 times as fast and Intel's are slower (docs/log.md)."""
    if has_amx():
        return True
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.10
    return bool(capabilities.get("avx512_bf16")) and str(capabilities.get("cpu_name", "")).startswith("AMD")
