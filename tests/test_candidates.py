from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.data.open import open_images
from spq.dupes.candidates import Neighbours, candidate_pairs, code_neighbours, decode_thumbs
from spq.dupes.pixels import signatures
from spq.dupes.threshold import code_distances
from spq.pq.scan import rank
from spq.pq.tables import decode, distance_tables


@pytest.mark.parametrize(
    ("distance", "between"), [("l2", "l2"), ("sqeuclidean", "sqeuclidean"), ("dot", "sqeuclidean")]
)
def test_neighbours_by_code_and_distances_of_codes_agree_with_an_exact_ranking(distance: str, between: str) -> None:
    rng = np.random.default_rng(0)
    codebooks, codes = rng.normal(size=(4, 16, 3)).astype(np.float32), rng.integers(0, 16, (80, 4), np.uint8)
    near = code_neighbours(codes, codebooks, distance)
    expected, rows = rank(distance_tables(decode(codes, codebooks), codebooks, between), codes, near.rows.shape[1])
    np.testing.assert_array_equal(near.rows, rows)
    a = np.repeat(np.arange(80), rows.shape[1])
    np.testing.assert_allclose(
        code_distances(codes[a], codes[rows.ravel()], codebooks, distance), expected.ravel(), atol=1e-4
    )


def test_thumbs_of_readable_pictures_are_decoded_and_the_others_are_named(tmp_path: Path) -> None:
    for n, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (90, 70), colour).save(tmp_path / f"{n}.png")
    (tmp_path / "1.png").write_bytes(b"none")
    counts: list[tuple[int, int]] = []
    thumbs, kept, failures = decode_thumbs(open_images(tmp_path), np.arange(3), lambda *done: counts.append(done))
    assert thumbs.shape == (2, 3, 64, 64)
    assert thumbs[:, :, 5, 5].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert kept.tolist() == [0, 2]
    assert [n for n, _ in failures] == [1]
    assert counts == [(3, 3)]


def test_pictures_that_are_near_by_thumb_or_mirrored_thumb_are_candidates_and_others_are_not() -> None:
    sample = open_images("sample:test")
    pictures = [sample.image(position).resize((64, 64)) for position in (0, 1, 2)]
    pictures.append(pictures[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    thumbs = np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])
    nowhere = Neighbours(np.arange(4)[:, None], np.zeros((4, 1), np.float32))  # each picture is near to itself only
    pairs = candidate_pairs(signatures(thumbs), nowhere).tolist()
    assert [0, 3] in pairs
    assert len(pairs) < 6
    assert all(a < b for a, b in pairs)
