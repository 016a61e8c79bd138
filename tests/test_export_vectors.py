"""Vectors for a vector database: full descriptors of the pictures, or the codewords of the codes."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from conftest import assert_refused, run_spq
from spq import ImageIndex
from spq.cli.export_command import write_export
from spq.data.open import open_images
from spq.errors import DataError, StoreError
from spq.index import export_vectors as exporter


def read(folder: Path) -> tuple[list[int], list[str], Any, dict[str, Any]]:
    table = pq.read_table(folder)
    vectors = np.float32(table["vector"].to_pylist())
    return table["id"].to_pylist(), table["path"].to_pylist(), vectors, json.loads(table.schema.metadata[b"spq"])


def test_vectors_of_pictures_are_the_models_descriptors(index: ImageIndex, tmp_path: Path) -> None:
    facts = write_export(tmp_path / "i", "vectors", tmp_path / "v")
    ids, paths, vectors, stated = read(tmp_path / "v")
    assert dict(zip(ids, paths, strict=True)) == index.store.paths(ids)
    assert len(ids) == facts["images"] == len(index) == 60
    images = open_images(index.store.manifest.origin)
    x = index.model.embed([images.image(images.ids.index(path), 28) for path in paths])
    np.testing.assert_allclose(vectors, x, rtol=1e-4, atol=1e-5)
    assert (stated["descriptors"], stated["model"], stated["dim"]) == ("pictures", index.model.hash, 32)
    assert "without" not in facts


def test_vectors_of_codes_are_their_codewords_and_need_no_pictures(
    index: ImageIndex, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos.rename(tmp_path / "away")
    assert run_spq("export", tmp_path / "i", "--to", "vectors", "--out", tmp_path / "v") == 1
    assert capsys.readouterr().err.rstrip().endswith("or add --descriptors codes, which needs no pictures")
    assert not (tmp_path / "v").exists()
    arguments = ("export", tmp_path / "i", "--to", "vectors", "--descriptors", "codes", "--out", tmp_path / "v")
    assert run_spq(*arguments) == 0
    line = capsys.readouterr().out
    assert "60 vectors of 32 numbers, decoded from codes, in 1 file; rank them by Euclidean distance" in line
    ids, _, vectors, _ = read(tmp_path / "v")
    known, codes = index.store.codes()
    assert ids == known.tolist()
    np.testing.assert_array_equal(vectors, index.decoder.decode(codes))


def test_pictures_that_changed_or_vanished_are_left_out_by_name(
    index: ImageIndex, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = list(index.store.paths(range(1, 61)).items())
    (photos / first[1]).unlink()
    (photos / second[1]).write_bytes((photos / second[1]).read_bytes() + b"\0")
    assert run_spq("export", tmp_path / "i", "--to", "vectors", "--out", tmp_path / "v") == 0
    err = capsys.readouterr().err
    assert f"left out: {first[1]}: " in err
    assert f"left out: {second[1]}: it has changed since it was indexed" in err
    assert read(tmp_path / "v")[0] == list(range(3, 61))


def test_if_no_picture_is_as_it_was_nothing_is_written(index: ImageIndex, photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("*.*"):
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="it has changed"):
        write_export(tmp_path / "i", "vectors", tmp_path / "v")
    assert not list(tmp_path.glob("*v*"))


def test_large_exports_are_several_files_of_several_row_groups(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "ROWS_OF_GROUP", 7)
    monkeypatch.setattr(exporter, "GROUPS_OF_FILE", 2)
    assert write_export(tmp_path / "i", "vectors", tmp_path / "v", descriptors="codes")["files"] == 5
    files = [pq.ParquetFile(path) for path in sorted((tmp_path / "v").iterdir())]
    groups = [[file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] for file in files]
    assert groups == [[7, 7]] * 4 + [[4]]
    assert read(tmp_path / "v")[0] == list(range(1, 61))
    for file in files:
        file.close()


def test_damaged_rows_are_left_out_and_lost_ones_are_an_error(index: ImageIndex, tmp_path: Path) -> None:
    odd = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    with index.store.writing():
        index.store.put([replace(next(index.store.items()), path=odd)])
    database = sqlite3.connect(tmp_path / "i" / "items.sqlite", isolation_level=None)
    database.execute("UPDATE items SET path = 'x' WHERE id = 7")
    facts = write_export(tmp_path / "i", "vectors", tmp_path / "v", descriptors="codes")
    assert (facts["images"], facts["left_out"]) == (60, [7])
    ids, paths, _, _ = read(tmp_path / "v")
    assert ids == [id_ for id_ in range(1, 62) if id_ != 7]
    assert paths[-1] == "caf\\xe9.png"
    database.execute("UPDATE items SET id = -5 WHERE id = 9")
    database.close()
    with pytest.raises(StoreError, match=r"is damaged: .* are lost"):
        write_export(tmp_path / "i", "vectors", tmp_path / "w", descriptors="codes")
    assert not list(tmp_path.glob("*w*"))


WRONG = [
    ("export {i} --to vectors --out {p}", 2, "exists; give a new folder"),
    ("export {i} --to lance --out {p}", 2, "exists; give a new folder"),
    ("export {i} --to lance --out {t}/new", 2, "ranks by l2, which Lance does not have"),
    ("export {i} --to faiss --descriptors codes --out {t}/new", 2, "works only with --to vectors"),
    ("export {i} --to vectors --descriptors floats --out {t}/new", 2, "'floats' is not one of"),
    ("export {m} --to vectors --out {t}/new", 2, "is a model and has no codes"),
    ("export {p} --to lance --out {t}/new", 1, "no index at"),
]


def test_wrong_options_are_refused_in_one_line(places: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(places, WRONG, capfd)
