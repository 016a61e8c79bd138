"""A published index is fetched whole or not at all, and newer generations are followed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs

from object_store import BUCKET, s3_server
from spq.errors import DataError, SpaceError, SPQError, StoreError
from spq.index.image_index import ImageIndex
from spq.index.shards.lists import make_lists
from spq.index.shards.open_store import open_store
from spq.index.shards.sharding import to_shards
from spq.index.verify import faults
from spq.scale import download, published
from spq.scale.publish import publish
from spq.scale.published import PublishedIndex
from spq.scale.urls import Place


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket of a server like S3."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}"


@pytest.fixture
def url(index_copy: Path, tmp_path: Path) -> str:
    """Where the index is published."""
    publish(index_copy, str(tmp_path / "at"))
    return str(tmp_path / "at")


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(download, "WAIT", 0.001)


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Iterator[PublishedIndex]:
    index = PublishedIndex(url, tmp_path / "cache")
    yield index
    index.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each piece that is downloaded from now on."""
    sizes: list[int] = []
    original = Place.read_range

    def watched(place: Place, name: str, start: int, end: int) -> bytes:
        data = original(place, name, start, end)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(Place, "read_range", watched)
    return sizes


def remove_one(folder: Path) -> None:
    with open_store(folder) as store, store.writing():
        store.remove([next(store.items()).path])


def answers(folder: Path) -> list[list[Any]]:
    """The hits of 100 queries: all pictures, and random descriptors."""
    with ImageIndex.open(folder) as index:
        ids = [item.id for item in index.store.items()]
        x = np.random.default_rng(0).standard_normal((100 - len(ids), index.decoder.dim))
        return index.search_many([*ids, *x.astype(np.float32)], top=20)


@pytest.mark.parametrize(("place", "has_shards"), [("folder", False), ("folder", True), ("file", False), ("s3", True)])
def test_what_is_fetched_answers_as_the_index(
    index_copy: Path, place: str, has_shards: bool, tmp_path: Path, s3: str
) -> None:
    if has_shards:
        with open_store(index_copy) as store:
            to_shards(store, 25)
        with ImageIndex.open(index_copy) as index:
            make_lists(index.store, index._gallery.latest().scan)  # type: ignore[arg-type]
        remove_one(index_copy)
    name = f"here-{has_shards}"
    url = {"folder": str(tmp_path / name), "file": f"file://{tmp_path}/{name}", "s3": f"{s3}/{name}"}[place]
    report = publish(index_copy, url)
    index = PublishedIndex(url, tmp_path / "cache")
    folder = index.fetch()
    assert answers(folder) == answers(index_copy)
    assert list(faults(folder)) == []
    assert (folder / "shards" / "lists" / "coarse.npz").exists() == has_shards
    assert publish(index_copy, url).is_new is False
    remove_one(index_copy)
    assert publish(index_copy, url).uploaded == 1
    newer = index.newer(folder)
    assert newer
    assert answers(newer) == answers(index_copy)
    assert index.newer(newer) is None
    assert not list(newer.glob("items.sqlite-*"))
    assert report.generation == 1
    index.close()


def test_unchanged_files_are_linked_and_generations_that_nobody_uses_are_deleted(
    index_copy: Path,
    url: str,
    opened: PublishedIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reads: list[int],
) -> None:
    first = opened.fetch()
    assert opened.newer(first) is None
    replica = PublishedIndex(url, tmp_path / "cache")  # as in another process: it has locks of its own
    assert replica.fetch() == first
    remove_one(index_copy)
    publish(index_copy, url)
    reads.clear()
    second = opened.newer(first)
    assert second
    assert sum(reads) == (second / "items.sqlite").stat().st_size
    assert (second / "model" / "model.safetensors").samefile(first / "model" / "model.safetensors")
    monkeypatch.setattr(published, "GRACE", 0.0)
    assert opened.newer(second) is None
    assert first.exists()  # the replica serves it
    assert replica.newer(first) == second
    assert replica.newer(second) is None
    assert not first.exists()
    assert sorted(path.name for path in opened.root.iterdir()) == [
        ".lock", second.name, f"{second.name}.json", "in-use"
    ]  # fmt: skip
    replica.close()
    assert answers(second) == answers(index_copy)


def test_a_generation_stays_for_a_while_after_it_was_served(index_copy: Path, url: str, opened: PublishedIndex) -> None:
    serving = first = opened.fetch()
    for _ in range(3):
        remove_one(index_copy)
        publish(index_copy, url)
        newer = opened.newer(serving)
        assert newer
        serving = newer
    assert first.exists()


def test_another_process_gets_a_follower_of_its_own(index_copy: Path, url: str, opened: PublishedIndex) -> None:
    first = opened.fetch()
    newer = pickle.loads(pickle.dumps(opened.newer))
    assert newer(first) is None
    remove_one(index_copy)
    publish(index_copy, url)
    assert answers(newer(first)) == answers(index_copy)
    newer.__self__.close()


def test_locks_of_killed_processes_keep_nothing(index_copy: Path, url: str, opened: PublishedIndex) -> None:
    first = opened.fetch()
    opened.close()
    (opened.root / "in-use" / f"{first.name}.1-0").touch()
    remove_one(index_copy)
    publish(index_copy, url)
    second = opened.fetch()
    assert [path for path in opened.root.glob("0*") if path.is_dir()] == [second]


def test_a_download_that_was_cut_off_is_continued(
    index_copy: Path, url: str, opened: PublishedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PIECE", 5000)
    original, left, sizes = Place.read_range, [12], list[int]()

    def failing(place: Place, name: str, start: int, end: int) -> bytes:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("no route")
        data = original(place, name, start, end)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(Place, "read_range", failing)
    with pytest.raises(StoreError, match="no route"):
        opened.fetch()
    begun = sum(sizes)
    left[0] = 10**6
    folder = opened.fetch()
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert begun > 0
    assert total <= sum(sizes) <= total + 5000 * download.WORKERS * 2  # pieces that were on their way
    assert answers(folder) == answers(index_copy)


def test_a_piece_that_fails_is_asked_for_again(
    index_copy: Path, opened: PublishedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, failed = Place.read_range, set[tuple[str, int]]()

    def failing(place: Place, name: str, start: int, end: int) -> bytes:
        if (name, start) not in failed:
            failed.add((name, start))
            raise StoreError("no route")
        return original(place, name, start, end)

    monkeypatch.setattr(Place, "read_range", failing)
    assert answers(opened.fetch()) == answers(index_copy)
    assert failed


def test_processes_of_a_machine_download_once(url: str, tmp_path: Path, reads: list[int]) -> None:
    folders: list[Path] = []
    indexes = [PublishedIndex(url, tmp_path / "cache") for _ in range(4)]
    threads = [threading.Thread(target=lambda index=index: folders.append(index.fetch())) for index in indexes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 4
    assert len(set(folders)) == 1
    assert sum(reads) == sum(path.stat().st_size for path in folders[0].rglob("*") if path.is_file())
    for index in indexes:
        index.close()


def test_a_generation_of_the_cache_that_lost_a_part_is_fetched_again(
    index_copy: Path, opened: PublishedIndex, reads: list[int]
) -> None:
    folder = opened.fetch()
    (folder / "model" / "README.md").unlink()
    size = (folder / "items.sqlite").stat().st_size
    (folder / "items.sqlite").chmod(0o644)
    os.truncate(folder / "items.sqlite", 100)
    reads.clear()
    assert opened.fetch() == folder
    assert answers(folder) == answers(index_copy)
    assert sum(reads) == size + (folder / "model" / "README.md").stat().st_size
    shutil.rmtree(opened.root)  # somebody empties the cache below a server
    assert opened.newer(folder) is None
    assert answers(folder) == answers(index_copy)


def test_without_the_url_the_cache_is_served(
    index_copy: Path, url: str, opened: PublishedIndex, tmp_path: Path
) -> None:
    folder, notes = opened.fetch(), list[str]()
    Path(url).rename(tmp_path / "away")
    with pytest.raises(StoreError, match=f"no published index at {url}; check the address"):
        opened.newer(folder)
    assert PublishedIndex(url, tmp_path / "cache").fetch(notes.append) == folder
    assert notes == [
        f"warning: no published index at {url}; check the address, or `publish` one; generation 1 of the cache is used"
    ]
    with pytest.raises(StoreError, match="no published index"):
        PublishedIndex(url, tmp_path / "another").fetch()
    (tmp_path / "away").rename(url)
    remove_one(index_copy)
    publish(index_copy, url)
    assert opened.newer(folder)


def test_a_generation_that_cannot_be_fetched_is_not_downloaded_all_the_time(
    index_copy: Path, url: str, opened: PublishedIndex, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = opened.fetch()
    remove_one(index_copy)
    publish(index_copy, url)
    (new,) = Path(url, "files").glob("00000002-*")
    whole = new.read_bytes()
    new.write_bytes(whole[:-4] + b"XXXX")
    reads.clear()
    with pytest.raises(DataError, match=new.name):
        opened.newer(serving)
    once = sum(reads)
    assert [opened.newer(serving) for _ in range(20)] == [None] * 20  # told once
    assert sum(reads) == once
    monkeypatch.setattr(opened, "_again", 0.0)  # the pause is over
    assert opened.newer(serving) is None
    assert once < sum(reads) <= 2 * once
    assert opened._pause == 2 * published.FIRST_PAUSE
    remove_one(index_copy)
    publish(index_copy, url)
    assert opened.newer(serving)  # a newer one is not waited with


def test_a_server_that_does_not_answer_is_not_waited_for_if_the_cache_has_an_index(
    opened: PublishedIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, notes, ending = opened.fetch(), list[str](), threading.Event()
    monkeypatch.setattr(published, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(PublishedIndex, "_newest", lambda _: ending.wait(60))
    assert opened.fetch(notes.append) == folder
    ending.set()
    assert "cannot be reached: no answer within 0.01 seconds; generation 1 of the cache is used" in notes[0]


def test_a_deleted_generation_takes_servers_back_to_the_one_before(
    index_copy: Path, url: str, opened: PublishedIndex
) -> None:
    before = answers(index_copy)
    remove_one(index_copy)
    publish(index_copy, url)
    second = opened.fetch()
    (Path(url) / "generations" / "00000002.json").unlink()
    first = opened.newer(second)
    assert first
    assert answers(first) == before


def cut(folder: Path, name: str) -> None:
    os.truncate(folder / "files" / name, (folder / "files" / name).stat().st_size - 1)


def flip(folder: Path, name: str) -> None:
    data = bytearray((folder / "files" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "files" / name).write_bytes(data)


def lose(folder: Path, name: str) -> None:
    (folder / "files" / name).unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"is damaged: it has [\d,]+ bytes, and [\d,]+ were published; delete it, and publish"),
        (flip, "is damaged: its checksum does not match; delete it, and publish the index again"),
        (lose, "is missing; publish the index again"),
    ],
)
def test_damaged_files_are_named_and_never_served(
    index_copy: Path, url: str, opened: PublishedIndex, damage: Callable[[Path, str], None], words: str
) -> None:
    serving = opened.fetch()
    before = answers(serving)
    remove_one(index_copy)
    publish(index_copy, url)
    newest = json.loads((Path(url) / "generations" / "00000002.json").read_text())
    file = next(file for file in newest["files"] if file["path"] == "items.sqlite")
    name = f"{file['since']:08d}-{file['check']}"
    damage(Path(url), name)
    with pytest.raises(SPQError, match=f"{url}/files/{name}.*{words}"):
        opened.newer(serving)
    notes: list[str] = []
    assert opened.fetch(notes.append) == serving
    assert name in notes[0]
    assert answers(serving) == before
    (Path(url) / "files" / name).unlink(missing_ok=True)
    assert publish(index_copy, url).uploaded == 1
    newer = opened.newer(serving)
    assert newer
    assert answers(newer) == answers(index_copy)


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "size": 1, "check": "0" * 16, "since": 1}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "up": ({"files": [_file("../../evil")]}, r"'\.\./\.\./evil' is no file of an index"),
    "absolute": ({"files": [_file("/etc/passwd")]}, "'/etc/passwd' is no file of an index"),
    "odd": ({"files": [_file("shards/00001-0123456789abcdef/../x.npy")]}, "is no file of an index"),
    "lock": ({"files": [_file(".lock")]}, r"'\.lock' is no file of an index"),
    "name": ({"files": [_file("manifest.json") | {"check": "../../../../etc/p"}]}, "numbers that do not fit"),
    "size": ({"files": [_file("manifest.json") | {"size": -1}]}, "numbers that do not fit"),
    "since": ({"files": [_file("manifest.json") | {"since": 9}]}, "numbers that do not fit"),
    "few": ({"files": [_file("manifest.json")]}, "it names a file twice, or lacks files"),
    "number": ({"number": 7}, "it is generation 7"),
    "key": ({"more": 1}, "unknown key"),
    "model": ({"model": "0" * 16}, "it names model 0000000000000000, its index "),
    "type": ({"images": "many"}, "expected int"),
}


@pytest.mark.parametrize("what", WRONG)
def test_generations_that_are_none_are_refused(url: str, tmp_path: Path, what: str) -> None:
    changed, words = WRONG[what]
    file = Path(url) / "generations" / "00000001.json"
    content = json.loads(file.read_text()) | changed
    del content["check"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    file.write_text(json.dumps(content | {"check": digest}))
    with pytest.raises(DataError, match=f"generations/00000001.json is damaged: .*{words}"):
        PublishedIndex(url, tmp_path / "cache").fetch()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name in ("evil", "passwd", "x.npy")]


def test_files_of_no_generation_are_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(url) / "generations" / "00000001.json"
    whole = file.read_bytes()
    for data, words in (
        (whole[:-40], "is damaged: no JSON"),
        (whole.replace(b'"images": 60', b'"images": 61'), "is damaged: its checksum does not match"),
        (b'{"format": 99}', "has format 99, this spq reads up to 1; update spq"),
        (b"[]", "expected a table"),
        (b" " * 2**24 + b"{}", "is damaged: it has 16,777,218 bytes"),
    ):
        file.write_bytes(data)
        with pytest.raises(SPQError, match=words):
            PublishedIndex(url, tmp_path / "cache").fetch()
    file.write_bytes(whole)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    with pytest.raises(
        SpaceError, match=r"has room for 1,000 bytes, and [0-9,]+ are to be downloaded; free some space"
    ):
        PublishedIndex(url, tmp_path / "cache").fetch()


def test_what_came_after_a_listing_is_there(s3: str, index_copy: Path) -> None:
    place = Place(f"{s3}/late")
    other = s3fs.S3FileSystem(skip_instance_cache=True)  # as another process has it
    other.call_s3("put_object", Bucket=BUCKET, Key="late/", Body=b"")  # some programs make folders so
    assert place.entries() == {}
    assert place.put("files/a", b"first")
    assert place.list("files").keys() == {"a"}
    other.pipe_file(f"{BUCKET}/late/files/b", b"second")
    assert place.read("files/b") == b"second"
    with pytest.raises(FileNotFoundError):
        place.read("files/c")
    place.delete("files/a")
    place.delete("files/b")
    place.delete("files/c")
    assert place.list("files") == {}
    assert publish(index_copy, place.url).is_new


def test_a_place_with_something_else_is_no_published_index(shared_photos: Path, tmp_path: Path, s3: str) -> None:
    with pytest.raises(
        StoreError, match=f"no published index at {shared_photos}, but something else \\(ankle boot\\); check"
    ):
        PublishedIndex(str(shared_photos), tmp_path / "cache").fetch()
    with pytest.raises(StoreError, match="no published index at s3://nowhere/x; check the address"):
        PublishedIndex("s3://nowhere/x", tmp_path / "cache").fetch()
