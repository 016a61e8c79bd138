from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spq.index import table_reader as store_module
from spq.index.format import FORMAT
from spq.index.gallery import follow
from spq.index.store import Item, Manifest, Store
from spq.pq.scan import Scan
from spq.pq.ties import Ids

MANIFEST = Manifest(FORMAT, "0", "h", "l2", 2, 256, 16)
PATHS = st.sampled_from([f"{n}.jpg" for n in range(12)])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(PATHS, st.integers(0, 255), min_size=1)),  # 0: unreadable
        st.tuples(st.just("remove"), st.sets(PATHS, min_size=1)),
        st.tuples(st.just("describe"), st.sets(PATHS, min_size=1)),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("look"), st.none()),
    ),
    max_size=15,
)


def scan(codes: np.ndarray, ids: Ids) -> Scan:
    return Scan(codes, 256, ids=ids)


def item(path: str, value: int) -> Item:
    code = np.array([value, 255 - value], np.uint8) if value else None
    return Item(path, 1, 1, bytes([value]), 2, 1, code, "" if value else "broken")


@pytest.mark.parametrize("page", [2, 100])  # with 2, a long list of changes is read again
@settings(max_examples=30, deadline=None)
@given(changes=CHANGES)
def test_following_gives_the_same_as_reading_everything_again(
    page: int, changes: list[tuple[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("gallery")
    with pytest.MonkeyPatch.context() as patch, Store.create(folder, MANIFEST) as writer, Store.open(folder) as reader:
        patch.setattr(store_module, "PAGE", page)
        gallery = follow(reader, scan)
        for action, value in [*changes, ("look", None)]:
            with writer.writing():
                if action == "put":
                    writer.put(item(path, number) for path, number in value.items())
                elif action == "remove":
                    writer.remove(value)
                elif action == "describe":
                    writer.describe((path, {"label": "x"}) for path in value)
                elif action == "compact":
                    writer.compact()
            if action == "look":
                gallery = follow(reader, scan, gallery)
                ids, codes = reader.codes()
                np.testing.assert_array_equal(gallery.ids, ids)
                np.testing.assert_array_equal(gallery.scan.codes, codes)


def test_only_what_is_new_is_read_and_the_same_arrays_stay_where_no_code_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.create(tmp_path / "i", MANIFEST) as writer, Store.open(tmp_path / "i") as reader:
        with writer.writing():
            writer.put(item(f"{n}.jpg", 1 + n) for n in range(200))
        first = follow(reader, scan)
        monkeypatch.setattr(Store, "codes", None)  # not everything again
        assert follow(reader, scan, first) is first
        with writer.writing():
            writer.describe([("3.jpg", {"label": "hat"})])
            writer.put([item("5.jpg", 6)])
        second = follow(reader, scan, first)
        assert (second.ids is first.ids, second.scan is first.scan) == (True, True)
        assert second.revision == first.revision + 2
        with writer.writing():
            writer.put([item("new.jpg", 9), item("5.jpg", 77), item("6.jpg", 0)])
            writer.remove(["0.jpg"])
        third = follow(reader, scan, second)
        assert third.ids.tolist() == [*(i for i in range(2, 201) if i != 7), reader.item("new.jpg").id]
        assert third.scan.codes[third.ids == 6].tolist() == [[77, 178]]


def test_a_reader_that_missed_removals_before_compacting_reads_everything_again(tmp_path: Path) -> None:
    with Store.create(tmp_path / "i", MANIFEST) as writer, Store.open(tmp_path / "i") as reader:
        with writer.writing():
            writer.put(item(f"{n}.jpg", 1 + n) for n in range(9))
        before = follow(reader, scan)
        with writer.writing():
            writer.remove(["0.jpg", "4.jpg"])
            writer.compact()
        assert reader.changes(before.revision) is None
        now = follow(reader, scan, before)
        assert now.ids.tolist() == [2, 3, 4, 6, 7, 8, 9]
        assert reader.changes(now.revision) is not None


class Overtaken(Store):
    """A reader that a writer overtakes as soon as it has read the revision."""

    writer: Store | None = None

    def revision(self) -> int:
        found = super().revision()
        if self.writer:
            with self.writer.writing():
                self.writer.remove([f"{found}.jpg"])
        return found


def test_the_codes_are_those_of_the_revision_that_the_gallery_names(tmp_path: Path) -> None:
    with Store.create(tmp_path / "i", MANIFEST) as writer, Overtaken.open(tmp_path / "i") as reader:
        with writer.writing():
            writer.put(item(f"{n}.jpg", 1 + n) for n in range(9))
        reader.writer = writer
        first = follow(reader, scan)
        assert (first.revision, len(first)) == (1, 9)
        second = follow(reader, scan, first)
        assert (second.revision, len(second)) == (2, 8)
