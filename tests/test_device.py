from __future__ import annotations

import pytest
import torch

from spq.errors import ConfigError
from spq.model.device import resolve_device, resolve_precision


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no usable CUDA"):
            resolve_device("cuda")


def test_a_precision_that_was_asked_for_is_taken_and_auto_never_gives_bf16_to_unknown_hardware() -> None:
    assert [resolve_precision(name, "cpu") for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert resolve_precision("auto", "mps") == "fp32"


@pytest.mark.parametrize(
    ("capabilities", "amx", "precision"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, False, "bf16"),
        ({"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, False, "fp32"),
        ({"avx512_bf16": False, "cpu_name": "AMD EPYC"}, False, "fp32"),
        ({"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, True, "bf16"),
    ],
)
def test_auto_is_bf16_on_cpus_that_multiply_it_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], amx: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolve_precision("auto", "cpu") == precision
