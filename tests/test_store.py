from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from PIL import Image

from reference.format_1 import make_format_1
from spq.data.open import open_images
from spq.errors import StoreError
from spq.index import checksums
from spq.index import format as layout
from spq.index.filter_sql import matching
from spq.index.manifest import FORMAT, SHARDED, Manifest
from spq.index.store import Item, Store

MANIFEST = Manifest(FORMAT, "0", "h", "l2", 2, 256, 16)
PATHS = st.sampled_from(["a", "old.jpg", "b/c.jpg", "b/c.png", "ü", "latin \udcff"])


def item(path: str, value: int) -> Item:
    """Readable with a code made from `value`, or unreadable where that is 0."""
    code = np.array([value, 255 - value], np.uint8) if value else None
    facts = {"n": str(value), "label": ["ü", "x"]} if value % 2 else {}
    return Item(path, value, -value, bytes([value]), 2, 1, code, "" if value else f"cannot read {path}", 0, facts)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "i", MANIFEST) as store:
        yield store


class StoreIsADictionary(RuleBasedStateMachine):
    """Any sequence of changes, failures and reopenings leaves what a dictionary would hold, and no id is given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "i"
        self.truth: dict[str, int] = {}
        self.facts: dict[str, dict[str, object]] = {}
        self.ids: dict[str, int] = {}
        self.last_id = 0
        self.revision = -1

    @initialize(format_=st.sampled_from([1, 2]))
    def create(self, format_: int) -> None:
        if format_ == 1:  # migrated by whichever change comes first
            make_format_1(self.folder, MANIFEST, [(3, "old.jpg", b"\7", 7, -7, 2, 1, 0, None, bytes([7, 248]))])
            self.truth, self.ids, self.last_id = {"old.jpg": 7}, {"old.jpg": 3}, 12
        self.store = Store.open(self.folder) if format_ == 1 else Store.create(self.folder, MANIFEST)

    @rule(batch=st.dictionaries(PATHS, st.integers(0, 255)))
    def put(self, batch: dict[str, int]) -> None:
        with self.store.writing():
            self.store.put(item(path, value) for path, value in batch.items())
        self.truth |= batch
        self.facts |= {path: item(path, value).metadata for path, value in batch.items()}
        for path in batch:
            id_ = self.store.item(path).id
            if path in self.ids:
                assert id_ == self.ids[path]
            else:
                assert id_ > self.last_id
                self.ids[path] = id_
        self.last_id = max([self.last_id, *self.ids.values()])

    @rule(paths=st.sets(PATHS))
    def remove(self, paths: set[str]) -> None:
        with self.store.writing():
            self.store.remove(paths)
        for path in paths:
            self.truth.pop(path, None), self.ids.pop(path, None), self.facts.pop(path, None)

    @rule(batch=st.dictionaries(PATHS, st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)))
    def describe(self, batch: dict[str, dict[str, str]]) -> None:
        with self.store.writing():
            self.store.describe(batch.items())
        self.facts |= {path: facts for path, facts in batch.items() if path in self.truth}

    @rule()
    def compact(self) -> None:
        with self.store.writing():
            before, after = self.store.compact()
        assert before > 0
        assert after > 0

    @rule(batch=st.dictionaries(PATHS, st.integers(0, 255)))
    def fail(self, batch: dict[str, int]) -> None:
        def broken() -> Iterator[Item]:
            yield from (item(path, value) for path, value in batch.items())
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), self.store.writing():
            self.store.put(broken())

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder)

    @invariant()
    def the_store_is_the_dictionary(self) -> None:
        readable = {path: value for path, value in self.truth.items() if value}
        assert self.store.stats() == {path: (value, -value, 0) for path, value in self.truth.items()}
        ids, codes = self.store.codes()
        paths = self.store.paths(ids.tolist())
        assert list(ids) == sorted(ids)
        assert {paths[i]: code[0] for i, code in zip(ids.tolist(), codes, strict=True)} == readable
        assert len(self.store) == len(readable)
        assert dict(self.store.unreadable()) == {p: f"cannot read {p}" for p in self.truth if p not in readable}
        twins = self.store.items_by_hash(bytes([value]) for value in range(256))
        assert set(twins) == {bytes([value]) for value in readable.values()}
        assert self.store.stats(["b/c.jpg", "none"]) == {
            path: (value, -value, 0) for path, value in self.truth.items() if path == "b/c.jpg"
        }
        described = {path: facts for path, facts in self.facts.items() if facts}
        assert {path: json.loads(text) for path, text in self.store.metadata().items()} == described
        assert {path: facts for path in self.truth if (facts := self.store.item(path).metadata)} == described
        assert self.store.revision() >= self.revision  # a number is never given twice
        self.revision = self.store.revision()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.temporary.cleanup()


StoreIsADictionary.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
test_a_store_is_a_dictionary = StoreIsADictionary.TestCase


KILLED = """if True:
    import os, signal, sys
    from pathlib import Path
    from spq.index.store import Item, Store
    import numpy as np

    def items(prefix, die_at):
        for n in range(1000):
            if n == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield Item(f"{prefix}{n}", n, n, b"h", code=np.zeros(2, np.uint8))

    store = Store.open(Path(sys.argv[1]))
    with store.writing():
        store.put(items("whole", None))
        store.put(items("half", 900))
    """


def test_a_writer_killed_in_a_transaction_keeps_whole_transactions_and_frees_the_lock(store: Store) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.folder)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert set(store.stats()) == {f"whole{n}" for n in range(1000)}
    with store.writing():
        store.put([item("next", 1)])
    assert len(store) == 1001


def test_readers_continue_while_one_writes_and_see_what_is_committed(store: Store) -> None:
    with Store.open(store.folder) as reader, store.writing():
        before = reader.version()
        assert (len(reader), reader.version()) == (0, before)

        def items() -> Iterator[Item]:
            yield item("a", 1)
            assert len(reader) == 0  # not before the transaction ends

        store.put(items())
        assert len(reader) == len(store) == 1
        assert reader.version() != before


def test_a_reader_that_may_not_write_sees_what_the_owner_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite then assumes that the file never changes, and could read half of an old one."""

    def connect(folder: Path, options: str, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
        if options == "mode=ro":
            raise sqlite3.OperationalError("unable to open database file")  # as without a right to the files beside it
        return original(folder, options, kind)

    original = layout._connect
    with store.writing():
        store.put(item(f"{n}.jpg", 1 + n % 255) for n in range(3000))
    with monkeypatch.context() as patch:
        patch.setattr(layout.os, "access", lambda *_: False)
        patch.setattr(layout, "_connect", connect)
        with Store.open(store.folder) as reader:
            versions = {reader.version()}
            assert len(reader) == 3000
            with reader.snapshot():
                assert len(reader) == 3000
            with store.writing():
                store.remove(f"{n}.jpg" for n in range(2990))
                store.compact()
            versions.add(reader.version())
            assert sorted(reader.stats()) == [f"{n}.jpg" for n in range(2990, 3000)]
            assert len(versions) == 2


@pytest.mark.parametrize("seconds", [20_000_000_000, -20_000_000_000])
def test_dates_outside_the_range_of_the_database_become_the_nearest_inside(tmp_path: Path, seconds: int) -> None:
    """Broken clocks leave them, and one such file would stop every sync."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", (seconds, seconds))
    size, mtime_ns = open_images(tmp_path).stat(0)
    with Store.create(tmp_path / "i", MANIFEST) as store, store.writing():
        store.put([replace(item("a.png", 1), size=size, mtime_ns=mtime_ns)])
        assert store.stats() == {"a.png": (size, mtime_ns, 0)}


def test_a_second_writer_is_refused_with_one_line(store: Store) -> None:
    refusal = r"^another process is writing to index .*; try again when it ends, or set `wait`$"
    with Store.open(store.folder) as second:
        with store.writing(), pytest.raises(StoreError, match=refusal), second.writing():
            pass
        with second.writing():
            second.put([item("a", 1)])


def test_ctrl_c_in_a_function_of_the_database_is_no_fault_of_the_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite turns each exception of such a function into an error of its own."""

    def stopped(*_: object) -> int:
        raise KeyboardInterrupt

    with store.writing():
        store.put([item("a", 1), item("ü", 2)])
    monkeypatch.setattr(checksums, "row_check", stopped)
    monkeypatch.setattr(layout, "_changed", stopped)
    with Store.open(store.folder) as second:
        with pytest.raises(KeyboardInterrupt), second.writing():
            second.put([item("b", 3)])
        with pytest.raises(KeyboardInterrupt), second.writing():
            second.rename([("ü", "c")])
        with pytest.raises(KeyboardInterrupt):
            matching(second, 'path = "ü"')
    assert {found.path for found in store.items()} == {"a", "ü"}


def test_an_open_index_cannot_be_written_outside_of_writing(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._reader.execute("DELETE FROM items")
    with pytest.raises(AssertionError):
        store.put([item("a", 1)])


def test_the_log_is_merged_into_the_database_when_a_writer_ends(store: Store) -> None:
    with store.writing():
        store.put(item(str(n), 1) for n in range(500))
    log = store.folder / "items.sqlite-wal"
    assert not log.exists() or log.stat().st_size == 0


def test_an_item_takes_at_most_160_bytes_without_its_path(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [f"photos/2019/{n:04d}/IMG_{n:08d}.jpg" for n in rng.permutation(10**6)[:20_000]]
    with Store.create(tmp_path / "i", replace(MANIFEST, num_codebooks=8, bits=64)) as store:
        with store.writing():
            for start in range(0, len(paths), 256):
                store.put(
                    Item(
                        path, 10**6, 10**18, rng.bytes(16), 4000, 3000, np.zeros(8, np.uint8), metadata={"label": "bag"}
                    )
                    for path in paths[start : start + 256]
                )
            before, after = store.compact()
        assert after == (store.folder / "items.sqlite").stat().st_size < before
        assert after / len(paths) - len(paths[0]) <= 160
    database = sqlite3.connect(tmp_path / "i" / "items.sqlite")
    for query, index in {  # a sync would read all items for each picture, a reader after each change
        "SELECT * FROM items WHERE substr(hash, 1, 8) = ? AND hash = ? AND status = 0": "items_by_hash",
        "SELECT id, code FROM items WHERE revision > ?": "items_by_revision",
        "SELECT id, NULL FROM removed WHERE revision > ?": "removed_by_revision",
        "SELECT path, reason FROM items WHERE status = 1 ORDER BY id": "items_without_code",
        "SELECT max(revision) FROM items": "items_by_revision",
    }.items():
        plan = database.execute(f"EXPLAIN QUERY PLAN {query}", (b"",) * query.count("?")).fetchall()
        assert index in str(plan)
    database.close()


def test_a_creation_that_was_killed_inside_of_sqlite_is_completed(tmp_path: Path) -> None:
    """A journal of what was begun stays then, which a connection that only reads may not take back."""
    (tmp_path / "begun").mkdir()
    (tmp_path / "i").mkdir()
    with closing(sqlite3.connect(tmp_path / "begun" / "items.sqlite", isolation_level=None)) as database:
        database.execute("CREATE TABLE other (text)")
        database.execute("PRAGMA cache_size = 1")  # so that the change is written before it is committed
        database.execute("BEGIN")
        database.executemany("INSERT INTO other VALUES (?)", [("x" * 5000,)] * 50)
        for name in ("items.sqlite", "items.sqlite-journal"):
            shutil.copy(tmp_path / "begun" / name, tmp_path / "i" / name)
    with (
        closing(sqlite3.connect(f"file:{tmp_path}/i/items.sqlite?mode=ro", uri=True)) as database,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        database.execute("SELECT * FROM other")
    assert not layout.has_index(tmp_path / "i")
    with Store.create(tmp_path / "i", MANIFEST) as store:
        assert len(store) == 0


def test_an_interrupted_creation_is_completed(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    folder.mkdir()
    (folder / ".manifest.123").write_text('{"format": 1', "utf-8")  # killed before the manifest was in place
    Store.create(folder, MANIFEST).close()
    (folder / "manifest.json").unlink()
    with Store.create(folder, replace(MANIFEST, model="other")) as store:
        assert (len(store), store.manifest.model) == (0, "other")


def test_a_lost_database_is_not_replaced_by_an_empty_one(store: Store) -> None:
    for path in store.folder.glob("items.sqlite*"):
        path.unlink()
    with pytest.raises(StoreError, match=r"items\.sqlite is lost"):
        Store.open(store.folder)
    with pytest.raises(StoreError, match=r"has lost its items\.sqlite; repair the index"):
        Store.create(store.folder, MANIFEST)


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match="exists and is not an index; give another folder"):
        Store.create(tmp_path, MANIFEST)
    with pytest.raises(StoreError, match="exists and is not an index"):
        Store.create(tmp_path / "holiday.jpg", MANIFEST)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_newer_format_is_refused(store: Store) -> None:
    manifest = store.folder / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    assert content["format"] == FORMAT
    manifest.write_text(json.dumps({**content, "format": SHARDED + 1, "new": "field"}), "utf-8")
    with pytest.raises(StoreError, match=f"has format {SHARDED + 1}, this spq reads up to {SHARDED}; update spq"):
        Store.open(store.folder)


def test_codes_that_do_not_fit_the_manifest_are_refused(store: Store) -> None:
    with store.writing():
        store.put(
            [Item("a", 1, 1, b"h", code=np.zeros(3, np.uint8)), Item("b", 1, 1, b"i", code=np.zeros(1, np.uint8))]
        )
    with pytest.raises(StoreError, match="codes that are not 2 numbers below 256"):
        store.codes()


def test_compacting_removes_unfinished_files_of_killed_writers(store: Store) -> None:
    (store.folder / "model").mkdir()
    for name in (".manifest.123", "model/.model.safetensors.123", "model/config.json"):
        (store.folder / name).write_bytes(b"half")
    with store.writing():
        store.compact()
    names = {path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if "sqlite" not in path.name}
    assert names == {".lock", ".committed", "manifest.json", "model", "model/config.json"}


def test_a_full_disk_is_named_and_what_was_committed_is_kept(tmp_path: Path, store: Store) -> None:
    with store.writing():
        store.put([item("a", 1)])
        pages = store._writing().execute("PRAGMA page_count").fetchone()[0]
        store._writing().execute(f"PRAGMA max_page_count = {pages}")  # SQLite reports a full disk beyond that
        with pytest.raises(StoreError) as caught:
            store.put([item(f"{n} {'x' * 5000}", n) for n in range(9)])
    file = store.folder / "items.sqlite"
    assert str(caught.value) == f"the disk is full: {file}; free some space and try again; what was committed is kept"
    assert set(store.stats()) == {"a"}


def test_threads_that_share_a_store_do_not_wait_for_each_other_for_ever(photo_index: Path) -> None:
    code = f"""
import threading, time
from pathlib import Path
from spq.index.store import Store
store, end = Store.open(Path({str(photo_index)!r})), time.monotonic() + 1
paths = [item.path for item in store.items()]
def read():
    while time.monotonic() < end:
        for path in paths:
            assert store.item(path).path == path
threads = [threading.Thread(target=read) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60
    )  # they would hold the lock of the whole process


def test_a_store_may_be_closed_while_another_thread_reads(photo_index: Path) -> None:
    code = f"""
import threading, time
from pathlib import Path
from spq.errors import StoreError
from spq.index.store import Store
from sqlite3 import ProgrammingError
for _ in range(20):
    store, reading = Store.open(Path({str(photo_index)!r})), threading.Event()
    def read():
        try:
            with store.within(60):
                while True:
                    reading.set()
                    store.select("SELECT count(*) FROM items a, items b, items c")
        except (StoreError, ProgrammingError):
            pass
    thread = threading.Thread(target=read)
    thread.start()
    reading.wait()
    time.sleep(0.005)
    store.close()
    thread.join(30)
    assert not thread.is_alive()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)  # SQLite would end the whole process
