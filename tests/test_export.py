"""Each export, opened by its own consumer, must rank as spq does for the distance that the file states."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from models import tiny
from spq import ImageIndex
from spq.cli.export_command import write_export
from spq.config import DISTANCES, Recipe
from spq.data.open import open_images
from spq.errors import ConfigError
from spq.index.export import export_codes, packed
from spq.index.model_copy import ModelCopy
from spq.model import onnx as onnx_file
from spq.model.model import Model

GUIDE = (Path(__file__).parent.parent / "docs" / "guides" / "exporting.md").read_text("utf-8")


@pytest.fixture
def build(photos: Path, tiny_recipe: Recipe, tmp_path: Path) -> Iterator[Callable[..., ImageIndex]]:
    opened: list[ImageIndex] = []

    def make(K: int = 16, M: int = 8, distance: str = "l2") -> ImageIndex:
        opened.append(ImageIndex.build(tmp_path / "i", tiny(tiny_recipe, K, M, distance), photos))
        return opened[-1]

    yield make
    for index in opened:
        index.close()


def queries(model: Model) -> Any:
    images = open_images("sample:test")
    return model.embed([images.image(position) for position in range(100, 112)])


def expected(index: ImageIndex, x: Any, distance: str) -> list[dict[int, float]]:
    """id -> distance of all pictures, nearest first, as `spq search` ranks them under a distance."""
    copy = ModelCopy(index.store.folder, replace(index.store.manifest, distance=distance), index.model)
    hits = ImageIndex(index.store, copy).search_many(list(x), top=len(index))
    return [{hit.id: hit.distance for hit in row} for row in hits]


def assert_same_ranking(found: Any, distances: Any, truth: dict[int, float]) -> None:
    """The same distances in the same order; pictures at the same distance may change places."""
    assert sorted(found) == sorted(truth)
    np.testing.assert_allclose(distances, list(truth.values()), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose([truth[i] for i in found], list(truth.values()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("K", "M"), [(2, 8), (4, 5), (16, 8), (16, 7), (64, 3), (256, 8)])
@pytest.mark.parametrize("distance", DISTANCES)
def test_faiss_ranks_as_spq_does_under_the_exported_distance(
    build: Callable[..., ImageIndex], tmp_path: Path, K: int, M: int, distance: str
) -> None:
    index = build(K, M, distance)
    index.remove([open_images(index.store.manifest.source).ids[0]])  # so that ids are no row numbers
    facts = write_export(tmp_path / "i", "faiss", tmp_path / "x.faiss")
    stated = "dot" if distance == "dot" else "sqeuclidean"
    assert (facts["distance"], facts["index_distance"]) == (stated, distance)

    found = faiss.read_index(str(tmp_path / "x.faiss"))
    assert isinstance(faiss.downcast_index(found.index), faiss.IndexPQ)
    assert found.metric_type == getattr(faiss, facts["metric"])
    assert (facts["metric"] == "METRIC_INNER_PRODUCT") == (distance == "dot")
    x = queries(index.model)
    distances, ids = found.search(x, len(index))
    distances = -distances if distance == "dot" else distances
    for row, near, truth in zip(ids, distances, expected(index, x, stated), strict=True):
        assert_same_ranking(row.tolist(), near, truth)

    named = json.loads((tmp_path / "x.faiss.json").read_text("utf-8"))
    assert {int(i): path for i, path in named["paths"].items()} == index.store.paths(ids[0].tolist())
    assert (named["model"], named["distance"], named["metric"]) == (index.model.hash, stated, facts["metric"])


@given(
    st.integers(1, 8).flatmap(
        lambda bits: st.tuples(
            st.just(bits),
            arrays.arrays(
                np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2**bits - 1)
            ),
        )
    )
)
def test_codes_are_packed_as_faiss_unpacks_them(case: tuple[int, Any]) -> None:
    bits, codes = case
    N, M = codes.shape
    quantizer = faiss.ProductQuantizer(M, M, bits)
    centroids = np.tile(np.arange(2**bits, dtype=np.float32), M)  # a codeword is its own number
    faiss.copy_array_to_vector(centroids, quantizer.centroids)
    assert packed(codes, bits).shape == (N, quantizer.code_size)
    np.testing.assert_array_equal(quantizer.decode(packed(codes, bits)), codes)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_numpy_code_of_the_guide_ranks_as_spq_does(
    build: Callable[..., ImageIndex], tmp_path: Path, distance: str
) -> None:
    index = build(distance=distance)
    write_export(tmp_path / "i", "codes", tmp_path / "x.npz")
    reader: dict[str, Any] = {}
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 25
    exec(code, reader)
    ids, paths, codes, codebooks, stated = reader["read"](tmp_path / "x.npz")
    assert stated == distance
    assert dict(zip(ids.tolist(), paths, strict=True)) == index.store.paths(ids.tolist())
    x = queries(index.model)
    for one, truth in zip(x, expected(index, x, distance), strict=True):
        rows, distances = reader["search"](one, codes, codebooks, stated, top=len(ids))
        assert_same_ranking(ids[rows].tolist(), distances, truth)


def test_nothing_in_the_npz_is_pickled_and_names_that_are_not_utf8_survive(
    build: Callable[..., ImageIndex], tmp_path: Path
) -> None:
    index = build()
    odd = b"caf\xe9 \xff.png".decode("utf-8", "surrogateescape")
    (first, *_) = index.store.items()
    with index.store.writing():
        index.store.put([replace(first, path=odd)])
    write_export(tmp_path / "i", "codes", tmp_path / "x.npz")
    data = np.load(tmp_path / "x.npz", allow_pickle=False)
    assert {key: data[key].dtype.kind for key in data} == {
        "ids": "i", "paths": "u", "path_offsets": "i", "codes": "u", "codebooks": "f", "distance": "U", "model": "U",
    }  # fmt: skip
    assert data["paths"].tobytes().endswith(b"caf\xe9 \xff.png")
    write_export(tmp_path / "i", "codes", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["path"].to_pylist()[-1] == "caf\\xe9 \\xff.png"
    write_export(tmp_path / "i", "faiss", tmp_path / "x.faiss")
    assert len(json.loads((tmp_path / "x.faiss.json").read_text("utf-8"))["paths"]) == 61


def test_a_damaged_row_is_left_out_and_named(build: Callable[..., ImageIndex], tmp_path: Path) -> None:
    store = build().store
    database = sqlite3.connect(store.folder / "items.sqlite", isolation_level=None)
    database.execute("UPDATE items SET path = 'x' WHERE id = 7")
    database.close()
    facts = export_codes(store, tmp_path / "out.npz")
    assert (facts["images"], facts["left_out"]) == (59, [7])
    assert np.load(tmp_path / "out.npz")["ids"].tolist() == [id_ for id_ in range(1, 61) if id_ != 7]


def test_the_parquet_file_holds_what_the_npz_holds(build: Callable[..., ImageIndex], tmp_path: Path) -> None:
    build()
    for suffix in ("npz", "parquet"):
        write_export(tmp_path / "i", "codes", tmp_path / f"x.{suffix}")
    data, table = np.load(tmp_path / "x.npz"), pq.read_table(tmp_path / "x.parquet")
    assert table["id"].to_pylist() == data["ids"].tolist()
    assert table["code"].to_pylist() == data["codes"].tolist()
    facts = json.loads(table.schema.metadata[b"spq"])
    np.testing.assert_array_equal(np.float32(facts["codebooks"]), data["codebooks"])
    assert (facts["distance"], facts["model"]) == (str(data["distance"]), str(data["model"]))


@pytest.mark.parametrize(("K", "M"), [(16, 8), (256, 3)])
def test_onnxruntime_describes_encodes_and_ranks_as_torch_does(
    build: Callable[..., ImageIndex], tmp_path: Path, K: int, M: int
) -> None:
    index = build(K, M)
    model = index.model
    write_export(tmp_path / "i", "onnx", tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    images = open_images("sample:test")
    pixels = np.stack([np.asarray(images.image(p)).transpose(2, 0, 1) for p in range(40)])
    for batch in (1, 3, 40):  # traced with two
        descriptor, code = session.run(None, {"pixels": pixels[:batch]})
        np.testing.assert_allclose(descriptor, model.embed(pixels[:batch]), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(code, model.encode(pixels[:batch]))
        assert code.dtype == np.uint8
    for found, truth in zip(expected(index, descriptor, "l2"), expected(index, model.embed(pixels), "l2"), strict=True):
        assert_same_ranking(list(found), list(found.values()), truth)


def test_the_onnx_file_holds_the_codebooks_and_says_what_it_is(
    build: Callable[..., ImageIndex], tmp_path: Path
) -> None:
    model = build().model
    write_export(tmp_path / "i" / "model", "onnx", tmp_path / "x.onnx")
    graph = onnx.load(tmp_path / "x.onnx")
    (codebooks,) = (tensor for tensor in graph.graph.initializer if tensor.name == "codebooks")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(codebooks), model.codebooks)
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert facts["spq_model"] == model.hash
    assert facts["spq_image_size"] == "28"


def test_the_guides_onnx_lines_give_the_descriptor_of_a_picture_file(
    build: Callable[..., ImageIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build().model
    write_export(tmp_path / "i", "onnx", tmp_path / "photos.onnx")
    monkeypatch.chdir(tmp_path)
    Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 50).convert("RGB").save("query.jpg")
    (code,) = re.findall(r"^```py\n(import numpy.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    done: dict[str, Any] = {}
    exec(code, done)
    np.testing.assert_allclose(done["descriptor"], model.embed(["query.jpg"]), rtol=1e-3, atol=1e-4)


def test_without_the_package_one_line_says_what_to_install(
    build: Callable[..., ImageIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build()
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'spq-retrieval\[onnx\]'"):
        write_export(tmp_path / "i", "onnx", tmp_path / "x.onnx")
    assert not list(tmp_path.glob("*x.onnx*"))


@pytest.mark.parametrize("name", ["x.faiss", "x.npz", "x.parquet", "x.onnx"])
def test_an_export_that_fails_leaves_the_old_file_and_no_other(
    build: Callable[..., ImageIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    build()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("old")
    for target in ("pathlib.Path.write_bytes", "numpy.savez_compressed", "pyarrow.parquet.write_table"):
        monkeypatch.setattr(target, full)
    to = {"faiss": "faiss", "onnx": "onnx"}.get(name[2:], "codes")
    with pytest.raises(OSError, match="No space"):
        write_export(tmp_path / "i", to, tmp_path / "out" / name)  # type: ignore[arg-type]
    assert (tmp_path / "out" / name).read_text() == "old"
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {name, "x.faiss.json"}
