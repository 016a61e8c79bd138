from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from small_training import StopError, sample_images
from spq.config import DISTANCES, BackboneConfig, QuantizerConfig, load_recipe
from spq.errors import ConfigError
from spq.evaluation import on_gpu
from spq.model.device import resolve_compile, resolve_device, resolve_precision
from spq.model.network import Network
from spq.model.quantizer import ProductQuantizer
from spq.training import jitter
from spq.training.context import Training, TrainOptions
from spq.training.pixel_memory import Pictures
from spq.training.refit import assigned, lloyd_step, revive
from spq.training.stages.train_network import train_network


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no usable CUDA"):
            resolve_device("cuda")


def test_a_given_precision_is_used_and_auto_is_fp32_on_unknown_hardware() -> None:
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
    """Claims to be on a GPU, so that fake tensors are drawn there."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


class Transfers(TorchDispatchMode):
    """Counts copies between the host and a GPU: each copy makes the host wait for the GPU."""

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
    """Tensors with shapes and devices but no numbers: an operation that mixes devices, or reads a number, raises."""
    jitter.as_vector.cache_clear(), jitter._yiq.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        try:
            torch.zeros(1, device="cuda:0").new_tensor([1.0])
        except RuntimeError as error:
            pytest.skip(f"fake tensors of this torch need a real GPU: {str(error).splitlines()[0]}")
        yield
    jitter.as_vector.cache_clear(), jitter._yiq.cache_clear()


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_on_a_gpu_mixes_no_devices_and_copies_only_the_order_of_an_epoch(
    fake_gpu: None, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loop runs; only autograd, which needs a real GPU, and the clock are replaced."""
    recipe = load_recipe("fast")
    train = replace(
        recipe.train, batch_size=8, num_views=2, minutes=0.0, epochs=100, compile="off", optimizer=optimizer
    )
    recipe = replace(recipe, backbone=BackboneConfig(blocks=(1, 1), width=8), train=train)
    with torch.device("cuda:0"):
        network = Network(recipe)
    network.to = lambda *args, **options: network  # type: ignore[assignment]  # it is there already
    copies: list[int] = []

    def gradients(loss: Tensor) -> None:
        assert loss.device.type == "cuda"
        for p in network.parameters():
            p.grad = torch.zeros_like(p)

    def count(epoch: int, network: Network) -> None:
        copies.append(transfers.count)
        transfers.count = 0
        if epoch == 2:
            raise StopError

    make = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: make() if device is None else CudaGenerator())
    monkeypatch.setattr(torch.autograd, "backward", gradients)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**30))
    pixels = Pictures(np.zeros((16, 3, 32, 32), np.uint8), np.arange(16), np.zeros((16, 2), np.int64), [])
    options = TrainOptions().with_names(on_epoch=count, clock=lambda: 0.0)
    training = Training(sample_images(16), recipe, tmp_path, torch.device("cuda:0"), options, decoded=pixels)
    with pytest.raises(StopError), Transfers() as transfers:
        train_network(training, network)
    # at first mean, std, luma, the two matrices of YIQ, the pictures and the order; then the order of each epoch
    assert copies == [7, 1]


def test_the_counter_notices_numbers_that_the_host_sends_or_reads(fake_gpu: None) -> None:
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
        quantizer = ProductQuantizer(QuantizerConfig())
    x = torch.zeros(100, 128, device="cuda:0")
    with torch.no_grad():
        lloyd_step(quantizer.stages[0], quantizer.split(x))
        assert revive(quantizer.stages[0], quantizer.split(x)).device.type == "cuda"
    assert assigned(quantizer, x).device.type == "cuda"
    codes = quantizer.encode(x)
    assert quantizer.decode(codes).device.type == "cuda"
    for distance in DISTANCES:
        d = on_gpu.sums(on_gpu.lookup(quantizer.tables(x[:5], distance)), codes[:, :4].long())
        assert (d.shape, d.device.type) == ((5, 100), "cuda")


def test_auto_compiles_on_cuda_only() -> None:
    assert [resolve_compile(*choice) for choice in (("off", "cuda"), ("auto", "cpu"), ("auto", "mps"))] == 3 * [
        (False, "")
    ]


def test_a_compiler_that_does_not_work_is_reported_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(function: object, **options: object) -> object:
        raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: no working C++ compiler\n  details")

    monkeypatch.setattr(torch, "compile", no_compiler)
    wanted, note = resolve_compile("on", "cpu")
    assert not wanted
    assert note == "training is not compiled, which is slower: InvalidCxxCompiler: no working C++ compiler"


@pytest.mark.slow
def test_a_missing_compiler_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that torch's compiler imports
        import torch._inductor.config as inductor

        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
        with inductor.patch({"cpp.cxx": (str(tmp_path / "none"),)}):
            wanted, note = resolve_compile("on", "cpu")
    assert not wanted
    assert note.startswith("training is not compiled, which is slower: ")
    assert "ompiler" in note
