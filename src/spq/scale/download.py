"""Download files of a published index: in pieces, so that memory is bounded; a file that was begun is continued."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from spq.common.files import sync_folder
from spq.common.parallel import map_in_order
from spq.errors import DataError, SpaceError, StoreError
from spq.scale.generation import AGAIN, FILES, PublishedFile, list_files
from spq.scale.urls import CHUNK, Place

WORKERS = 4  # pieces that are downloaded at the same time
PIECE = 2**23  # bytes of a piece
TRIES, WAIT = 4, 0.5  # for each piece, and the seconds before the second try; the others wait longer
CHECK_DIGITS = 16
PART = ".part"
Progress = Callable[[int, int], None]  # bytes done, of all


class _Piece(NamedTuple):
    file: PublishedFile
    start: int
    end: int


def part_name(file: PublishedFile) -> str:
    """The name of a downloaded file."""
    return f"{file.check}-{file.size}"


def download(place: Place, files: Sequence[PublishedFile], folder: Path, progress: Progress = lambda *_: None) -> None:
    """Download files into a folder, under the names of `part_name`. One that is there, or in part, is not fetched again.

    Raises:
        FileNotFoundError: a file is not at the place. DataError: it is damaged. StoreError: the place cannot be reached.
        SpaceError: the disk has too little room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    different = {part_name(file): file for file in files}
    wanted = [file for name, file in different.items() if not (folder / name).exists()]
    _check_sizes(place, wanted)
    starts = [_kept_bytes(folder, file) for file in wanted]
    total, done = sum(file.size for file in wanted), sum(starts)
    _check_room(folder, total - done)
    stopped = threading.Event()
    read = partial(_read, place, stopped)
    with closing(map_in_order(read, _pieces(wanted, starts), WORKERS, stopped)) as data:
        for file, start in zip(wanted, starts, strict=True):
            for size in _write(place, file, start, folder, data):
                done += size
                progress(done, total)
    sync_folder(folder)


def _check_sizes(place: Place, files: Sequence[PublishedFile]) -> None:
    """Compare sizes before anything is fetched."""
    found = list_files(place) if files else {}
    for file in files:
        if file.name not in found:
            raise FileNotFoundError(f"{place.url}/{FILES}/{file.name} is missing; {AGAIN}")
        if found[file.name] != file.size:
            raise _damaged(place, file, f"it has {found[file.name]:,} bytes, and {file.size:,} were published")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SpaceError(f"{folder} has room for {free:,} bytes, and {needed:,} are to be downloaded; free some space")


def _kept_bytes(folder: Path, file: PublishedFile) -> int:
    """How many bytes of a file an earlier try has downloaded."""
    part = folder / f"{part_name(file)}{PART}"
    size = part.stat().st_size if part.exists() else 0
    if size > file.size:
        part.unlink()
        return 0
    return size


def _pieces(files: Sequence[PublishedFile], starts: Sequence[int]) -> Iterator[_Piece]:
    for file, first in zip(files, starts, strict=True):
        for start in range(first, file.size, PIECE):
            yield _Piece(file, start, min(start + PIECE, file.size))


def _read(place: Place, stopped: threading.Event, piece: _Piece) -> bytes:
    """The bytes of a piece, after some tries.

    Raises:
        StoreError: the place cannot be reached. DataError: it sends something else.
    """
    for left in reversed(range(TRIES)):
        try:
            data = place.read_range(f"{FILES}/{piece.file.name}", piece.start, piece.end)
            break
        except StoreError:
            if not left or stopped.wait(WAIT * 2 ** (TRIES - 1 - left)):
                raise
    if len(data) != piece.end - piece.start:
        raise _damaged(place, piece.file, "it does not have the bytes that were published")
    return data


def _write(place: Place, file: PublishedFile, start: int, folder: Path, data: Iterator[bytes]) -> Iterator[int]:
    """Write the rest of a file, and compare all of it with its checksum; yields the sizes of pieces.

    Raises:
        DataError: it is not what was published; it is deleted then.
    """
    part = folder / f"{part_name(file)}{PART}"
    digest = hashlib.sha256()
    with part.open("a+b") as stream:
        stream.seek(0)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
        while start < file.size:
            chunk = next(data)
            stream.write(chunk)
            digest.update(chunk)
            start += len(chunk)
            yield len(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if digest.hexdigest()[:CHECK_DIGITS] != file.check:
        part.unlink()
        raise _damaged(place, file, "its checksum does not match")
    if os.name != "nt":  # which does not delete such files
        part.chmod(0o444)  # generations share it
    part.replace(folder / part_name(file))


def _damaged(place: Place, file: PublishedFile, why: str) -> DataError:
    name = f"{place.url}/{FILES}/{file.name}"
    return DataError(f"{name} ({file.path}) is damaged: {why}; delete it, and {AGAIN}")
