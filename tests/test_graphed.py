from __future__ import annotations

import torch
from torch import Tensor, nn

from spq.training.graphed import GraphedStep


def test_without_cuda_a_step_runs_plainly_and_gradients_are_not_accumulated() -> None:
    layer, data = nn.Linear(3, 1), torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    drawn: list[float] = []

    def step(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn.append(torch.rand(1, generator=generator).item())
        x = layer(data[rows])
        return x.square().mean(), x

    gradients = GraphedStep(step, [layer], torch.device("cpu"), on=True)
    rows = torch.tensor([1, 4])
    for _ in range(2):
        loss, x = gradients(rows, torch.Generator().manual_seed(5))
        expected = layer(data[rows]).square().mean()
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(layer.weight.grad, torch.autograd.grad(expected, layer.weight)[0])
        assert not loss.requires_grad
        assert not x.requires_grad
    assert drawn[0] == drawn[1]
