from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spq import ImageIndex
from spq.data.sources import open_images, subset
from spq.errors import DataError, ModelMismatchError, StoreError
from spq.index.store import Item, Manifest, Store
from spq.model.artifact import Model
from spq.model.network import Network


def test_a_picture_finds_itself_first(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        assert len(index) == 60
        images = open_images(photos)
        for position in range(0, 60, 7):
            hits = index.search(images.path(position), top=60)
            own = next(hit for hit in hits if hit.path == images.ids[position])
            assert own.distance == hits[0].distance  # first, or tied with pictures of the very same code
            assert [hit.rank for hit in hits] == list(range(1, 61))
            assert [(h.distance, h.id) for h in hits] == sorted((h.distance, h.id) for h in hits)


def test_search_equals_brute_force_on_decoded_codes(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        images = open_images(photos)
        codes = tiny_model.encode([images.path(p) for p in range(60)]).astype(int)
        x = tiny_model.embed([images.path(3)]).reshape(8, 1, 4)
        codewords = tiny_model.codebooks[np.arange(8)[:, None], codes.T]  # (M, N, d)
        expected = np.linalg.norm(x - codewords, axis=2).sum(0)
        found = {hit.path: hit.distance for hit in index.search(images.path(3), top=60)}
        np.testing.assert_allclose([found[i] for i in images.ids], expected, rtol=1e-4, atol=1e-4)


def test_an_index_reopens_without_its_first_model_or_pictures(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    query = (photos / "bag").iterdir().__next__().read_bytes()
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        before = index.search(query, top=5)
    shutil.rmtree(photos)
    with ImageIndex.open(tmp_path / "i") as again:
        assert again.search(query, top=5) == before
        assert again.info()["bytes_per_image"] == 4


def test_opening_an_index_does_not_load_torch(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    code = f"import sys; from spq import ImageIndex; print(len(ImageIndex.open({str(tmp_path / 'i')!r})), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["60", "False"]


def test_sync_follows_the_folder(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    report = index.sync(photos)
    assert (report.unchanged, report.added, report.changed, report.removed) == (60, 0, 0, 0)
    files = sorted(photos.rglob("*.*g"))
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes())
    files[3].rename(photos / "renamed.png")
    os.utime(files[4], (1, 1))
    shutil.copy(files[5], photos / "copy.jpg")
    report = index.sync(photos)
    assert (report.unchanged, report.added, report.changed, report.renamed, report.removed) == (56, 1, 2, 1, 1)
    assert set(index.store.stats()) == set(open_images(photos).ids)
    fresh = ImageIndex.build(tmp_path / "fresh", tiny_model, photos)
    for path in open_images(photos).ids:
        np.testing.assert_array_equal(index.store.item(path).code, fresh.store.item(path).code)


def test_a_known_picture_is_not_encoded_again(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    for path in photos.rglob("*.jpg"):
        path.rename(path.with_name(f"new-{path.name}"))

    def no_encoding(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(Model, "encode", no_encoding)
    assert index.sync(photos).renamed == 30


def test_unreadable_pictures_are_listed_and_retried_only_when_they_change(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    broken = photos / "bag" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 not much of a picture")
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    assert len(index) == 60
    assert [path for path, _ in index.store.unreadable()] == ["bag/broken.jpg"]
    report = index.sync(photos)
    assert (report.unchanged, len(report.failed)) == (61, 1)
    broken.write_bytes(next(photos.rglob("*.jpg")).read_bytes())
    report = index.sync(photos)
    assert (len(report.failed), len(index)) == (0, 61)


def test_add_and_remove_leave_the_others(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    images = open_images(photos)
    index = ImageIndex.build(tmp_path / "i", tiny_model, subset(images, range(10)))
    assert index.add(subset(images, range(5, 20))).added == 10
    index.remove([images.ids[0]])
    assert sorted(index.store.stats()) == sorted(images.ids[1:20])
    with pytest.raises(StoreError, match=r"no\.jpg is not in the index"):
        index.remove([images.ids[1], "no.jpg"])
    assert len(index) == 19
    last = max(index.store.codes()[0])
    index.remove([index.store.paths([last])[last]])
    index.add(subset(images, [30]))
    assert max(index.store.codes()[0]) == last + 1  # an id is never given twice


def test_codes_of_two_models_do_not_mix(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = Model(Network(tiny_model.config), tiny_model.config)
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    with pytest.raises(ModelMismatchError, match=f"{tiny_model.hash}, not of {other.hash}"):
        index.sync(photos, other)
    with pytest.raises(ModelMismatchError):
        ImageIndex.build(tmp_path / "i", other, photos)
    other.save(tmp_path / "i" / "model")
    with pytest.raises(ModelMismatchError):
        _ = ImageIndex.open(tmp_path / "i").model


def test_nothing_is_left_behind_where_nothing_is_readable(tiny_model: Model, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 1 pictures .* the file is empty"):
        ImageIndex.build(tmp_path / "i", tiny_model, tmp_path / "p")
    assert not (tmp_path / "i").exists()


def test_a_folder_that_is_no_index_is_left_alone(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="exists and is not an index"):
        ImageIndex.build(photos, tiny_model, photos)
    assert not (photos / "items.sqlite").exists()
    with pytest.raises(StoreError, match="no index at"):
        ImageIndex.open(tmp_path / "none")


def test_a_damaged_index_is_refused(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    manifest = tmp_path / "i" / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    for text, message in (
        (json.dumps({**content, "format": 99}), "has format 99"),
        ("{", "is unreadable"),
        (json.dumps({**content, "bits": "many"}), "expected int"),
        (json.dumps({"format": 1}), "restore the file"),
    ):
        manifest.write_text(text, "utf-8")
        with pytest.raises(StoreError, match=message):
            ImageIndex.open(tmp_path / "i")
    manifest.write_text(json.dumps(content), "utf-8")
    for extra in (tmp_path / "i").glob("items.sqlite*"):
        extra.unlink()
    (tmp_path / "i" / "items.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="does not open"):
        ImageIndex.open(tmp_path / "i")


def test_one_writer_at_a_time_and_readers_go_on(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    reader = ImageIndex.open(tmp_path / "i")
    with index.store.writing():
        other = Store.open(tmp_path / "i")
        with pytest.raises(StoreError, match="being written by another process"), other.writing():
            pass
        assert len(reader.search(next(photos.rglob("*.png")))) == 20
    index.remove(open_images(photos).ids[:50])
    assert len(reader.search(next(photos.rglob("*.png")))) == 10  # a reader sees what was committed


@given(steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 255)), max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_store_is_a_dictionary_that_survives_reopening(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store, truth = Store.create(folder, Manifest(1, "0", "h", "l2", 2, 256, 16)), {}
    for path, value in steps:
        if value < 0:
            store.remove([path])
            truth.pop(path, None)
        else:
            store.put([Item(path, value, 0, bytes([value]), code=np.array([value, 255 - value], np.uint8))])
            truth[path] = value
    store.close()
    again = Store.open(folder)
    ids, codes = again.codes()
    paths = again.paths(ids.tolist())
    assert {paths[int(i)]: int(code[0]) for i, code in zip(ids, codes, strict=True)} == truth
    assert {path: size for path, (size, _, _) in again.stats().items()} == truth
    again.close()


def test_an_interrupted_write_keeps_nothing_of_its_step(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)

    def items() -> object:
        yield Item("new", 1, 1, b"h", code=np.zeros(8, np.uint8))
        raise sqlite3.OperationalError("disk full")

    with pytest.raises(sqlite3.OperationalError):
        index.store.put(items())
    assert "new" not in index.store.stats()
