"""From pictures to codes with all cores: each worker reads, hashes, decodes and encodes a share of the pictures.

Workers are threads, one a core, and torch computes each worker's batch with one thread. Reading, hashing, Pillow's decoding
and torch all let go of Python's lock, so every core is busy from the first picture to the last and waits for no other.
Stages side by side would share the same cores, and torch's own threads would wait for each other at every layer.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import cores, map_in_order
from spq.data.decode import to_pixels
from spq.data.image_set import ImageSet
from spq.errors import ImageError
from spq.index.items import Item

if TYPE_CHECKING:
    from spq.model.model import Model, Precision

CHECKED = 256  # pictures that are encoded in both precisions before bf16 is trusted with the others
REMEMBERED = 65_536  # hashes: far more than are ahead of what the store has
AGREEMENT = 0.995  # share of their sub-codes that must be the same

Seen = tuple[Item, Item | None]  # a picture, and its twin: the known item of the same bytes, whose code it has


class Encoder:
    """Makes items of pictures.

    Args:
        twin_of: the known item of a hash, asked from all workers at once. A picture that has one is not decoded.
        workers: by default as many as torch would use threads, or as there are cores beside a GPU.
    Attributes:
        precision: bf16 where the hardware is faster with it and the first pictures get the same codes, else fp32.
        note: why bf16 was not used although the hardware is faster with it; else empty.
    """

    def __init__(
        self, source: ImageSet, model: Model, twin_of: Callable[[bytes], Item | None], workers: int | None = None
    ) -> None:
        self.source, self.model, self.twin_of = source, model, twin_of
        self.workers = workers or default_workers(model)
        self.precision: Precision = "fp32"
        self.note = ""
        self._recent: OrderedDict[bytes, NDArray[np.uint8]] = OrderedDict()  # hash -> code
        self._stopped = threading.Event()

    def encode(self, positions: Sequence[int]) -> Generator[Seen, None, None]:
        """The items of the pictures at `positions`, in that order; one that cannot be read has a reason and no code.

        The workers are at most a few batches ahead of the consumer. Close the iterator, and they stop after the picture
        that they are at.
        """
        self._stopped.clear()
        self._recent.clear()
        with closing(self._in_order(positions)) as seen:
            for item, twin in seen:
                yield self._as_before(item), twin

    def _as_before(self, item: Item) -> Item:
        """With the code of a picture of the same bytes a little earlier, which `twin_of` may not know yet.

        Of two batches, rounding or precision may have given them different ones.
        """
        if item.code is None or not item.hash:
            return item
        code = self._recent.setdefault(item.hash, item.code)
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        return item if code is item.code else replace(item, code=code)

    def _in_order(self, positions: Sequence[int]) -> Generator[Seen, None, None]:
        import torch  # takes seconds, and an index in which nothing is new needs none

        if self._checks_bf16(len(positions)):
            yield from self._encode_batch(positions[:CHECKED], check=True)
            positions = positions[CHECKED:]
        step = max(1, min(self.model.batch_size, -(-len(positions) // self.workers)))
        batches = (positions[start : start + step] for start in range(0, len(positions), step))
        threads = torch.get_num_threads()
        encoded = map_in_order(
            self._encode_batch, batches, self.workers, self._stopped, start=lambda: torch.set_num_threads(1)
        )
        try:
            with closing(encoded):
                for seen in encoded:
                    yield from seen
        finally:
            torch.set_num_threads(threads)  # each worker has set it for the whole process

    def _encode_batch(self, positions: Sequence[int], check: bool = False) -> list[Seen]:
        size = self.model.config.input.size
        pixels = np.empty((len(positions), size, size, 3), np.uint8).transpose(0, 3, 1, 2)  # as Pillow gives them
        seen: list[Seen] = []
        fresh: list[int] = []  # rows of `seen`
        for position in positions:
            if self._stopped.is_set():
                raise CancelledError
            item, twin = self._look(position, pixels[len(fresh)])
            if item.code is None and not item.reason:
                fresh.append(len(seen))
            seen.append((item, twin))
        if not fresh:
            return seen
        pixels = pixels[: len(fresh)]
        codes = self._checked(pixels) if check else self.model.encode(pixels, precision=self.precision)
        for row, code in zip(fresh, codes, strict=True):
            seen[row] = replace(seen[row][0], code=code), None
        return seen

    def _look(self, position: int, pixels: NDArray[np.uint8]) -> Seen:
        """One picture, read once: with the code of its twin, or its `pixels` (3, S, S) filled in, or a reason."""
        path = self.source.ids[position]
        try:
            status = self.source.stat(position)
            data = self.source.read(position)
        except ImageError as error:
            return to_be_retried(Item(path, 0, 0, reason=str(error))), None
        item = Item(path, *status, hash_of(data))
        twin = self.twin_of(item.hash)
        if twin:
            item = replace(item, code=twin.code, width=twin.width, height=twin.height)
        else:
            item = self._decode(item, position, data, pixels)
        return item if is_unchanged(self.source, position, status) else to_be_retried(item), twin

    def _decode(self, item: Item, position: int, data: bytes, pixels: NDArray[np.uint8]) -> Item:
        size = pixels.shape[-1]
        try:
            image = self.source.decode(position, data, size)
        except ImageError as error:
            return replace(item, reason=str(error))
        pixels[:] = to_pixels(image, size)
        width, height = image.info.get("full_size", image.size)
        return replace(item, width=width, height=height)

    def _checks_bf16(self, count: int) -> bool:
        """Whether the hardware is faster with bf16, and there are so many pictures that finding out pays."""
        from spq.model.device import resolve_precision

        return count >= 8 * CHECKED and resolve_precision("auto", self.model.device.type) == "bf16"

    def _checked(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The fp32 codes of `pixels` (N, 3, S, S); decides on the precision of all others."""
        codes = self.model.encode(pixels)
        same = float(np.mean(self.model.encode(pixels, precision="bf16") == codes))
        if same >= AGREEMENT:
            self.precision = "bf16"
        else:
            self.note = f"encoded in fp32: bf16 gives only {same:.1%} of the same sub-codes on {len(codes)} pictures"
        return codes


def hash_of(data: bytes) -> bytes:
    """What the index knows the bytes of a picture by."""
    return hashlib.blake2b(data, digest_size=16).digest()


def default_workers(model: Model) -> int:
    """As many as torch would use threads on a CPU; beside a GPU, as there are cores to decode with."""
    import torch

    if model.device.type == "cpu":
        return torch.get_num_threads()
    return cores()


def is_unchanged(source: ImageSet, position: int, known: tuple[int, int] | None) -> bool:
    """Whether a picture still has the known size and time of change."""
    if known is None:
        return False
    try:
        return source.stat(position) == known
    except ImageError:
        return False  # vanished since it was listed: looked at again, and recorded as unreadable


def to_be_retried(item: Item) -> Item:
    """No file has this size and time, so the next sync looks at it again; no hash, so its code is given to no other."""
    return replace(item, size=-1, mtime_ns=-1, hash=b"")
