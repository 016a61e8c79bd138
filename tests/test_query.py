from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spq import ImageIndex
from spq.data.decode import load_image
from spq.data.open import open_images
from spq.errors import ConfigError
from spq.index.query import cut
from spq.model.model import Model


def test_a_picture_as_far_from_the_negative_as_from_the_positive_keeps_its_distance(
    index: ImageIndex, files: list[Path]
) -> None:
    plain = {hit.path: hit.distance for hit in index.search(files[0], 60)}
    against = {hit.path: hit.distance for hit in index.search(files[0], 60, negative=[files[0]])}
    np.testing.assert_allclose([against[path] for path in plain], list(plain.values()), rtol=1e-5)


def test_a_negative_moves_similar_pictures_back(index: ImageIndex, files: list[Path]) -> None:
    before = [hit.path for hit in index.search(files[0], 60)]
    nuisance = before[5]
    position = open_images(index.store.manifest.source).ids.index(nuisance)
    for negative in (files[position], index.store.item(nuisance).id):
        after = [hit.path for hit in index.search(files[0], 60, negative=[negative])]
        assert after.index(nuisance) > 5


def test_several_positives_in_any_form_and_order_are_one_query(
    index: ImageIndex, files: list[Path], tiny_model: Model
) -> None:
    descriptors = tiny_model.embed(files[:3])
    one = index.search([files[0], descriptors[1], files[2].read_bytes()], 60)
    other = index.search([descriptors[2], files[1], Image.open(files[0])], 60)
    assert [hit.id for hit in one] == [hit.id for hit in other]
    np.testing.assert_allclose([hit.distance for hit in one], [hit.distance for hit in other], rtol=1e-6)
    assert index.search([files[0]], 60) == index.search(files[0], 60) == index.search((files[0],), 60)
    mean = np.mean([[h.distance for h in sorted(index.search(f, 60), key=lambda h: h.id)] for f in files[:3]], 0)
    np.testing.assert_allclose([h.distance for h in sorted(one, key=lambda h: h.id)], mean, rtol=1e-5)


def test_weights_decide_how_much_each_picture_counts(index: ImageIndex, files: list[Path], tiny_model: Model) -> None:
    a, b = tiny_model.embed(files[:2])
    alone = index.search(a, 60)
    assert index.search([a, b], 60, weights=[2, 0]) == index.search(a, 60, negative=[b], weights=[1, 0]) == alone
    distances = {hit.id: hit.distance for hit in index.search([a, b], 60, weights=[3, 1])}
    other = {hit.id: hit.distance for hit in index.search(b, 60)}
    for hit in alone:
        assert distances[hit.id] == pytest.approx(0.75 * hit.distance + 0.25 * other[hit.id], rel=1e-5)


def test_many_queries_give_what_each_gives_alone(index: ImageIndex, files: list[Path]) -> None:
    queries = [files[0], [files[1], files[2]], 7]
    options = {"negative": [files[9]], "where": "path ~ b*", "fold": True, "offset": 2}
    found = index.search_many(queries, 3, **options)
    for query, hits in zip(queries, found, strict=True):
        alone = index.search(query, 3, **options)
        assert [(h.rank, h.id, h.folded) for h in alone] == [(h.rank, h.id, h.folded) for h in hits]
        np.testing.assert_allclose([h.distance for h in alone], [h.distance for h in hits], rtol=1e-5)


def test_a_region_is_searched_as_if_it_had_been_cut_out_before(index: ImageIndex, files: list[Path]) -> None:
    picture = Image.open(files[0]).convert("RGB")
    assert index.search(files[0], 60, box=(0, 0, 56, 56)) == index.search(picture, 60)
    assert index.search(files[0], 60, box=(10, 20, 30, 36)) == index.search(picture.crop((10, 20, 40, 56)), 60)


def test_a_region_is_in_pixels_of_the_upright_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste("red", (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: the left edge goes up
    picture.save(tmp_path / "a.png", exif=exif)
    red = cut(tmp_path / "a.png", (0, 0, 20, 10))
    assert (red.size, red.getcolors()) == ((20, 10), [(200, (255, 0, 0))])
    with pytest.raises(ConfigError, match=r"`box` 0,0,40,20 is not inside the picture of 20 x 40 pixels; give x,y,w,h"):
        cut(tmp_path / "a.png", (0, 0, 40, 20))


@pytest.mark.parametrize(
    "box", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 5, -5), (52, 0, 5, 5), (0, 56, 5, 5), (9**20,) * 4]
)
def test_a_region_outside_is_refused(index: ImageIndex, files: list[Path], box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="is not inside the picture of 56 x 56 pixels"):
        index.search(files[0], box=box)


def test_a_box_counts_the_pixels_of_a_jpeg_that_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    halves = Image.new("RGB", (1600, 800), "red")
    halves.paste("blue", (800, 0, 1600, 800))
    halves.save(tmp_path / "large.jpg")
    large = load_image(tmp_path / "large.jpg", max_pixels=200_000)
    assert large.size == (400, 200)
    right = cut(large, (820, 0, 780, 800))
    assert right.size == (195, 200)
    assert np.abs(np.asarray(right).astype(int) - (0, 0, 254)).max() < 8
    assert cut(large, (1599, 799, 1, 1)).size == (1, 1)
    with pytest.raises(ConfigError, match="is not inside the picture of 1600 x 800 pixels"):
        cut(large, (1590, 0, 20, 20))
