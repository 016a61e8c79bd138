from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from spq import ImageIndex
from spq.errors import ModelError, ModelMismatchError, StoreError
from spq.index import mend
from spq.index import store as store_module
from spq.index.mend import Repair, repair
from spq.index.side_files import KEPT, SUFFIXES
from spq.index.store import Store
from spq.index.verify import faults
from spq.model.model import Model
from spq.model.network import Network

NOBODY = 65534


@pytest.fixture
def damaged(photo_index: Path, tmp_path: Path) -> Path:
    """A copy of an index, for damage."""
    return shutil.copytree(photo_index, tmp_path / "i")


def change(index: Path, *statements: str) -> None:
    database = sqlite3.connect(index / "items.sqlite", isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


def put(file: Path, kind: str) -> None:
    """Put something in the place of a file."""
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "dangling link":
        file.symlink_to("/nowhere/x")


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
    assert repair(damaged).left == []
    assert (file.is_file(), file.read_text()) == (True, sound)


def test_the_manifest_of_another_model_is_replaced(damaged: Path, tiny_model: Model, tmp_path: Path) -> None:
    before, sound = content(damaged), (damaged / "manifest.json").read_text()
    other_model = Model(Network(tiny_model.config), tiny_model.config)
    other = tmp_path / "other"
    ImageIndex.build(other, other_model, Path(json.loads(sound)["source"]) / "bag").close()
    shutil.copyfile(other / "manifest.json", damaged / "manifest.json")
    assert any("its manifest.json names" in line for line in faults(damaged))
    done = repair(damaged)
    assert (done.left, done.mended) == ([], ["manifest.json: restored from its copy in items.sqlite"])
    assert (damaged / "manifest.json").read_text() == sound
    assert content(damaged) == before


def test_the_database_of_another_model_is_not_taken(damaged: Path, tiny_model: Model, tmp_path: Path) -> None:
    sound = (damaged / "manifest.json").read_text()
    other_model = Model(Network(tiny_model.config), tiny_model.config)
    other = tmp_path / "other"
    ImageIndex.build(other, other_model, Path(json.loads(sound)["source"]) / "bag").close()
    shutil.copyfile(other / "items.sqlite", damaged / "items.sqlite")
    assert "has no row of this index" in repair(damaged).left[0]
    assert (damaged / "manifest.json").read_text() == sound
    assert (damaged / "items.sqlite").read_bytes() == (other / "items.sqlite").read_bytes()


@pytest.mark.parametrize("kind", ["nothing", "pipe", "folder", "dangling link"])
@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_a_manifest_is_restored_whatever_is_in_its_place(damaged: Path, kind: str) -> None:
    file = damaged / "manifest.json"
    sound = file.read_text()
    file.unlink()
    put(file, kind)
    assert ["manifest.json" in line and "repair the index" in line for line in faults(damaged)] == [True]
    assert repair(damaged).mended == ["manifest.json: restored from its copy in items.sqlite"]
    assert (file.is_symlink(), file.read_text(), list(faults(damaged))) == (False, sound, [])


def test_without_manifest_and_copy_the_remedy_is_not_to_repair_again(damaged: Path) -> None:
    change(damaged, "UPDATE contents SET manifest = ''")
    (damaged / "manifest.json").unlink()
    (line,) = repair(damaged).left
    assert line == (
        "manifest.json is lost or damaged, and items.sqlite has no sound copy of it; "
        "restore it from a backup, or build the index again"
    )


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_a_side_file_that_is_no_file_is_deleted_and_no_row_is_lost(damaged: Path, suffix: str, kind: str) -> None:
    before, file = content(damaged), damaged / f"items.sqlite{suffix}"
    put(file, kind)
    assert list(faults(damaged)) == [f"{file.name} is not a regular file; repair the index"]
    done = repair(damaged)
    assert (done.left, done.mended) == ([], [f"{file.name}: deleted, as it was not a regular file"])
    assert content(damaged) == before
    assert not (damaged / KEPT).exists()


@pytest.fixture
def unmerged(damaged: Path) -> Path:
    """A copy of an index whose last change, the removal of two items, is in `items.sqlite-wal` alone."""
    with Store.open(damaged) as reader, reader.snapshot(), Store.open(damaged) as store:
        len(reader)  # keeps the writer from merging
        with store.writing():
            store.remove([item.path for item in list(store.items())[:2]])
        index = shutil.copytree(damaged, damaged.with_name("unmerged"), ignore=lambda *_: {"items.sqlite-shm"})
    assert (index / "items.sqlite-wal").stat().st_size > 0
    return index


def files_of(index: Path) -> dict[str, bytes]:
    return {p.relative_to(index).as_posix(): p.read_bytes() for p in index.rglob("*") if p.is_file()}


def test_a_repair_that_mends_nothing_leaves_all_parts_of_the_database(
    unmerged: Path, tiny_model: Model, tmp_path: Path, photos: Path
) -> None:
    ImageIndex.build(tmp_path / "other", tiny_model, photos).close()
    shutil.copyfile(tmp_path / "other" / "manifest.json", mixed := unmerged / "manifest.json")
    before = {name: data for name, data in files_of(unmerged).items() if name not in (".lock", "items.sqlite-shm")}
    (line,) = repair(unmerged).left
    assert line.startswith("items.sqlite has no row of this index")
    assert mixed.exists()
    after = {name: data for name, data in files_of(unmerged).items() if name not in (".lock", "items.sqlite-shm")}
    assert after == before


def test_a_damaged_database_is_kept_with_what_was_not_merged(unmerged: Path) -> None:
    before = content(unmerged)
    with (unmerged / "items.sqlite").open("r+b") as file:
        file.write(bytes(100))  # its header
    shutil.rmtree(unmerged / "items.sqlite-shm", ignore_errors=True)
    (unmerged / f"{KEPT}-wal").write_bytes(b"of a repair before")
    log = (unmerged / "items.sqlite-wal").read_bytes()
    done = repair(unmerged)
    assert done.left == []
    assert done.mended[0].startswith("items.sqlite: made again of ")
    assert (unmerged / f"{KEPT}-wal").read_bytes() == log
    assert list(faults(unmerged)) == []
    found = content(unmerged)
    assert {path: found[path][1:] for path in before} == {path: facts[1:] for path, facts in before.items()}


@pytest.mark.parametrize("how", ["lost", "zeros", "half", "an old copy"])
def test_a_database_without_its_last_changes_is_noticed(unmerged: Path, photo_index: Path, how: str) -> None:
    (unmerged / "items.sqlite-shm").unlink(missing_ok=True)
    log = unmerged / "items.sqlite-wal"
    size = log.stat().st_size
    if how == "zeros":
        log.write_bytes(bytes(size))
    elif how == "half":
        os.truncate(log, size // 2)
    else:
        log.unlink()
    if how == "an old copy":
        shutil.copyfile(photo_index / "items.sqlite", unmerged / "items.sqlite")
    line = (
        f"index {unmerged}: items.sqlite is old, or without its -wal: it lacks what was written last; repair the index"
    )
    assert [fault.rpartition(",")[0] for fault in faults(unmerged)] == [line]
    with pytest.raises(StoreError, match="lacks what was written last"):
        Store.open(unmerged)
    done = repair(unmerged)
    assert done.left == []
    assert done.mended == ["items.sqlite: what it lacked is encoded again; update the index, too"]
    assert len(content(unmerged)) == 60
    assert repair(unmerged) == Repair()


class KilledError(BaseException):
    """Nothing can be done any more, as after kill -9."""


@contextmanager
def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the change of a file, or the commit, of this number fail, and all that follow."""
    done = []

    def counted(change: Any) -> Any:
        def counting(*arguments: Any, **named: Any) -> Any:
            done.append(change)
            if len(done) > number:
                raise KilledError
            return change(*arguments, **named)

        return counting

    with monkeypatch.context() as patched:
        for place, name in (
            (Path, "replace"),
            (Path, "unlink"),
            (os, "open"),
            (Store, "complete"),
            (mend, "transaction"),
        ):
            patched.setattr(place, name, counted(getattr(place, name)))
        patched.setattr(store_module, "transaction", counted(store_module.transaction))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "old", "header"])
def test_a_repair_that_is_killed_anywhere_ends_as_one_that_is_not(
    unmerged: Path, photo_index: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    database, earlier = unmerged / "items.sqlite", unmerged / KEPT
    (unmerged / "items.sqlite-shm").unlink(missing_ok=True)
    if damage == "lost":
        for file in unmerged.glob("items.sqlite*"):
            file.unlink()
    elif damage == "old":
        (unmerged / "items.sqlite-wal").unlink()
    else:
        with database.open("r+b") as file:
            file.write(bytes(100))
    shutil.copyfile(photo_index / "items.sqlite", earlier)  # as an earlier repair left it
    Path(f"{earlier}-wal").write_bytes(b"x")

    def ended(index: Path) -> tuple[object, object]:
        assert list(faults(index)) == []
        kept = Path(index / KEPT)
        return content(index), [file.read_bytes() for file in (kept, Path(f"{kept}-wal")) if file.exists()]

    expected = shutil.copytree(unmerged, unmerged.with_name("expected"))
    assert repair(expected).left == []
    index = unmerged.with_name("killed")
    for number in count(0, 7):  # every seventh moment: each takes half a second
        shutil.rmtree(index, ignore_errors=True)
        shutil.copytree(unmerged, index)
        with killed_at(number, monkeypatch):
            try:
                repair(index)
                break
            except KilledError:
                pass
        if list(faults(index)):  # else a search would not notice, so all must be mended
            assert repair(index).left == []
        assert ended(index) == ended(expected)
    assert number > 10


def test_the_file_that_a_side_link_leads_to_takes_its_place(unmerged: Path, tmp_path: Path) -> None:
    before, link = content(unmerged), unmerged / "items.sqlite-wal"
    (unmerged / "items.sqlite-shm").unlink(missing_ok=True)
    data = link.read_bytes()
    link.rename(tmp_path / "log")
    link.symlink_to(tmp_path / "log")
    with pytest.raises(StoreError, match=r"items\.sqlite-wal is not a regular file; repair the index$"):
        Store.open(unmerged)
    done = repair(unmerged)
    assert (done.left, done.mended) == ([], ["items.sqlite-wal: the file that it linked to is in its place now"])
    assert content(unmerged) == before
    assert (tmp_path / "log").read_bytes() == data  # nothing was written through the link


@pytest.mark.parametrize("kind", ["pipe", "dangling link"])
@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_the_copy_of_the_model_is_written_again_whatever_is_in_its_place(
    damaged: Path, tiny_model: Model, kind: str
) -> None:
    shutil.rmtree(damaged / "model")
    put(damaged / "model", kind)
    assert repair(damaged, tiny_model) == Repair(["model: written again"])
    assert list(faults(damaged)) == []


def test_a_side_folder_with_files_stays_and_so_does_the_database(damaged: Path) -> None:
    before = (damaged / "items.sqlite").read_bytes()
    put(damaged / "items.sqlite-wal", "folder")
    (damaged / "items.sqlite-wal" / "mine").write_text("x")
    (line,) = repair(damaged).left
    assert re.search(r"items\.sqlite-wal is not a regular file, and stays \(.*\); move it away", line)
    assert (damaged / "items.sqlite-wal" / "mine").read_text() == "x"
    assert (damaged / "items.sqlite").read_bytes() == before


def test_what_is_not_a_file_in_the_place_of_the_database_is_named(damaged: Path) -> None:
    file = damaged / "items.sqlite"
    for path in damaged.glob("items.sqlite*"):
        path.unlink()
    file.mkdir()
    for lines in (list(faults(damaged)), repair(damaged).left):
        assert ["items.sqlite is a folder; move it away, and repair the index" in line for line in lines] == [True]
    file.rmdir()
    for target in ("/nowhere/items.sqlite", file):  # of a disk that is not mounted, and a circle
        file.symlink_to(target)
        for lines in (list(faults(damaged)), repair(damaged).left):
            (line,) = lines
            assert "items.sqlite is a link to a file that is not there; mount its disk" in line
        assert file.is_symlink()
        file.unlink()


def test_a_journal_is_taken_back_and_the_database_stays(damaged: Path) -> None:
    before = content(damaged)
    with closing(sqlite3.connect(damaged / "items.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("PRAGMA cache_size = 1")  # so that the change is written before it is committed
        database.execute("BEGIN")
        database.execute("UPDATE items SET path = path || '.other'")
        copy = shutil.copytree(damaged, damaged.with_name("killed"))
    assert repair(copy).left == []
    assert content(copy) == before
    assert not (copy / KEPT).exists()


@pytest.mark.parametrize("name", ["items.sqlite", "items.sqlite-wal", "items.sqlite-shm", "manifest.json"])
@pytest.mark.skipif(os.name == "nt", reason="other permissions there")
def test_a_missing_permission_is_named_and_nothing_is_made_again(
    photo_index: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair(photo_index)  # loads libraries, which may not be allowed later
    with tempfile.TemporaryDirectory() as place, index_of_nobody(photo_index, Path(place), monkeypatch) as index:
        (index / name).touch()
        before = {file.name: file.read_bytes() for file in index.iterdir() if file.is_file() and file.name != ".lock"}
        (index / name).chmod(0)
        with pytest.raises(StoreError, match=rf"{name}.* give yourself permission"):
            Store.open(index)
        for lines in (list(faults(index)), repair(index).left):
            assert len(lines) == 1
            assert name in lines[0]
            assert lines[0].endswith("cannot be read: Permission denied; give yourself permission")
        (index / name).chmod(0o600)
        after = {file.name: file.read_bytes() for file in index.iterdir() if file.is_file() and file.name != ".lock"}
        assert after == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.skipif(os.name == "nt", reason="other permissions there")
def test_a_copy_of_the_model_without_permission_is_not_called_missing(
    photo_index: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair(photo_index)  # loads libraries, which may not be allowed later
    with tempfile.TemporaryDirectory() as place, index_of_nobody(photo_index, Path(place), monkeypatch) as index:
        (index / "model" / name).chmod(0)
        assert list(faults(index)) == [
            f"index {index}: its copy of the model cannot be read: Permission denied; give yourself permission"
        ]
        with pytest.raises(ModelError, match=rf"{name} cannot be read: Permission denied; give yourself permission"):
            Model.load(index / "model")


@contextmanager
def index_of_nobody(source: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of an index, as a user who has no rights of root."""
    index, is_root = shutil.copytree(source, place / "i"), os.geteuid() == 0
    if is_root:
        for path in (place, index, *index.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        monkeypatch.setattr(os, "access", partial(os.access, effective_ids=True))
        os.seteuid(NOBODY)
    try:
        yield index
    finally:
        if is_root:
            os.seteuid(0)
