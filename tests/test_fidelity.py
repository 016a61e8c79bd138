from __future__ import annotations

import numpy as np
import pytest
import torch

from spq.config import DISTANCES, QuantizerConfig
from spq.data.decode import load_pixels
from spq.data.open import open_images
from spq.model.model import Model
from spq.model.quantizer import ProductQuantizer
from spq.training.fidelity import describe_copies, evenly_spaced, in_top, measure_fidelity


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return load_pixels(open_images("sample:train"), 28, positions=range(120)).array


def slow_distance(query: np.ndarray, other: np.ndarray, M: int, distance: str) -> float:
    if distance == "dot":
        return -float(query.astype(np.float64) @ other)
    norms = np.linalg.norm((query - other).reshape(M, -1), axis=1)
    return float((norms**2).sum() if distance == "sqeuclidean" else norms.sum())


@pytest.mark.parametrize("distance", DISTANCES)
def test_every_value_equals_slow_loops(tiny_model: Model, pixels: np.ndarray, distance: str) -> None:
    config = QuantizerConfig(num_codebooks=8, codeword_dim=4, distance=distance, prefixes=(2, 8))
    quantizer = ProductQuantizer(config)
    quantizer.codebooks.data.copy_(tiny_model.network.quantizer.codebooks)
    x, originals = tiny_model.embed(pixels), evenly_spaced(120, 15)
    copies = describe_copies(tiny_model.network, pixels[originals], tiny_model.config.input, 4).numpy()
    reports = measure_fidelity(torch.from_numpy(x), torch.from_numpy(copies), originals, quantizer)
    assert [(report.bits, report.pictures, report.queries) for report in reports] == [(8, 120, 15), (32, 120, 15)]
    for report, M in zip(reports, (2, 8), strict=True):
        exact, own_copies, codebooks = x[:, : 4 * M], copies[:, : 4 * M], tiny_model.codebooks[:M]
        codes = tiny_model.encode_descriptors(x)[:, :M]
        decoded = codebooks[np.arange(M), codes].reshape(120, -1)
        copy_hits, float_hits, kept = {1: 0.0, 10: 0.0}, {1: 0.0, 10: 0.0}, 0.0
        for q, row in enumerate(originals):
            for gallery, hits in ((decoded, copy_hits), (exact, float_hits)):
                far = np.array([slow_distance(own_copies[q], other, M, distance) for other in gallery])
                for k in (1, 10):
                    hits[k] += slow_share(far, row, k)
            others = [i for i in range(120) if i != row]
            near = {
                name: np.array([slow_distance(exact[row], gallery[i], M, distance) for i in others])
                for name, gallery in (("code", decoded), ("float", exact))
            }
            kept += sum(slow_share(near["code"], i, 10) for i in np.argsort(near["float"])[:10]) / 10
        assert report.copy_at_1 == pytest.approx(copy_hits[1] / 15, abs=1e-4)
        assert report.copy_at_10 == pytest.approx(copy_hits[10] / 15, abs=1e-4)
        assert report.float_copy_at_1 == pytest.approx(float_hits[1] / 15, abs=1e-4)
        assert report.float_copy_at_10 == pytest.approx(float_hits[10] / 15, abs=1e-4)
        assert report.kept == pytest.approx(kept / 15, abs=1e-4)
        assert report.error == pytest.approx(((exact - decoded) ** 2).sum() / ((exact - exact.mean(0)) ** 2).sum())
        assert report.dead_codewords == 16 * M - sum(len(np.unique(column)) for column in codes.T)
        assert all(0 < share < 1 for share in (report.copy_at_10, report.float_copy_at_10, report.kept))


def slow_share(far: np.ndarray, row: int, top: int) -> float:
    """Of all orders in which equally near ones may come, the share with `row` among the top."""
    rounding = 1e-5 * far[row] if far[row] > 0 else -1e-6 * far[row]  # inner products of such pictures are all alike
    nearer = int((far < far[row] - rounding).sum())
    equal = int((np.abs(far - far[row]) <= rounding).sum())
    return min(1.0, max(0.0, (top - nearer) / equal))


def test_equal_codes_find_copies_only_by_chance() -> None:
    assert in_top(torch.zeros(3, 50), torch.tensor([[0], [7], [9]]), 10) == pytest.approx(10 / 50)


def test_lossless_codes_keep_every_ranking() -> None:
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    quantizer = ProductQuantizer(QuantizerConfig(num_codebooks=1, codebook_size=64, codeword_dim=2))
    quantizer.codebooks.data[0, :40] = x
    quantizer.codebooks.data[0, 40:] = 100.0
    report = measure_fidelity(x, x[:5] + 1e-4, np.arange(5), quantizer)[0]
    assert (report.kept, report.copy_at_1, report.float_copy_at_1) == (1.0, 1.0, 1.0)
    assert report.error == pytest.approx(0, abs=1e-9)
    assert report.dead_codewords == 24


def test_copies_are_the_same_each_time_and_not_the_pictures_themselves(tiny_model: Model, pixels: np.ndarray) -> None:
    first, second = (describe_copies(tiny_model.network, pixels[:20], tiny_model.config.input, 20) for _ in range(2))
    assert torch.equal(first, second)
    assert np.linalg.norm(first.numpy() - tiny_model.embed(pixels[:20]), axis=1).min() > 1e-3


def test_a_sample_smaller_than_ten_is_measured_too(tiny_model: Model, pixels: np.ndarray) -> None:
    x = torch.from_numpy(tiny_model.embed(pixels[:6]))
    report = measure_fidelity(x, x[:2], np.arange(2), tiny_model.network.quantizer)[0]
    assert (report.kept, report.copy_at_10, report.float_copy_at_1) == (1.0, 1.0, 1.0)
