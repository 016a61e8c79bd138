from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reference import paper
from spq.config import QuantizerConfig
from spq.model.quantizer import ProductQuantizer
from spq.training import loss as loss_module
from spq.training.loss import cross_quantized_contrastive, multi_view, nt_xent

GOLDEN = np.load(Path(__file__).parent / "golden" / "spq_reference.npz")


def test_loss_and_gradients_equal_the_authors_code() -> None:
    x_a, x_b = (torch.from_numpy(GOLDEN[name]).requires_grad_() for name in ("Xa", "Xb"))
    quantizer = ProductQuantizer(QuantizerConfig())
    quantizer.codebooks.data.copy_(torch.from_numpy(GOLDEN["C"]).view(16, 8, 16).transpose(0, 1))
    loss = cross_quantized_contrastive(x_a, quantizer(x_a), x_b, quantizer(x_b), 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(float(GOLDEN["loss"]), abs=1e-5)
    grad_C = quantizer.codebooks.grad.transpose(0, 1).reshape(16, 128)
    for ours, theirs in ((x_a.grad, "grad_Xa"), (x_b.grad, "grad_Xb"), (grad_C, "grad_C")):
        np.testing.assert_allclose(ours.numpy(), GOLDEN[theirs], atol=1e-5)


@pytest.mark.parametrize(("B", "tau"), [(2, 0.5), (5, 0.2), (9, 1.0)])
def test_loss_equals_the_papers_double_loop(B: int, tau: float) -> None:
    rng = np.random.default_rng(B)
    vectors = [rng.normal(size=(B, 6)) for _ in range(4)]
    ours = cross_quantized_contrastive(*map(torch.from_numpy, vectors), tau)
    assert ours.item() == pytest.approx(paper.cqc_loss(*vectors, tau), rel=1e-9)


def test_identical_pairs_among_orthogonal_others_give_the_closed_form() -> None:
    eye = torch.eye(4)
    expected = -np.log(np.e / (np.e + 6))  # one positive at cosine 1, six negatives at 0
    assert nt_xent(eye, eye, 1.0).item() == pytest.approx(expected, rel=1e-6)


def test_the_own_quantization_is_never_a_positive() -> None:
    x_a, x_b = torch.eye(4), torch.eye(4).roll(1, 0)
    right = cross_quantized_contrastive(x_a, x_a, x_b, x_b, 0.5)  # z = x: the views disagree everywhere
    matched = cross_quantized_contrastive(x_a, x_b, x_b, x_a, 0.5)  # each view meets its own content
    assert right > matched + 1


def test_several_views_give_the_mean_over_their_pairs() -> None:
    rng = np.random.default_rng(1)
    outputs = [(rng.normal(size=(4, 6)), rng.normal(size=(4, 6))) for _ in range(3)]
    pairs = [paper.cqc_loss(*outputs[i], *outputs[j], 0.5) for i, j in ((0, 1), (0, 2), (1, 2))]
    ours = multi_view([(torch.from_numpy(x), torch.from_numpy(z)) for x, z in outputs], 0.5)
    assert ours.item() == pytest.approx(np.mean(pairs), rel=1e-9)


def views(count: int, B: int, D: int, seed: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(B, D, generator=rng, dtype=torch.float64, requires_grad=True) for _ in "xz")
        for _ in range(count)
    ]


def test_the_loss_on_prefixes_is_the_mean_of_the_papers_losses_of_each() -> None:
    outputs = views(3, 4, 12)
    arrays = [(x.detach().numpy(), z.detach().numpy()) for x, z in outputs]
    slow = [
        paper.cqc_loss(*(v[:, :n] for i in pair for v in arrays[i]), 0.5)
        for n in (3, 6, 12)
        for pair in ((0, 1), (0, 2), (1, 2))
    ]
    assert multi_view(outputs, 0.5, (3, 6, 12)).item() == pytest.approx(np.mean(slow), rel=1e-9)


def test_the_full_length_as_only_prefix_gives_exactly_the_plain_loss() -> None:
    gradients = []
    for dims in ((), (12,)):
        outputs = views(2, 5, 12)
        loss = multi_view(outputs, 0.2, dims)
        loss.backward()
        gradients.append([loss.detach(), *(v.grad for pair in outputs for v in pair)])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_gradients_of_the_loss_on_prefixes_equal_finite_differences() -> None:
    flat = [v for pair in views(2, 3, 6) for v in pair]
    assert torch.autograd.gradcheck(lambda *v: multi_view([v[:2], v[2:]], 0.5, (2, 4, 6)), flat)


def test_later_dimensions_are_not_moved_by_a_shorter_prefix() -> None:
    outputs = views(2, 4, 12)
    multi_view(outputs, 0.5, (3,)).backward()
    for vector in (v for pair in outputs for v in pair):
        assert vector.grad[:, :3].abs().min() > 0
        assert vector.grad[:, 3:].abs().max() == 0


def test_the_loss_runs_on_the_device_of_its_inputs() -> None:
    """The device `meta` refuses what is not there."""
    u, v = (torch.empty(4, 6, device="meta") for _ in "uv")
    assert nt_xent(u, v, 0.5).device.type == "meta"
    assert multi_view([(u, v)] * 3, 0.5, (2, 6)).device.type == "meta"


@pytest.mark.parametrize("own", [None, slice(0, 8), slice(2, 7)])
def test_blocks_that_are_computed_again_have_the_same_loss_and_gradient(
    own: slice | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = [
        tuple(torch.randn(8, 6, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
        for _ in range(3)
    ]
    leaves = [tensor for pair in outputs for tensor in pair]

    def found() -> list[torch.Tensor]:
        value = multi_view(outputs, 0.3, (2, 6), own)
        return [value, *torch.autograd.grad(value, leaves)]

    wanted = found()
    blocks = 0
    real = loss_module._block_losses

    def counted(*given: object) -> torch.Tensor:
        nonlocal blocks
        blocks += 1
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(loss_module, "_block_losses", counted)
    monkeypatch.setattr(loss_module, "MOST_PAIRS", 3 * 3 * 8 * 3)  # three rows at a time
    for one, other in zip(found(), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    rows = 8 if own is None else own.stop - own.start
    assert blocks == 2 * 2 * -(-rows // 3)  # of two prefixes, each for the loss and again for the gradient


def test_shares_of_a_batch_add_up_to_its_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = [tuple(torch.randn(9, 4, generator=generator, dtype=torch.float64) for _ in range(2)) for _ in range(4)]
    parts = [multi_view(outputs, 0.2, (2, 4), slice(first, first + 3)) for first in (0, 3, 6)]
    torch.testing.assert_close(sum(parts), multi_view(outputs, 0.2, (2, 4)), rtol=1e-12, atol=0)
