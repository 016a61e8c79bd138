from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq import ImageIndex
from spq.config import DISTANCES
from spq.errors import ConfigError
from spq.index.codebooks import read_codebooks
from spq.model.model import Model
from spq.pq.tables import between_codes, decode, distance_tables


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_tables_of_the_index_are_the_models(photos: Path, tiny_model: Model, tmp_path: Path, distance: str) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        codebooks = read_codebooks(tmp_path / "i", index.store.manifest).words
        np.testing.assert_array_equal(codebooks, tiny_model.codebooks)
        x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
        expected = tiny_model.tables(x, distance)
        np.testing.assert_allclose(distance_tables(x, codebooks, distance), expected, rtol=1e-6, atol=1e-6)
        with pytest.raises(ConfigError, match="unknown distance 'cosine'; use l2, sqeuclidean or dot"):
            distance_tables(x, codebooks, "cosine")


def test_tables_hold_the_distances_of_each_sub_vector_to_each_codeword() -> None:
    rng = np.random.default_rng(0)
    x, codebooks = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=(4, 5, 2)).astype(np.float32)
    parts = x.reshape(3, 4, 1, 2).astype(np.float64)
    truth = {
        "l2": np.linalg.norm(parts - codebooks, axis=-1),
        "sqeuclidean": np.linalg.norm(parts - codebooks, axis=-1) ** 2,
        "dot": -np.einsum("qmod,mkd->qmk", parts, codebooks),
    }
    for distance in DISTANCES:
        np.testing.assert_allclose(distance_tables(x, codebooks, distance), truth[distance], rtol=1e-5, atol=1e-6)


def test_a_code_decodes_to_its_codewords_one_after_the_other() -> None:
    codebooks = np.float32([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert decode(np.uint8([[1, 0], [0, 1]]), codebooks).tolist() == [[3, 4, 5, 6], [1, 2, 7, 8]]
    assert decode(np.empty((0, 2), np.uint8), codebooks).shape == (0, 4)


def test_two_codes_are_never_compared_by_the_inner_product() -> None:
    assert [between_codes(distance) for distance in DISTANCES] == ["l2", "sqeuclidean", "sqeuclidean"]
