"""A ZIP of pictures that is sent while it is written: no temporary file, and one picture in memory at a time."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import PurePosixPath
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from spq.common.text import composed, encodable
from spq.errors import ImageError, SPQError
from spq.index.store import Item
from spq.web.server.problems import OverloadedError, ProblemError

PIECE = 256 * 1024  # bytes that are sent at a time
TRIES, PAUSE = 30, 1.0  # to read a picture while the server is busy; seconds
MISSING = "not in this ZIP.txt"
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", re.IGNORECASE)  # Windows writes no file of such a name
_STRANGE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')  # in names of files on some system

Read = Callable[[Item], Awaitable[tuple[bytes, str]]]  # returns bytes, and what its name needs at the end


async def zip_of(items: Sequence[Item], unknown: Sequence[int], read: Read) -> AsyncIterator[bytes]:
    """Yield the bytes of a ZIP of pictures. A list in it names those that could not be read, if there are any.

    Args:
        unknown: ids that have no item.
    """
    window = _Window()
    archive = ZipFile(window, "w", ZIP_STORED)
    missing = [f"item {id_}: it is no longer in the index" for id_ in unknown]
    names = Names()
    for item, name in zip(items, names_in_zip([item.path for item in items]), strict=True):
        try:
            data, suffix = await _read(read, item)
        except (SPQError, ProblemError) as error:
            missing.append(
                f"{encodable(item.path)}: {error if isinstance(error, ImageError) else 'see the server log'}"
            )
            continue
        await asyncio.to_thread(_add, archive, names.unique(name + suffix), data, item.mtime_ns)
        del data
        for piece in window.take():
            yield piece
    if missing:
        _add(archive, names.unique(MISSING), "\n".join([*missing, ""]).encode(), time.time_ns())
    archive.close()
    for piece in window.take():
        yield piece


async def _read(read: Read, item: Item) -> tuple[bytes, str]:
    """Read a picture. While the server is busy, wait: the download has begun."""
    for _ in range(TRIES):
        try:
            return await read(item)
        except OverloadedError:
            await asyncio.sleep(PAUSE)
    return await read(item)


def _add(archive: ZipFile, name: str, data: bytes, mtime_ns: int) -> None:
    info = ZipInfo(name, _zip_time(mtime_ns))
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _zip_time(mtime_ns: int) -> tuple[int, int, int, int, int, int]:
    """Local time, as a ZIP has it: from 1980 to 2107."""
    try:
        found = time.localtime(mtime_ns // 10**9)[:6]
    except (OverflowError, OSError, ValueError):
        found = (1980, 1, 1, 0, 0, 0)
    return min(max(found, (1980, 1, 1, 0, 0, 0)), (2107, 12, 31, 23, 59, 58))


def names_in_zip(paths: Sequence[str]) -> list[str]:
    """Return the name of each picture in a ZIP: its file's own name, with its folders where two names are alike.

    >>> names_in_zip(["a/1.jpg", "b/1.JPG", "b/ä.png"])
    ['a/1.jpg', 'b/1.JPG', 'ä.png']
    """
    split = [[_safe(part) for part in encodable(path).split("/") if part] or ["picture"] for path in paths]
    count: dict[str, int] = {}
    for parts in split:
        count[_alike(parts[-1])] = count.get(_alike(parts[-1]), 0) + 1
    folders = {_alike(parts[0]) for parts in split if len(parts) > 1 and count[_alike(parts[-1])] > 1}
    alone = {name for name, n in count.items() if n == 1 and name not in folders}
    return [parts[-1] if _alike(parts[-1]) in alone else "/".join(parts) for parts in split]


class Names:
    """The names that a ZIP has so far."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, name: str) -> str:
        """Return the name, with a number if it is taken."""
        path, number = PurePosixPath(name), 2
        while _alike(name) in self._taken:
            name = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
            number += 1
        self._taken.add(_alike(name))
        return name


def _alike(name: str) -> str:
    """The same text for names that some system takes for one."""
    return composed(name).casefold()


def _safe(part: str) -> str:
    """A name that every system can write, and that leads nowhere else."""
    part = _STRANGE.sub("_", part).rstrip(" .")
    return f"_{part}" if not part or _DEVICE.match(part) else part


class _Window:
    """A file of which only the part since the last `take` is in memory. `ZipFile` writes sizes into the head of an entry.

    It is never closed: the `ZipFile` of a client that went away writes its end when it is deleted.
    """

    def __init__(self) -> None:
        self._before, self._part = 0, io.BytesIO()

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def tell(self) -> int:
        return self._before + self._part.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        assert offset >= self._before
        self._part.seek(offset - self._before)
        return offset

    def write(self, data: bytes) -> int:
        return self._part.write(data)

    def take(self) -> list[bytes]:
        """Return what was written, in pieces, and forget it."""
        part, self._part = self._part, io.BytesIO()
        self._before += part.seek(0, 2)
        view = part.getbuffer()
        return [bytes(view[at : at + PIECE]) for at in range(0, len(view), PIECE)]
