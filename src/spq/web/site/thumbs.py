"""Thumbnails as files named after what they show, made with all cores: a share of pictures at a time, as in index/encode.py."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from spq.common.parallel import cores
from spq.data.image_set import ImageSet
from spq.errors import ImageError
from spq.index.store import Item

AHEAD = 2  # shares for each worker that are in work or wait: what bounds the memory
QUALITY = 85
STALE = "it has changed since it was indexed; run spq index again"


@dataclass(frozen=True)
class Made:
    """A share of pictures: of each item its thumbnail's name, or "" and the reason why it has none."""

    items: Sequence[Item]
    names: Sequence[str]
    reasons: Sequence[str]
    fresh: int  # thumbnails that were not there before


class ThumbnailMaker:
    """Writes `folder`/ab/<name>.jpg. One that is there is not made again, so an export that was stopped goes on.

    Args:
        images: the collection that was indexed.
        size: pixels of the longer side.
    """

    def __init__(self, images: ImageSet, folder: Path, size: int, workers: int | None = None) -> None:
        self.images, self.folder, self.size = images, folder, size
        self.workers = workers or cores()
        self.places = {path: position for position, path in enumerate(images.ids)}
        self._stopped = False

    def make(self, shares: Iterable[Sequence[Item]]) -> Generator[Made, None, None]:
        """Each share in turn, when its thumbnails are on the disk."""
        self._stopped = False
        waiting = deque[Future[Made]]()
        pool = ThreadPoolExecutor(self.workers, "thumbnail")
        try:
            for share in shares:
                if len(waiting) == AHEAD * self.workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(self._make_share, share))
            while waiting:
                yield waiting.popleft().result()
        finally:
            self._stopped = True
            pool.shutdown(cancel_futures=True)

    def _make_share(self, items: Sequence[Item]) -> Made:
        names, reasons, fresh = [], [], 0
        for item in items:
            if self._stopped:
                raise CancelledError
            name, reason = name_of(item, self.size), ""
            try:
                fresh += self._make_one(item, self.folder / name[:2] / f"{name}.jpg")
            except ImageError as error:
                name, reason = "", str(error)
            names.append(name)
            reasons.append(reason)
        return Made(items, names, reasons, fresh)

    def _make_one(self, item: Item, target: Path) -> bool:
        if target.exists() and target.stat().st_size:  # a power cut may leave an empty one
            return False
        position = self.places.get(item.path)
        if position is None:
            raise ImageError("it is missing; run spq index again")
        if self.images.stat(position) != (item.size, item.mtime_ns):
            raise ImageError(STALE)
        image = self.images.image(position, self.size)
        image.thumbnail((self.size, self.size), Image.Resampling.LANCZOS)
        target.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        temporary = target.with_name(f".{target.stem}.{threading.get_ident()}")
        try:
            image.save(buffer, "JPEG", quality=QUALITY)
            temporary.write_bytes(buffer.getvalue())  # by Python: it says why a file cannot be written
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return True


def name_of(item: Item, size: int) -> str:
    """Other bytes or another size, another name. Two pictures of the same bytes share one."""
    content = item.hash or f"{item.id} {item.path} {item.size} {item.mtime_ns}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(content + b" %d" % size, digest_size=8).hexdigest()


def in_shares(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    share: list[Item] = []
    for item in items:
        share.append(item)
        if len(share) == size:
            yield share
            share = []
    if share:
        yield share
