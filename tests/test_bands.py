"""Bands of similarity: limits from distances, and calibrated on the collection's own pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq.dupes import bands as module
from spq.dupes.bands import Distances, find_bands, limits, sums
from spq.errors import ImageError
from spq.index.image_index import ImageIndex
from spq.index.items import Item
from spq.index.originals import Originals


def distances(copies: float, random: float, between: float, nearest: float) -> Distances:
    """100 evenly spaced distances of each kind, up to the given largest ones."""
    copies_, random_, between_, nearest_ = (
        np.linspace(largest / 100, largest, 100, dtype=np.float32) for largest in (copies, random, between, nearest)
    )
    return Distances(copies_, random_, copies_, random_, between_, nearest_)


def test_limits_are_shares_of_copies_and_of_random_pairs() -> None:
    bands = limits(distances(1, 100, 1, 10), 500)
    assert (bands.pictures, bands.copies) == (500, 100)
    assert bands.picture.very_close == pytest.approx(0.9, abs=0.011)  # of 9 in 10 copies
    assert bands.picture.copies == pytest.approx(0.9, abs=0.011)
    assert bands.picture.random == 0
    assert bands.picture.close == pytest.approx(5.95, abs=0.06)  # of 1 in 20 random pairs
    assert bands.same == pytest.approx(0.59, abs=0.011)  # below the nearest different picture of 5 in 100
    assert (bands.same_copies, bands.same_others) == (pytest.approx(0.59, abs=0.011), 0.05)


def test_copies_that_are_as_far_as_random_pairs_make_no_band_of_their_own() -> None:
    bands = limits(distances(100, 100, 100, 10), 500)
    assert bands.picture.very_close == pytest.approx(1.99, abs=0.02)  # of 1 in 100 random pairs
    assert bands.picture.copies <= 0.02
    assert bands.same is None  # 5 in 100 copies lie nearer than the nearest others
    assert (bands.same_copies, bands.same_others) == (0, 0)


def test_limits_of_negative_distances_leave_room_for_rounding_on_the_right_side() -> None:
    below = distances(1, 100, 1, 10)
    shifted = Distances(
        below.copies - 500, below.random - 500, below.copies, below.random, below.between, below.nearest
    )
    bands = limits(shifted, 500)
    assert bands.picture.very_close == pytest.approx(-499.1, abs=0.02)
    assert float(np.quantile(shifted.copies, 0.9, method="higher")) < bands.picture.very_close
    assert bands.code.very_close > 0


def test_distances_are_sums_over_the_codebooks() -> None:
    assert sums(np.float32([[1, 2], [10, 20]]), np.uint8([[0, 0], [1, 0], [1, 1]])).tolist() == [11, 12, 22]


def test_bands_are_calibrated_on_pictures_that_can_be_read(
    index: ImageIndex, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals, stages = Originals(index.store.manifest.origin), []

    def read(item: Item, side: int) -> Image.Image:
        if item.id % 3 == 0:
            raise ImageError("gone")
        data, decode = originals.unchanged(item)
        return decode(data, side)

    bands = find_bands(index, read, lambda *stage: stages.append(stage))
    assert bands is not None
    assert (bands.pictures, bands.copies) == (60, 40)
    assert stages[0] == ("altered copies", 0, 60)
    assert bands == find_bands(index, read)
    monkeypatch.setattr(module, "SAMPLE", 20)
    stages.clear()
    fewer = find_bands(index, read, lambda *stage: stages.append(stage))
    assert fewer is not None
    assert fewer.copies == 20
    assert all(done < total == 20 for _, done, total in stages)
    for reach in (bands.picture, bands.code):
        assert 0 <= reach.very_close <= reach.close
    id_ = next(item.id for item in index.store.items() if item.id % 3)
    hits = index.search(index.like(id_), exclude=[id_], top=59)
    near = sum(hit.distance <= bands.picture.close for hit in hits)
    assert 0 < near < 30, "a picture has some that are close, and most are not"

    def lost(item: Item, side: int) -> Image.Image:
        raise ImageError("gone")

    assert find_bands(index, lost) is None
