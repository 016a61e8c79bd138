from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from reference.format_1 import make_format_3
from spq import ImageIndex
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.errors import ConfigError, StoreError
from spq.index.build import build
from spq.index.store import Store
from spq.model.model import Model
from spq.model.network import Network
from spq.pq.ties import tie_keys


def test_a_picture_finds_itself_first(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        assert len(index) == 60
        images = open_images(photos)
        for position in range(0, 60, 7):
            hits = index.search(images.path(position), top=60)
            own = next(hit for hit in hits if hit.path == images.ids[position])
            assert own.distance == hits[0].distance  # first, or tied with pictures of the very same code
            assert [hit.rank for hit in hits] == list(range(1, 61))
            order = np.lexsort((tie_keys(np.array([hit.id for hit in hits])), [hit.distance for hit in hits]))
            assert order.tolist() == list(range(60))


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


def test_neither_opening_nor_a_search_by_id_or_descriptor_loads_torch(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    code = """if True:
        import sys
        import numpy as np
        from spq import ImageIndex
        with ImageIndex.open(sys.argv[1]) as index:
            found = index.search(1, top=3) + index.search(np.ones(32, np.float32), top=3)
            print(len(index), len(found), "torch" in sys.modules)
        """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "i")], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["60", "6", "False"]


def test_add_and_remove_leave_the_other_pictures(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
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


def test_a_damaged_index_is_refused(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    manifest = tmp_path / "i" / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    by_hand = {key: value for key, value in content.items() if key != "check"}
    for text, message in (
        (
            json.dumps({**content, "bits": 64}),
            "manifest.json is damaged: its checksum does not match; repair the index",
        ),
        (json.dumps({**content, "format": 99}), "has format 99"),
        ("[" * 100_000, "nested too deep"),
        (json.dumps({**by_hand, "num_codebooks": 2**63}), "do not make"),
        (json.dumps({**by_hand, "distance": "cosine"}), "is not one of l2"),
        ("{", "is unreadable"),
        (json.dumps({**by_hand, "bits": "many"}), "expected int"),
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


def test_there_is_one_writer_at_a_time_and_readers_continue(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    index = ImageIndex.build(tmp_path / "i", tiny_model, photos)
    reader = ImageIndex.open(tmp_path / "i")
    with index.store.writing():
        other = Store.open(tmp_path / "i")
        with pytest.raises(StoreError, match="another process is writing"), other.writing():
            pass
        assert len(reader.search(next(photos.rglob("*.png")))) == 20
    index.remove(open_images(photos).ids[:50])
    assert len(reader.search(next(photos.rglob("*.png")))) == 10  # a reader sees what was committed


def test_a_search_by_id_or_descriptor_uses_the_decoded_code_or_the_descriptor(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        images = open_images(photos)
        picture = images.path(7)
        descriptor = tiny_model.embed([picture])[0]
        id_ = next(hit.id for hit in index.search(picture, 60) if hit.path == images.ids[7])
        first, second, third = index.search_many([descriptor, id_, picture], top=60)
        assert first == third == index.search(picture, 60)
        own = next(hit for hit in second if hit.id == id_)
        assert own.distance == second[0].distance == 0  # from its own code
        with pytest.raises(StoreError, match="no picture with id 999 in this index"):
            index.search(999)
        with pytest.raises(StoreError, match="a descriptor must have 32 numbers for this index, got 5"):
            index.search(np.zeros(5, np.float32))
        with pytest.raises(StoreError, match="not finite"):
            index.search(np.full(32, np.nan, np.float32))
        assert index.search_many([]) == []


def test_scan_options_are_used_and_checked_before_the_model_is_loaded(
    photos: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    with ImageIndex.open(tmp_path / "i") as index:
        expected = index.search(3, 60)
        assert index.search(3, 60, method="fast", threads=1) == expected
        assert index.search(3, 60, method="ivf", recall_target=1.0) == expected
        assert index.search(3, 60, recall_target=0.5) == expected  # in few pictures all are looked at
        monkeypatch.setattr(Model, "load", mock.Mock(side_effect=AssertionError("loaded")))
        with pytest.raises(ConfigError, match="bucket is for codes of up to 16 bits"):
            index.search(next(photos.rglob("*.png")), method="bucket")


def test_an_index_of_dot_ranks_by_the_inner_product_with_decoded_codes(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    model = by_dot(tiny_model)
    assert model.hash != tiny_model.hash
    with ImageIndex.build(tmp_path / "i", model, photos) as index:
        assert index.info()["distance"] == "dot"
        ids, codes = index.store.codes()
        points = model.codebooks[np.arange(8), codes].reshape(60, 32).astype(np.float64)
        np.testing.assert_array_equal(codes, tiny_model.encode(list(map(open_images(photos).path, range(60)))))
        x = model.embed([open_images(photos).path(3)])[0]
        away = 1.3 * x - 0.3 * points[9]
        bags = [i for i, path in index.store.paths(ids.tolist()).items() if path.startswith("bag/")]
        for found, query, among in (
            (index.search(x, 60), x, ids),
            (index.search(int(ids[9]), 60), points[9], ids),
            (index.search(x, 60, negative=[int(ids[9])]), away, ids),
            (index.search(x, 60, where="label = bag"), x, bags),
        ):
            distances = {i: -float(points[row] @ query) for row, i in enumerate(ids.tolist()) if i in among}
            assert {hit.id for hit in found} == set(distances)
            np.testing.assert_allclose([hit.distance for hit in found], [distances[hit.id] for hit in found], rtol=1e-4)
            np.testing.assert_allclose([hit.distance for hit in found], sorted(distances.values()), rtol=1e-4)
            assert found[0].distance < 0
        whole = index.search(x, 60)
        limit = whole[7].distance
        assert index.search(x, 60, max_distance=limit) == [hit for hit in whole if hit.distance <= limit]
        for method in ("exact", "fast"):
            assert index.search(x, 60, method=method) == whole
        assert index.search(x, 60, method="ivf", recall_target=1.0) == whole


def by_dot(model: Model) -> Model:
    config = replace(model.config, quantizer=replace(model.config.quantizer, distance="dot"))
    network = Network(config)
    network.load_state_dict(model.network.state_dict())
    return Model(network, config)


def test_file_names_that_are_not_utf8_are_indexed_found_and_removed(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    names = ["na\udcefve \udcff.png", "broken\udcff.jpg"]  # Latin-1 bytes, as the file system gives them to Python
    next(photos.rglob("*.png")).rename(photos / names[0])
    (photos / names[1]).write_bytes(b"none")
    images = open_images(photos)
    good, broken = (next(i for p, i in enumerate(images.ids) if images.path(p) == (photos / name)) for name in names)
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as index:
        assert good in {hit.path for hit in index.search(photos / names[0], 60)}
        assert [path for path, _ in index.store.unreadable()] == [broken]
        assert index.sync(photos).unchanged == 60
        index.remove([good])
        assert len(index) == 59


def test_a_search_whose_answer_is_never_found_ends_with_an_error(index: ImageIndex) -> None:
    """As after a flipped bit in the item table: the codes in memory have an item that no look-up finds."""
    lost = index.search(7, top=3)[1].id
    database = sqlite3.connect(index.store.folder / "items.sqlite", isolation_level=None)
    database.execute("DELETE FROM items WHERE id = ?", (lost,))  # without an entry in the list of removed items
    database.close()
    with pytest.raises(StoreError, match=rf"item {lost} cannot be read; verify the index"):
        index.search(7, top=3)


def test_a_flipped_bit_of_a_code_and_a_damaged_row_of_an_answer_are_refused(index: ImageIndex) -> None:
    folder = index.store.folder
    near = index.search(7, top=3)[1].id
    database = sqlite3.connect(folder / "items.sqlite", isolation_level=None)
    database.execute("UPDATE items SET path = path || 'x' WHERE id = ?", (near,))
    with ImageIndex.open(folder) as again, pytest.raises(StoreError, match=f"the row of item {near} is not what was"):
        again.search(7, top=3)
    code = bytearray(database.execute("SELECT code FROM items WHERE id = 7").fetchone()[0])
    code[0] ^= 8
    database.execute("UPDATE items SET code = ? WHERE id = 7", (bytes(code),))
    database.close()
    with (
        ImageIndex.open(folder) as again,
        pytest.raises(StoreError, match="the code of item 7 is not what was written"),
    ):
        again.search(5)


def test_codebooks_that_are_not_the_ones_of_the_codes_are_refused(
    index: ImageIndex, photos: Path, tiny_model: Model
) -> None:
    weights = index.store.folder / "model" / "model.safetensors"
    sound = weights.read_bytes()
    place = sound.index(tiny_model.codebooks.tobytes())
    weights.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
    with ImageIndex.open(index.store.folder) as again:
        with pytest.raises(StoreError, match="the codebooks of its model are not those that made its codes"):
            again.search(7)
        with pytest.raises(StoreError, match="its copy of the model is damaged or missing; repair the index"):
            again.sync(photos)
        assert again.sync(photos, model=tiny_model).unchanged == 60  # and mends it
    assert weights.read_bytes() == sound


def test_codebooks_of_an_older_index_that_are_nan_or_zero_are_refused(
    photo_index: Path, tiny_model: Model, tmp_path: Path
) -> None:
    folder = shutil.copytree(photo_index, tmp_path / "old")
    make_format_3(folder)
    weights = folder / "model" / "model.safetensors"
    sound, books = weights.read_bytes(), tiny_model.codebooks.tobytes()
    for bad in (np.full(tiny_model.codebooks.shape, np.nan, np.float32), np.zeros_like(tiny_model.codebooks)):
        weights.write_bytes(sound.replace(books, bad.tobytes()))
        with ImageIndex.open(folder) as index, pytest.raises(StoreError, match="hold NaN, infinity or zeros alone"):
            index.search(7)


def test_a_model_that_gives_all_pictures_one_code_is_reported(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    collapsed = Model(Network(tiny_model.config), tiny_model.config)
    collapsed.network.quantizer.codebooks.data.fill_(100.0)
    collapsed.network.quantizer.codebooks.data[:, 0] = 0.5
    store, _, report = build(tmp_path / "i", collapsed, photos)
    store.close()
    assert "all of 60 different pictures have the same code" in report.note
