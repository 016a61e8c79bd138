"""Publish an index: upload a consistent snapshot of it, from which any number of servers serve.

A generation takes over files of the one before it, and of no other. So files that neither of these two names can be deleted at
once, also while others publish: no later generation will name them.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from spq import __version__
from spq.common.files import scratch_place
from spq.common.json_file import parse_json, read_json
from spq.common.parallel import map_in_order
from spq.errors import ConfigError, DataError, StoreError
from spq.index.backup import MODEL, snapshot
from spq.index.codebooks import files_check, read_codebooks
from spq.index.format import NOT_DUPLICATES, SQLITE_ERRORS
from spq.index.manifest import SHARDED, Manifest, as_text, from_content, read_manifest
from spq.index.shards.shard_facts import FOLDER
from spq.index.shards.shard_writer import check_of
from spq.index.table_reader import TableReader
from spq.model.own_parts import needed_parts
from spq.scale.generation import (
    FILES,
    FORMAT,
    GENERATIONS,
    MOST,
    NEEDED,
    Generation,
    PublishedFile,
    foreign_entry,
    list_files,
    list_generations,
    read_generation,
    since_of,
)
from spq.scale.urls import Place, remove_parts

TRIES, WAIT = 5, 0.2  # while the shards of the index are written again
WORKERS = 4  # files that are uploaded at the same time
Progress = Callable[[str, int, int], None]


class _ChangedError(Exception):
    """A file of the index changed or vanished while it was read."""


class _Stamp(NamedTuple):
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Source:
    """A file to publish: its path in the index folder, where it is read, and its content."""

    path: str
    place: Path
    size: int
    check: str
    stamp: _Stamp | None = None  # None for a file of a shard: it never changes, but may be damaged


@dataclass(frozen=True)
class _Before:
    """What is at the URL: the last two whole generations, the highest number, and the files with their sizes."""

    base: Generation | None
    older: Generation | None
    number: int
    files: dict[str, int]


@dataclass(frozen=True)
class PublishReport:
    """What a publication did.

    Attributes:
        generation: its number. is_new: False if the index was published before as it is now.
        files, bytes: of the generation. uploaded, bytes_uploaded: those that were not at the URL yet.
        note: why old files could not be deleted; empty if they were.
    """

    url: str
    generation: int
    is_new: bool
    images: int
    model: str
    revision: int
    files: int
    bytes: int
    uploaded: int = 0
    bytes_uploaded: int = 0
    note: str = ""


def publish(folder: Path, url: str, progress: Progress = lambda *_: None) -> PublishReport:
    """Publish an index at a URL, as it is now. Others may read and write the index meanwhile.

    Servers see the new generation when all of its files are there. What is interrupted leaves the last generation as it was;
    the next publication goes on.

    Args:
        progress: called with (what, done, total).
    Raises:
        ConfigError: the place holds something else, or is inside the index.
        StoreError: no index, a damaged one, the place cannot be reached, or somebody else has just published there.
    """
    read_manifest(folder)
    place = Place(url)
    _check_place(place, folder)
    for left in reversed(range(TRIES)):
        try:
            return _publish_once(folder, place, progress)
        except _ChangedError:
            if not left:
                raise StoreError(f"index {folder} changes all the time; publish it when its writer has ended") from None
            time.sleep(WAIT)
    raise AssertionError


def _check_place(place: Place, folder: Path) -> None:
    if not place.is_shared:
        raise ConfigError(f"{place.url} is in the memory of this process; give a folder, or the URL of an object store")
    if place.is_local and Path(place.root).resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{place.url} is inside the index; give a place outside of it")
    if not list_generations(place) and (foreign := foreign_entry(place)):
        raise ConfigError(f"{place.url} holds something else ({foreign}); give a new place")


def _publish_once(folder: Path, place: Place, progress: Progress) -> PublishReport:
    before = _look(place)
    number = before.number + 1
    if number > MOST:
        raise StoreError(f"{place.url} has {before.number:,} generations; give a new place")
    with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(_database_bytes(folder))) as staged:
        generation, sources = _take(folder, Path(staged), number, progress)
        generation = _with_known(generation, before)
        report = _report(place, generation)
        if before.base and before.base.number == before.number and set(before.base.files) == set(generation.files):
            note = _delete_old(place, before.base, before.older)
            return replace(report, generation=before.number, is_new=False, note=note)
        new = {file.name: (file, source) for file, source in zip(generation.files, sources, strict=True)}
        new = {n: pair for n, pair in new.items() if pair[0].since == number and before.files.get(n) != pair[0].size}
        _upload(place, list(new.values()), progress)
    if not place.put(generation.name, generation.to_bytes()):
        raise StoreError(f"somebody else has just published generation {number} at {place.url}; publish again")
    uploaded = sum(file.size for file, _ in new.values())
    note = _delete_old(place, generation, before.base)
    return replace(report, uploaded=len(new), bytes_uploaded=uploaded, note=note)


def _look(place: Place) -> _Before:
    """What is there. Damaged generations are passed over.

    Raises:
        StoreError: a generation of a newer format is there.
    """
    found, whole = list_generations(place), list[Generation]()
    for number in sorted(found, reverse=True):
        try:
            whole.append(read_generation(place, number, found[number]))
        except (FileNotFoundError, DataError):
            continue
        if len(whole) == 2:
            break
    base, older = [*whole, None, None][:2]
    return _Before(base, older, max(found, default=0), list_files(place))


class _Delta(TableReader):
    """The database of a snapshot, whose shards are elsewhere."""

    reads_shards = True

    def whole_manifest(self) -> Manifest:
        """The manifest with the list of shards. The copy in the database counts."""
        if self._format() < SHARDED:
            return replace(self.manifest, shards=(), generation=0)
        text = self.select_newer("SELECT CAST(manifest AS TEXT) FROM contents")[0][0]
        copy = from_content(parse_json(text), f"index {self.folder}", "the manifest in items.sqlite")
        return replace(self.manifest, format=SHARDED, shards=copy.shards, generation=copy.generation)

    def images(self) -> int:
        """Items with a code, those of shards too."""
        dead = self.select_newer("SELECT count(*) FROM tombstones")[0][0] if self._format() >= SHARDED else 0
        return len(self) + sum(facts.count for facts in self.whole_manifest().shards) - int(dead)


def _take(folder: Path, staged: Path, number: int, progress: Progress) -> tuple[Generation, list[_Source]]:
    """Copy what changes, and list all files, of one moment."""
    index = staged / "index"
    snapshot(folder, index, progress)
    if not (index / "model" / "config.json").exists():
        raise StoreError(f"index {folder} has no copy of its model yet; update it first")
    try:
        _without_side_files(index / "items.sqlite")
        with _Delta(index, read_manifest(index)) as tables:
            manifest, revision, images = tables.whole_manifest(), tables.revision(), tables.images()
            tables.codes()  # compared with their checksums
        if "quantizer" in needed_parts(read_json(index / "model" / "config.json")):
            raise ConfigError(f"index {folder} has codes of your own quantizer, whose code other machines do not have")
        read_codebooks(index, manifest)
        if manifest.model_files and manifest.model_files != files_check(index):
            raise StoreError(f"index {index}: its copy of the model is not what was written; repair the index")
    except (StoreError, ValueError, *SQLITE_ERRORS) as error:
        why = str(error).replace(str(index), str(folder))
        raise StoreError(f"a damaged index is not published: {why}") from None
    (index / "manifest.json").write_text(as_text(manifest), "utf-8")
    sources = list(_sources(folder, index, manifest))
    files = tuple(PublishedFile(source.path, source.size, source.check, number) for source in sources)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Generation(FORMAT, __version__, number, manifest.key, manifest.model, images, revision, now, files), sources


def _without_side_files(database: Path) -> None:
    """Let SQLite read a database without writing files beside it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _sources(folder: Path, staged: Path, manifest: Manifest) -> Iterator[_Source]:
    for name in ("manifest.json", "items.sqlite", *MODEL):
        if name in NEEDED or (staged / name).exists():
            yield _source(name, staged / name)
    if (staged / NOT_DUPLICATES).exists():
        yield _source(NOT_DUPLICATES, staged / NOT_DUPLICATES)
    shards = folder / FOLDER
    for facts in manifest.shards:
        for file in facts.files:
            path = f"{FOLDER}/{facts.name}/{file.name}"
            yield _Source(path, folder / path, file.size, file.check)
    for name in ("coarse", *(facts.name for facts in manifest.shards)) if manifest.shards else ():
        with suppress(FileNotFoundError):  # lists can be made again at any time
            yield _source(f"{FOLDER}/lists/{name}.npz", shards / "lists" / f"{name}.npz")


def _source(path: str, place: Path) -> _Source:
    stamp = _stamp(place)
    return _Source(path, place, stamp.size, check_of(place), stamp)


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def _with_known(generation: Generation, before: _Before) -> Generation:
    """The generation with the files of the one before it that have the same content, and are still at the URL."""
    base = before.base.files if before.base else ()
    known = {(file.size, file.check): file.since for file in base if before.files.get(file.name) == file.size}
    files = (replace(f, since=known.get((f.size, f.check), f.since)) for f in generation.files)
    return replace(generation, files=tuple(files))


def _upload(place: Place, new: list[tuple[PublishedFile, _Source]], progress: Progress) -> None:
    total, done = sum(file.size for file, _ in new), 0
    stopped = threading.Event()

    def put(pair: tuple[PublishedFile, _Source]) -> int:
        file, source = pair
        try:
            if source.stamp is None and check_of(source.place) != file.check:
                raise StoreError(f"a damaged index is not published: {source.place} is not what was written")
            place.put_file(f"{FILES}/{file.name}", source.place)
            if source.stamp and _stamp(source.place) != source.stamp:
                raise _ChangedError
        except FileNotFoundError:
            raise _ChangedError from None
        return file.size

    with closing(map_in_order(put, new, WORKERS, stopped)) as sizes:
        for size in sizes:
            done += size
            progress("uploading", done, total)


def _delete_old(place: Place, now: Generation, before: Generation | None) -> str:
    """Delete older generations than these two, and files that neither of them names; returns why that failed."""
    kept = {file.name for each in (now, before) if each for file in each.files}
    numbers = {now.number} | ({before.number} if before else set())
    try:
        for number in list_generations(place):
            if number < now.number and number not in numbers:
                place.delete(f"{GENERATIONS}/{number:08d}.json")
        for name in list_files(place):
            if since_of(name) <= now.number and name not in kept:
                place.delete(f"{FILES}/{name}")
        for folder in (FILES, GENERATIONS) if place.is_local else ():
            remove_parts(Path(place.root) / folder)
    except (StoreError, OSError) as error:
        return f"old files could not be deleted: {error}"
    return ""


def _database_bytes(folder: Path) -> int:
    return sum(os.path.getsize(file) for file in folder.glob("items.sqlite*"))  # noqa: PTH202 (a Path may be gone)


def _report(place: Place, generation: Generation) -> PublishReport:
    g = generation
    return PublishReport(place.url, g.number, True, g.images, g.model, g.revision, len(g.files), g.nbytes)
