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
