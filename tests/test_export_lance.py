"""A Lance dataset of an index: Lance has to answer as spq does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest

from models import tiny
from spq import ImageIndex
from spq.config import Distance, Recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.errors import ConfigError, StoreError
from spq.index import export_lance as exporter
from spq.index.codebooks import read_codebooks
from spq.index.export_lance import export_lance
from spq.index.store import Store

TOP, ITEMS, QUERIES = 100, 300, 100
Build = Callable[..., ImageIndex]


@pytest.fixture(scope="module")
def shared(build: Build) -> Iterator[Store]:
    with build() as index:
        yield index.store


@pytest.fixture(scope="module")
def build(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Build:
    def make(K: int = 16, M: int = 8, distance: Distance = "sqeuclidean") -> ImageIndex:
        pictures = subset(open_images("sample:train"), range(ITEMS))
        index = ImageIndex.build(tmp_path_factory.mktemp("i") / "i", tiny(tiny_recipe, K, M, distance), pictures)
        index.remove([pictures.ids[3]])  # so that ids are no row numbers
        return index

    return make


def nearest(dataset: Any, x: Any) -> tuple[list[int], list[float]]:
    query = {"column": "descriptor", "q": x, "k": TOP}
    table = dataset.to_table(columns=["id", "_distance"], nearest=query)
    return table["id"].to_pylist(), table["_distance"].to_pylist()


@pytest.mark.parametrize(
    ("K", "M", "distance", "more"),
    [(16, 8, "sqeuclidean", 0), (4, 7, "dot", 1)],  # 4 bits for a sub-code, and 8
)
def test_lance_gives_our_distances_and_all_of_our_nearest(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, K: int, M: int, distance: Distance, more: float
) -> None:
    monkeypatch.setattr(exporter, "PIECE", 60 * 4 * M * 4)  # several files
    with build(K, M, distance) as index:
        facts = export_lance(index.store, tmp_path / "x.lance")
        images = open_images("sample:test")
        queries = index.model.embed([images.image(position) for position in range(QUERIES)])
        truth = [{hit.id: hit.distance for hit in hits} for hits in index.search_many(list(queries), top=ITEMS)]
        paths = index.store.paths(truth[0])
    assert (facts["images"], facts["metric"]) == (ITEMS - 1, {"sqeuclidean": "l2", "dot": "dot"}[distance])

    dataset = lance.dataset(tmp_path / "x.lance")
    assert len(dataset.get_fragments()) == 5
    assert "ANNSubIndex" in dataset.scanner(nearest={"column": "descriptor", "q": queries[0], "k": 1}).explain_plan()
    for x, distances in zip(queries, truth, strict=True):
        ids, found = nearest(dataset, x)
        assert len(set(ids)) == TOP
        np.testing.assert_allclose(np.array(found) - more, [distances[id_] for id_ in ids], atol=1e-4, rtol=0)
        np.testing.assert_allclose(np.array(found) - more, list(distances.values())[:TOP], atol=1e-4, rtol=0)

    table = dataset.to_table()
    assert dict(zip(table["id"].to_pylist(), table["path"].to_pylist(), strict=True)) == paths
    stated = json.loads(dataset.schema.metadata[b"spq"])
    assert (stated["model"], stated["distance"]) == (facts["model"], distance)


def test_the_columns_hold_codes_and_their_codewords(shared: Store, tmp_path: Path) -> None:
    export_lance(shared, tmp_path / "x.lance")
    ids, codes = shared.codes()
    codebooks = read_codebooks(shared.folder, shared.manifest).words
    table = lance.dataset(tmp_path / "x.lance").to_table()
    assert table["id"].to_pylist() == ids.tolist()
    np.testing.assert_array_equal(table["code"].to_pylist(), codes)
    M, _, d = codebooks.shape
    expected = codebooks[np.arange(M), codes].reshape(len(ids), M * d)
    np.testing.assert_array_equal(np.float32(table["descriptor"].to_pylist()), expected)


def test_a_distance_that_lance_lacks_is_refused_by_name(photo_index: Path, tmp_path: Path) -> None:
    with Store.open(photo_index) as store, pytest.raises(ConfigError, match=r"ranks by l2, .* export vectors instead"):
        export_lance(store, tmp_path / "x.lance")
    assert not list(tmp_path.iterdir())


def test_without_the_package_one_line_says_what_to_install(
    shared: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'spq-retrieval\[lance\]'"):
        export_lance(shared, tmp_path / "x.lance")


def test_an_index_without_pictures_gives_no_dataset(build: Build, tmp_path: Path) -> None:
    with build() as index:
        index.remove(list(index.store.stats()))
        with pytest.raises(StoreError, match="has no pictures"):
            export_lance(index.store, tmp_path / "x.lance")


def test_nothing_is_replaced_and_nothing_stays_after_an_error(
    shared: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.lance").mkdir()
    (tmp_path / "x.lance" / "mine").touch()
    with pytest.raises(ConfigError, match=r"x\.lance exists; give a new folder"):
        export_lance(shared, tmp_path / "x.lance")
    assert [path.name for path in tmp_path.rglob("*")] == ["x.lance", "mine"]

    def broken(*_: object, **__: object) -> None:
        raise OSError("LanceError(IO): No space left on device (os error 28), structural.rs:190:9")

    monkeypatch.setattr("lance.LanceDataset.create_index", broken)
    with pytest.raises(OSError, match="No space left") as caught:
        export_lance(shared, tmp_path / "y.lance")
    assert (caught.value.errno, caught.value.filename) == (28, str(tmp_path / "y.lance"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.lance"]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_lance_opens_no_connection(shared: Store, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import lance\n"
        "from spq.index.store import Store; from spq.index.export_lance import export_lance\n"
        f"with Store.open(Path({str(shared.folder)!r})) as store: export_lance(store, Path({str(tmp_path / 'x')!r}))\n"
        f"table = lance.dataset({str(tmp_path / 'x')!r})\n"
        "q = table.to_table()['descriptor'][0].as_py()\n"
        "assert len(table.to_table(nearest={'column': 'descriptor', 'q': q, 'k': 5})) == 5\n"
    )
    trace = ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", str(tmp_path / "calls")]
    subprocess.run([*trace, sys.executable, "-c", code], check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert not [line for line in calls if "AF_INET" in line]
