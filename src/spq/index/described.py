"""The items of an index with their descriptors, a batch at a time: decoded from codes, or computed from pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import batches, map_in_order
from spq.data.image_set import ImageSet
from spq.errors import DataError, ImageError, StoreError
from spq.index.encode import default_workers
from spq.index.items import Item
from spq.index.open_tables import VERIFY
from spq.index.store import Store
from spq.index.verify_pictures import unchanged_pixels
from spq.pq.tables import Decoder

if TYPE_CHECKING:
    from spq.model.model import Model

AT_ONCE = 4096  # items whose descriptors are in memory at a time
Floats = NDArray[np.float32]
Progress = Callable[..., None]  # (done, total, unreadable=0)


@dataclass(frozen=True)
class Described:
    """Items: ids (n,), paths, codes (n, M) and descriptors (n, D) float32."""

    ids: NDArray[np.int64]
    paths: list[str]
    codes: NDArray[np.uint8]
    descriptors: Floats


def decoded(store: Store, decoder: Decoder, progress: Progress = lambda *_: None) -> Iterator[Described]:
    """Yield all items, by id, with the codewords of their codes. Damaged rows are in `store.damaged`.

    Raises:
        StoreError: codes are damaged, or items are lost.
    """
    done, total = 0, len(store)
    with store.snapshot():
        for items in batches(store.items(), AT_ONCE):
            codes = _codes(store, items)
            yield _described(items, codes, decoder.decode(codes))
            done += len(items)
            progress(done, total)
        if done + len(store.damaged) != total:
            raise StoreError(f"index {store.folder} is damaged: {total - done:,} of {total:,} items are lost; {VERIFY}")


class FromPictures:
    """Computes the descriptors of items from their pictures, in full precision, with all cores.

    Attributes:
        without: (path, reason) of the pictures that cannot be read, or are not those that were encoded.
    """

    def __init__(self, store: Store, model: Model, images: ImageSet) -> None:
        self.store, self.model, self.images = store, model, images
        self.without: list[tuple[str, str]] = []
        self._place = {path: position for position, path in enumerate(images.ids)}
        self._stopped = threading.Event()

    def __call__(self, progress: Progress = lambda *_: None) -> Iterator[Described]:
        """Yield all items, by id, but those in `without` and those whose rows are damaged.

        Raises:
            DataError: no picture is as it was.
        """
        import torch

        done, total, threads = 0, len(self.store), torch.get_num_threads()
        described = map_in_order(
            self._describe, batches(self.store.items(), self.model.batch_size), default_workers(self.model),
            self._stopped, start=lambda: torch.set_num_threads(1),
        )  # fmt: skip
        try:
            with closing(described):
                for part, without in described:
                    self.without += without
                    done += len(part.ids) + len(without)
                    progress(done, total, len(self.without))
                    if len(part.ids):
                        yield part
        finally:
            torch.set_num_threads(threads)  # each worker has set it for the whole process
        if total and len(self.without) == done:
            path, reason = self.without[0] if self.without else ("", "all rows are damaged")
            raise DataError(f"no picture of {self.store.folder} gives a descriptor; the first, {path}: {reason}")

    def _describe(self, items: Sequence[Item]) -> tuple[Described, list[tuple[str, str]]]:
        sound, pixels, without = [], [], []
        for item in items:
            if self._stopped.is_set():
                raise CancelledError
            try:
                pixels.append(unchanged_pixels(item, self.images, self._place, self.model.config.input.size))
                sound.append(item)
            except ImageError as error:
                without.append((item.path, str(error)))
        codes = _codes(self.store, sound)
        x = self.model.embed(np.stack(pixels)) if pixels else np.empty((0, self.model.config.quantizer.dim), np.float32)
        return _described(sound, codes, x), without


def _described(items: Sequence[Item], codes: NDArray[np.uint8], descriptors: Floats) -> Described:
    return Described(np.array([item.id for item in items], np.int64), [i.path for i in items], codes, descriptors)


def _codes(store: Store, items: Sequence[Item]) -> NDArray[np.uint8]:
    """The codes (n, M) of items, checked also in an index of a format without checksums."""
    M, K = store.manifest.num_codebooks, store.manifest.codebook_size
    found = [item.code for item in items if item.code is not None and len(item.code) == M]
    codes = np.stack(found) if found else np.empty((0, M), np.uint8)
    if len(codes) != len(items) or codes.max(initial=0) >= K:
        raise StoreError(
            f"index {store.folder} is damaged: it holds codes that are not {M} numbers below {K}; {VERIFY}"
        )
    return codes
