"""A copy of an index in one file, made while others read and write the index, and an index made from such a file.

The file is a plain tar without compression. Its first member, `backup.json`, has the size and the SHA-256 of each other one.
A backup and a restored index get their names when they are complete, checked and on the disk.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, BinaryIO

from spq import __version__
from spq.common.files import is_full, naming, sync_folder
from spq.common.json_file import parse_json
from spq.config import from_dict
from spq.errors import ConfigError, StoreError
from spq.index.format import DECISIONS, NOT_DUPLICATES, SQLITE_ERRORS, open_reader, why_full
from spq.index.manifest import SHARDED, read_manifest
from spq.index.shards.open_store import open_store
from spq.index.side_files import why_blocked
from spq.index.verify import faults
from spq.index.workplace import check_unused, give_name, workplace

FORMAT = 1
CONTENTS, CONTENTS_LIMIT = "backup.json", 1 << 16
NEEDED = ("manifest.json", "items.sqlite")
MODEL = ("model/model.safetensors", "model/README.md", "model/config.json")  # the last one makes it a model
OF_USER = (NOT_DUPLICATES, DECISIONS)
NAMES = (*NEEDED, *OF_USER, *MODEL)
TRIES, WAIT = 10, 0.1  # while the index is replaced by that of another model
PAGES = 1000  # of the database, that are copied before Ctrl-C is noticed
CHUNK = 1 << 20

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Member:
    """A file of an index, as it is in the backup."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What a backup holds, in the order of the file.

    Attributes:
        images: number of pictures, readable or not. model: hash of the model that made the codes.
    """

    format: int
    spq_version: str
    images: int
    model: str
    members: tuple[Member, ...]

    @property
    def bytes(self) -> int:
        return sum(member.bytes for member in self.members)


def back_up(folder: Path, file: Path, progress: Progress = lambda *_: None) -> Contents:
    """Write a backup of an index. An existing file is never replaced.

    The backup is the index at one moment: what was committed then is in it, and nothing of what came later.

    Args:
        progress: called with (what, done, total).
    Raises:
        ConfigError: `file` exists, or is inside the index. StoreError: there is no index, it has faults or shards, or it was
            given another model again and again.
    """
    if read_manifest(folder).format >= SHARDED:
        raise StoreError(f"index {folder} has shards; `publish` it to a folder instead, which `restore` takes as well")
    if file.absolute().parent.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{file} is inside the index; give a place outside of it, best on another disk")
    _refuse_existing(file)
    with workplace(file) as place:
        snapshot(folder, place / "index", progress)
        _check(place / "index", f"index {folder} has faults, so it is not backed up", f"index {folder}", progress)
        contents = _write(place / "index", place / "backup")
        _give_name(place / "backup", file)
        return contents


def restore(file: Path, folder: Path, progress: Progress = lambda *_: None) -> Contents:
    """Make an index of a backup. An existing index is never changed.

    Args:
        progress: called with (what, done, total).
    Raises:
        ConfigError: `folder` exists and is not empty. StoreError: `file` is no backup, is damaged or of a newer format.
    """
    check_unused(folder)
    try:
        if not file.exists():
            raise StoreError(f"no file {file}; check the path")
        if not file.is_file():  # a pipe would wait for its writer
            raise StoreError(f"{file} is not a file; give a file of `backup`")
        source = file.open("rb")
    except OSError as error:
        raise StoreError(f"backup {file} cannot be read: {error.strerror}; check the path") from None
    with source, workplace(folder) as place:
        contents = _extract(source, file, place / "index", progress)
        _check(place / "index", f"backup {file} holds an index with faults", f"backup {file}", progress)
        give_name(place / "index", folder)
        return contents


def restore_folder(source: Path, folder: Path, progress: Progress = lambda *_: None) -> Contents:
    """Make an index of a copy that nobody writes to, such as one that was fetched. An existing index is never changed.

    Args:
        progress: called with (what, done, total).
    Raises:
        ConfigError: `folder` exists and is not empty. StoreError: the copy has faults.
    """
    check_unused(folder)
    with workplace(folder) as place:
        files = sorted(file for file in source.rglob("*") if file.is_file())
        members = []
        for done, file in enumerate(files):
            progress("copying files", done, len(files))
            name = file.relative_to(source)
            (place / "index" / name).parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as old, (place / "index" / name).open("xb") as new:
                size = os.fstat(old.fileno()).st_size
                members.append(Member(name.as_posix(), size, _pour(old, new, size, file)))
        _check(place / "index", f"{source} is an index with faults", f"index {source}", progress)
        with open_store(place / "index") as store:
            contents = Contents(FORMAT, __version__, store.count(), store.manifest.model, tuple(members))
        give_name(place / "index", folder)
        return contents


def _refuse_existing(file: Path) -> None:
    if os.path.lexists(file):
        raise ConfigError(f"{file} exists and is not replaced; give a new name, for example one with the date")


def snapshot(folder: Path, staged: Path, progress: Progress) -> None:
    """Copy all files of an index but its shards, as they are at one moment.

    Each change of the items is a commit, so a read transaction sees one moment. The other files change when the index is
    given another model; then all is copied again.

    Raises:
        StoreError: there is no index, or it was replaced again and again.
    """
    for _ in range(TRIES):
        shutil.rmtree(staged, ignore_errors=True)
        (staged / "model").mkdir(parents=True)
        try:
            if _copy_once(folder, staged, progress):
                return
        except (*SQLITE_ERRORS, StoreError, FileNotFoundError) as error:
            if why_full(staged, error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            failure: Exception = error
        else:
            failure = StoreError("it was replaced meanwhile")
        time.sleep(WAIT)
    if blocked := why_blocked(folder):
        raise StoreError(f"index {folder} cannot be copied: {blocked}")
    raise StoreError(f"index {folder} cannot be copied ({failure}); check it with `verify`, and try again")


def _copy_once(folder: Path, staged: Path, progress: Progress) -> bool:
    """Copy the files; returns whether all of them belong together.

    The manifest and the database stay open until the end, so that a file that replaces one of them is another file: the system
    may give it the number of a deleted one, but not of an open one.
    """
    with (folder / "manifest.json").open("rb") as manifest, closing(open_reader(folder)) as old:
        before = (folder / "items.sqlite").stat()
        (staged / "manifest.json").write_bytes(manifest.read())
        old.isolation_level = None
        old.execute("BEGIN")
        old.execute("SELECT id FROM items LIMIT 1").fetchall()  # the moment
        if not _is_still(folder / "manifest.json", os.fstat(manifest.fileno())):
            return False
        with closing(sqlite3.connect(staged / "items.sqlite")) as new:
            old.backup(new, pages=PAGES, progress=lambda _, left, total: progress("copying items", total - left, total))
        old.execute("COMMIT")
        if old.is_outdated():
            return False
        for name in OF_USER:
            with suppress(FileNotFoundError):
                _copy_file(folder / name, staged / name)
        if (folder / "model" / "config.json").exists():  # else its first writer has not come so far
            for name in MODEL:
                _copy_file(folder / name, staged / name)
        is_same = _is_still(folder / "items.sqlite", before)
        return is_same and _is_still(folder / "manifest.json", os.fstat(manifest.fileno()))


def _is_still(path: Path, before: os.stat_result) -> bool:
    return os.path.samestat(path.stat(), before)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("xb") as new:
        _pour(old, new, os.fstat(old.fileno()).st_size, source)


def _pour(source: IO[bytes], target: IO[bytes], size: int, place: Path) -> str:
    """Copy bytes; returns their SHA-256.

    Args:
        place: named in errors of reading.
    """
    digest = hashlib.sha256()
    while size:
        with naming(place):
            chunk = source.read(min(size, CHUNK))
        if not chunk:
            raise StoreError(f"{place} ends too early; copy it again, or use another backup")
        digest.update(chunk)
        target.write(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _check(staged: Path, what: str, name: str, progress: Progress) -> None:
    progress("checking", 0, 1)
    fault = next(faults(staged), None)
    if fault and is_full(staged):  # SQLite writes files beside a database, also to read it
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fault:
        shown = fault.replace(f"index {staged}", name).replace(str(staged), name)
        raise StoreError(f"{what}, for example: {shown}")
    progress("checking", 1, 1)


def _write(staged: Path, part: Path) -> Contents:
    """Write the backup of a copied index."""
    names = [name for name in NAMES if (staged / name).exists()]
    members = []
    for name in names:
        with (staged / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        members.append(Member(name, (staged / name).stat().st_size, digest))
    with closing(sqlite3.connect(f"{(staged / 'items.sqlite').as_uri()}?mode=ro", uri=True)) as database:
        images = database.execute("SELECT count(*) FROM items").fetchone()[0]
    contents = Contents(FORMAT, __version__, images, read_manifest(staged).model, tuple(members))
    described = (json.dumps(asdict(contents), indent=2) + "\n").encode()
    with part.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            tar.addfile(_member(CONTENTS, len(described)), io.BytesIO(described))
            for member in members:
                with (staged / member.name).open("rb") as source:
                    tar.addfile(_member(member.name, member.bytes), source)
        file.flush()
        os.fsync(file.fileno())
    return contents


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _give_name(part: Path, file: Path) -> None:
    """Give a complete backup its name, unless another process has taken the name meanwhile."""
    try:
        os.link(part, file)
    except FileExistsError:
        _refuse_existing(file)
    except OSError:  # a disk without hard links
        _refuse_existing(file)
        part.rename(file)
    sync_folder(file.absolute().parent)


def _extract(source: BinaryIO, file: Path, staged: Path, progress: Progress) -> Contents:
    """Write the files of a backup to a new folder, and check each against its SHA-256."""
    contents, total = _contents(source, file), 0
    if contents.bytes > os.fstat(source.fileno()).st_size:
        raise StoreError(f"{file} ends too early; copy it again, or use another backup")
    (staged / "model").mkdir(parents=True)
    for member in contents.members:
        progress("restoring", total, contents.bytes)
        if _next_member(source, file) != (member.name, member.bytes):
            raise _damaged(file, member.name)
        with (staged / member.name).open("xb") as target:
            digest = _pour(source, target, member.bytes, file)
            target.flush()
            os.fsync(target.fileno())
        if digest != member.sha256:
            raise _damaged(file, member.name)
        source.seek(-member.bytes % tarfile.BLOCKSIZE, os.SEEK_CUR)
        total += member.bytes
    progress("restoring", total, contents.bytes)
    return contents


def _contents(source: BinaryIO, file: Path) -> Contents:
    """Read what a backup holds: files of an index, each once, and nothing else."""
    name, size = _next_member(source, file)
    if name != CONTENTS or size > CONTENTS_LIMIT:
        raise StoreError(f"{file} is not a backup of an index; give a file of `backup`")
    data = source.read(size)
    source.seek(-size % tarfile.BLOCKSIZE, os.SEEK_CUR)
    try:
        table = parse_json(data)
        found = table.get("format") if isinstance(table, dict) else None
        if type(found) is int and found > FORMAT:
            raise StoreError(f"backup {file} has format {found}, this spq reads up to {FORMAT}; update spq")
        contents = from_dict(Contents, table, where=CONTENTS)
    except (ConfigError, ValueError, TypeError):
        raise _damaged(file, CONTENTS) from None
    names = [member.name for member in contents.members]
    if names != [name for name in NAMES if name in names] or not set(names).issuperset(NEEDED):
        raise _damaged(file, CONTENTS)
    return contents


def _next_member(source: BinaryIO, file: Path) -> tuple[str, int]:
    """Name and size of the next member, which must be a plain file: no link, no device, no header of an extension."""
    try:
        info = tarfile.TarInfo.frombuf(source.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise StoreError(f"{file} is damaged, or no backup of an index; copy it again, or use another backup") from None
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise _damaged(file, info.name)
    return info.name, info.size


def _damaged(file: Path, name: str) -> StoreError:
    return StoreError(f"backup {file} is damaged ({name}); copy it again, or use another backup")
