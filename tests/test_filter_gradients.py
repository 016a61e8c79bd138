"""Gradients of convolution filters as one matrix product, against those of torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d

from spq.config import load_recipe
from spq.model.network import Network
from spq.training import filter_gradients
from spq.training.filter_gradients import fast_filter_gradients, filter_gradient

CPU = torch.device("cpu")


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_gradients, "has_amx", lambda: True)


@settings(deadline=None)
@given(
    st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(3, 8), st.integers(3, 8),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from([1, 10_000]),
)  # fmt: skip
def test_the_gradient_is_that_of_torch(
    B: int, C: int, F: int, H: int, W: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    chunk: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(B * C + F)
    x = torch.randn(B, C, H, W, generator=generator, dtype=torch.float64)
    weight = torch.randn(F, C, *kernel, generator=generator, dtype=torch.float64, requires_grad=True)
    out = conv2d(x, weight, None, stride, padding)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    out.backward(grad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter_gradients, "CHUNK", chunk)
        torch.testing.assert_close(filter_gradient(x, grad, kernel, stride, padding), weight.grad)


def gradients(fast: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = Network(load_recipe("spq")).to(memory_format=torch.channels_last).train()
    views = torch.randn(24, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16), fast_filter_gradients(network.backbone, CPU, fast):
        x, z = network.quantized(network.backbone(views))
    ((x[:12] * z[12:]).sum() - (x[:12] * z.roll(5, 0)[12:]).sum()).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_a_network_gets_the_same_gradients(amx: None) -> None:
    plain, fast = gradients(False), gradients(True)
    assert list(plain) == list(fast)
    for name, grad in plain.items():
        assert fast[name].dtype == grad.dtype == torch.float32
        assert (fast[name] - grad).norm() <= 0.02 * grad.norm(), name  # bfloat16 has eight bits


def test_where_it_is_used(amx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, ...]] = []

    def noted(x: Tensor, grad: Tensor, *rest: tuple[int, int]) -> Tensor:
        used.append(tuple(grad.shape))
        return filter_gradient(x, grad, *rest)

    monkeypatch.setattr(filter_gradients, "filter_gradient", noted)

    def run(layer: nn.Conv2d, x: Tensor, enabled: bool = True) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), fast_filter_gradients(layer, CPU, True):
            return layer(x)

    images = torch.randn(2, 4, 6, 6, requires_grad=True)
    run(nn.Conv2d(4, 8, 3, padding=1, bias=False), images).sum().backward()
    assert used == [(2, 8, 6, 6)]
    assert images.grad is not None
    assert images.grad.dtype == torch.float32
    run(nn.Conv2d(4, 8, 1, 2, bias=False), images).sum().backward()
    assert used.pop() == (2, 8, 3, 3)
    others = (
        nn.Conv2d(4, 8, 3, padding=1),
        nn.Conv2d(4, 8, 3, groups=2, bias=False),
        nn.Conv2d(4, 8, 3, dilation=2, bias=False),
        nn.Conv2d(4, 8, 3, padding="same", bias=False),
    )
    for layer in others:
        run(layer, images).sum().backward()
    run(nn.Conv2d(4, 8, 3, padding=1, bias=False), torch.randn(2, 4, 7, 7)).sum().backward()  # a large output
    run(nn.Conv2d(4, 8, 3, bias=False), images, enabled=False).sum().backward()
    assert used == [(2, 8, 6, 6)]


def test_without_amx_or_bf16_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, bf16, device in ((False, True, "cpu"), (True, False, "cpu"), (True, True, "cuda")):
        monkeypatch.setattr(filter_gradients, "has_amx", lambda amx=amx: amx)
        with fast_filter_gradients(nn.Identity(), torch.device(device), bf16) as mode:
            assert mode is None


def test_a_compiled_backbone_still_works(amx: None) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU())
    compiled = torch.compile(network, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16), fast_filter_gradients(compiled, CPU, True):
        compiled(torch.randn(2, 3, 6, 6)).sum().backward()
    assert network[0].weight.grad is not None
