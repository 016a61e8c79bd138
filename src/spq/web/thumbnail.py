"""Thumbnails as the server and the site make them: how they are named, encoded and written."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image

from spq.index.store import Item

QUALITY = 85
HEADER = 20  # bytes of the marker of a JPEG and of its JFIF header
DIGEST = 8  # bytes of a checksum
COMMENT = b"\xff\xfe" + (2 + DIGEST).to_bytes(2, "big")  # the start of a comment of a JPEG, which every reader skips
SEAL = len(COMMENT) + DIGEST
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def thumbnail_name(item: Item, size: int) -> str:
    """Return 16 hexadecimal digits that depend on the bytes of the picture and on `size` (pixels; 0 for the original).

    Two pictures of the same bytes share one name.
    """
    content = item.hash or f"{item.id} {item.path} {item.size} {item.mtime_ns}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content + b" %d" % size, digest_size=8).hexdigest()


def thumbnail_path(folder: Path, name: str) -> Path:
    """Return the file of a thumbnail below `folder`, in one of 256 subfolders.

    >>> thumbnail_path(Path("thumbs"), "0123456789abcdef").as_posix()
    'thumbs/01/0123456789abcdef.jpg'
    """
    return folder / name[:2] / f"{name}.jpg"


def make_thumbnail(image: Image.Image, size: int) -> bytes:
    """Shrink an image, in place, so that its longer side is at most `size` pixels; return it as JPEG."""
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def sealed(data: bytes, name: str) -> bytes:
    """Return a JPEG with a comment that holds the checksum of its name and its bytes."""
    return data[:HEADER] + COMMENT + _digest(data, name) + data[HEADER:]


def read_sealed(path: Path, name: str) -> bytes | None:
    """Return the bytes of a thumbnail; None if there is none, if it is damaged, or if it is not a file but, say, a link."""
    try:
        if not _is_folder(path.parent):
            return None
        with open(path, "rb", opener=_open_no_link) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read()
    except OSError:
        return None
    seal, rest = data[HEADER : HEADER + SEAL], data[:HEADER] + data[HEADER + SEAL :]
    return data if seal == COMMENT + _digest(rest, name) else None


def write_thumbnail(path: Path, data: bytes, clear: bool = False) -> None:
    """Write a file so that a reader never sees half of it. Several threads and processes may write the same one.

    Args:
        clear: remove what is there instead of the file or of its folder. A link is never followed.
    Raises:
        OSError: the file cannot be written; a NotADirectoryError if its folder is, say, a link.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    if clear and not _is_folder(path.parent):
        with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
            path.parent.unlink()  # never a folder: another thread may have just made it
    path.parent.mkdir(exist_ok=True)
    if path.parent.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))
    if clear and path.is_dir():
        remove(path)
    try:
        with open(temporary, "wb", opener=_open_no_link) as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def thumbnail_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what is in the subfolders of a folder of thumbnails, without following links."""
    for subfolder in _entries(folder):
        if subfolder.is_dir(follow_symlinks=False):
            yield from _entries(Path(subfolder.path))


def remove(path: Path) -> None:
    """Remove what is at a path, if there is something: a link itself, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:  # another process may have deleted it
        return list(entries)
    return []


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | NO_LINK, 0o666)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _digest(data: bytes, name: str) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST, key=name.encode()).digest()
