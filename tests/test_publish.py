"""Publishing an index: only what is new is uploaded, and what is at the URL is whole at any moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from spq.errors import ConfigError, SPQError, StoreError
from spq.index.image_index import ImageIndex
from spq.index.shards.open_store import open_store
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import to_database, to_shards
from spq.index.verify import faults
from spq.scale.generation import Generation, list_files, list_generations, read_generation
from spq.scale.publish import PublishReport, publish
from spq.scale.published import PublishedIndex
from spq.scale.urls import Place


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "published")


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all files that are written at URLs from now on."""
    written: list[str] = []
    for method in ("put", "put_file"):
        original = getattr(Place, method)

        def watched(place: Place, name: str, data: object, original: object = original) -> object:
            written.append(name)
            return original(place, name, data)  # type: ignore[operator]

        monkeypatch.setattr(Place, method, watched)
    return written


def generations(url: str) -> Iterator[Generation]:
    known = list_generations(Place(url))
    yield from (read_generation(Place(url), number, known[number]) for number in known)


def shard(folder: Path, items: int) -> None:
    with open_store(folder) as store:
        to_shards(store, items)


def remove(folder: Path, *paths: str) -> None:
    with open_store(folder) as store, store.writing():
        store.remove(paths)


def content(folder: Path) -> list[tuple[int, str, bytes]]:
    with open_store(folder) as store:
        return [(item.id, item.path, np.asarray(item.code).tobytes()) for item in store.items()]


def fetched(url: str, cache: Path) -> list[tuple[int, str, bytes]]:
    """What servers get, without a fault."""
    folder = PublishedIndex(url, cache).fetch()
    assert list(faults(folder)) == []
    return content(folder)


def test_an_unchanged_index_is_not_uploaded_again(index_copy: Path, url: str, puts: list[str]) -> None:
    first = publish(index_copy, url)
    assert (first.generation, first.is_new, first.images, first.uploaded) == (1, True, 60, 5)
    assert len(puts) == 6
    assert puts[-1] == "generations/00000001.json"
    second = publish(index_copy, url)
    assert (second.generation, second.is_new, second.uploaded) == (1, False, 0)
    assert len(puts) == 6


def test_files_of_shards_and_model_are_uploaded_once(index_copy: Path, url: str, puts: list[str]) -> None:
    shard(index_copy, 25)
    publish(index_copy, url)
    puts.clear()
    remove(index_copy, content(index_copy)[0][1])
    report = publish(index_copy, url)
    assert (report.generation, report.images, report.uploaded) == (2, 59, 1)  # items.sqlite
    assert len(puts) == 2
    newest = [*generations(url)][-1]
    assert {file.path for file in newest.files if file.since == 2} == {"items.sqlite"}


def test_the_last_two_generations_stay_and_files_of_others_are_deleted(
    index_copy: Path, url: str, tmp_path: Path
) -> None:
    for number in range(1, 5):
        remove(index_copy, content(index_copy)[0][1])
        assert publish(index_copy, url).generation == number
        (Path(url) / "files" / "notes.txt").write_text("mine")
    left = [*generations(url)]
    assert [generation.number for generation in left] == [3, 4]
    assert list_files(Place(url)).keys() == {file.name for generation in left for file in generation.files}
    assert (Path(url) / "files" / "notes.txt").exists()
    assert fetched(url, tmp_path / "cache") == content(index_copy)


def test_a_writer_at_work_does_not_tear_what_is_published(index_copy: Path, url: str, tmp_path: Path) -> None:
    ending = threading.Event()

    def write() -> None:
        with open_store(index_copy) as store:
            items = list(store.items())
            while not ending.is_set():
                with store.writing():
                    store.remove(item.path for item in items[:30])
                    store.put(items[:30])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            report = publish(index_copy, url)
            assert report.images in (30, 60)
            assert len(fetched(url, tmp_path / "cache")) == report.images
    finally:
        ending.set()
        writer.join()


def test_shards_that_are_written_again_meanwhile_are_taken_as_they_are_then(
    index_copy: Path, url: str, tmp_path: Path
) -> None:
    shard(index_copy, 4)

    def interfere(what: str, *_: int) -> None:
        with open_store(index_copy) as store:
            if what == "uploading" and isinstance(store, ShardedStore):
                to_database(store)

    report = publish(index_copy, url, interfere)
    assert report.files == 5
    assert fetched(url, tmp_path / "cache") == content(index_copy)


def test_an_interrupted_publication_leaves_the_last_one_and_is_continued(
    index_copy: Path, url: str, tmp_path: Path, puts: list[str]
) -> None:
    publish(index_copy, url)
    before = content(index_copy)
    shard(index_copy, 4)
    remove(index_copy, before[0][1])
    puts.clear()

    def stop(what: str, *_: int) -> None:
        if what == "uploading":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(index_copy, url, stop)
    assert [generation.number for generation in generations(url)] == [1]
    assert fetched(url, tmp_path / "cache") == before
    begun = set(puts)
    puts.clear()
    report = publish(index_copy, url)
    assert begun
    assert not begun & set(puts)
    assert (report.generation, report.uploaded) == (2, len(puts) - 1)
    assert fetched(url, tmp_path / "cache") == content(index_copy)


def test_of_two_publishers_at_once_one_wins(index_copy: Path, url: str, tmp_path: Path) -> None:
    shard(index_copy, 25)
    inner: list[PublishReport] = []

    def publish_first(what: str, *_: int) -> None:
        if what == "uploading" and not inner:
            remove(index_copy, content(index_copy)[0][1])
            inner.append(publish(index_copy, url))

    with pytest.raises(StoreError, match=r"somebody else has just published generation 1 at .*; publish again"):
        publish(index_copy, url, publish_first)
    assert fetched(url, tmp_path / "cache") == content(index_copy)
    assert publish(index_copy, url).is_new is False
    last = [*generations(url)][-1]
    assert list_files(Place(url)).keys() == {file.name for file in last.files}  # those of the loser are gone


def test_what_is_lost_at_the_url_is_uploaded_again(index_copy: Path, url: str, tmp_path: Path) -> None:
    publish(index_copy, url)
    names = [file.name for file in next(generations(url)).files]
    (Path(url) / "files" / names[0]).unlink()
    os.truncate(Path(url) / "files" / names[1], 10)
    report = publish(index_copy, url)
    assert (report.generation, report.is_new, report.uploaded) == (2, True, 2)
    (Path(url) / "generations" / "00000003.json").write_text("{")  # a publisher on a disk that lost it
    report = publish(index_copy, url)
    assert (report.generation, report.uploaded) == (4, 0)
    assert [generation.number for generation in generations(url)] == [2, 4]
    assert fetched(url, tmp_path / "cache") == content(index_copy)


def test_a_place_that_holds_something_else_is_refused(index_copy: Path, shared_photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "files").mkdir(parents=True)
    (other / "files" / "letter.txt").write_text("mine")
    wrong = {
        str(shared_photos): "holds something else \\(ankle boot\\); give a new place",
        str(other): "holds something else \\(files/letter.txt\\)",
        str(index_copy / "here"): "is inside the index",
        "memory://here": "is in the memory of this process",
    }
    for place, words in wrong.items():
        with pytest.raises(ConfigError, match=words):
            publish(index_copy, place)
    with pytest.raises(StoreError, match="no index at"):
        publish(shared_photos, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["codes", "rows", "model"])
def test_a_damaged_index_is_not_published(index_copy: Path, url: str, what: str) -> None:
    if what == "codes":
        shard(index_copy, 25)
        _flip(next(index_copy.glob("shards/*/codes.npy")))
    elif what == "model":
        _flip(index_copy / "model" / "model.safetensors")
    else:
        import sqlite3

        with sqlite3.connect(index_copy / "items.sqlite") as database:
            database.create_function("code_check", -1, lambda *_: 0)
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {name}")
            database.execute("UPDATE items SET code = zeroblob(8) WHERE id = 3")
        database.close()
    with pytest.raises(SPQError, match=f"a damaged index is not published: .*{index_copy.name}"):
        publish(index_copy, url)
    assert list_generations(Place(url)) == {}


def test_an_index_without_a_model_is_not_published(tmp_path: Path, url: str) -> None:
    from spq.index.manifest import FORMAT, Manifest
    from spq.index.store import Store

    Store.create(tmp_path / "empty", Manifest(FORMAT, "0", "h", "l2", 8, 16, 32)).close()
    with pytest.raises(StoreError, match="has no copy of its model yet; update it first"):
        publish(tmp_path / "empty", url)


def test_an_index_of_another_model_takes_the_place(
    index_copy: Path, url: str, shared_photos: Path, tmp_path: Path, tiny_recipe: object
) -> None:
    from models import tiny

    publish(index_copy, url)
    other = tiny(tiny_recipe, 16, 4)  # type: ignore[arg-type]
    ImageIndex.build(tmp_path / "other", other, shared_photos).close()
    assert publish(tmp_path / "other", url).model == other.hash
    assert fetched(url, tmp_path / "cache") == content(tmp_path / "other")
