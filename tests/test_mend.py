from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from spq import ImageIndex
from spq.errors import ModelMismatchError, StoreError
from spq.index.mend import KEPT, repair
from spq.index.store import Store
from spq.index.verify import faults
from spq.model.model import Model
from spq.model.network import Network


@pytest.fixture
def damaged(photo_index: Path, tmp_path: Path) -> Path:
    """A copy of an index, for damage."""
    return shutil.copytree(photo_index, tmp_path / "i")


def change(index: Path, *statements: str) -> None:
    database = sqlite3.connect(index / "items.sqlite", isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def content(index: Path) -> dict[str, tuple[object, ...]]:
    with Store.open(index) as store:
        items = list(store.items())
        assert not store.damaged
    return {item.path: (item.id, item.code.tolist(), item.hash, item.width, item.metadata) for item in items}


def test_exactly_the_damaged_rows_are_encoded_again(damaged: Path) -> None:
    before = content(damaged)
    change(
        damaged,
        "UPDATE items SET code = zeroblob(8) WHERE id = 7",
        "UPDATE items SET metadata = '{' WHERE id = 8",
        "UPDATE items SET path = 'moved.jpg' WHERE id = 9",
        "UPDATE items SET status = 1 WHERE id = 10",
    )
    done = repair(damaged)
    assert done.left == []
    assert done.mended == ["items.sqlite: damaged items encoded again: 4"]
    assert content(damaged) == before  # with their ids
    assert list(faults(damaged)) == []
    assert repair(damaged).mended == []


def test_lost_rows_are_added_again_and_the_others_keep_their_ids(damaged: Path) -> None:
    before = content(damaged)
    change(damaged, "DELETE FROM items WHERE id IN (7, 8)")
    assert repair(damaged).mended == ["items.sqlite: 2 items added again"]
    after = content(damaged)
    assert {path: facts[1:] for path, facts in after.items()} == {path: facts[1:] for path, facts in before.items()}
    assert sum(after[path][0] != before[path][0] for path in before) == 2


def test_a_damaged_database_is_made_again_of_its_sound_rows(damaged: Path) -> None:
    before, file = content(damaged), damaged / "items.sqlite"
    data = bytearray(file.read_bytes())
    leaf = data.index(b"bag/001.jpg")  # a page of the table
    data[leaf // 4096 * 4096 : leaf // 4096 * 4096 + 8] = bytes(8)
    file.write_bytes(data)
    done = repair(damaged)
    assert done.left == []
    assert "made again of" in done.mended[0]
    after = content(damaged)
    assert {path: facts[1:] for path, facts in after.items()} == {path: facts[1:] for path, facts in before.items()}
    assert (damaged / KEPT).read_bytes() == data
    assert list(faults(damaged)) == []


def test_a_lost_database_is_encoded_again(damaged: Path) -> None:
    before = content(damaged)
    for file in damaged.glob("items.sqlite*"):
        file.unlink()
    assert repair(damaged).left == []
    assert {path: facts[1:] for path, facts in content(damaged).items()} == {p: f[1:] for p, f in before.items()}


def test_a_manifest_is_restored_from_its_copy(damaged: Path) -> None:
    file = damaged / "manifest.json"
    sound = file.read_text()
    for text in (sound[:100], sound.replace("l2", "dot"), ""):
        file.write_text(text)
        assert repair(damaged).mended == ["manifest.json: restored from its copy in items.sqlite"]
        assert file.read_text() == sound
    file.unlink()
    assert repair(damaged).left == []
    assert file.read_text() == sound


def test_the_copy_of_the_model_needs_the_model(damaged: Path, tiny_model: Model) -> None:
    weights = damaged / "model" / "model.safetensors"
    sound = weights.read_bytes()
    middle = len(sound) // 2
    weights.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
    done = repair(damaged)
    assert done.mended == []
    assert len(done.left) == 1
    assert "is not the saved" in done.left[0]
    other = Model(Network(tiny_model.config), tiny_model.config)
    with pytest.raises(ModelMismatchError):
        repair(damaged, other)
    assert repair(damaged, tiny_model).mended == ["model: written again"]
    assert weights.read_bytes() == sound
    assert list(faults(damaged)) == []


def test_what_cannot_be_mended_is_said_and_stays(damaged: Path) -> None:
    manifest = json.loads((damaged / "manifest.json").read_text())
    change(damaged, "UPDATE items SET code = zeroblob(8) WHERE id = 7")
    del manifest["check"]
    (damaged / "manifest.json").write_text(json.dumps(manifest | {"source": str(damaged / "none")}))
    done = repair(damaged)
    assert done.mended == []
    assert "damaged or lost items are not encoded again" in done.left[0]
    assert any(line.startswith("item 7 (") for line in done.left[1:])


def test_the_database_of_another_index_is_not_taken(
    damaged: Path, shared_photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    ImageIndex.build(tmp_path / "other", tiny_model, shared_photos).close()
    shutil.copyfile(tmp_path / "other" / "items.sqlite", damaged / "items.sqlite")
    with pytest.raises(StoreError, match="is of another index than its manifest"):
        Store.open(damaged)
    assert "has no row of this index" in repair(damaged).left[0]
    assert (damaged / "items.sqlite").read_bytes() == (tmp_path / "other" / "items.sqlite").read_bytes()


def test_without_an_index_there_is_nothing_to_repair(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no index at"):
        repair(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_nothing_is_written_through_a_link_or_into_a_pipe(damaged: Path, tmp_path: Path) -> None:
    file, other = damaged / "manifest.json", tmp_path / "other.json"
    sound = file.read_text()
    file.unlink()
    other.write_text("{}")
    file.symlink_to(other)
    assert repair(damaged).left == []
    assert (file.is_symlink(), file.read_text(), other.read_text()) == (False, sound, "{}")
    file.unlink()
    os.mkfifo(file)
    assert ["it is not a regular file" in line for line in repair(damaged).left] == [True]
