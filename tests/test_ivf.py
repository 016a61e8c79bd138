from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pictures_codes import CodesOfPictures, codes_of_pictures
from spq.errors import StoreError
from spq.model.model import Model
from spq.pq import fastscan, scan
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
def gallery(tiny_model: Model, distance: str) -> CodesOfPictures:
    return codes_of_pictures(tiny_model, distance)


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
def test_answers_are_the_nearest_of_the_lists_that_are_read(gallery: CodesOfPictures, nprobe: int, top: int) -> None:
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
    gallery: CodesOfPictures,
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
    gallery: CodesOfPictures, distance: str, target: float
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
    gallery: CodesOfPictures,
) -> None:
    codes, tables, _ = gallery
    codes = np.unique(codes, axis=0)
    quantizer, lists = trained(pack(codes, 16), 8)
    for number, mean in enumerate(quantizer.mean_distances(tables[0])):
        members = lists.members(number)
        assert len(members) == lists.sizes[number]
        np.testing.assert_allclose(mean, tables[0][np.arange(8), codes[members]].sum(1).mean(), rtol=1e-4)


def test_every_code_is_in_one_list(gallery: CodesOfPictures) -> None:
    codes = pack(gallery[0], 16)
    quantizer, lists = trained(codes, 8)
    members = np.concatenate([lists.members(number) for number in range(len(quantizer))])
    np.testing.assert_array_equal(np.sort(members), np.arange(len(codes)))
    assert lists.sizes.min() > 0


def test_lists_of_other_codes_are_refused(gallery: CodesOfPictures) -> None:
    packed = pack(gallery[0], 16)
    quantizer, _ = trained(packed, 8)
    order, sizes = quantizer.order(packed)
    for wrong in ((order[:-1], sizes), (order, sizes[:-1]), (order, sizes + np.uint32(1))):
        with pytest.raises(StoreError, match=r"lists of .* codes in .* lists do not fit .*; make the lists again"):
            Scan.of_packed(packed, 8, 16, distinct=len(packed)).add_lists(quantizer, *wrong)


def test_lists_may_be_empty_in_a_part(gallery: CodesOfPictures) -> None:
    codes = pack(gallery[0], 16)
    quantizer, _ = trained(codes, 8)
    few = Lists(codes[:3], quantizer, *quantizer.order(codes[:3]))
    assert sorted(np.concatenate([few.members(number) for number in range(len(quantizer))])) == [0, 1, 2]


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
