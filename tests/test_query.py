from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spq import Hit, ImageIndex
from spq.data.open import open_images
from spq.errors import ConfigError, ImageError, StoreError
from spq.index.query import Search, combined, cut, ranked
from spq.model.model import Model
from spq.pq.scan import Scan
from spq.pq.tables import distance_tables


@pytest.fixture
def index(photos: Path, tiny_model: Model, tmp_path: Path) -> ImageIndex:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        yield index


@pytest.fixture
def files(photos: Path) -> list[Path]:
    images = open_images(photos)
    return [images.path(position) for position in range(60)]


def summed(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return table[np.arange(table.shape[0]), codes].sum(1)


# ---- for and against


@settings(max_examples=60, deadline=None)
@given(P=st.integers(1, 4), J=st.integers(0, 3), seed=st.integers(0, 999), weighted=st.booleans())
def test_the_distance_is_that_of_the_formula(P: int, J: int, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    tables = rng.normal(size=(P + J, 5, 16)).astype(np.float32)  # of both signs, as those of `dot`
    codes = rng.integers(0, 16, (40, 5))
    w = rng.uniform(0.1, 3, P + J) if weighted else np.array([1.0] * P + [0.3] * J)
    D = np.array([summed(table, codes) for table in tables])
    expected = [sum(w[i] * D[i, x] for i in range(P)) / sum(w[:P]) for x in range(40)]
    for x in range(40):
        toward = expected[x]
        for j in range(J):
            expected[x] += w[P + j] * (toward - D[P + j, x]) / J
    found = summed(combined(tables[:P], tables[P:], w if weighted else None), codes)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_positive_alone_keeps_its_table_to_the_bit() -> None:
    table = np.random.default_rng(0).random((1, 8, 16)).astype(np.float32)
    np.testing.assert_array_equal(combined(table, table[:0]), table[0])
    np.testing.assert_array_equal(combined(table, table[:0], [0.3]), table[0])


@pytest.mark.parametrize("v", [0.3, 1, 2])
def test_squared_distances_rank_by_a_point_moved_away_from_the_negative(v: float) -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    codes = rng.integers(0, 16, (200, 4))
    points = codebooks[np.arange(4), codes].reshape(200, 12)
    p, n = rng.normal(size=(2, 12)).astype(np.float32)
    tables = distance_tables(np.stack([p, n]), codebooks, "sqeuclidean")
    found = summed(combined(tables[:1], tables[1:], [1, v]), codes)
    expected = ((points - (p + v * (p - n))) ** 2).sum(1)
    np.testing.assert_allclose(found - found.min(), expected - expected.min(), rtol=1e-3, atol=1e-3)


def test_unsquared_distances_leave_the_positive_in_front_of_everything() -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    for code in rng.integers(0, 16, (20, 4)):
        p = codebooks[np.arange(4), code].reshape(12)
        tables = distance_tables(np.stack([p, rng.normal(size=12).astype(np.float32)]), codebooks, "l2")
        np.testing.assert_array_equal(combined(tables[:1], tables[1:]).argmin(1), code)


@pytest.mark.parametrize("v", [0.3, 1, 2])
def test_inner_products_are_those_with_a_point_moved_away_from_the_negative(v: float) -> None:
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(4, 16, 3)).astype(np.float32)
    codes = rng.integers(0, 16, (200, 4))
    points = codebooks[np.arange(4), codes].reshape(200, 12)
    p, n = rng.normal(size=(2, 12)).astype(np.float32)
    tables = distance_tables(np.stack([p, n]), codebooks, "dot")
    found = summed(combined(tables[:1], tables[1:], [1, v]), codes)
    np.testing.assert_allclose(found, -points @ (p + v * (p - n)), rtol=1e-3, atol=1e-4)


def test_what_is_as_far_from_the_negative_as_from_the_positive_keeps_its_distance(
    index: ImageIndex, files: list[Path]
) -> None:
    plain = {hit.path: hit.distance for hit in index.search(files[0], 60)}
    against = {hit.path: hit.distance for hit in index.search(files[0], 60, negative=[files[0]])}
    np.testing.assert_allclose([against[path] for path in plain], list(plain.values()), rtol=1e-5)


def test_a_negative_pushes_what_is_like_it_back(index: ImageIndex, files: list[Path]) -> None:
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


def test_weights_say_how_much_each_picture_counts(index: ImageIndex, files: list[Path], tiny_model: Model) -> None:
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


# ---- which rows are answers


def plain(asked: Search, distances: np.ndarray, codes: np.ndarray, ids: np.ndarray, rows: list[int]) -> list[object]:
    """Sort all, leave out, fold, cut."""
    order = sorted(rows, key=lambda row: (distances[row], row))
    limit = np.inf if asked.max_distance is None else asked.max_distance
    groups: list[tuple[float, list[int]]] = []
    for row in order:
        if distances[row] > limit or ids[row] in asked.exclude:
            continue
        same = [g for g in groups if (codes[np.searchsorted(ids, g[1][0])] == codes[row]).all()] if asked.fold else []
        if same:
            same[0][1].append(int(ids[row]))
        else:
            groups.append((float(distances[row]), [int(ids[row])]))
    return groups[asked.offset : asked.offset + asked.top]


@settings(max_examples=200, deadline=None)
@given(
    N=st.integers(1, 80),
    K=st.sampled_from([2, 3, 16]),
    top=st.integers(1, 20),
    offset=st.integers(0, 20),
    fold=st.booleans(),
    limit=st.none() | st.floats(-6, 6),
    least=st.sampled_from([0, -3]),
    excluded=st.lists(st.integers(0, 160), max_size=5),
    share=st.sampled_from([None, 0.0, 0.1, 0.9]),
    seed=st.integers(0, 999),
)
def test_answers_are_those_of_sorting_everything(
    N: int, K: int, top: int, offset: int, fold: bool, limit: float | None, least: int, excluded: list[int],
    share: float | None, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, K, (N, 3)).astype(np.uint8)
    tables = rng.integers(least, 3, (2, 3, K)).astype(np.float32)  # ties abound
    ids = np.sort(rng.choice(2 * N, N, replace=False)).astype(np.int64)
    rows = None if share is None else np.flatnonzero(rng.random(N) < share)
    asked = Search(top, offset=offset, fold=fold, max_distance=limit, exclude=excluded)
    for table, found in zip(tables, ranked(asked, tables, Scan(codes, K), ids, rows), strict=True):
        allowed = list(range(N)) if rows is None else rows.tolist()
        assert found == plain(asked, summed(table, codes), codes, ids, allowed)


def test_pages_put_together_are_the_whole_list(index: ImageIndex, files: list[Path]) -> None:
    for options in ({}, {"fold": True}, {"where": "width > 1", "negative": [3]}):
        whole = index.search(files[4], 60, **options)
        pages = [index.search(files[4], 7, offset=offset, **options) for offset in range(0, 70, 7)]
        assert [hit for page in pages for hit in page] == whole
        assert [hit.rank for hit in whole] == list(range(1, len(whole) + 1))
        assert pages[-1] == []


def test_a_condition_gives_the_full_ranking_less_the_others(index: ImageIndex, files: list[Path]) -> None:
    whole = index.search(files[0], 60)
    for where, keep in (
        ("label = bag", lambda path: path.startswith("bag/")),
        ("path ~ *.png and not label = bag", lambda path: path.endswith(".png") and not path.startswith("bag/")),
        ("width = 56 and height = 56", lambda path: True),
        ("width > 56", lambda path: False),
    ):
        found = index.search(files[0], 60, where=where)
        assert [(hit.id, hit.distance) for hit in found] == [(h.id, h.distance) for h in whole if keep(h.path)]
    with pytest.raises(ConfigError, match=r"unknown column colour at 1; columns are path, .*, label$"):
        index.search(files[0], where="colour = red")


def test_columns_of_the_users_table_are_searched_by(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    ids = open_images(photos).ids
    rows = [f"{name},{number},{'north' if number % 2 else ''}\n" for number, name in enumerate(ids)]
    (photos / "metadata.csv").write_text("file_name,price,shop of\n" + "".join(rows))
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        found = index.search(photos / ids[0], 60, where="price >= 9 and price < 12 and [shop of] = north")
        assert {hit.path for hit in found} == {ids[9], ids[11]}


def test_a_threshold_leaves_out_what_is_farther(index: ImageIndex, files: list[Path]) -> None:
    whole = index.search(files[0], 60)
    limit = whole[7].distance
    assert index.search(files[0], 60, max_distance=limit) == [hit for hit in whole if hit.distance <= limit]
    assert index.search(files[0], 3, max_distance=limit) == whole[:3]
    assert index.search(files[0], max_distance=-1) == []


def test_copies_fold_into_the_first_and_are_told(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    original = min(photos.rglob("*.png"))
    for number in range(3):
        shutil.copy(original, original.with_name(f"copy{number}.png"))
    folder = original.parent.name
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        hits = index.search(original, 63, fold=True)
        copies = {original.relative_to(photos).as_posix(), *(f"{folder}/copy{number}.png" for number in range(3))}
        assert [copies <= {hit.path, *hit.folded} for hit in hits].count(True) == 1
        assert sum(1 + len(hit.folded) for hit in hits) == 63
        codes = [index.store.item(hit.path).code.tobytes() for hit in hits]
        assert len(set(codes)) == len(codes)
        assert all(hit.folded == () for hit in index.search(original, 63))


def test_an_excluded_item_makes_room_for_the_next(index: ImageIndex) -> None:
    whole = index.search(17, 60)
    own = next(hit for hit in whole if hit.id == 17)
    assert own.distance == 0
    found = index.search(17, 5, exclude=[17])
    assert [(hit.rank, hit.id) for hit in found] == list(enumerate([h.id for h in whole if h.id != 17][:5], 1))


# ---- regions


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
    with pytest.raises(ConfigError, match=r"box 0,0,40,20 is not inside the picture of 20 x 40 pixels; give x,y,w,h"):
        cut(tmp_path / "a.png", (0, 0, 40, 20))


@pytest.mark.parametrize(
    "box", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 5, -5), (52, 0, 5, 5), (0, 56, 5, 5), (9**20,) * 4]
)
def test_a_region_outside_is_refused(index: ImageIndex, files: list[Path], box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="is not inside the picture of 56 x 56 pixels"):
        index.search(files[0], box=box)


# ---- what cannot be meant


def test_what_cannot_be_meant_is_refused_in_one_line(index: ImageIndex, files: list[Path]) -> None:
    a, b = files[:2]
    for error, message, query, options in [
        (StoreError, "top 0 asks for nothing", a, {"top": 0}),
        (ConfigError, "offset -1 is before the first answer", a, {"offset": -1}),
        (ConfigError, "max distance nan keeps nothing", a, {"max_distance": float("nan")}),
        (ConfigError, "nothing to be like", [], {}),
        (ConfigError, "a box belongs to one picture, not to 2", [a, b], {"box": (0, 0, 5, 5)}),
        (ConfigError, "a box cuts a picture, not an id", 3, {"box": (0, 0, 5, 5)}),
        (ConfigError, "a box cuts a picture, not an id", np.zeros(32, np.float32), {"box": (0, 0, 5, 5)}),
        (ConfigError, "1 weights for 2 positive and 0 negative pictures", [a, b], {"weights": [1]}),
        (ConfigError, "3 weights for 1 positive and 1 negative", a, {"weights": [1, 1, 1], "negative": [b]}),
        (ConfigError, "weight -1 is not in 0..1,000,000", [a, b], {"weights": [1, -1]}),
        (ConfigError, "to be like all have weight 0", a, {"weights": [0, 1], "negative": [b]}),
        (ConfigError, "are not numbers", [a, b], {"weights": ["x", "y"]}),
        (ConfigError, "weight 1e+308 is not in", [a, b], {"weights": [1e308, 1e308]}),
        (ConfigError, "weight nan is not in", a, {"weights": [float("nan")]}),
        (ConfigError, "--where: ends at 8; expected a value", a, {"where": "label ="}),
        (StoreError, "no picture with id 999", a, {"negative": [999]}),
        (ImageError, "nowhere.jpg", a, {"negative": [a.with_name("nowhere.jpg")]}),
    ]:
        with pytest.raises(error) as caught:
            index.search(query, **options)
        assert str(caught.value).startswith(message) or message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="colour"):
        index.search_many([a], colour="red")


def test_a_hit_says_its_rank_id_path_and_distance(index: ImageIndex, files: list[Path]) -> None:
    (hit,) = index.search(files[0], 1)
    assert hit == Hit(1, hit.id, hit.path, hit.distance, ())
    assert index.store.paths([hit.id]) == {hit.id: hit.path}
