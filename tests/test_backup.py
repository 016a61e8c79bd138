"""A backup is one committed state of an index, whatever happens meanwhile; a damaged one is refused."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import content, run_spq
from models import tiny
from spq.common import files as common_files
from spq.common.locks import held
from spq.config import Recipe
from spq.data.open import open_images
from spq.errors import ConfigError, StoreError
from spq.index import backup as module
from spq.index.backup import CONTENTS, back_up, restore
from spq.index.format import NOT_DUPLICATES
from spq.index.image_index import ImageIndex
from spq.index.store import Store
from spq.index.verify import faults
from spq.model.model import Model


@pytest.fixture(scope="module")
def backup(photo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup that tests leave as it is."""
    file = tmp_path_factory.mktemp("backup") / "photos.backup"
    back_up(photo_index, file)
    return file


def rows(index: Path) -> list[Any]:
    with Store.open(index) as store:
        return [
            (item, item.code.tolist())
            for item in map(store.item, sorted(store.stats()))
            if item and item.code is not None
        ]


def same(one: Path, other: Path) -> bool:
    return [(str(a), code) for a, code in rows(one)] == [(str(b), code) for b, code in rows(other)]


def answers(index: Path, query: Path) -> list[tuple[int, str, float]]:
    with ImageIndex.open(index) as opened:
        return [(hit.id, hit.path, hit.distance) for hit in opened.search(query, 20)]


def test_a_restored_index_has_no_fault_and_the_same_answers(
    index_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (index_folder / NOT_DUPLICATES).write_text('{"hashes": ["00", "01"], "paths": ["a", "b"]}\n', "utf-8")
    before = content(index_folder)
    assert run_spq("index", index_folder, "--backup", tmp_path / "b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 60
    assert run_spq("index", "--restore", tmp_path / "b", "--out", tmp_path / "new") == 0
    assert content(index_folder) == before
    assert list(faults(tmp_path / "new")) == []
    assert same(tmp_path / "new", index_folder)
    assert (tmp_path / "new" / NOT_DUPLICATES).read_bytes() == (index_folder / NOT_DUPLICATES).read_bytes()
    query = min(photos.rglob("*.png"))
    assert answers(tmp_path / "new", query) == answers(index_folder, query)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "i", "b", "new"}
    assert run_spq("index", tmp_path / "new") == 0  # it is updated like any other
    assert "60 unchanged" in capsys.readouterr().out


def test_two_backups_of_one_state_are_the_same_bytes(photo_index: Path, backup: Path, tmp_path: Path) -> None:
    back_up(photo_index, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == backup.read_bytes()


WRITER = """if True:
    import sys
    from spq.index import sync
    from spq.index.build import build
    from spq.model.model import Model
    from pathlib import Path
    model, photos, index = map(Path, sys.argv[1:])
    sync.BATCH = 2
    loaded = Model.load(model)
    print("ready", flush=True)
    build(index, loaded, photos).store.close()
    """


def test_backups_during_a_sync_of_another_process_hold_what_was_committed(
    photos: Path, model_folder: Path, tiny_model: Model, tmp_path: Path
) -> None:
    paths = open_images(photos).ids
    codes = {path: tiny_model.encode([photos / path])[0].tolist() for path in paths}
    Store.create(tmp_path / "i", _manifest_of(tiny_model, photos, tmp_path)).close()
    seen = []
    command = [sys.executable, "-c", WRITER, model_folder, photos, tmp_path / "i"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        while process.poll() is None:
            file = tmp_path / f"b{len(seen)}"
            seen.append(back_up(tmp_path / "i", file).images)
    assert process.returncode == 0
    assert seen == sorted(seen)
    back_up(tmp_path / "i", tmp_path / "last")
    for file in (*(tmp_path / f"b{n}" for n in range(len(seen))), tmp_path / "last"):
        restore(file, tmp_path / f"r-{file.name}")
        found = rows(tmp_path / f"r-{file.name}")
        assert sorted(item.path for item, _ in found) == sorted(paths[: len(found)])
        assert len(found) % 2 == 0  # whole commits
        assert all(code == codes[item.path] for item, code in found)
    assert len(found) == 60


def _manifest_of(model: Model, photos: Path, tmp_path: Path) -> Any:
    """The manifest of an index of the photos."""
    with ImageIndex.build(tmp_path / "whole", model, photos) as index:
        return index.store.manifest


def test_a_backup_while_an_index_gets_another_model_is_of_one_of_them(
    photo_index: Path, shared_photos: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """The folders are swapped as `replace_index` does, several times during each backup."""
    other = tiny(tiny_recipe, 16, 4)
    ImageIndex.build(tmp_path / "other", other, shared_photos).close()
    shutil.copytree(photo_index, tmp_path / "i")
    ended = threading.Event()

    def swap() -> None:
        sources = [tmp_path / "other", photo_index]
        while not ended.is_set():
            sources.reverse()
            shutil.copytree(sources[0], tmp_path / "fresh", ignore=shutil.ignore_patterns("items.sqlite-*"))
            (tmp_path / "i").rename(tmp_path / "before")
            (tmp_path / "fresh").rename(tmp_path / "i")
            shutil.rmtree(tmp_path / "before")
            ended.wait(0.001)

    swapping = threading.Thread(target=swap)
    swapping.start()
    made, refused = [], []
    try:
        for n in range(60):
            if len(made) == 3:
                break
            try:
                made.append((n, back_up(tmp_path / "i", tmp_path / f"b{n}").model))
            except StoreError as error:
                refused.append(str(error))
    finally:
        ended.set()
        swapping.join()
    assert made
    assert all("try again" in reason or "no index" in reason for reason in refused), refused
    for n, model in made:
        restore(tmp_path / f"b{n}", tmp_path / f"r{n}")
        assert list(faults(tmp_path / f"r{n}")) == []
        assert same(tmp_path / f"r{n}", photo_index if model != other.hash else tmp_path / "other")


def test_a_compaction_meanwhile_changes_nothing(index_folder: Path, tmp_path: Path) -> None:
    expected, removed = rows(index_folder), threading.Event()

    def compact() -> None:
        with Store.open(index_folder) as store, store.writing():
            store.remove([min(store.stats())])
            removed.set()
            store.compact()  # waits for the backup

    def begin(what: str, *_: int) -> None:
        if what == "copying items" and not removed.is_set():
            compacting.start()
            assert removed.wait(60)

    compacting = threading.Thread(target=compact)
    back_up(index_folder, tmp_path / "b", begin)
    compacting.join()
    restore(tmp_path / "b", tmp_path / "new")
    assert str(rows(tmp_path / "new")) == str(expected)
    assert len(rows(index_folder)) == len(expected) - 1


def test_nothing_that_exists_is_replaced(photo_index: Path, backup: Path, index_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = content(tmp_path)
    for file in (tmp_path / "b", tmp_path / "link"):
        with pytest.raises(ConfigError, match="exists and is not replaced"):
            back_up(photo_index, file)
    for file in (index_folder / "b", index_folder / "model" / "b"):
        with pytest.raises(ConfigError, match="is inside the index"):
            back_up(index_folder, file)
    for folder in (index_folder, tmp_path / "b"):
        with pytest.raises(ConfigError, match="exists; give a new folder"):
            restore(backup, folder)
    assert content(tmp_path) == before
    (tmp_path / "empty").mkdir()
    restore(backup, tmp_path / "empty")
    assert same(tmp_path / "empty", photo_index)


def test_a_name_that_is_taken_meanwhile_is_not_replaced(photo_index: Path, backup: Path, tmp_path: Path) -> None:
    def take(what: str, done: int, _: int) -> None:
        if what == "checking" and done:
            (tmp_path / "b").write_text("mine")
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "mine").touch()

    with pytest.raises(ConfigError, match="exists and is not replaced"):
        back_up(photo_index, tmp_path / "b", take)
    (tmp_path / "b").unlink()
    shutil.rmtree(tmp_path / "new")
    with pytest.raises(ConfigError, match="exists; give a new folder"):
        restore(backup, tmp_path / "new", take)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "mine", "new"]


def test_an_index_with_a_fault_is_not_backed_up(index_folder: Path, tmp_path: Path) -> None:
    weights = index_folder / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    before = set(tmp_path.iterdir())
    with pytest.raises(StoreError, match=f"index {index_folder} has faults, so it is not backed up, for example"):
        back_up(index_folder, tmp_path / "b")
    assert set(tmp_path.iterdir()) == before


def test_a_damaged_backup_is_refused_and_leaves_nothing(backup: Path, photo_index: Path, tmp_path: Path) -> None:
    whole, rng = backup.read_bytes(), random.Random(0)
    where = [*range(0, 1600, 40), *(rng.randrange(len(whole)) for _ in range(40))]
    mutants = [whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :] for at in where]
    mutants += [whole[:at] for at in (0, 100, 512, 1536, 5000, len(whole) // 2, len(whole) - 15000)]
    harmless = 0
    for mutant in mutants:
        (tmp_path / "b").write_bytes(mutant)
        try:
            restore(tmp_path / "b", tmp_path / "new")
        except StoreError as error:
            assert str(tmp_path / "b") in str(error)  # noqa: PT017
        else:  # padding of the tar, or text of no effect
            harmless += 1
            assert same(tmp_path / "new", photo_index)
            shutil.rmtree(tmp_path / "new")
        assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert harmless < len(mutants) / 3


def crafted(backup: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> bytes:
    """A backup whose members are changed."""
    with tarfile.open(backup) as tar:
        members = [(info, file.read()) for info in tar if (file := tar.extractfile(info))]
    change(members)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def named(members: list[tuple[tarfile.TarInfo, bytes]], old: str, new: str) -> None:
    """Give a member another name, also in the list of contents."""
    for n, (info, data) in enumerate(members):
        info.name = new if info.name == old else info.name
        if info.name == CONTENTS:
            members[n] = info, data.replace(f'"{old}"'.encode(), json.dumps(new).encode())


def typed(members: list[tuple[tarfile.TarInfo, bytes]], kind: bytes) -> None:
    members[1][0].type, members[1][0].linkname = kind, "/etc/passwd"


def described(members: list[tuple[tarfile.TarInfo, bytes]], facts: dict[str, Any]) -> None:
    members[0] = members[0][0], json.dumps(json.loads(members[0][1]) | facts).encode()


def without_items(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    del members[2]
    described(members, {"members": [m for m in json.loads(members[0][1])["members"] if "items" not in m["name"]]})


CRAFTED: dict[str, Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]] = {
    "a path out of the folder": lambda members: named(members, "model/README.md", "../evil"),
    "an absolute path": lambda members: named(members, "model/README.md", "/tmp/evil"),
    "a file that no index has": lambda members: named(members, "model/README.md", "model/evil.py"),
    "a symbolic link": lambda members: typed(members, tarfile.SYMTYPE),
    "a hard link": lambda members: typed(members, tarfile.LNKTYPE),
    "a device": lambda members: typed(members, tarfile.CHRTYPE),
    "a sparse file": lambda members: typed(members, tarfile.GNUTYPE_SPARSE),
    "a long name": lambda members: named(members, "model/README.md", "x" * 5000),
    "a file twice": lambda members: members.append(members[1]),
    "no items": lambda members: without_items(members),
    "a wrong size": lambda members: described(
        members, {"members": [m | {"bytes": 1 << 62} for m in json.loads(members[0][1])["members"]]}
    ),
    "a list that is none": lambda members: described(members, {"members": {"a": 1}}),
    "a newer format": lambda members: described(members, {"format": 2}),
    "nesting": lambda members: members.__setitem__(0, (members[0][0], b"[" * 60_000)),
    "too long contents": lambda members: members.__setitem__(0, (members[0][0], b" " * (1 << 17))),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_backup_is_refused(what: str, backup: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(crafted(backup, CRAFTED[what]))
    if what == "a file twice":  # what follows the last known member is not read
        restore(tmp_path / "b", tmp_path / "new")
        assert list(faults(tmp_path / "new")) == []
        return
    with pytest.raises(StoreError) as caught:
        restore(tmp_path / "b", tmp_path / "new")
    assert len(str(caught.value)) < 6000
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    if what == "a newer format":
        assert "update spq" in str(caught.value)


def test_what_is_no_backup_is_refused(tmp_path: Path, photo_index: Path) -> None:
    (tmp_path / "text").write_text("no tar" * 1000)
    (tmp_path / "empty").touch()
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(photo_index / "manifest.json", "manifest.json")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    for name in ("text", "empty", "tar", "pipe", "nothing", "."):
        with pytest.raises(StoreError, match=str(tmp_path)):
            restore(tmp_path / name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


KILLED = """if True:
    import os, signal, sys
    from pathlib import Path
    from spq.index.backup import back_up
    def kill(what, done, total):
        if what == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)
    back_up(Path(sys.argv[1]), Path(sys.argv[2]), kill)
    """


def test_a_killed_backup_leaves_nothing_that_looks_like_one_and_the_next_one_cleans_up(
    photo_index: Path, tmp_path: Path
) -> None:
    for n, stage in enumerate(("copying items", "checking")):
        command = [sys.executable, "-c", KILLED, photo_index, tmp_path / f"b{n}", stage]
        assert subprocess.run(command).returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [".b1.spq-part"]  # that of the first one is deleted already
    (tmp_path / ".b0.spq-part").mkdir()
    with held(tmp_path / ".b0.spq-part" / ".lock"):  # as if that one were still at work
        with pytest.raises(StoreError, match="another process is writing"):
            back_up(photo_index, tmp_path / "b0")
        back_up(photo_index, tmp_path / "b2")
        assert sorted(path.name for path in tmp_path.iterdir()) == [".b0.spq-part", "b2"]
    back_up(photo_index, tmp_path / "b0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b0", "b2"]
    np.testing.assert_array_equal(*(np.frombuffer((tmp_path / name).read_bytes(), np.uint8) for name in ("b0", "b2")))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("index {i} --backup {t}/b --compact", "--backup works alone"),
        ("index {i} --backup {t}/b --restore {t}/c", "--backup works alone"),
        ("index --restore {t}/b --out {t}/x --rehash", "--restore works alone"),
        ("index {photos} --backup {t}/b", "--backup {t}/b needs one index"),
        ("index --restore {t}/b", "--restore {t}/b needs a new folder"),
        ("index --restore {t}/none --out {t}/x", "no file {t}/none"),
        ("index {i} --backup {t}/missing/b", "is in a folder that does not exist"),
        ("index {i} --backup {t}", "is a folder; give a file"),
    ],
)
def test_a_wrong_command_says_how_to_write_it(
    line: str, words: str, photo_index: Path, shared_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"i": photo_index, "photos": shared_photos, "t": tmp_path}
    assert run_spq(*line.format(**names).split()) != 0
    assert words.format(**names) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_cannot_be_checked_for_want_of_room_is_no_fault(
    photo_index: Path, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite needs room beside a database, also to read it."""
    monkeypatch.setattr(module, "faults", lambda _: iter(["items.sqlite does not open (disk I/O error)"]))
    monkeypatch.setattr(common_files, "FULL", 1 << 62)  # every disk has less room
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'b'}'"):
        back_up(photo_index, tmp_path / "b")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'new'}'"):
        restore(backup, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
