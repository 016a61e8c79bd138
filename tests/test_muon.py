from __future__ import annotations

import pytest
import torch

from spq.training.muon import Muon, orthogonalise


def test_updates_are_nearly_orthogonal() -> None:
    G = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(G, 5))
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    torch.testing.assert_close(orthogonalise(G.T, 5), orthogonalise(G, 5).T)


def test_the_small_square_gives_the_same_as_the_iteration_as_published() -> None:
    a, b, c = 3.4445, -4.7750, 2.0315
    G = torch.randn(24, 216, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, 24)[:, None]
    X = G.double() / G.double().norm()
    for _ in range(3):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    torch.testing.assert_close(orthogonalise(G, 3).double(), X, atol=2e-5, rtol=0)


def test_a_step_equals_its_formula_for_filters_of_several_shapes() -> None:
    """Nesterov momentum, then a step from filters of norm sqrt(O); filters of one shape share a batch."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 3, 3, 3), (8, 3, 3, 3), (4, 8, 1, 1)]
    filters = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    expected = [f.detach().clone() for f in filters]
    momenta = [torch.zeros_like(f) for f in expected]
    optimizer = Muon(filters, lr=0.1, momentum=0.6)
    for _ in range(3):
        for i, f in enumerate(filters):
            f.grad = torch.randn(f.shape, generator=generator)
            momenta[i] = 0.6 * momenta[i] + f.grad
            update = orthogonalise((f.grad + 0.6 * momenta[i]).flatten(1), 3).view_as(f)
            expected[i] = expected[i] / expected[i].norm() * len(f) ** 0.5 - 0.1 * update
        optimizer.step()
    for f, e in zip(filters, expected, strict=True):
        torch.testing.assert_close(f.detach(), e)


def test_a_filter_of_zeros_and_one_without_a_gradient_are_no_problem() -> None:
    zeros, unused = torch.zeros(4, 3, 3, 3, requires_grad=True), torch.ones(4, 3, 3, 3, requires_grad=True)
    zeros.grad = torch.zeros_like(zeros)
    Muon([zeros, unused], lr=0.1, momentum=0.6).step()
    assert zeros.isfinite().all()
    assert float(unused.detach().mean()) == pytest.approx(1.0)
