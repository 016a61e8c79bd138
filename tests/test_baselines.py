from __future__ import annotations

import faiss
import numpy as np
import pytest

from reference import adc
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.evaluation import baselines
from spq.evaluation.baselines import Fit, encode, train_codebooks, train_rotation
from spq.pq.tables import decode

DESCRIPTOR_METHODS = list(baselines.descriptor_baselines(16).values())
METHODS = [*DESCRIPTOR_METHODS, baselines.random_codes]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(500, 784) uint8: real pictures, grey."""
    images = subset(open_images("sample:train"), range(500))
    return np.stack([np.asarray(images.image(i))[:, :, 0].ravel() for i in range(500)])


def error(x: np.ndarray, codebooks: np.ndarray) -> float:
    return float(np.square(x - decode(encode(x, codebooks), codebooks)).sum(1).mean())


@pytest.mark.parametrize("method", DESCRIPTOR_METHODS)
def test_a_baseline_finds_clusters_that_are_there(method: Fit) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 24)) * 5
    labels = rng.integers(0, 5, 300)
    x = (centres[labels] + rng.normal(size=(300, 24))).astype(np.float32)
    rows = method(x[50:], 16, np.random.default_rng(1))(x[:50], 20)
    assert (labels[50:][rows] == labels[:50, None]).mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("N", "D", "bits"), [(100, 6, 32), (5, 12, 16), (1, 1, 4), (40, 10, 12)])
def test_small_galleries_and_more_bits_than_dimensions_work_without_warnings(
    method: Fit, N: int, D: int, bits: int, capfd: pytest.CaptureFixture[str]
) -> None:
    if bits % 8 and method in baselines.BYTE_BASELINES.values():
        assert method not in baselines.descriptor_baselines(bits).values()
        return
    rng = np.random.default_rng(0)
    gallery, queries = (rng.normal(size=(n, D)).astype(np.float32) for n in (N, 3))
    rows = method(gallery, bits, rng)(queries, 200)
    assert np.array_equal(np.sort(rows, axis=1), np.tile(np.arange(N), (3, 1)))  # top is cut to N; each row once
    assert capfd.readouterr() == ("", "")  # faiss likes to talk


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_ranking(method: Fit, pixels: np.ndarray) -> None:
    first, second = (method(pixels[50:, ::8], 16, np.random.default_rng(3))(pixels[:50, ::8], 30) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("K", [16, 256])
def test_pq_ranks_by_the_sums_of_squared_distances_to_its_codewords(pixels: np.ndarray, K: int) -> None:
    gallery, queries, M = pixels[40:440], pixels[:5], 7  # 784 / 7: nothing padded
    bits = M * {16: 4, 256: 8}[K]
    rows = baselines.product_quantization(gallery, bits, np.random.default_rng(0), K)(queries, 20)
    codebooks = train_codebooks(gallery, M, np.random.default_rng(0), K)
    assert codebooks.shape == (M, K, 112)
    decoded = decode(encode(gallery, codebooks), codebooks).astype(np.float64)
    truth = np.square(queries[:, None].astype(np.float64) - decoded).sum(2)
    answered = np.take_along_axis(truth, rows, 1)
    np.testing.assert_allclose(answered, np.sort(truth, axis=1)[:, :20], rtol=1e-5)


@pytest.mark.parametrize(("K", "M"), [(16, 8), (256, 4)])
def test_pq_quantizes_as_well_as_faiss(pixels: np.ndarray, K: int, M: int) -> None:
    x = pixels.astype(np.float32)
    pq = faiss.ProductQuantizer(x.shape[1], M, K.bit_length() - 1)
    pq.cp.min_points_per_centroid = 1
    pq.train(x)
    faiss_error = float(np.square(x - pq.decode(pq.compute_codes(x))).sum(1).mean())
    assert error(x, train_codebooks(x, M, np.random.default_rng(0), K)) < 1.02 * faiss_error


@pytest.mark.parametrize(
    ("K", "M"), [(16, 8), (32, 4)]
)  # 256 codewords of 500 pictures are as good as the luck of their start
def test_opq_is_a_rotation_and_quantizes_as_well_as_faiss(pixels: np.ndarray, K: int, M: int) -> None:
    x = pixels[:, ::14].astype(np.float32)
    x = x - x.mean(0)
    rotation, codebooks = train_rotation(x, M, np.random.default_rng(0), K)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(x.shape[1]), atol=1e-4)
    opq, pq = faiss.OPQMatrix(x.shape[1], M), faiss.ProductQuantizer(x.shape[1], M, K.bit_length() - 1)
    opq.niter, pq.cp.min_points_per_centroid = 20, 1
    opq.pq = pq
    opq.train(x)
    pq.train(opq.apply(x))
    faiss_error = float(np.square(opq.apply(x) - pq.decode(pq.compute_codes(opq.apply(x)))).sum(1).mean())
    plain = error(x, train_codebooks(x, M, np.random.default_rng(0), K))
    assert error(x @ rotation, codebooks) < min(1.02 * faiss_error, plain)


@pytest.mark.parametrize("method", [baselines.iterative_quantization, baselines.random_hyperplanes])
def test_hamming_rankings_break_ties_by_gallery_order(method: Fit, pixels: np.ndarray) -> None:
    x = pixels[:, ::14].astype(np.float32)
    doubled = np.repeat(x[:30], 2, axis=0)  # each picture twice: rows 2i and 2i + 1 have the same bits
    rows = method(doubled, 16, np.random.default_rng(0))(x[:30], 60)
    places = np.argsort(rows, axis=1)
    assert (places[:, 0::2] < places[:, 1::2]).all()
    own = np.take_along_axis(places, 2 * np.arange(30)[:, None], 1)[:, 0]
    assert (own <= 2 * np.array([np.sum(rows[i, : own[i]] % 2 == 0) for i in range(30)])).all()


def test_lsh_distances_are_the_numbers_of_differing_bits() -> None:
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(50, 9)).astype(np.float32), rng.normal(size=(4, 9)).astype(np.float32)
    rows = baselines.random_hyperplanes(x, 8, np.random.default_rng(5))(q, 50)
    planes = np.random.default_rng(5).normal(size=(9, 8))
    bits, query_bits = ((part - x.mean(0)) @ planes > 0 for part in (x, q))
    differing = (query_bits[:, None] != bits).sum(2)
    np.testing.assert_array_equal(rows, np.argsort(differing, axis=1, kind="stable"))


def test_itq_agrees_with_its_signs_better_than_pca_does(pixels: np.ndarray) -> None:
    """The rotation lowers || sign(v) - v ||, which is what ITQ is for; seen through recall of the true neighbours."""
    x = pixels[:, ::4].astype(np.float32)
    x = x - x.mean(0)
    gallery, queries = x[50:], x[:50]
    truth = np.argsort(np.square(queries[:, None] - gallery[None]).sum(2), axis=1)[:, :20]

    def recall(fit: Fit) -> float:
        rows = fit(gallery, 32, np.random.default_rng(0))(queries, 20)
        return float(np.mean([np.isin(row, best).mean() for row, best in zip(rows, truth, strict=True)]))

    axes = np.linalg.svd(gallery, full_matrices=False)[2][:32].T
    rotated = recall(baselines.iterative_quantization)
    assert rotated > recall(lambda g, bits, rng: baselines._signs(g, g.mean(0), axes))
    assert rotated > recall(baselines.random_hyperplanes)


@pytest.mark.parametrize("top", [1, 7, 100])
def test_float_cosine_equals_a_plain_sort_also_with_ties(top: int) -> None:
    rng = np.random.default_rng(0)
    gallery, queries = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (40, 11))
    norms = np.maximum(np.linalg.norm(gallery, axis=1), 1e-12)[:, None]
    truth = np.argsort(-(queries @ (gallery / norms).T), axis=1, kind="stable")[:, :top]
    np.testing.assert_array_equal(baselines.float_cosine(gallery, chunk=4)(queries, top), truth)


def test_random_codes_rank_like_any_codes() -> None:
    rows = baselines.random_codes(np.zeros((30, 4), np.float32), 8, np.random.default_rng(0))(np.zeros((2, 4)), 30)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (30, 2)).astype(np.uint8)
    truth = adc.search(rng.random((2, 2, 16), np.float32), codes, 30)
    assert [[row for _, row in answer] for answer in truth] == rows.tolist()
