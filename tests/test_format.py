from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from reference.format_1 import make_format_1, make_format_3
from spq.errors import StoreError
from spq.index.format import why_closed
from spq.index.image_index import ImageIndex
from spq.index.manifest import FORMAT, SHARDED, Manifest, read_manifest
from spq.index.store import Item, Store
from spq.model.model import Model

MANIFEST = Manifest(1, "0.1.0", "h", "l2", 2, 256, 16, "photos")
ROWS = [
    (2, "a.jpg", b"a", 10, 1, 4, 3, 0, None, b"\1\2"),
    (3, "b.jpg", b"b", 20, 2, None, None, 1, "the file is empty", None),
    (9, "c.jpg", b"c", 30, 3, 8, 6, 0, None, b"\3\4"),
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Three items, the highest id dropped again."""
    folder = tmp_path / "old"
    make_format_1(folder, MANIFEST, ROWS)
    return folder


def content(store: Store) -> tuple[object, ...]:
    ids, codes = store.codes()
    return store.stats(), ids.tolist(), codes.tolist(), store.paths(ids.tolist()), store.unreadable()


def test_an_index_of_format_1_is_read_without_changing_it(old: Path) -> None:
    with Store.open(old) as store:
        assert content(store) == (
            {"a.jpg": (10, 1, 0), "b.jpg": (20, 2, 0), "c.jpg": (30, 3, 0)},
            [2, 9],
            [[1, 2], [3, 4]],
            {2: "a.jpg", 9: "c.jpg"},
            [("b.jpg", "the file is empty")],
        )
        found = store.item("a.jpg")
        assert (found.hash, found.width, found.height, found.metadata, store.metadata()) == (b"a", 4, 3, {}, {})
    assert read_manifest(old).format == 1


def test_a_writer_migrates_format_1_and_loses_nothing(old: Path) -> None:
    with Store.open(old) as reader, Store.open(old) as store:
        before = content(reader)
        with store.writing():
            pass
        assert content(store) == content(reader) == before
        assert read_manifest(old) == store.manifest == replace(MANIFEST, format=FORMAT, key=store.manifest.key)
        assert len(store.manifest.key) == 16
        with store.writing():
            store.put([Item("e.jpg", 1, 1, b"e", code=np.zeros(2, np.uint8), metadata={"label": "bag"})])
            store.describe([("a.jpg", {"label": "hat"})])
        assert reader.item("e.jpg").id == 13  # 12 was given once
        assert [reader.item(path).metadata for path in ("a.jpg", "c.jpg", "e.jpg")] == [
            {"label": "hat"}, {}, {"label": "bag"}
        ]  # fmt: skip


def test_an_index_of_format_2_is_read_and_then_learns_the_ctimes(
    photos: Path, tiny_model: Model, tmp_path: Path
) -> None:
    ImageIndex.build(tmp_path / "i", tiny_model, photos).close()
    manifest = read_manifest(tmp_path / "i")
    make_format_3(tmp_path / "i", ctimes=False)
    with ImageIndex.open(tmp_path / "i") as index:
        assert {ctime_ns for _, _, ctime_ns in index.store.stats().values()} == {0}
        before = [(item.id, item.path) for item in index.store.items()]
        revision = index.store.revision()
        assert index.sync(photos).unchanged == 60
        assert all(ctime_ns for _, _, ctime_ns in index.store.stats().values())
        assert [(item.id, item.path) for item in index.store.items()] == before
        assert index.store.revision() == revision  # readers have nothing to read again
    assert replace(read_manifest(tmp_path / "i"), key=manifest.key) == manifest  # the key is a new one


def test_migration_and_creation_end_in_the_same_tables(old: Path, tmp_path: Path) -> None:
    def tables(folder: Path) -> list[tuple[object, ...]]:
        database = sqlite3.connect(folder / "items.sqlite")
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
        columns = [row for name in names for row in database.execute(f"PRAGMA table_info({name})")]
        version = database.execute("PRAGMA user_version").fetchone()
        database.close()
        return [*names, *columns, version]

    Store.create(old, MANIFEST).close()
    Store.create(tmp_path / "new", Manifest(FORMAT, *list(asdict(MANIFEST).values())[1:])).close()
    assert tables(old) == tables(tmp_path / "new")


KILLED = """if True:
    import os, signal, sys
    from pathlib import Path
    from spq.index import format as layout
    from spq.index.store import Store
    steps = list(layout.TO_FORMAT_2)
    def statements():
        yield from steps[: int(sys.argv[2])]
        os.kill(os.getpid(), signal.SIGKILL)
    class Steps:
        def __iter__(self):
            return statements()
    layout.TO_FORMAT_2 = Steps()
    with Store.open(Path(sys.argv[1])).writing():
        pass
    """


@pytest.mark.parametrize("steps", [0, 4, 8])
def test_after_a_killed_migration_the_index_is_readable_and_is_migrated_again(old: Path, steps: int) -> None:
    with Store.open(old) as store:
        before = content(store)
    done = subprocess.run([sys.executable, "-c", KILLED, str(old), str(steps)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Store.open(old) as store:
        assert content(store) == before
        with store.writing():
            store.describe([("a.jpg", {"n": "1"})])
        assert content(store) == before
        assert store.metadata() == {"a.jpg": '{"n":"1"}'}


def test_a_killed_migration_keeps_an_older_spq_out(old: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(old), "8"], capture_output=True)
    assert read_manifest(old).format == FORMAT  # which that of format 1 refuses to open


def test_a_manifest_of_a_newer_format_is_refused(old: Path) -> None:
    manifest = old / "manifest.json"
    manifest.write_text(json.dumps({**asdict(MANIFEST), "format": SHARDED + 1}), "utf-8")
    with pytest.raises(StoreError, match=f"has format {SHARDED + 1}, this spq reads up to {SHARDED}; update spq"):
        Store.create(old, MANIFEST)


def test_an_index_without_its_manifest_is_not_mistaken_for_an_unfinished_one(old: Path) -> None:
    (old / "manifest.json").unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"has lost its manifest\.json; repair the index"):
            Store.create(old, MANIFEST)
    (old / "items.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"has lost its manifest\.json"):
        Store.create(old, MANIFEST)


def test_a_writer_waits_for_another_for_the_given_time(tmp_path: Path) -> None:
    with Store.create(tmp_path / "i", MANIFEST) as first, Store.open(tmp_path / "i", wait=30) as second:
        entered = threading.Event()

        def hold() -> None:
            with first.writing():
                entered.set()
                time.sleep(0.3)
                first.put([Item("a", 1, 1, code=np.zeros(2, np.uint8))])

        holder = threading.Thread(target=hold)
        holder.start()
        entered.wait()
        with second.writing():
            second.put([Item("b", 1, 1, code=np.zeros(2, np.uint8))])
        holder.join()
        assert second.codes()[0].tolist() == [1, 2]  # in the order of their turns
        second.wait = 0.2
        start = time.monotonic()
        with first.writing(), pytest.raises(StoreError, match="another process is writing"), second.writing():
            pass
        assert time.monotonic() - start >= 0.2


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_a_group_may_write_an_index_if_the_umask_allows_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Store.create(tmp_path / "i", MANIFEST) as store, store.writing():
            modes = {file.name: file.stat().st_mode & 0o666 for file in (tmp_path / "i").iterdir()}
    finally:
        os.umask(before)
    assert {"items.sqlite", "items.sqlite-wal"} <= set(modes)
    assert set(modes.values()) == {0o666 & ~umask}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (sqlite3.OperationalError("locking protocol"), "keep the index on a disk of this machine"),
        (sqlite3.OperationalError("file is not a database"), r"does not open \(file is not a database\); build it"),
    ],
)
def test_the_reason_why_items_do_not_open_has_its_own_remedy(tmp_path: Path, error: Exception, reason: str) -> None:
    (tmp_path / "items.sqlite").touch()
    assert re.search(reason, why_closed(tmp_path, error, "build it"))
