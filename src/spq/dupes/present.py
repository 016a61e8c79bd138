"""The pictures that are compared: their facts, and small thumbs of them."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spq.common.files import reserve, scratch_place
from spq.common.parallel import cores, map_in_order, slices
from spq.data.image_set import CHANGED, ImageSet
from spq.data.several import place_of
from spq.dupes.beside import Beside
from spq.dupes.facts import Facts
from spq.dupes.links import roots_of, with_files
from spq.dupes.signatures import SIDE, grey_thumb
from spq.errors import ImageError
from spq.index.image_index import ImageIndex
from spq.model.feature_store import hash_of

Rows = NDArray[np.int64]
Unjudged = list[tuple[str, str]]  # (path, reason)
Progress = Callable[[int, int], None]  # done, total
PER_TASK = 16  # pictures


@dataclass(frozen=True)
class Present:
    """N pictures.

    Attributes:
        positions: (N,) in their collection. left_out: (path, reason) of pictures that cannot be judged.
        in_both: how many pictures are not here because the reference has their files.
    """

    facts: list[Facts]
    positions: Rows
    left_out: Unjudged
    in_both: int = 0


def present(index: ImageIndex | None, images: ImageSet) -> Present:
    """The pictures of a collection, or those of an index whose files have not changed since they were encoded."""
    found, positions = [], []
    left_out = [] if index is None else index.store.unreadable()
    place = {path: position for position, path in enumerate(images.ids)}
    known = ((path, None) for path in images.ids) if index is None else ((i.path, i) for i in index.store.items())
    roots, beside = roots_of(images), Beside()
    for path, item in known:
        try:
            if path not in place:
                raise ImageError(images.why_missing(path))
            position = place[path]
            size, mtime_ns = images.stat(position)
            if item and (size, mtime_ns) != (item.size, item.mtime_ns):
                raise ImageError(CHANGED)
        except ImageError as error:
            left_out.append((path, str(error)))
            continue
        facts = Facts(path, size, mtime_ns, beside=beside.of(images.path(position)))
        if item:
            facts = replace(facts, width=item.width, height=item.height, hash=item.hash, id=item.id, code=item.code)
        found.append(with_files(facts, images.path(position), roots))
        positions.append(position)
    if index is not None:
        left_out += [(f"item {id_}", f"{why}; repair the index") for id_, why in index.store.damaged.items()]
    return Present(found, np.array(positions, np.int64), left_out)


def identity(images: ImageSet, facts: Facts) -> Hashable:
    """What two names of one picture share, also in two collections: the file, else the place in a container."""
    return facts.inode or facts.file or (*map(place_of, images.source.names), facts.path)


@dataclass(frozen=True)
class Read:
    """Pictures as they were read.

    Attributes:
        rows: (n,) of the pictures that are readable. thumbs: (n, 64, 64), in a temporary file.
        hashes, sizes: of the bytes, and (width, height), for each of them. failures: (row, reason).
    """

    rows: Rows
    thumbs: NDArray[np.uint8]
    hashes: list[bytes]
    sizes: list[tuple[int, int]]
    failures: list[tuple[int, str]]


def read_thumbs(images: ImageSet, positions: Rows, rows: Rows, progress: Progress = lambda *_: None) -> Read:
    """Read each picture once: the hash of its bytes, its size and a grey thumb of 4 KB, which goes to a temporary file.

    Args:
        positions: (N,) in `images`. rows: (n,) which of them.
    """
    thumbs = _room_for(len(rows))
    done: list[int] = []
    hashes, sizes, failures = [], [], []

    def read(part: slice) -> list[tuple[int, bytes, tuple[int, int], NDArray[np.uint8] | None, str]]:
        return [_read(images, int(positions[row]), row) for row in rows[part].tolist() if not stopped.is_set()]

    stopped = threading.Event()
    with closing(map_in_order(read, slices(len(rows), PER_TASK), cores(), stopped)) as parts:
        for part in parts:
            for row, digest, size, thumb, reason in part:
                if thumb is None:
                    failures.append((row, reason))
                    continue
                thumbs[len(done)] = thumb
                done.append(row)
                hashes.append(digest)
                sizes.append(size)
            progress(len(done) + len(failures), len(rows))
    return Read(np.array(done, np.int64), thumbs[: len(done)], hashes, sizes, failures)


def _read(
    images: ImageSet, position: int, row: int
) -> tuple[int, bytes, tuple[int, int], NDArray[np.uint8] | None, str]:
    try:
        data = images.read(position)
        image = images.decode(position, data, SIDE)
        return row, hash_of(data), image.info.get("full_size", image.size), grey_thumb(image), ""
    except ImageError as error:
        return row, b"", (0, 0), None, str(error)


def _room_for(count: int) -> NDArray[np.uint8]:
    """An array of thumbs in a temporary file, which is deleted with it."""
    shape = (max(count, 1), SIDE, SIDE)
    place = scratch_place(int(np.prod(shape)))
    with tempfile.TemporaryFile(prefix="spq-", dir=place) as file:
        reserve(file, int(np.prod(shape)), place)
        return np.memmap(file, np.uint8, "w+", shape=shape)


def first_of_each(facts: Sequence[Facts]) -> Rows:
    """The rows to read: one for each known hash and for each file, and all others."""
    seen: set[object] = set()
    rows = []
    for row, each in enumerate(facts):
        key = each.hash or each.inode or ("row", row)
        if key not in seen:
            rows.append(row)
            seen.add(key)
    return np.array(rows, np.int64)
