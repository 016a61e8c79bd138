from __future__ import annotations

import numpy as np
import pytest

from pictures_codes import CodesOfPictures, codes_of_pictures
from spq.errors import StoreError
from spq.model.model import Model
from spq.pq import coarse
from spq.pq.coarse import Coarse
from spq.pq.scan import rank
from spq.pq.sums import pack
from spq.pq.tables import decode, distance_tables


@pytest.fixture(scope="module", params=["l2", "dot"])
def distance(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def gallery(tiny_model: Model, distance: str) -> CodesOfPictures:
    return codes_of_pictures(tiny_model, distance)


def test_the_same_seed_gives_the_same_lists_and_another_one_others(
    gallery: CodesOfPictures,
) -> None:
    codes = pack(gallery[0], 16)
    first, again, other = (Coarse.train(codes, 8, 30, seed=seed, threads=1) for seed in (0, 0, 1))
    for name, array in first.to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[name])
    assert first.shares.shape != other.shares.shape or (first.shares != other.shares).any()


def test_a_saved_coarse_quantizer_gives_the_same_lists(gallery: CodesOfPictures) -> None:
    codes, tables, _ = gallery
    packed = pack(codes, 16)
    quantizer = Coarse.train(packed, 8, 30, threads=1).tuned(np.array([[3, 0], [7, 1]]))
    again = Coarse.from_arrays(quantizer.to_arrays())
    np.testing.assert_array_equal(again.assign(packed), quantizer.assign(packed))
    np.testing.assert_array_equal(again.nearest(tables[0], 9)[1], quantizer.nearest(tables[0], 9)[1])
    assert [again.nprobe_for(recall) for recall in (0.25, 0.26, 0.75, 1.0)] == [1, 2, 4, 8]


def test_arrays_that_do_not_belong_together_are_refused(gallery: CodesOfPictures) -> None:
    packed = pack(gallery[0], 16)
    quantizer = Coarse.train(packed, 8, 30, threads=1)
    arrays = quantizer.to_arrays()
    for name in ("axes", "groups", "centroids", "shares"):
        with pytest.raises(StoreError, match=r"do not belong together: .*; make the lists again"):
            Coarse.from_arrays(arrays | {name: arrays[name][:-1, :-1]})


def test_lists_follow_the_distances_of_codewords(gallery: CodesOfPictures, distance: str) -> None:
    """With them, the lists nearest to a query hold more of its nearest codes than if all codewords were equally far."""
    codes, tables, codebooks = gallery
    packed, truth = pack(codes, 16), rank(tables, codes, 50)[1]
    found = []
    for tables_of in (None, lambda some: distance_tables(decode(some, codebooks), codebooks, distance)):
        quantizer = Coarse.train(packed, 8, 100, tables_of, threads=1)
        found.append((quantizer.ranks_of(tables, packed[truth]) < 5).mean())
    assert found[1] > found[0]


def test_places_of_codewords_have_the_distances_of_tables(gallery: CodesOfPictures) -> None:
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
