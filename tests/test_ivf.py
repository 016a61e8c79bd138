from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.data.open import open_images
from spq.errors import StoreError
from spq.model.model import Model
from spq.pq import coarse, fastscan, scan
from spq.pq.coarse import Coarse, default_nlist
from spq.pq.distinct import Distinct
from spq.pq.ivf import Lists, near_lists
from spq.pq.scan import Scan, memory_bytes, rank
from spq.pq.sums import pack
from spq.pq.tables import decode, distance_tables


@pytest.fixture(scope="module", params=["l2", "dot"])
def distance(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def gallery(tiny_model: Model, distance: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (20,000, 8) of descriptors of 2,000 real pictures with a little noise, tables of 50 others, codebooks."""
    sample, rng = open_images("sample:train"), np.random.default_rng(0)
    x = tiny_model.embed([sample.image(i) for i in range(2050)])
    near = np.tile(x[50:], (10, 1))
    near += rng.normal(size=near.shape).astype(np.float32) * 0.3 * x.std()
    tables = distance_tables(x[:50], tiny_model.codebooks, distance)
    return tiny_model.encode_descriptors(near), tables, tiny_model.codebooks


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of true distances that are at least met: ties count as ties."""
    return float((found <= truth[:, -1:]).mean())


@given(
    N=st.integers(1, 300),
    M=st.integers(1, 9),
    nlist=st.integers(1, 40),
    top=st.integers(1, 320),
    used=st.sampled_from([1, 2, 16]),
    kind=st.sampled_from(["uniform", "ties", "constant", "tiny", "both signs"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_reading_all_lists_is_exact(N: int, M: int, nlist: int, top: int, used: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, used, (N, M)).astype(np.uint8)
    tables = (rng.integers(0, 4, (2, M, 16)) if kind == "ties" else rng.random((2, M, 16))).astype(np.float32)
    if kind == "both signs":
        tables -= np.float32(0.5)
    if kind in ("constant", "tiny"):
        tables = tables * np.float32(1e-38) if kind == "tiny" else np.full_like(tables, 0.5)
    with (
        mock.patch.multiple(fastscan, FEWEST=1, MOST_CANDIDATES=1),
        mock.patch.object(scan, "default_nlist", return_value=nlist),
    ):
        distances, rows = Scan(codes, 16).search(tables, top, "ivf", nprobe=1000)
    expected = rank(tables, codes, top)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(distances, expected[0])


@pytest.mark.parametrize("nprobe", [1, 5, 40])
@pytest.mark.parametrize("top", [1, 30, 3000])
def test_answers_are_the_nearest_of_the_lists_that_are_read(
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray], nprobe: int, top: int
) -> None:
    codes, tables, _ = gallery
    searched = Scan(codes, 16, seed=3)
    distances, rows = searched.search(tables, top, "ivf", nprobe=nprobe)
    quantizer, lists, distinct = searched._coarse, searched._lists, Distinct(pack(codes, 16))
    assert quantizer is not None
    assert lists is not None
    for query, table in enumerate(tables):
        read = lists.probe(*near_lists(quantizer, lists.sizes, table, nprobe, top)).all()
        assert nprobe > 1 or top > 1 or len(read) < len(distinct)
        in_lists = np.flatnonzero(np.isin(distinct.numbers(), read))
        expected = rank(table[None], codes[in_lists], top)
        np.testing.assert_array_equal(rows[query], in_lists[expected[1][0]])
        np.testing.assert_array_equal(distances[query], expected[0][0])


def test_more_lists_find_more_and_a_third_of_them_find_nearly_all(
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    codes, tables, _ = gallery
    searched, truth = Scan(codes, 16), rank(tables, codes, 50)[0]
    found = [recall(searched.search(tables, 50, "ivf", nprobe=n)[0], truth) for n in (1, 4, 16, 64, 1000)]
    assert found == sorted(found)
    assert found[0] > 0.05
    assert found[3] > 0.9
    assert found[4] == 1
    np.testing.assert_array_equal(
        searched.search(tables, 50, "ivf")[1], searched.search(tables, 50, "ivf", nprobe=64)[1]
    )


@pytest.mark.parametrize("target", [0.5, 0.9, 0.99, 1.0])
def test_the_recall_target_is_reached_on_the_sample_with_as_few_lists_as_can_be(
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray], distance: str, target: float
) -> None:
    codes, _, codebooks = gallery
    queries: list[np.ndarray] = []

    def tables_of(sample: np.ndarray) -> np.ndarray:
        queries.append(distance_tables(decode(sample, codebooks), codebooks, distance))
        return queries[0]

    searched = Scan(codes, 16, tables_of)
    nprobe = searched.nprobe_for(target)
    truth = rank(queries[0], codes, scan.TUNED_AT)[1]

    def reached(nprobe: int) -> float:
        rows = searched.search(queries[0], scan.TUNED_AT, "ivf", nprobe=nprobe)[1]
        return float(
            np.mean([len(np.intersect1d(ours, truth_rows)) for ours, truth_rows in zip(rows, truth, strict=True)])
        )

    assert reached(nprobe) >= target * scan.TUNED_AT
    assert nprobe == 1 or reached(nprobe - 1) < target * scan.TUNED_AT
    both = [
        searched.search(queries[0][:5], 10, "ivf", **how)[1] for how in ({"recall_target": target}, {"nprobe": nprobe})
    ]
    np.testing.assert_array_equal(*both)


def tuned_on(codes: np.ndarray, seed: int) -> list[list[int]]:
    """The codes that `recall_target` was measured with."""
    seen: list[np.ndarray] = []

    def tables_of(sample: np.ndarray) -> np.ndarray:
        seen.append(sample)
        return np.random.default_rng(0).random((len(sample), codes.shape[1], 16), np.float32)

    Scan(codes, 16, tables_of, seed).nprobe_for(0.9)
    return seen[-1].tolist()  # the first ones are one code for each codeword


def test_the_recall_target_is_measured_with_each_code_of_a_small_gallery_and_256_of_a_large_one() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (1000, 7)).astype(np.uint8)
    assert sorted(tuned_on(codes[:200], 0)) == sorted(codes[:200].tolist())
    large = tuned_on(codes, 0)
    assert len(large) == len({tuple(code) for code in large}) == 256
    assert large == tuned_on(codes, 0)  # by the seed
    assert large != tuned_on(codes, 1)


def trained(packed: np.ndarray, M: int, nlist: int = 30, seed: int = 0) -> tuple[Coarse, Lists]:
    quantizer = Coarse.train(packed, M, nlist, seed=seed, threads=1)
    return quantizer, Lists(packed, quantizer, *quantizer.order(packed))


def test_the_coarse_quantizer_gives_the_mean_distance_to_each_list(
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    codes, tables, _ = gallery
    codes = np.unique(codes, axis=0)
    quantizer, lists = trained(pack(codes, 16), 8)
    for number, mean in enumerate(quantizer.mean_distances(tables[0])):
        members = lists.members(number)
        assert len(members) == lists.sizes[number]
        np.testing.assert_allclose(mean, tables[0][np.arange(8), codes[members]].sum(1).mean(), rtol=1e-4)


def test_every_code_is_in_one_list(gallery: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    codes = pack(gallery[0], 16)
    quantizer, lists = trained(codes, 8)
    members = np.concatenate([lists.members(number) for number in range(len(quantizer))])
    np.testing.assert_array_equal(np.sort(members), np.arange(len(codes)))
    assert lists.sizes.min() > 0


def test_lists_may_be_empty_in_a_part(gallery: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    codes = pack(gallery[0], 16)
    quantizer, _ = trained(codes, 8)
    few = Lists(codes[:3], quantizer, *quantizer.order(codes[:3]))
    assert sorted(np.concatenate([few.members(number) for number in range(len(quantizer))])) == [0, 1, 2]


def test_the_same_seed_gives_the_same_lists_and_another_one_others(
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    codes = pack(gallery[0], 16)
    first, again, other = (Coarse.train(codes, 8, 30, seed=seed, threads=1) for seed in (0, 0, 1))
    for name, array in first.to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[name])
    assert first.shares.shape != other.shares.shape or (first.shares != other.shares).any()


def test_a_saved_coarse_quantizer_gives_the_same_lists(gallery: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    codes, tables, _ = gallery
    packed = pack(codes, 16)
    quantizer = trained(packed, 8)[0].tuned(np.array([[3, 0], [7, 1]]))
    again = Coarse.from_arrays(quantizer.to_arrays())
    np.testing.assert_array_equal(again.assign(packed), quantizer.assign(packed))
    np.testing.assert_array_equal(again.nearest(tables[0], 9)[1], quantizer.nearest(tables[0], 9)[1])
    assert [again.nprobe_for(recall) for recall in (0.25, 0.26, 0.75, 1.0)] == [1, 2, 4, 8]


def test_arrays_that_do_not_belong_together_are_refused(gallery: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    packed = pack(gallery[0], 16)
    quantizer, _ = trained(packed, 8)
    arrays = quantizer.to_arrays()
    for name in ("axes", "groups", "centroids", "shares"):
        with pytest.raises(StoreError, match=r"do not belong together: .*; make the lists again"):
            Coarse.from_arrays(arrays | {name: arrays[name][:-1, :-1]})
    order, sizes = quantizer.order(packed)
    for wrong in ((order[:-1], sizes), (order, sizes[:-1]), (order, sizes + np.uint32(1))):
        with pytest.raises(StoreError, match=r"lists of .* codes in .* lists do not fit .*; make the lists again"):
            Scan.of_packed(packed, 8, 16, distinct=len(packed)).add_lists(quantizer, *wrong)


def test_lists_follow_the_distances_of_codewords(
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray], distance: str
) -> None:
    """With them, the lists nearest to a query hold more of its nearest codes than if all codewords were equally far."""
    codes, tables, codebooks = gallery
    packed, truth = pack(codes, 16), rank(tables, codes, 50)[1]
    found = []
    for tables_of in (None, lambda some: distance_tables(decode(some, codebooks), codebooks, distance)):
        quantizer = Coarse.train(packed, 8, 100, tables_of, threads=1)
        found.append((quantizer.ranks_of(tables, packed[truth]) < 5).mean())
    assert found[1] > found[0]


def test_places_of_codewords_have_the_distances_of_tables(gallery: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    codebooks = gallery[2]
    for distance, power in (("sqeuclidean", 1.0), ("l2", 0.5)):
        places = coarse._places(8, lambda codes: distance_tables(decode(codes, codebooks), codebooks, distance))  # noqa: B023
        between = np.square(places[:, :, None] - places[:, None]).sum(-1)
        expected = np.square(codebooks[:, :, None] - codebooks[:, None]).sum(-1) ** power
        np.testing.assert_allclose(between, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_the_number_of_faiss_threads_is_restored() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    Coarse.train(np.arange(200, dtype=np.uint8)[:, None], 2, 8, threads=before + 3)
    assert faiss.omp_get_max_threads() == before


def test_projected_codes_equal_one_hot_codes_times_the_axes() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (50, 7)).astype(np.uint8)
    axes = rng.normal(size=(7 * 16, 5)).astype(np.float32)
    one_hot = np.eye(16)[codes].reshape(50, -1)
    np.testing.assert_allclose(coarse._project(pack(codes, 16), axes, 7), one_hot @ axes, rtol=1e-4, atol=1e-5)


def test_lists_take_no_more_memory_than_memory_bytes_says() -> None:
    rng = np.random.default_rng(0)
    codes = pack(rng.integers(0, 16, (40_000, 16)).astype(np.uint8), 16)
    quantizer, lists = trained(codes, 16, default_nlist(len(codes)))
    held = codes.nbytes + lists.nbytes + quantizer.nbytes
    assert held < memory_bytes(40_000, 16, ivf=True) < 1.4 * held


def test_a_scan_counts_the_memory_of_its_lists() -> None:
    codes = np.random.default_rng(0).integers(0, 16, (3000, 8)).astype(np.uint8)
    gallery = Scan(codes, 16)
    before = gallery.nbytes
    gallery.search(np.zeros((1, 8, 16), np.float32), 1, "ivf", nprobe=1)
    assert gallery._coarse is not None
    assert gallery._lists is not None
    assert gallery.nbytes == before + gallery._lists.nbytes + gallery._coarse.nbytes > before + 3000 * 12
