from __future__ import annotations

import torch
from torch import Tensor, nn

from spq.training.graphed import GraphedStep, GraphedUpdate, put_on_device
from spq.training.optimizers import set_lr


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


def test_without_cuda_an_update_runs_plainly() -> None:
    weights, calls = torch.ones(2, requires_grad=True), list[float]()
    optimizer = torch.optim.SGD([weights], lr=0.5)
    update = GraphedUpdate([optimizer], lambda: calls.append(weights[0].item()), torch.device("cpu"), on=True)
    for _ in range(5):
        weights.grad = torch.ones(2)
        update()
    assert calls == [0.5, 0.0, -0.5, -1.0, -1.5]  # after each step of the optimizer
    assert isinstance(optimizer.param_groups[0]["lr"], float)


def test_learning_rates_and_counts_of_steps_are_tensors_while_updates_are_recorded() -> None:
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.5)
    weights.grad = torch.ones(2)
    optimizer.step()
    put_on_device(optimizer, torch.device("cpu"))
    group = optimizer.param_groups[0]
    set_lr(group, 0.25)
    assert group["capturable"]
    assert float(group["lr"]) == 0.25
    assert optimizer.state[weights]["step"].device.type == "cpu"
    again = torch.optim.Adam([weights], lr=0.5)
    again.load_state_dict(optimizer.state_dict())  # as from a checkpoint
    assert float(again.param_groups[0]["lr"]) == 0.25
