from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spq.data.open import open_images
from spq.dupes import candidates
from spq.dupes.candidates import Neighbours, candidate_pairs, code_neighbours
from spq.dupes.signatures import grey_thumb
from spq.dupes.threshold import code_distances
from spq.pq.scan import rank
from spq.pq.tables import Codebooks, decode, distance_tables


@pytest.mark.parametrize(
    ("distance", "between"), [("l2", "l2"), ("sqeuclidean", "sqeuclidean"), ("dot", "sqeuclidean")]
)
def test_neighbours_by_code_and_distances_of_codes_agree_with_an_exact_ranking(distance: str, between: str) -> None:
    rng = np.random.default_rng(0)
    codebooks, codes = rng.normal(size=(4, 16, 3)).astype(np.float32), rng.integers(0, 16, (80, 4), np.uint8)
    near = code_neighbours(codes, Codebooks(codebooks), distance)
    expected, rows = rank(distance_tables(decode(codes, codebooks), codebooks, between), codes, near.rows.shape[1])
    np.testing.assert_array_equal(near.rows, rows)
    a = np.repeat(np.arange(80), rows.shape[1])
    np.testing.assert_allclose(
        code_distances(codes[a], codes[rows.ravel()], Codebooks(codebooks), distance), expected.ravel(), atol=1e-4
    )


@pytest.mark.parametrize("distance", ["l2", "sqeuclidean", "dot"])
def test_among_many_codes_the_nearest_are_found_in_lists(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    centres = rng.integers(0, 16, (100, 4), np.uint8)
    codes = np.where(rng.random((2000, 4)) < 0.1, rng.integers(0, 16, (2000, 4)), centres[rng.integers(100, size=2000)])
    codes = codes.astype(np.uint8)
    exact = code_neighbours(codes, Codebooks(codebooks), distance)
    monkeypatch.setattr(candidates, "EXACT_BELOW", 1000)
    monkeypatch.setattr("spq.dupes.nearest.EXACT_BELOW", 1000)
    found = code_neighbours(codes, Codebooks(codebooks), distance)
    assert found.rows.shape == exact.rows.shape
    near = exact.distances[:, :10]
    assert (found.distances[:, :10] <= near + 1e-4).mean() > 0.9
    assert (np.diff(np.nan_to_num(found.distances, posinf=1e9), axis=1) >= 0).all()


def thumbs_of(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([grey_thumb(picture.convert("RGB")) for picture in pictures])


def copies_of(image: Image.Image) -> dict[str, Image.Image]:
    written, framed, barred = image.copy(), Image.new("RGB", (260, 300), "white"), Image.new("RGB", (200, 300), "black")
    ImageDraw.Draw(written).text((20, 200), "a holiday at sea", fill="white", font_size=24)
    framed.paste(image, (30, 30))
    barred.paste(image, (0, 30))
    return {
        "mirrored": image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "upside down": image.rotate(180),
        "turned": image.rotate(90, expand=True),
        "turned and mirrored": image.transpose(Image.Transpose.TRANSPOSE),
        "cropped": image.crop((20, 24, 200, 240)),
        "grey": image.convert("L"),
        "written": written,
        "framed": framed,
        "barred": barred,
    }


def test_a_copy_of_any_kind_is_a_candidate_beside_its_original_and_few_others_are() -> None:
    sample = open_images("sample:test")
    pictures, expected = [], []
    for n in range(12):
        image = sample.image(n).resize((200, 240), Image.Resampling.BICUBIC)
        image = Image.eval(image, lambda value, n=n: 30 + value * (70 + n) // 100)  # type: ignore[misc]
        first = len(pictures)
        pictures.append(image)
        for name, copy in copies_of(image).items():
            expected.append((first, len(pictures), name))
            pictures.append(copy)
    found = candidate_pairs(thumbs_of(pictures))
    pairs = set(map(tuple, found.pairs.tolist()))
    missed = [name for a, b, name in expected if (a, b) not in pairs]
    assert len(missed) <= 3, missed
    assert all(a < b for a, b in pairs)
    assert len(pairs) < len(pictures) * (len(pictures) - 1) / 4
    assert found.is_alike[[tuple(pair) == (0, 1) for pair in found.pairs.tolist()]].sum() <= 1


def test_near_codes_are_candidates_whatever_the_thumbs_are() -> None:
    thumbs = np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8)
    near = Neighbours(np.array([[0, 2], [1, 1], [2, 0]]), np.zeros((3, 2), np.float32))
    assert (0, 2) in set(map(tuple, candidate_pairs(thumbs, near).pairs.tolist()))


@pytest.mark.parametrize("count", [0, 1])
def test_no_picture_and_one_picture_have_no_candidates(count: int) -> None:
    assert len(candidate_pairs(np.zeros((count, 64, 64), np.uint8)).pairs) == 0
