from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import adc
from spq.errors import StoreError
from spq.index import scan
from spq.index.scan import Scan, rank


def data(N: int, M: int, K: int, Q: int, seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, K, (N, M)).astype(np.uint8)
    tables = rng.integers(0, 4, (Q, M, K)) if ties else rng.random((Q, M, K))
    return codes, tables.astype(np.float32)


@given(
    N=st.integers(1, 60),
    M=st.integers(1, 7),
    K=st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256]),
    top=st.integers(1, 70),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_search_equals_the_slow_transcription_also_with_ties(N: int, M: int, K: int, top: int, seed: int) -> None:
    codes, tables = data(N, M, K, 2, seed, ties=True)
    distances, rows = Scan(codes, K).search(tables, top)
    for query, answer in enumerate(adc.search(tables, codes, top)):
        assert list(zip(distances[query].tolist(), rows[query].tolist(), strict=True)) == answer


@pytest.mark.parametrize("M", [3, 4, 8, 16, 32])
@pytest.mark.parametrize("ties", [True, False])
def test_the_fast_path_gives_the_exact_list(monkeypatch: pytest.MonkeyPatch, M: int, ties: bool) -> None:
    monkeypatch.setattr(scan, "EXACT_BELOW", 100)
    codes, tables = data(20_000, M, 16, 20, M, ties)
    gallery = Scan(codes, 16)
    assert gallery._fast is not None
    fast, exact = gallery.search(tables, 50), rank(tables, codes, 50)
    np.testing.assert_array_equal(fast[1], exact[1])
    np.testing.assert_array_equal(fast[0], exact[0])


@given(
    N=st.integers(60, 2000),
    M=st.integers(1, 9),
    top=st.integers(1, 12),
    scale=st.sampled_from([1e-38, 1e-7, 1.0, 1e7, 1e37]),
    offset=st.sampled_from([0.0, 1.0, -3e4]),
    kind=st.sampled_from(["uniform", "ties", "one wide codebook", "constant"]),
    seed=st.integers(0, 999),
)
@settings(max_examples=80, deadline=None)
def test_the_fast_path_is_exact_whatever_the_tables_hold(
    N: int, M: int, top: int, scale: float, offset: float, kind: str, seed: int
) -> None:
    codes, tables = data(N, M, 16, 3, seed, kind == "ties")
    if kind == "one wide codebook":
        tables[:, 0] *= 1e4  # 8 bits leave nothing for the others
    elif kind == "constant":
        tables[:] = 0.5
    scaled = (tables.astype(np.float64) + offset) * scale
    tables = np.clip(scaled, -1e36, 1e36).astype(np.float32)  # sums stay finite
    with mock.patch.object(scan, "EXACT_BELOW", 10):
        fast = Scan(codes, 16).search(tables, top)
    exact = rank(tables, codes, top)
    np.testing.assert_array_equal(fast[1], exact[1])
    np.testing.assert_array_equal(fast[0], exact[0])


def test_the_fast_path_is_proven_mostly_without_a_full_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "EXACT_BELOW", 100)
    codes, tables = data(50_000, 8, 16, 50, 1, ties=False)
    gallery, expected = Scan(codes, 16), rank(tables, codes, 20)
    full_scans = mock.Mock(wraps=scan._rank)
    monkeypatch.setattr(scan, "_rank", full_scans)
    np.testing.assert_array_equal(gallery.search(tables, 20)[1], expected[1])
    assert full_scans.call_count <= 5


@pytest.mark.parametrize("K", [4, 16, 32, 64, 256])
def test_distances_equal_the_transcription_in_double_precision(K: int) -> None:
    codes, tables = data(200, 5, K, 3, K, ties=False)
    distances, _ = Scan(codes, K).search(tables, 200)
    expected = [[d for d, _ in answer] for answer in adc.search(tables, codes, 200)]
    np.testing.assert_allclose(distances, expected, rtol=1e-6)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("K", [16, 64, 256])
def test_faiss_and_numpy_give_the_same_distances(K: int, squared: bool) -> None:
    """A plain FAISS product quantizer sums squared norms; with identity codebooks it sums any table."""
    import faiss

    rng = np.random.default_rng(K)
    M, d = 4, 6
    codebooks = rng.normal(size=(M, K, d)).astype(np.float32)
    queries = rng.normal(size=(5, M * d)).astype(np.float32)
    codes = rng.integers(0, K, (300, M)).astype(np.uint8)
    tables = np.square(queries.reshape(5, M, 1, d) - codebooks).sum(-1)
    if not squared:
        tables = np.sqrt(tables)
    distances, rows = rank(tables, codes, 300)
    bits = K.bit_length() - 1
    if squared:
        index = faiss.IndexPQ(M * d, M, bits)
        faiss.copy_array_to_vector(codebooks.ravel(), index.pq.centroids)
        asked = queries
    else:
        index = faiss.IndexPQ(M * K, M, bits, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.tile(np.eye(K, dtype=np.float32), (M, 1, 1)).ravel(), index.pq.centroids)
        asked = -tables.reshape(5, -1)
    index.is_trained = True
    index.add_sa_codes(pack(codes, bits))
    theirs, their_rows = index.search(asked, 300)
    by_row = np.empty_like(distances)
    np.put_along_axis(by_row, rows, distances, 1)
    expected = np.take_along_axis(by_row, their_rows, 1)
    np.testing.assert_allclose(theirs if squared else -theirs, expected, rtol=2e-5, atol=1e-5)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """FAISS's layout: sub-codes one after the other, least significant bit first."""
    unpacked = (codes[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(unpacked.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")


def test_one_query_or_many_threads_give_the_same_list() -> None:
    codes, tables = data(3000, 8, 16, 9, 5, ties=False)
    whole = rank(tables, codes, 100, threads=3)
    for query in range(9):
        alone = rank(tables[query : query + 1], codes, 100, threads=1)
        np.testing.assert_array_equal(alone[1][0], whole[1][query])
        np.testing.assert_array_equal(alone[0][0], whole[0][query])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_tables_that_are_not_finite_are_refused(value: float) -> None:
    codes, tables = data(10, 4, 16, 1, 0, ties=False)
    tables[0, 2, 3] = value
    with pytest.raises(StoreError, match="not finite"):
        Scan(codes, 16).search(tables, 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    codes, tables = data(10, 4, 16, 1, 0, ties=False)
    with pytest.raises(StoreError, match=r"want.*\(queries, 4, 16\)"):
        Scan(codes, 16).search(tables[:, :3], 3)
    with pytest.raises(StoreError, match="do not fit K=4"):
        Scan(codes, 4)


def test_an_empty_gallery_answers_nothing() -> None:
    distances, rows = Scan(np.empty((0, 4), np.uint8), 16).search(np.zeros((2, 4, 16), np.float32), 5)
    assert distances.shape == rows.shape == (2, 0)
