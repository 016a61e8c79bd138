from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans

from spq.config import QuantizerConfig
from spq.data.open import open_images
from spq.model.model import Model
from spq.model.quantizer import ProductQuantizer
from spq.training.refit import refit


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


def test_a_codeword_without_sub_vectors_does_not_change(tiny_model: Model) -> None:
    x = descriptors(tiny_model, 50)
    quantizer = started(x)
    quantizer.codebooks.data[3, 5] = 1000.0
    refit(quantizer, x)
    assert (quantizer.codebooks[3, 5] == 1000.0).all()
    assert torch.isfinite(quantizer.codebooks).all()
