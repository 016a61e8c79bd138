from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import adc
from spq.config import DISTANCES
from spq.errors import ConfigError, StoreError
from spq.pq import fastscan, pairscan, scan
from spq.pq.coarse import Coarse
from spq.pq.scan import Method, Scan, memory_bytes, rank


def data(
    N: int, M: int, K: int, Q: int, seed: int, ties: bool, used: int = 256, least: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of which only the first `used` codewords occur, and tables; with ties, of whole numbers from `least` on."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, min(K, used), (N, M)).astype(np.uint8)
    tables = rng.integers(least, 4, (Q, M, K)) if ties else rng.random((Q, M, K))
    return codes, tables.astype(np.float32)


def same(ours: scan.Ranking, truth: scan.Ranking) -> None:
    np.testing.assert_array_equal(ours[1], truth[1])
    np.testing.assert_array_equal(ours[0], truth[0])


@contextmanager
def fast_from_here() -> Iterator[None]:
    """Candidates also in small galleries: as many as codes, if need be."""
    with mock.patch.multiple(fastscan, FEWEST=1, MOST_CANDIDATES=1), mock.patch.object(pairscan, "MORE", 2):
        yield


@given(
    N=st.integers(0, 60),
    M=st.integers(1, 7),
    K=st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256]),
    top=st.integers(0, 70),
    used=st.sampled_from([1, 2, 256]),
    method=st.sampled_from(["auto", "exact"]),
    least=st.sampled_from([0, -4]),
    seed=st.integers(0, 999),
)
@settings(max_examples=100, deadline=None)
def test_search_equals_the_slow_transcription_also_with_ties(
    N: int, M: int, K: int, top: int, used: int, method: Method, least: int, seed: int
) -> None:
    codes, tables = data(N, M, K, 2, seed, ties=True, used=used, least=least)
    distances, rows = Scan(codes, K).search(tables, top, method)
    for query, answer in enumerate(adc.search(tables, codes, top)):
        assert list(zip(distances[query].tolist(), rows[query].tolist(), strict=True)) == answer


@given(
    N=st.integers(1, 400),
    shape=st.sampled_from([(1, 2), (5, 2), (16, 2), (15, 2), (8, 4), (7, 4), (5, 8), (1, 16), (2, 16), (3, 16), (4, 16),
                           (3, 32), (2, 64), (2, 256), (1, 256)]),
    top=st.integers(1, 450),
    used=st.sampled_from([1, 2, 256]),
    ties=st.booleans(),
    seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_buckets_are_exact_for_all_shapes_of_short_codes(
    N: int, shape: tuple[int, int], top: int, used: int, ties: bool, seed: int
) -> None:
    M, K = shape
    codes, tables = data(N, M, K, 2, seed, ties, used)
    same(Scan(codes, K).search(tables, top, "bucket"), rank(tables, codes, top))


@pytest.mark.parametrize(
    ("M", "K"),
    [(1, 16), (3, 16), (4, 16), (8, 16), (15, 16), (16, 16), (32, 16), (16, 4), (5, 64), (2, 256), (4, 256), (7, 256),
     (8, 256)],
)  # fmt: skip
@pytest.mark.parametrize("ties", [True, False])
def test_the_fast_path_gives_the_exact_list(M: int, K: int, ties: bool) -> None:
    codes, tables = data(20_000, M, K, 20, M, ties)
    gallery = Scan(codes, K)
    same(gallery.search(tables, 50, "fast"), rank(tables, codes, 50))


@given(
    N=st.integers(60, 2000),
    M=st.integers(1, 9),
    K=st.sampled_from([4, 16, 64, 256]),
    top=st.integers(1, 12),
    scale=st.sampled_from([1e-38, 1e-7, 1.0, 1e7, 1e37]),
    offset=st.sampled_from([0.0, 1.0, -3e4]),
    kind=st.sampled_from(["uniform", "ties", "one wide codebook", "constant", "one entry apart", "both signs"]),
    used=st.sampled_from([1, 2, 256]),
    seed=st.integers(0, 999),
)
@settings(max_examples=200, deadline=None)
def test_the_fast_path_is_exact_whatever_the_tables_hold(
    N: int, M: int, K: int, top: int, scale: float, offset: float, kind: str, used: int, seed: int
) -> None:
    codes, tables = data(N, M, K, 3, seed, kind == "ties", used)
    if kind == "one wide codebook":
        tables[:, 0] *= 1e4  # 8 bits leave nothing for the others
    elif kind == "constant":
        tables[:] = 0.5
    elif kind == "both signs":
        tables -= 0.5
    elif kind == "one entry apart":
        tables[:, -1, 0] = -1e3
    scaled = (tables.astype(np.float64) + offset) * scale
    tables = np.clip(scaled, -1e36, 1e36).astype(np.float32)  # sums stay finite
    with fast_from_here():
        fast = Scan(codes, K).search(tables, top, "fast")
    same(fast, rank(tables, codes, top))


@pytest.mark.parametrize(("M", "K"), [(4, 16), (16, 16), (8, 256)])
def test_a_code_that_most_rows_share_does_not_crowd_out_the_others(M: int, K: int) -> None:
    codes, tables = data(60_000, M, K, 5, 3, ties=False)
    codes[np.random.default_rng(0).random(len(codes)) < 0.9] = tables[0].argmin(1)  # also the nearest of query 0
    gallery = Scan(codes, K)
    for method in ("exact", "fast", "auto"):
        same(gallery.search(tables, 100, method), rank(tables, codes, 100))  # type: ignore[arg-type]


@pytest.mark.parametrize("K", [4, 16, 32, 64, 256])
def test_distances_equal_the_transcription_in_double_precision(K: int) -> None:
    codes, tables = data(200, 5, K, 3, K, ties=False)
    distances, _ = Scan(codes, K).search(tables, 200)
    expected = [[d for d, _ in answer] for answer in adc.search(tables, codes, 200)]
    np.testing.assert_allclose(distances, expected, rtol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("K", [16, 64, 256])
def test_faiss_and_numpy_give_the_same_distances(K: int, distance: str) -> None:
    """A plain FAISS product quantizer sums squared norms; with identity codebooks it sums any table."""
    import faiss

    rng = np.random.default_rng(K)
    M, d = 4, 6
    codebooks = rng.normal(size=(M, K, d)).astype(np.float32)
    queries = rng.normal(size=(5, M * d)).astype(np.float32)
    codes = rng.integers(0, K, (300, M)).astype(np.uint8)
    squared = distance == "sqeuclidean"
    tables = {
        "sqeuclidean": np.square(queries.reshape(5, M, 1, d) - codebooks).sum(-1),
        "l2": np.linalg.norm(queries.reshape(5, M, 1, d) - codebooks, axis=-1),
        "dot": -np.einsum("qmd,mkd->qmk", queries.reshape(5, M, d), codebooks),
    }[distance]
    distances, rows = rank(tables, codes, 300)
    bits = K.bit_length() - 1
    if squared:
        index = faiss.IndexPQ(M * d, M, bits)
        faiss.copy_array_to_vector(codebooks.ravel(), index.pq.centroids)
        x = queries
    else:
        index = faiss.IndexPQ(M * K, M, bits, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.tile(np.eye(K, dtype=np.float32), (M, 1, 1)).ravel(), index.pq.centroids)
        x = -tables.reshape(5, -1)
    index.is_trained = True
    index.add_sa_codes(pack(codes, bits))
    faiss_products, faiss_rows = index.search(x, 300)
    by_row = np.empty_like(distances)
    np.put_along_axis(by_row, rows, distances, 1)
    expected = np.take_along_axis(by_row, faiss_rows, 1)
    np.testing.assert_allclose(faiss_products if squared else -faiss_products, expected, rtol=2e-5, atol=1e-5)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """FAISS's layout: sub-codes one after the other, least significant bit first."""
    unpacked = (codes[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(unpacked.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")


@pytest.mark.parametrize(
    ("M", "K", "method"),
    [(8, 16, "exact"), (8, 16, "fast"), (8, 256, "fast"), (4, 256, "fast"), (4, 16, "bucket"), (8, 16, "ivf")],
)
def test_one_query_or_many_and_any_number_of_threads_give_the_same_list(M: int, K: int, method: Method) -> None:
    codes, tables = data(6000, M, K, 9, 5, ties=False)
    gallery = Scan(codes, K)
    whole = gallery.search(tables, 100, method, threads=3)
    same(gallery.search(tables, 100, method, threads=1), whole)
    same(gallery.search(tables, 100, method), whole)
    for query in range(9):
        alone = gallery.search(tables[query : query + 1], 100, method)
        same(alone, (whole[0][query : query + 1], whole[1][query : query + 1]))


@given(
    N=st.integers(0, 80),
    M=st.integers(1, 9),
    K=st.sampled_from([2, 16, 64]),
    used=st.sampled_from([1, 2, 256]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_a_scan_gives_back_the_codes_that_it_was_given(N: int, M: int, K: int, used: int, seed: int) -> None:
    codes, _ = data(N, M, K, 1, seed, ties=False, used=used)
    gallery = Scan(codes, K)
    np.testing.assert_array_equal(gallery.codes, codes)
    for row in range(N):
        np.testing.assert_array_equal(gallery.code(row), codes[row])


@given(
    N=st.integers(0, 80),
    M=st.integers(1, 9),
    K=st.sampled_from([2, 16, 64]),
    used=st.sampled_from([1, 2, 256]),
    top=st.integers(0, 90),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_a_search_among_some_rows_equals_a_search_of_a_gallery_of_them(
    N: int, M: int, K: int, used: int, top: int, seed: int
) -> None:
    codes, tables = data(N, M, K, 2, seed, ties=True, used=used)
    rows = np.flatnonzero(np.random.default_rng(seed).random(N) < 0.5)
    gallery = Scan(codes, K)
    np.testing.assert_array_equal(gallery.codes_of(rows), codes[rows])
    distances, found = gallery.search_rows(tables, rows, top)
    for query, answer in enumerate(adc.search(tables, codes[rows], top)):
        assert distances[query].tolist() == [distance for distance, _ in answer]
        assert found[query].tolist() == [rows[position] for _, position in answer]


@pytest.mark.parametrize(
    ("codes", "M", "K", "top", "method"),
    [
        (1000, 4, 16, 10, "exact"),  # few
        (60_000, 4, 16, 10, "exact"),  # few distinct ones
        (60_000, 8, 16, 10, "fast"),
        (60_000, 8, 16, 5000, "exact"),  # candidates would be a good part of the gallery
        (60_000, 8, 32, 10, "fast"),
        (60_000, 8, 256, 10, "fast"),
        (60_000, 8, 256, 2000, "exact"),
        (1000, 8, 256, 10, "exact"),
        (60_000, 8, 16, 0, "exact"),
    ],
)
def test_the_method_follows_from_the_number_of_codes_their_length_and_the_results(
    codes: int, M: int, K: int, top: int, method: Method
) -> None:
    used = 10 if M == 4 else K  # 10,000 distinct codes
    assert Scan(data(codes, M, K, 1, 0, ties=False, used=used)[0], K).choose(top) == method


def test_short_codes_of_many_kinds_go_to_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "EXACT_BELOW", 100)
    codes, tables = data(5000, 4, 16, 3, 0, ties=False)
    gallery = Scan(codes, 16)
    assert gallery.choose(10) == gallery.choose(5000) == "bucket"
    for top in (1, 10, 5000):
        same(gallery.search(tables, top), rank(tables, codes, top))


def test_auto_uses_lists_only_for_large_galleries_with_nprobe_or_a_recall_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gallery = Scan(data(1000, 8, 16, 1, 0, ties=False)[0], 16)
    assert gallery.choose(10, nprobe=3) == gallery.choose(10, recall_target=0.9) == "exact"
    monkeypatch.setattr(scan, "IVF_FROM", 1000)
    assert gallery.choose(10) == "exact"
    assert gallery.choose(10, nprobe=3) == gallery.choose(10, recall_target=0.9) == "ivf"
    assert gallery.choose(10, "exact", nprobe=3) == gallery.choose(0, nprobe=3) == "exact"
    others = Scan(data(1000, 8, 64, 1, 0, ties=False)[0], 64)  # lists are of codes of 16 codewords
    assert others.choose(10, nprobe=3) == "exact"


def random_tables(codes: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).random((*codes.shape, 16), np.float32)


@pytest.mark.parametrize("options", [{"nprobe": 1}, {"recall_target": 0.01}])
def test_auto_passes_its_options_on_to_the_search_of_lists(
    options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes, tables = data(1000, 8, 16, 5, 0, ties=False)
    gallery = Scan(codes, 16, random_tables)
    exact = gallery.search(tables, 10)
    monkeypatch.setattr(scan, "IVF_FROM", 1000)
    lists = gallery.search(tables, 10, **options)  # type: ignore[arg-type]
    same(lists, gallery.search(tables, 10, "ivf", **options))  # type: ignore[arg-type]
    assert (lists[1] != exact[1]).any()


def test_lists_are_made_once_with_the_threads_of_their_first_use() -> None:
    codes, tables = data(1000, 8, 16, 5, 0, ties=False)
    for tuned_first in (False, True):
        gallery = Scan(codes, 16, random_tables)
        with mock.patch.object(Coarse, "train", wraps=Coarse.train) as train:
            if tuned_first:
                gallery.nprobe_for(0.5, threads=2)
            gallery.search(tables, 10, "ivf", threads=3 if tuned_first else 2)
        assert [call.args[-1] for call in train.call_args_list] == [2]


def test_with_one_thread_no_other_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(threading.Thread, "start")
    codes, tables = data(300, 4, 16, 3, 0, ties=False)
    gallery = Scan(codes, 16, random_tables)
    for method in get_args(Method):
        gallery.search(tables, 3, method, threads=1)
    gallery.search(tables, 3, "ivf", threads=1, recall_target=0.5)
    gallery.nprobe_for(0.6, threads=1)
    gallery.search_rows(tables, np.arange(9), 3, threads=1)


def test_a_gallery_is_summed_up_to_a_number_of_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Scan(data(1000, 8, 16, 1, 0, ties=False)[0], 16)
    methods = []
    for limit in (1000, 999):
        monkeypatch.setattr(scan, "EXACT_BELOW", limit)
        methods.append(gallery.choose(1))
    assert methods == ["exact", "fast"]


@pytest.mark.parametrize("method", get_args(Method))
def test_any_method_can_be_asked_for(method: Method) -> None:
    codes, tables = data(300, 4, 16, 2, 0, ties=False)
    gallery = Scan(codes, 16)
    same(gallery.search(tables, 10, method, nprobe=10**6 if method == "ivf" else None), rank(tables, codes, 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bucket"}, "`method` bucket is for codes of up to 16 bits, not for 8 sub-codes below 16; use auto"),
        ({"method": "quick"}, "unknown `method` 'quick'; use auto, exact, bucket, fast, ivf"),
        ({"method": "fast", "nprobe": 3}, "`method` fast searches all codes and has no `nprobe` or `recall_target`; use ivf"),
        ({"method": "exact", "recall_target": 0.5},
         "`method` exact searches all codes and has no `nprobe` or `recall_target`; use ivf"),
        ({"nprobe": 3, "recall_target": 0.5}, "`nprobe` and `recall_target` set the same thing; give one of them"),
        ({"nprobe": 0}, "`nprobe` must be 1 or more, got 0"),
        ({"recall_target": 0.0}, "`recall_target` must be above 0 and at most 1, got 0.0"),
        ({"recall_target": 1.5}, "`recall_target` must be above 0 and at most 1, got 1.5"),
        ({"method": "ivf", "recall_target": 0.5},
         "`recall_target` needs a Scan with `tables_of`, which turns codes into queries; give `nprobe` instead"),
        ({"threads": 0}, "`threads` must be 1 or more, got 0"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    codes, tables = data(100, 8, 16, 2, 0, ties=False)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Scan(codes, 16).search(tables, 3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"nprobe": 1}, {"recall_target": 1.0}, {"recall_target": 1e-6}, {"threads": 1}, {"method": "bucket"}]
)
def test_the_smallest_and_largest_options_are_taken(options: dict[str, object]) -> None:
    codes, tables = data(100, 4, 16, 2, 0, ties=False)  # 16 bits
    same(Scan(codes, 16).search(tables, 3, **options), rank(tables, codes, 3))  # type: ignore[arg-type]


def test_options_may_be_checked_without_a_method() -> None:
    gallery = Scan(data(100, 8, 16, 1, 0, ties=False)[0], 16)
    gallery.check()
    gallery.check(nprobe=3)


def test_buckets_are_refused_for_17_bits() -> None:
    with pytest.raises(
        ConfigError, match="`method` bucket is for codes of up to 16 bits, not for 17 sub-codes below 2;"
    ):
        Scan(np.zeros((5, 17), np.uint8), 2).check("bucket")


def test_lists_are_refused_for_other_than_16_codewords() -> None:
    codes, tables = data(100, 8, 32, 2, 0, ties=False)
    with pytest.raises(
        ConfigError, match="`method` ivf is for 16 codewords per codebook, not for 8 sub-codes below 32; use fast"
    ):
        Scan(codes, 32).search(tables, 3, "ivf")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e38])
@pytest.mark.parametrize("method", ["auto", "fast", "bucket"])
def test_tables_whose_sums_are_not_finite_are_refused(method: Method, value: float) -> None:
    codes, tables = data(10, 4, 16, 1, 0, ties=False)
    tables[0, 2, 3] = value
    with pytest.raises(StoreError, match="not finite"):
        Scan(codes, 16).search(tables, 3, method)


def test_shapes_that_do_not_fit_are_refused() -> None:
    codes, tables = data(10, 4, 16, 1, 0, ties=False)
    for search in (
        Scan(codes, 16).search,
        lambda *given: Scan(codes, 16).search_rows(given[0], np.arange(5), given[1]),
    ):
        for wrong in (tables[:, :3], tables[:, :, :8], tables[0]):
            with pytest.raises(StoreError, match=r"must have shape \(queries, 4, 16\) for these codes, got \(.*; use"):
                search(wrong, 3)


def test_codes_that_do_not_fit_are_refused() -> None:
    for codes, words in (
        (np.array([[0, 3], [4, 0]], np.uint8), r"\(2, 2\) with values up to 4"),
        (np.zeros(3, np.uint8), r"\(3,\) with values up to 0"),
        (np.empty((0, 2, 2), np.uint8), r"\(0, 2, 2\) with values up to 0"),
    ):
        with pytest.raises(StoreError, match=f"^codes of shape {words} do not fit K=4$"):
            Scan(codes, 4)
    assert Scan(np.full((2, 2), 3, np.uint8), 4).code(1).tolist() == [3, 3]


@pytest.mark.parametrize("method", get_args(Method))
def test_an_empty_gallery_answers_nothing(method: Method) -> None:
    distances, rows = Scan(np.empty((0, 4), np.uint8), 16).search(np.zeros((2, 4, 16), np.float32), 5, method)
    assert distances.shape == rows.shape == (2, 0)


@pytest.mark.parametrize("duplicates", [1, 2, 20])
def test_a_scan_of_64_bit_codes_holds_no_more_than_20_bytes_for_an_image(duplicates: int) -> None:
    codes, tables = data(100_000 // duplicates, 16, 16, 1, 0, ties=False)
    gallery = Scan(np.repeat(codes, duplicates, 0), 16)
    gallery.search(tables, 10, "fast")
    assert 8 * gallery.distinct < gallery.nbytes <= 20 * len(gallery) + 1000
    assert memory_bytes(gallery.distinct, 16) == 16 * gallery.distinct  # packed codes, twice


def test_a_scan_with_256_codewords_holds_each_code_once() -> None:
    codes, tables = data(100_000, 8, 256, 1, 0, ties=False)
    gallery = Scan(codes, 256)
    gallery.search(tables, 10, "fast")
    assert 8 * len(gallery) <= gallery.nbytes <= 8 * len(gallery) + 2**20  # and a megabyte for the tables of a query
