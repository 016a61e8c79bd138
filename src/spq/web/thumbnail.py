"""Thumbnails as the server and the site make them: how they are named, encoded and written."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path

from PIL import Image

from spq.index.store import Item

QUALITY = 85


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


def write_thumbnail(path: Path, data: bytes) -> None:
    """Write a file so that a reader never sees half of it. Several threads and processes may write the same one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    path.parent.mkdir(exist_ok=True)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
