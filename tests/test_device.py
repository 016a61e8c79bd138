from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from spq.config import DISTANCES, BackboneConfig, QuantizerConfig, Recipe, load_recipe
from spq.errors import ConfigError
from spq.evaluation import on_gpu
from spq.model.device import resolve_compile, resolve_device, resolve_precision
from spq.model.network import Network
from spq.model.quantizer import Quantizer
from spq.training import views
from spq.training.loss import multi_view
from spq.training.optimizers import make_optimizers
from spq.training.refit import refit
from spq.training.views import make_views


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


class CudaGenerator(torch.Generator):
    """Says that it is on a GPU, so that parameters are drawn there; only its place counts for fake tensors."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


class Transfers(TorchDispatchMode):
    """Counts what is copied between the host and a GPU: each copy makes the host wait for the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        places = {t.device.type for t in (*args, out) if isinstance(t, Tensor) and (t.ndim or "_to_copy" in str(func))}
        self.count += len(places) > 1
        return out


@pytest.fixture
def fake_gpu() -> Iterator[None]:
    """Tensors with shapes and devices but no numbers: an operation that mixes devices, or asks for a number, raises."""
    views._vector.cache_clear(), views._yiq.cache_clear()
    with FakeTensorMode():
        yield
    views._vector.cache_clear(), views._yiq.cache_clear()


@pytest.fixture
def small() -> Recipe:
    recipe = load_recipe("fast")
    return replace(recipe, backbone=BackboneConfig(blocks=(1, 1), width=8), train=replace(recipe.train, batch_size=8))


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_step_on_a_gpu_mixes_no_devices_and_after_the_first_never_waits_for_it(
    fake_gpu: None, small: Recipe, optimizer: str
) -> None:
    small = replace(small, train=replace(small.train, optimizer=optimizer))
    with torch.device("cuda:0"):
        network = Network(small)
    optimizers = make_optimizers(network, small)
    data = torch.zeros(64, 3, 32, 32, dtype=torch.uint8, device="cuda:0")
    order = torch.zeros(64, dtype=torch.int64, device="cuda:0")

    def step() -> None:
        batch = data[order[8:16]]
        pictures = [make_views(batch, small.views, small.input, CudaGenerator()) for _ in range(4)]
        loss = multi_view([network(view.contiguous(memory_format=torch.channels_last)) for view in pictures], 0.2)
        for p in network.parameters():  # autograd itself wants a real GPU
            p.grad = torch.zeros_like(p)
        for each in optimizers:
            each.step(), each.zero_grad()
        assert loss.device.type == "cuda"

    with Transfers() as first:
        step()
    with Transfers() as second:
        step()
    assert (first.count, second.count) == (5, 0)  # mean, std, luma and the two of YIQ


def test_the_watch_sees_a_number_that_the_host_sends_or_asks_for(fake_gpu: None) -> None:
    x = torch.zeros(3, device="cuda:0")
    with Transfers() as watch:
        x + x.new_tensor([1.0, 2.0, 3.0])
    assert watch.count == 1
    with pytest.raises(DataDependentOutputException):
        x.sum().item()
    with pytest.raises(RuntimeError, match="same device"):
        x + torch.zeros(3)


def test_codes_tables_refitting_and_ranking_mix_no_devices(fake_gpu: None) -> None:
    with torch.device("cuda:0"):
        quantizer = Quantizer(QuantizerConfig())
    x = torch.zeros(100, 128, device="cuda:0")
    refit(quantizer, x, iterations=2)
    codes = quantizer.encode(x)
    assert quantizer.decode(codes).device.type == "cuda"
    for distance in DISTANCES:
        d = on_gpu.sums(on_gpu.lookup(quantizer.tables(x[:5], distance)), codes[:, :4].long())
        assert (d.shape, d.device.type) == ((5, 100), "cuda")


def test_compiling_is_for_cuda_unless_asked_for() -> None:
    assert [resolve_compile(*choice) for choice in (("off", "cuda"), ("auto", "cpu"), ("auto", "mps"))] == 3 * [
        (False, "")
    ]


def test_a_compiler_that_does_not_work_is_said_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(function: object, **options: object) -> object:
        raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: no working C++ compiler\n  details")

    monkeypatch.setattr(torch, "compile", no_compiler)
    wanted, note = resolve_compile("on", "cpu")
    assert not wanted
    assert note == "training is not compiled, which is slower: InvalidCxxCompiler: no working C++ compiler"


@pytest.mark.slow
def test_the_compiler_of_this_machine_is_found_missing_where_it_is(tmp_path: Path) -> None:
    code = "from spq.model.device import resolve_compile; print(resolve_compile('on', 'cpu'))"
    environment = {**os.environ, "CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    wanted, note = ast.literal_eval(told.stdout)
    assert not wanted
    assert note.startswith("training is not compiled, which is slower: ")
    assert "ompiler" in note
