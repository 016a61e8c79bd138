"""Input shards: what one worker encodes at a time, and how it is opened.

A shard of a local collection is a range of its pictures. Elsewhere it is one tar or Parquet file, which is copied to this machine
first, or a list of single pictures.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from spq.common.files import expanded, scratch_place
from spq.common.json_file import parse_json
from spq.common.text import name_to_id
from spq.config.strict import from_dict
from spq.data.formats import MAX_BYTES
from spq.data.image_set import ImageSet, changed_at
from spq.data.parquet import ParquetImages
from spq.data.source import Source
from spq.data.tar import TarImages
from spq.errors import DataError, ImageError
from spq.index.items import as_json
from spq.index.sync import metadata
from spq.scale.urls import filesystem, reaching

if TYPE_CHECKING:
    from spq.scale.urls import Place

CHANGED = "has changed since the job began; give another `out` for what is there now"
AHEAD = 16  # pictures that are fetched at the same time
CONTAINERS = {".tar": TarImages, ".parquet": ParquetImages}


@dataclass(frozen=True)
class PictureRange:
    """Pictures `start` to `stop` of a local collection, and a digest of their ids, sizes, times and metadata."""

    start: int
    stop: int
    digest: str


@dataclass(frozen=True)
class ContainerFile:
    """A tar or Parquet file. The ids of its pictures begin with `prefix`.

    Attributes:
        stamp: what changes with its content: etag or time of last change, as its service has it.
    """

    url: str
    size: int
    stamp: str
    mtime_ns: int
    prefix: str


@dataclass(frozen=True)
class PictureList:
    """Single pictures: a file `name` of the job lists them. The name has the hash of the list."""

    name: str
    count: int


Input = PictureRange | ContainerFile | PictureList
KINDS: dict[str, type[Input]] = {"range": PictureRange, "file": ContainerFile, "list": PictureList}


def count_of(given: Input) -> int | None:
    """How many pictures an input shard has; None if only its worker will know, who opens the file."""
    if isinstance(given, PictureRange):
        return given.stop - given.start
    return given.count if isinstance(given, PictureList) else None


def to_json(given: Input) -> dict[str, Any]:
    """An input shard as plain JSON types."""
    kind = next(kind for kind, cls in KINDS.items() if isinstance(given, cls))
    return {"kind": kind, **asdict(given)}


def from_json(table: Any, where: str) -> Input:
    """An input shard of plain JSON types.

    Raises:
        ConfigError: it is none.
    """
    fields = dict(table) if isinstance(table, dict) else {}
    return from_dict(KINDS.get(str(fields.pop("kind", "")), PictureRange), fields, where)


class Remote(NamedTuple):
    """A picture in a list: its path below the root, size, stamp, and time of last change."""

    name: str
    size: int
    stamp: str
    mtime_ns: int


class Opened(NamedTuple):
    """The pictures of an input shard, and what their ids begin with."""

    images: ImageSet
    positions: Sequence[int]
    prefix: str = ""


@contextmanager
def opened(given: Input, place: Place, collection: ImageSet | None) -> Iterator[Opened]:
    """Open an input shard.

    Args:
        place: of the job, whose lists are there. collection: the local one, if the job has one.
    Raises:
        DataError: it is not what the job has begun with, or is damaged. StoreError: it cannot be reached.
    """
    if isinstance(given, PictureRange):
        assert collection is not None
        positions = range(given.start, given.stop)
        if given.stop > len(collection) or range_digest(collection, positions) != given.digest:
            raise DataError(f"{collection.name} {CHANGED}")
        yield Opened(collection, positions)
    elif isinstance(given, PictureList):
        data = place.read(given.name)
        if list_name(data) != given.name:
            raise DataError(f"{place.url}/{given.name} is damaged; give another `out`")
        table = parse_json(data)
        with closing(ListedImages(table["root"], [Remote(*row) for row in table["pictures"]])) as listed:
            yield Opened(listed, range(len(listed)), table["prefix"])
    else:
        with _copied(given) as file:
            images = CONTAINERS[file.suffix.lower()](given.url, [file])
            yield Opened(images, range(len(images)), given.prefix)


@contextmanager
def _copied(given: ContainerFile) -> Iterator[Path]:
    """Copy a file to this machine, with its time of last change."""
    fs, path = filesystem(given.url)
    with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(given.size + 2**26)) as folder:
        file = Path(folder) / path.rpartition("/")[2]
        try:
            with reaching(given.url):
                fs.invalidate_cache()
                now = Remote("", *facts_of(fs.info(path)))
                fs.get_file(path, str(file))
        except FileNotFoundError:
            raise DataError(f"{given.url} {CHANGED}") from None
        if (now.size, now.stamp, file.stat().st_size) != (given.size, given.stamp, given.size):
            raise DataError(f"{given.url} {CHANGED}")
        os.utime(file, ns=(given.mtime_ns, given.mtime_ns))
        yield file


def list_name(data: bytes) -> str:
    """The name of a list of pictures, by its content."""
    return f"inputs/{hashlib.sha256(data).hexdigest()[:24]}.json"


def list_bytes(root: str, prefix: str, pictures: Sequence[Remote]) -> bytes:
    """The content of a list of pictures."""
    return json.dumps({"root": root, "prefix": prefix, "pictures": pictures}, separators=(",", ":")).encode()


def facts_of(info: dict[str, Any]) -> tuple[int, str, int]:
    """Size, stamp and time of last change of a file, of what its service tells about it."""
    changed = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), 0)
    if isinstance(changed, str):
        from datetime import datetime

        changed = datetime.fromisoformat(changed)
    seconds = changed.timestamp() if hasattr(changed, "timestamp") else float(changed)
    etag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash") if info.get(key)), "")
    mtime_ns = int(seconds * 1e6) * 1000
    return int(info.get("size") or 0), etag.strip('"') or str(mtime_ns), mtime_ns


class ListedImages(ImageSet):
    """Pictures of a list. Those that will be read next are fetched ahead, many at the same time."""

    def __init__(self, root: str, pictures: Sequence[Remote]) -> None:
        super().__init__(root, [name_to_id(picture.name) for picture in pictures])
        self.pictures = pictures
        self.fs, self.root = filesystem(root)
        self._pool = ThreadPoolExecutor(AHEAD, "spq-fetch")
        self._lock = Lock()
        self._coming: dict[int, Future[bytes]] = {}
        self._asked: set[int] = set()

    def close(self) -> None:
        """Wait for what is being fetched, and fetch no more."""
        self._pool.shutdown(cancel_futures=True)

    def read(self, position: int) -> bytes:
        with self._lock:
            if position not in self._coming:  # also if it was read before
                self._asked.discard(position)
            for ahead in range(position, min(position + AHEAD, len(self))):
                if ahead not in self._asked:
                    self._asked.add(ahead)
                    self._coming[ahead] = self._pool.submit(self._fetch, ahead)
            coming = self._coming.pop(position)
        return coming.result()

    def _fetch(self, position: int) -> bytes:
        name, size = self.pictures[position].name, self.pictures[position].size
        if size > MAX_BYTES:
            raise ImageError(f"cannot read {self.ids[position]}: {size:,} bytes are over the limit of {MAX_BYTES:,}")
        try:
            with reaching(f"{self.name}/{name}"):
                data = bytes(self.fs.cat_file(f"{self.root.rstrip('/')}/{name}"))
        except FileNotFoundError:
            raise DataError(f"{self.name}/{name} {CHANGED}") from None
        if len(data) != size:
            raise DataError(f"{self.name}/{name} {CHANGED}")
        return data

    def stat(self, position: int) -> tuple[int, int]:
        picture = self.pictures[position]
        return picture.size, picture.mtime_ns


def range_digest(images: ImageSet, positions: Sequence[int]) -> str:
    """A digest of all by which a worker knows that pictures are those of the job.

    Pictures inside a file count as unchanged if the file has the same size and time.
    """
    digest = hashlib.sha256(json.dumps(_files_of(images.source)).encode())
    for position in positions:
        status = images.stat(position) if images.path(position) else ()
        digest.update(json.dumps([images.ids[position], status, as_json(metadata(images, position))]).encode())
    return digest.hexdigest()


def _files_of(source: Source) -> list[tuple[int, int]]:
    """Size and time of last change of the files that a source names."""
    paths = (expanded(name) for name in source.names)
    found = (p for path in paths for p in ([path] if path.exists() else map(Path, sorted(glob.glob(str(path))))))  # noqa: PTH207
    return [(status.st_size, changed_at(status)) for path in found if path.is_file() for status in (path.stat(),)]
