"""A step on two processes: loss and gradients are those of one process on the same batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_training import sample_images, small_recipe
from spq.config import Recipe
from spq.data.decode import load_pixels
from spq.model.network import Network
from spq.training import gathered
from spq.training.gathered import shared_statistics
from spq.training.losses import Criterion, CrossQuantized
from spq.training.moving_targets import MovingTargets
from spq.training.processes import joined
from spq.training.stages.train_network import Learner, step_loss
from spq.training.view_source import ViewSource
from together import together

BATCH = 16


def prefixed(**train: Any) -> Recipe:
    """Three code lengths, batch normalisation in backbone and head."""
    recipe = small_recipe(channels_last=False, **train)
    return replace(recipe, quantizer=recipe.quantizer.with_bits(4, 8, 16))


RECIPES = {
    "four views in one pass": prefixed(num_views=4, one_pass=True),
    "neighbours as positives": prefixed(neighbours=3),
    "targets": prefixed(num_views=3, target_momentum=0.9, predictor=16),
    "targets without negatives": prefixed(target_momentum=0.9, predictor=16, negatives=False),
    "own loss": prefixed(num_views=3),
    "own loss against targets": prefixed(target_momentum=0.9, predictor=16),
}


FIRST = next(iter(RECIPES))


class WithCodebooks(CrossQuantized):
    """The loss and a term on all rows, codebooks and an own parameter, which every process computes as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def prepare(self, network: Network, count: int) -> None:
        super().prepare(network, count)
        self.codebooks = network.quantizer.codebooks

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, own: slice | None = None) -> Tensor:
        spread = x.flatten(0, 1).std(0).mean() + (rows.double() @ x[0]).mean() / 1000
        return super().forward(x, z, rows, own) + self.weight.square() * spread + self.codebooks.square().mean()


class ToTargets(CrossQuantized):
    """A loss of its own against the moving average."""

    def forward(self, x: Tensor, z: Tensor, rows: Tensor, *targets: Tensor | slice | None) -> Tensor:
        target_x, target_z = targets
        assert isinstance(target_x, Tensor)
        assert isinstance(target_z, Tensor)
        return super().forward(x, z, rows) + (x - target_x.flip(0)).square().mean() + (z * target_z).mean()


OWN = {"own loss": WithCodebooks, "own loss against targets": ToTargets}


def gradients(name: str, detached: bool = False) -> tuple[float, dict[str, np.ndarray]]:
    """Loss, gradients, and batch statistics afterwards, of one step in float64."""
    recipe = RECIPES[name]
    torch.manual_seed(3)
    network = Network(recipe).double().train()
    targets = MovingTargets(network, recipe).double().train() if recipe.train.target_momentum else None
    neighbours = (
        torch.randint(32, (32, 5), generator=torch.Generator().manual_seed(1)) if recipe.train.neighbours else None
    )
    for module in (network.backbone, *([targets.average.backbone] if targets else [])):
        module.register_forward_pre_hook(lambda _, views: (views[0].double(),))
    if detached:  # each process learns from its own rows alone
        gathered._Gather.backward = staticmethod(lambda ctx, grad: (grad[..., ctx.processes.own(BATCH), :], None))
    criterion = Criterion(OWN[name]() if name in OWN else None, network, 32)
    with joined("cpu") as processes:
        learner = Learner(
            recipe, network, network.backbone, ViewSource(torch.from_numpy(pixels()), None), neighbours,
            criterion, False, targets, processes,
        )  # fmt: skip
        rows = torch.randperm(32, generator=torch.Generator().manual_seed(2))[:BATCH]
        loss, _ = step_loss(learner, rows, torch.Generator().manual_seed(4), recipe.input, 0.3)
        torch.autograd.backward(loss)
        more = [*([targets.predictor] if targets else []), *([criterion.module] if name == "own loss" else [])]
        modules: list[nn.Module] = [network, *more]
        parameters = [p for module in modules for p in module.parameters()]
        total = processes.sum_gradients(parameters, loss.detach())
    found = {
        f"{i} {k}": p.grad.numpy() for i, m in enumerate(modules) for k, p in m.named_parameters() if p.grad is not None
    }
    found |= {f"{i} {k}": b.numpy() for i, m in enumerate(modules) for k, b in m.named_buffers()}
    return float(total), found


def pixels() -> np.ndarray:
    return load_pixels(sample_images(32), 16).array


def all_gradients(also_detached: bool = False) -> dict[str, Any]:
    found = {name: gradients(name) for name in RECIPES}
    return found | {"detached": gradients(FIRST, detached=True)} if also_detached else found


def furthest(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    assert found.keys() == wanted.keys()
    return max(float(np.abs(found[k] - wanted[k]).max() / max(np.abs(wanted[k]).max(), 1e-12)) for k in wanted)


def test_a_step_on_two_processes_has_the_loss_gradients_and_statistics_of_one(tmp_path: Path) -> None:
    alone = all_gradients()
    for each in together(2, all_gradients, True, folder=tmp_path):
        loss, detached = each.pop("detached")
        assert loss == pytest.approx(alone[FIRST][0], rel=1e-9)  # so the loss alone does not tell
        assert furthest(detached, alone[FIRST][1]) > 0.1
        for name, (loss, found) in each.items():
            assert loss == pytest.approx(alone[name][0], rel=1e-9), name
            assert furthest(found, alone[name][1]) < 1e-9, name


def normalised(dtype: torch.dtype) -> list[np.ndarray]:
    """Output, gradients and running statistics of batch normalisation; of several processes, each has some of the rows."""
    layer = nn.BatchNorm2d(3)
    x = torch.randn(8, 3, 4, 5, generator=torch.Generator().manual_seed(1)) * 3 + 20
    upstream = torch.randn(8, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(3))
    with joined("cpu") as processes, shared_statistics(processes):
        own = processes.own(8)
        part = x[own].to(dtype).requires_grad_()
        out = layer(part)
        torch.autograd.backward((out.float() * upstream[own]).sum())
        assert part.grad is not None
        processes.sum_gradients(list(layer.parameters()), torch.zeros(()))
    parts = [out, part.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var]
    assert out.dtype == dtype
    return [tensor.detach().float().numpy() for tensor in parts]


def both_precisions() -> list[list[np.ndarray]]:
    return [normalised(dtype) for dtype in (torch.float32, torch.bfloat16)]


def test_batch_statistics_of_two_processes_are_those_of_the_batch(tmp_path: Path) -> None:
    alone, several = both_precisions(), together(2, both_precisions, folder=tmp_path)
    for number, near in enumerate((2e-5, 2e-2)):
        found, wanted = [each[number] for each in several], alone[number]
        whole = [np.concatenate([each[part] for each in found]) for part in (0, 1)] + list(found[0][2:])
        for one, other in zip(whole, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=near, atol=near * np.abs(other).max())
