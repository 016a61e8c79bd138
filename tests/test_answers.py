from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq import Hit, ImageIndex
from spq.config import Recipe
from spq.data.open import open_images
from spq.data.protocols import custom_protocol
from spq.errors import ConfigError
from spq.evaluation.evaluate import evaluate
from spq.index.answers import rank_answers
from spq.index.gallery import Gallery, ShardedGallery
from spq.index.request import SearchRequest
from spq.model.model import Model
from spq.pq.parts import Part, PartedScan
from spq.pq.scan import Scan
from spq.pq.ties import tie_keys


def summed(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return table[np.arange(table.shape[0]), codes].sum(1)


def plain(
    request: SearchRequest, distances: np.ndarray, codes: np.ndarray, ids: np.ndarray, rows: list[int]
) -> list[object]:
    """Sort all, leave out, fold, cut."""
    order = sorted(rows, key=lambda row: (distances[row], tie_keys(ids[row : row + 1])[0]))
    limit = np.inf if request.max_distance is None else request.max_distance
    groups: list[tuple[float, list[int]]] = []
    for row in order:
        if distances[row] > limit or ids[row] in request.exclude:
            continue
        same = [g for g in groups if (codes[np.searchsorted(ids, g[1][0])] == codes[row]).all()] if request.fold else []
        if same:
            same[0][1].append(int(ids[row]))
        else:
            groups.append((float(distances[row]), [int(ids[row])]))
    return groups[request.offset : request.offset + request.top]


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
def test_answers_equal_those_of_sorting_everything(
    N: int, K: int, top: int, offset: int, fold: bool, limit: float | None, least: int, excluded: list[int],
    share: float | None, seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, K, (N, 3)).astype(np.uint8)
    tables = rng.integers(least, 3, (2, 3, K)).astype(np.float32)  # ties abound
    ids = np.sort(rng.choice(2 * N, N, replace=False)).astype(np.int64)
    rows = None if share is None else np.flatnonzero(rng.random(N) < share)
    request = SearchRequest([0], top, offset=offset, fold=fold, max_distance=limit, exclude=excluded)
    allowed = list(range(N)) if rows is None else rows.tolist()
    expected = [plain(request, summed(table, codes), codes, ids, allowed) for table in tables]
    assert rank_answers(request, tables, Gallery(0, 0, ids, Scan(codes, K, ids=ids)), rows).answers == expected
    gallery = in_parts(codes, ids, K, rng)
    same = None if rows is None else gallery.rows_of(ids[rows])
    assert rank_answers(request, tables, gallery, same).answers == expected


def in_parts(codes: np.ndarray, ids: np.ndarray, K: int, rng: np.random.Generator) -> ShardedGallery:
    """The same items in three parts with interleaved ids, and further items that are dead."""
    extra = rng.choice(2 * len(ids), len(ids) // 2, replace=False) + 3 * len(ids)
    all_ids, all_codes = np.append(ids, extra), np.concatenate([codes, codes[: len(extra)]])
    number = rng.integers(0, 3, len(all_ids))
    parts, dead = [], []
    for part in range(3):
        mine = np.flatnonzero(number == part)
        mine = mine[all_ids[mine].argsort()]
        parts.append(Part(Scan(all_codes[mine], K, ids=all_ids[mine])))
        dead.append(np.flatnonzero(mine >= len(ids)))
    newer = Gallery(0, 0, all_ids[:0], Scan(codes[:0], K))
    return ShardedGallery(0, 0, newer.ids, PartedScan(parts, dead), newer, {})


def test_pages_put_together_are_the_whole_list(index: ImageIndex, files: list[Path]) -> None:
    for options in ({}, {"fold": True}, {"where": "width > 1", "negative": [3]}):
        whole = index.search(files[4], 60, **options)
        pages = [index.search(files[4], 7, offset=offset, **options) for offset in range(0, 70, 7)]
        assert [hit for page in pages for hit in page] == whole
        assert [hit.rank for hit in whole] == list(range(1, len(whole) + 1))
        assert pages[-1] == []


def test_a_filter_gives_the_full_ranking_without_the_other_pictures(index: ImageIndex, files: list[Path]) -> None:
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


def test_a_filter_can_use_columns_of_the_users_table(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    ids = open_images(photos).ids
    rows = [f"{name},{number},{'north' if number % 2 else ''}\n" for number, name in enumerate(ids)]
    (photos / "metadata.csv").write_text("file_name,price,shop of\n" + "".join(rows))
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        found = index.search(photos / ids[0], 60, where="price >= 9 and price < 12 and [shop of] = north")
        assert {hit.path for hit in found} == {ids[9], ids[11]}


def test_a_threshold_leaves_out_larger_distances(index: ImageIndex, files: list[Path]) -> None:
    whole = index.search(files[0], 60)
    limit = whole[7].distance
    assert index.search(files[0], 60, max_distance=limit) == [hit for hit in whole if hit.distance <= limit]
    assert index.search(files[0], 3, max_distance=limit) == whole[:3]
    assert index.search(files[0], max_distance=-1) == []


def test_copies_fold_into_the_first_hit_which_names_them(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
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


def test_the_next_answer_takes_the_place_of_an_excluded_item(index: ImageIndex) -> None:
    whole = index.search(17, 60)
    own = next(hit for hit in whole if hit.id == 17)
    assert own.distance == 0
    found = index.search(17, 5, exclude=[17])
    assert [(hit.rank, hit.id) for hit in found] == list(enumerate([h.id for h in whole if h.id != 17][:5], 1))


def test_a_hit_has_rank_id_path_and_distance(index: ImageIndex, files: list[Path]) -> None:
    (hit,) = index.search(files[0], 1)
    assert hit == Hit(1, hit.id, hit.path, hit.distance, ())
    assert index.store.paths([hit.id]) == {hit.id: hit.path}


@pytest.mark.parametrize("M", [1, 4])
def test_a_search_is_as_precise_as_the_evaluation_says_in_a_folder_sorted_by_class(
    tiny_model: Model, tiny_recipe: Recipe, tmp_path: Path, M: int
) -> None:
    """With 4 and 16 bits many answers tie. The order of ties must not show one class first, in neither of the two."""
    short = replace(tiny_recipe, quantizer=replace(tiny_recipe.quantizer, num_codebooks=M, codeword_dim=4))
    model = Model(tiny_model.network.truncated(short.quantizer), short)
    for name, count in (("train", 600), ("test", 100)):
        images = open_images(f"sample:{name}")
        for position in range(count):
            folder = tmp_path / name / images.class_names[int(images.labels[position])]
            folder.mkdir(parents=True, exist_ok=True)
            images.image(position).save(folder / f"{position}.png")
    report = evaluate(model, custom_protocol(tmp_path / "train", tmp_path / "test"), at=10)
    queries = open_images(tmp_path / "test")
    with ImageIndex.build(tmp_path / "i", model, tmp_path / "train") as index:
        found = index.search_many([queries.path(position) for position in range(100)], 1)
    right = [
        Path(hits[0].path).parent.name == Path(id_).parent.name for hits, id_ in zip(found, queries.ids, strict=True)
    ]
    assert np.mean(right) == pytest.approx(report.precision[1], abs=0.01)
