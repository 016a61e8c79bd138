from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

import dead_codewords
from spq.config import QuantizerConfig
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.model.model import Model
from spq.model.quantizer import ProductQuantizer
from spq.training.health import measure
from spq.training.refit import ITERATIONS, lloyd_step, refit


def descriptors(model: Model, count: int) -> torch.Tensor:
    sample = open_images("sample:train")
    return torch.from_numpy(model.embed([sample.image(position) for position in range(count)]))


def error(quantizer: ProductQuantizer, x: torch.Tensor) -> float:
    return quantizer.squared_distances(x).min(-1).values.sum().item()


def started(x: torch.Tensor) -> ProductQuantizer:
    """Codewords that are sub-vectors of real pictures."""
    quantizer = ProductQuantizer(QuantizerConfig(num_codebooks=8, codebook_size=16, codeword_dim=4))
    quantizer.codebooks.data.copy_(x[:16].view(16, 8, 4).transpose(0, 1))
    return quantizer


def test_refit_ends_where_scikit_learns_k_means_ends(tiny_model: Model) -> None:
    x = descriptors(tiny_model, 300)
    quantizer = started(x)
    parts = quantizer.split(x).double().numpy()
    start = quantizer.codebooks.detach().double().numpy()
    refit(quantizer, x, iterations=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sum(
            KMeans(16, init=start[m], n_init=1, max_iter=100, tol=0).fit(parts[:, m]).inertia_ for m in range(8)
        )
    np.testing.assert_allclose(error(quantizer, x), theirs, rtol=1e-3)


def test_each_round_lowers_the_quantization_error(tiny_model: Model) -> None:
    x = descriptors(tiny_model, 200)
    quantizer = started(x)
    errors = [error(quantizer, x)]
    for _ in range(5):
        refit(quantizer, x, iterations=1)
        errors.append(error(quantizer, x))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


def plain_k_means(quantizer: ProductQuantizer, x: torch.Tensor, iterations: int = ITERATIONS) -> ProductQuantizer:
    """A copy after Lloyd's algorithm, in which dead codewords stay dead."""
    fitted = copy.deepcopy(quantizer)
    with torch.no_grad():
        for _ in range(iterations):
            lloyd_step(fitted.codebooks, fitted.split(x))
    return fitted


def used(quantizer: ProductQuantizer, x: torch.Tensor) -> list[int]:
    return [len(column.unique()) for column in quantizer.encode(x).T]


def test_dead_codewords_move_to_where_the_others_are_far_away(tiny_model: Model) -> None:
    x = descriptors(tiny_model, 300)
    quantizer = started(x)
    quantizer.codebooks.data[3, 5] = 1000.0
    quantizer.codebooks.data[6, 2:] = 1000.0
    plain = plain_k_means(quantizer, x)
    assert (plain.codebooks[3, 5] == 1000.0).all()
    assert used(plain, x) == [16, 16, 16, 15, 16, 16, 2, 16]
    refit(quantizer, x)
    assert used(quantizer, x) == [16] * 8
    assert error(quantizer, x) < 0.95 * error(plain, x)
    assert torch.equal(
        quantizer.codebooks[0], plain.codebooks[0]
    )  # of a codebook without dead codewords, k-means has ended


@given(
    N=st.integers(1, 60),
    distinct=st.integers(1, 40),
    K=st.sampled_from([2, 8, 32]),
    spread=st.sampled_from([0.0, 0.1, 3.0]),
    seed=st.integers(0, 999),
)
@settings(max_examples=30, deadline=None)
def test_moved_codewords_never_make_the_error_larger(N: int, distinct: int, K: int, spread: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(distinct, (N,), generator=generator)
    x = torch.randn(distinct, 6, generator=generator)[rows]
    quantizer = ProductQuantizer(QuantizerConfig(num_codebooks=2, codebook_size=K, codeword_dim=3))
    quantizer.codebooks.data.copy_(spread * torch.randn(2, K, 3, generator=generator) + 1)
    plain, again = plain_k_means(quantizer, x), copy.deepcopy(quantizer)
    refit(quantizer, x)
    refit(again, x)
    assert torch.equal(quantizer.codebooks, again.codebooks)
    assert torch.isfinite(quantizer.codebooks).all()
    assert error(quantizer, x) <= error(plain, x) * (1 + 1e-5) + 1e-5
    if len(rows.unique()) <= K:  # each sub-vector has a codeword of its own
        assert error(quantizer, x) < 1e-5 * N
    else:
        assert used(quantizer, x) == [K, K]


def test_health_counts_codewords_that_no_picture_has(tiny_model: Model) -> None:
    x = descriptors(tiny_model, 300)
    quantizer = started(x)
    quantizer.codebooks.data[6, 2:] = quantizer.codebooks.data[6, 0]
    before = measure(quantizer.encode(x).numpy(), x.numpy(), 16)
    refit(quantizer, x)
    after = measure(quantizer.encode(x).numpy(), x.numpy(), 16)
    assert (before.dead_codewords, after.dead_codewords) == (14, 0)
    assert (before.codeword_use, after.codeword_use) == (1 - 14 / 128, 1.0)


def test_the_bench_tells_moved_codewords_from_k_means_alone(tiny_model: Model) -> None:
    young = copy.deepcopy(tiny_model)
    young.network.quantizer.codebooks.data[6, 2:] = 1000.0
    images, queries = (
        subset(open_images(f"sample:{part}"), range(count)) for part, count in (("train", 150), ("test", 20))
    )
    trained, k_means, refitted = dead_codewords.rows_of(young, images, queries)
    assert [row["dead"] for row in (trained, k_means, refitted)] == [14, 14, 0]
    assert refitted["error"] < k_means["error"] < trained["error"]
    assert refitted["distinct codes"] > k_means["distinct codes"]
