from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spq.errors import StoreError
from spq.index.store import Item, Manifest, Store

MANIFEST = Manifest(2, "0", "h", "l2", 2, 256, 16)
PATHS = st.sampled_from(["a", "b/c.jpg", "b/c.png", "ü", "latin \udcff"])


def item(path: str, value: int) -> Item:
    """Readable with a code made from `value`, or unreadable where that is 0."""
    code = np.array([value, 255 - value], np.uint8) if value else None
    return Item(path, value, -value, bytes([value]), 2, 1, code, "" if value else f"cannot read {path}")


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
        self.store = Store.create(self.folder, MANIFEST)
        self.truth: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.last_id = 0

    @rule(batch=st.dictionaries(PATHS, st.integers(0, 255)))
    def put(self, batch: dict[str, int]) -> None:
        with self.store.writing():
            self.store.put(item(path, value) for path, value in batch.items())
        self.truth |= batch
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
            self.truth.pop(path, None), self.ids.pop(path, None)

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
        assert self.store.stats() == {path: (value, -value) for path, value in self.truth.items()}
        ids, codes = self.store.codes()
        paths = self.store.paths(ids.tolist())
        assert list(ids) == sorted(ids)
        assert {paths[i]: code[0] for i, code in zip(ids.tolist(), codes, strict=True)} == readable
        assert len(self.store) == len(readable)
        assert dict(self.store.unreadable()) == {p: f"cannot read {p}" for p in self.truth if p not in readable}
        twins = self.store.items_by_hash(bytes([value]) for value in range(256))
        assert set(twins) == {bytes([value]) for value in readable.values()}

    def teardown(self) -> None:
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


def test_a_writer_killed_in_mid_transaction_keeps_whole_steps_only_and_frees_the_lock(store: Store) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.folder)], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert set(store.stats()) == {f"whole{n}" for n in range(1000)}
    with store.writing():
        store.put([item("next", 1)])
    assert len(store) == 1001


def test_readers_go_on_while_one_writes_and_see_what_is_committed(store: Store) -> None:
    with Store.open(store.folder) as reader, store.writing():
        before = reader.version()
        assert (len(reader), reader.version()) == (0, before)

        def items() -> Iterator[Item]:
            yield item("a", 1)
            assert len(reader) == 0  # not before the transaction ends

        store.put(items())
        assert len(reader) == len(store) == 1
        assert reader.version() != before


def test_a_second_writer_is_refused_with_one_line(store: Store) -> None:
    refusal = r"^another process is writing to index .*; wait for it to end, or give --wait$"
    with Store.open(store.folder) as second:
        with store.writing(), pytest.raises(StoreError, match=refusal), second.writing():
            pass
        with second.writing():
            second.put([item("a", 1)])


def test_an_open_index_cannot_be_written_outside_of_writing(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._reader.execute("DELETE FROM items")
    with pytest.raises(AssertionError):
        store.put([item("a", 1)])


def test_the_log_is_folded_into_the_database_when_a_writer_ends(store: Store) -> None:
    with store.writing():
        store.put(item(str(n), 1) for n in range(500))
    log = store.folder / "items.sqlite-wal"
    assert not log.exists() or log.stat().st_size == 0


def test_a_million_items_would_fit_in_150_bytes_each_beside_their_paths(store: Store) -> None:
    rng = np.random.default_rng(0)
    with store.writing():
        store.put(
            Item(f"{n:06d}", 10**6, 10**18, rng.bytes(16), 4000, 3000, np.zeros(2, np.uint8)) for n in range(5000)
        )
    with sqlite3.connect(store.folder / "items.sqlite") as database:
        plan = database.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM items WHERE hash = ? AND status = 0", (b"",)
        ).fetchall()
    database.close()
    assert "items_by_hash" in str(plan)  # a sync would otherwise read the whole table for each picture
    assert (store.folder / "items.sqlite").stat().st_size / 5000 - 2 * 6 <= 150  # a path is in the table and its index


def test_a_creation_that_was_cut_off_is_completed(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    folder.mkdir()
    (folder / ".manifest.123").write_text('{"format": 1', "utf-8")  # killed before the manifest was in place
    Store.create(folder, MANIFEST).close()
    for path in folder.glob("items.sqlite*"):
        path.unlink()  # killed before there was a database
    with pytest.raises(StoreError, match=r"items\.sqlite does not open"):
        Store.open(folder)
    with Store.create(folder, MANIFEST) as store:
        assert len(store) == 0


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match="exists and is not an index; give another --out"):
        Store.create(tmp_path, MANIFEST)
    with pytest.raises(StoreError, match="exists and is not an index"):
        Store.create(tmp_path / "holiday.jpg", MANIFEST)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_newer_format_is_refused(store: Store) -> None:
    manifest = store.folder / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    assert content["format"] == 2
    manifest.write_text(json.dumps({**content, "format": 3, "new": "field"}), "utf-8")
    with pytest.raises(StoreError, match=r"has format 3, this spq reads up to 2; update spq"):
        Store.open(store.folder)


def test_codes_that_do_not_fit_the_manifest_are_refused(store: Store) -> None:
    with store.writing():
        store.put(
            [Item("a", 1, 1, b"h", code=np.zeros(3, np.uint8)), Item("b", 1, 1, b"i", code=np.zeros(1, np.uint8))]
        )
    with pytest.raises(StoreError, match="codes that are not 2 numbers below 256"):
        store.codes()
