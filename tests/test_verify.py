from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spq import ImageIndex
from spq.config import DISTANCES
from spq.errors import StoreError
from spq.index.checksums import FACTS
from spq.index.format import has_index
from spq.index.manifest import read_manifest, write_manifest
from spq.index.store import Store
from spq.index.verify import LISTED, faults
from spq.model.model import Model
from spq.model.network import Network


@pytest.fixture
def index(photos: Path, tiny_model: Model, tmp_path: Path) -> Path:
    """Sixty pictures, one unreadable, and one dropped again."""
    (photos / "bag" / "broken.jpg").write_bytes(b"none")
    with ImageIndex.build(tmp_path / "i", tiny_model, photos) as built:
        built.remove([min(built.store.stats())])
    return tmp_path / "i"


def change(index: Path, *statements: str) -> None:
    database = sqlite3.connect(index / "items.sqlite", isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def test_an_index_without_faults_stays_unchanged(index: Path) -> None:
    before = (index / "items.sqlite").read_bytes(), (index / "manifest.json").read_bytes()
    assert list(faults(index)) == []
    assert ((index / "items.sqlite").read_bytes(), (index / "manifest.json").read_bytes()) == before


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE items SET code = x'0102' WHERE id = 7", "has no code of 8 bytes"),
        ("UPDATE items SET code = NULL WHERE id = 7", "has no code of 8 bytes"),
        ("UPDATE items SET code = '12345678' WHERE id = 7", "has no code of 8 bytes"),
        ("UPDATE items SET code = x'0102030405060710' WHERE id = 7", "has a code with numbers above 15"),
        ("UPDATE items SET status = 2 WHERE id = 7", "has a status that is neither 0"),
        ("UPDATE items SET reason = 'broken' WHERE id = 7", "has a code, and a reason why it has none"),
        ("UPDATE items SET status = 1, reason = 'broken' WHERE id = 7", "is unreadable and has a code"),
        ("UPDATE items SET status = 1, code = NULL WHERE id = 7", "is unreadable without a reason"),
        ("UPDATE items SET width = NULL WHERE id = 7", "has a code but no width and height"),
        ("UPDATE items SET hash = x'00' WHERE id = 7", "has a hash that is not 16 bytes"),
        ("UPDATE items SET size = 'big' WHERE id = 7", "has no size or no time of change"),
        ("UPDATE items SET path = '' WHERE id = 7", "has no path"),
        ("UPDATE items SET metadata = '{\"label\":' WHERE id = 7", "has metadata that is no JSON object"),
        ("UPDATE items SET metadata = '[1]' WHERE id = 7", "has metadata that is no JSON object"),
        ("UPDATE items SET revision = -1 WHERE id = 7", "has no revision"),
        ("INSERT INTO removed VALUES (7, 9)", "exists and is listed as removed"),
    ],
)
def test_each_fault_of_an_item_is_one_line_that_names_it(index: Path, statement: str, words: str) -> None:
    change(index, statement)
    (fault,) = faults(index)
    assert fault.startswith("item 7 (")
    assert words in fault


def test_ids_that_may_be_used_again_are_faults_and_many_are_counted(index: Path) -> None:
    change(index, "UPDATE sqlite_sequence SET seq = 0")
    found = list(faults(index))
    assert len(found) == LISTED + 1
    assert "may be used again" in found[0]
    assert found[-1] == f"and {60 - LISTED} more such items"


def test_a_damaged_database_is_a_fault(index: Path) -> None:
    file = index / "items.sqlite"
    sound = file.read_bytes()
    change(index, "PRAGMA writable_schema = ON", "DELETE FROM sqlite_master WHERE name = 'items_by_hash'")
    assert any("items.sqlite: " in fault for fault in faults(index))
    file.write_bytes(sound[: len(sound) // 2])
    assert any("items.sqlite" in fault for fault in faults(index))
    file.write_bytes(b"no database" * 100)
    (fault,) = faults(index)
    assert "items.sqlite does not open" in fault
    rng = np.random.default_rng(0)
    for _ in range(20):
        holes = bytearray(sound)
        for place in rng.integers(100, len(sound), 2000):
            holes[place] ^= 255
        file.write_bytes(holes)
        assert list(faults(index))


def test_a_manifest_that_does_not_fit_is_a_fault(index: Path) -> None:
    manifest = index / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    by_hand = {key: value for key, value in content.items() if key != "check"}
    for changed, words in (
        ({"bits": 64}, "8 codebooks of 16 codewords do not make 64 bits"),
        ({"distance": "cosine"}, "distance 'cosine' is not one of l2, sqeuclidean, dot"),
        ({"model": "other"}, "its manifest.json names other"),
        ({"format": 99}, "has format 99"),
        ({"num_codebooks": "8"}, "expected int"),
    ):
        manifest.write_text(json.dumps({**by_hand, **changed}), "utf-8")
        assert any(words in fault for fault in faults(index)), changed
    manifest.write_text(json.dumps({**content, "source": "/other"}), "utf-8")
    assert any("its checksum does not match" in fault for fault in faults(index))
    del content["check"]
    manifest.write_text(json.dumps({**content, "source": "/other"}), "utf-8")  # by hand, on purpose
    assert list(faults(index)) == ["manifest.json has no checksum, and differs from its copy in items.sqlite"]


def test_a_distance_that_is_not_the_models_is_a_fault(index: Path) -> None:
    facts = json.loads((index / "manifest.json").read_text())
    assert facts["distance"] == "l2"
    write_manifest(index, replace(read_manifest(index), distance="sqeuclidean"))
    (line,) = faults(index)
    assert "distance sqeuclidean, are not the model's 32 of 16, l2" in line


def test_an_index_of_each_distance_has_no_fault(photos: Path, tiny_model: Model, tmp_path: Path) -> None:
    for distance in DISTANCES:
        q = replace(tiny_model.config.quantizer, distance=distance)
        model = Model(tiny_model.network, replace(tiny_model.config, quantizer=q))
        ImageIndex.build(tmp_path / distance, model, photos).close()
        assert list(faults(tmp_path / distance)) == []


def test_a_hash_of_another_item_is_a_fault(index: Path) -> None:
    change(index, "UPDATE items SET hash = (SELECT hash FROM items WHERE id = 5), size = 1 WHERE id = 9")
    (line,) = faults(index)
    assert line.startswith("item 9 (")
    assert "has the same hash as another item, but not the same size" in line


def test_a_model_that_is_not_the_one_of_the_codes_is_a_fault(index: Path, tiny_model: Model) -> None:
    weights = index / "model" / "model.safetensors"
    sound = bytearray(weights.read_bytes())
    sound[len(sound) // 2] ^= 1
    weights.write_bytes(sound)
    assert any(" is not the saved " in fault for fault in faults(index))
    other = Network(tiny_model.config)
    other.quantizer.codebooks.data.fill_(0.5)
    Model(other, tiny_model.config).save(index / "model")
    assert any(
        "its copy of the model is another one; repair the index with its model" in fault for fault in faults(index)
    )
    config = json.loads((index / "model" / "config.json").read_text())
    config["hash"] = read_manifest(index).model
    (index / "model" / "config.json").write_text(json.dumps(config))
    assert any("the codebooks of its model are not those that made its codes" in fault for fault in faults(index))
    shutil.rmtree(index / "model")
    (fault,) = faults(index)
    assert "its copy of the model does not load" in fault


@pytest.mark.parametrize("column", [*FACTS, "code", '"check"'])
def test_text_that_is_not_utf_8_in_any_column_is_a_fault_and_does_not_stop_a_writer(index: Path, column: str) -> None:
    change(index, f"UPDATE items SET {column} = CAST(x'FF41' AS TEXT) WHERE id = 7")
    found = list(faults(index))
    assert any(fault.startswith("item 7 ") for fault in found)
    with Store.open(index) as store, store.writing():
        store.remove([path for path in store.stats() if path != "\udcffA"])
        assert len(store.stats()) <= 1


def test_an_index_killed_before_the_first_picture_has_no_fault(index: Path, tmp_path: Path) -> None:
    with Store.open(index) as store:
        Store.create(tmp_path / "new", store.manifest).close()
    assert list(faults(tmp_path / "new")) == []
    assert has_index(tmp_path / "new")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index at"):
        list(faults(tmp_path))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE items SET code = x'0102030405060708' WHERE id = 7",
        'UPDATE items SET metadata = \'{"label":"hat"}\' WHERE id = 7',
        "UPDATE items SET mtime_ns = 5 WHERE id = 7",
        "UPDATE items SET path = 'other.jpg' WHERE id = 7",
        'UPDATE items SET "check" = "check" + 1 WHERE id = 7',
    ],
)
def test_a_row_that_looks_right_and_is_not_what_was_written_is_a_fault(index: Path, statement: str) -> None:
    change(index, statement)
    (fault,) = faults(index)
    assert fault.startswith("item 7 (")
    assert "is not what was written: its checksum differs" in fault


def test_a_lost_row_and_a_damaged_pair_are_faults(index: Path) -> None:
    change(index, "DELETE FROM items WHERE id = 7")
    (index / "not-duplicates.jsonl").write_text('{"hashes": ["00", "01"], "paths": ["a", "b"]}\n[]\n')
    assert list(faults(index)) == [
        "items.sqlite lists 59 items, 58 of them encoded; 60 and 59 were written",
        "not-duplicates.jsonl: line 2 is no pair of pictures; delete the line",
    ]
