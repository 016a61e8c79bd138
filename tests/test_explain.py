from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq.index.explain import explain
from spq.index.image_index import ImageIndex
from spq.index.request import SearchRequest
from spq.model.model import Model
from spq.pq.tables import decode, distance_tables


def test_the_parts_add_up_to_the_distance_of_the_search(photo_index: Path) -> None:
    with ImageIndex.open(photo_index) as index:
        for hit in index.search([3, 4], 20, negative=[9]):
            table = index.tables(SearchRequest([[3, 4]], negative=[9]))[0]
            code = index.store.items_by_id([hit.id])[hit.id].code
            parts = explain(table, code)
            assert [part.m for part in parts] == list(range(8))
            assert sum(part.distance for part in parts) == pytest.approx(hit.distance, abs=1e-5)
            assert sum(part.share for part in parts) == pytest.approx(1)


def test_a_picture_has_distance_0_to_itself_in_every_part(photo_index: Path) -> None:
    with ImageIndex.open(photo_index) as index:
        parts = explain(index.tables(SearchRequest([5]))[0], index.store.items_by_id([5])[5].code)
    assert [part.distance for part in parts] == [0.0] * 8
    assert [part.share for part in parts] == [0.0] * 8
    assert all(part.codeword == part.nearest for part in parts)


def test_the_parts_of_dot_add_up_to_the_distance_and_name_the_codeword_of_the_largest_product(
    tiny_model: Model, photo_index: Path
) -> None:
    with ImageIndex.open(photo_index) as index:
        codes = index.store.codes()[1]
    x = decode(codes[3:4], tiny_model.codebooks)
    table = distance_tables(x, tiny_model.codebooks, "dot")[0]
    parts = explain(table, codes[9])
    products = np.einsum("md,mkd->mk", x.reshape(8, 4), tiny_model.codebooks)
    np.testing.assert_allclose([part.distance for part in parts], -products[np.arange(8), codes[9]], rtol=1e-5)
    assert sum(part.distance for part in parts) == pytest.approx(-x[0] @ decode(codes[9:10], tiny_model.codebooks)[0])
    assert [part.nearest for part in parts] == products.argmax(1).tolist()
    assert sum(part.share for part in parts) == pytest.approx(1)


def test_negative_parts_have_shares_of_their_size() -> None:
    parts = explain(np.float32([[-1, 5], [3, 7]]), np.uint8([0, 0]))
    assert [(part.distance, part.share) for part in parts] == [(-1.0, 0.25), (3.0, 0.75)]
