"""From pictures to codes with all cores: each worker reads, hashes, decodes and encodes a share of the pictures.

Workers are threads, one for each core, and torch computes each worker's batch with one thread. Reading, hashing, Pillow's
decoding and torch all release Python's lock, so every core is busy from the first picture to the last. Separate stages would
compete for the same cores, and torch's own threads would wait for each other at every layer.
"""

from __future__ import annotations

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
from spq.errors import ImageError, ShutError
from spq.index.items import Item
from spq.model.feature_store import FeatureStore, Known, features_key, hash_of

if TYPE_CHECKING:
    from spq.model.model import Model, Precision

CHECKED = 256  # pictures that are encoded in both precisions, to decide whether bf16 is used for the others
REMEMBERED = 65_536  # hashes: far more than pictures that are encoded and not yet stored
AGREEMENT = 0.995  # share of the sub-codes that must be the same for bf16

Seen = tuple[Item, Item | None]  # a picture, and its twin: a known item of the same bytes, whose code it gets


class Encoder:
    """Makes items of pictures.

    Args:
        twin_of: hash -> the known item of these bytes, called by all workers. A picture with a twin is not decoded.
        workers: by default as many as torch uses threads, or with a GPU as many as there are cores.
        precision: of all pictures. If it is given, codes depend on nothing but the pictures and their order: not on the number
            of workers, nor on cached features. Otherwise the first pictures decide it.
    Attributes:
        precision: bf16 if the hardware is faster with it and the first pictures get the same codes, else fp32.
        note: why bf16 was not used although the hardware is faster with it; else empty.
        shut: paths of pictures whose files the system did not open.
    """

    def __init__(
        self,
        source: ImageSet,
        model: Model,
        twin_of: Callable[[bytes], Item | None],
        workers: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.source, self.model, self.twin_of = source, model, twin_of
        self.workers = workers or default_workers(model)
        self.precision: Precision = precision or "fp32"
        self._is_fixed = precision is not None
        self.note = ""
        self.shut: set[str] = set()
        self._features: FeatureStore | None = None
        self._recent: OrderedDict[bytes, NDArray[np.uint8]] = OrderedDict()  # hash -> code
        self._stopped = threading.Event()

    def encode(self, positions: Sequence[int]) -> Generator[Seen, None, None]:
        """The items of the pictures at `positions`, in that order. An unreadable picture has a reason and no code.

        The workers are at most a few batches ahead of the consumer. When the iterator is closed, they stop after their current
        picture.
        """
        self._stopped.clear()
        self._recent.clear()
        with closing(self._in_order(positions)) as seen:
            for item, twin in seen:
                yield self._with_known_code(item), twin

    def _with_known_code(self, item: Item) -> Item:
        """Give an item the code of a recent picture of the same bytes, which `twin_of` may not know yet.

        Rounding or precision may differ between two batches, and so may the codes.
        """
        if item.code is None or not item.hash:
            return item
        code = self._recent.setdefault(item.hash, item.code)
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        return item if code is item.code else replace(item, code=code)

    def _in_order(self, positions: Sequence[int]) -> Generator[Seen, None, None]:
        import torch  # takes seconds, and an index in which nothing is new needs none

        step = self.model.batch_size
        if not self._is_fixed:
            if self._checks_bf16(len(positions)):
                yield from self._encode_batch(positions[:CHECKED], check=True)
                positions = positions[CHECKED:]
            self._features = open_features(self.model, self.precision)
            step = max(1, min(step, -(-len(positions) // self.workers)))
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
        pixels = np.empty((len(positions), size, size, 3), np.uint8).transpose(0, 3, 1, 2)  # in the layout of Pillow
        seen: list[Seen] = []
        new_rows: list[int] = []  # rows of `seen` that go through the network
        known: dict[int, Known] = {}  # rows whose features the cache has
        for position in positions:
            if self._stopped.is_set():
                raise CancelledError
            item, twin, feature = self._read(position, pixels[len(new_rows)])
            if feature:
                known[len(seen)] = feature
            elif item.code is None and not item.reason:
                new_rows.append(len(seen))
            seen.append((item, twin))
        if not (new_rows or known):
            return seen
        pixels = pixels[: len(new_rows)]
        if check:
            codes = self._checked(pixels)
        elif self._features:
            codes = self._codes_by_features([seen[row][0] for row in new_rows], pixels, list(known.values()))
        else:
            codes = self.model.encode(pixels, precision=self.precision)
        for row, code in zip([*new_rows, *known], codes, strict=True):
            seen[row] = replace(seen[row][0], code=code), None
        return seen

    def _codes_by_features(
        self, items: Sequence[Item], pixels: NDArray[np.uint8], known: Sequence[Known]
    ) -> NDArray[np.uint8]:
        """The codes of items of these pixels, whose features are kept, and then the codes of known features."""
        assert self._features
        features = self.model.features(pixels, precision=self.precision)
        new = [(i.hash, Known(x, i.width, i.height)) for i, x in zip(items, features, strict=True) if i.hash]
        self._features.put(new)
        both = [*features, *(feature.feature for feature in known)]
        return self.model.encode_descriptors(self.model.project(np.array(both)))

    def _read(self, position: int, pixels: NDArray[np.uint8]) -> tuple[Item, Item | None, Known | None]:
        """Read one picture: its item, its twin, and its feature if the cache has it.

        The item has the code of a twin, or a reason. If there is neither of them nor a feature, `pixels` (3, S, S) are filled.
        """
        path = self.source.ids[position]
        try:
            status = size, mtime_ns, ctime_ns = self.source.status(position)
            data = self.source.read(position)
        except ImageError as error:
            if isinstance(error, ShutError):
                self.shut.add(path)
            return to_be_retried(Item(path, 0, 0, reason=str(error))), None, None
        item = Item(path, size, mtime_ns, hash_of(data), ctime_ns=ctime_ns)
        twin, known = self.twin_of(item.hash), None
        if twin:
            item = replace(item, code=twin.code, width=twin.width, height=twin.height)
        elif self._features and (known := self._features.get(item.hash)):
            item = replace(item, width=known.width, height=known.height)
        else:
            item = self._decode(item, position, data, pixels)
        return item if is_unchanged(self.source, position, status) else to_be_retried(item), twin, known

    def _decode(self, item: Item, position: int, data: bytes, pixels: NDArray[np.uint8]) -> Item:
        size = pixels.shape[-1]
        try:
            image = self.source.decode(position, data, size)
        except ImageError as error:
            return replace(item, reason=str(error))
        pixels[:] = to_pixels(image, size)
        width, height = image.info.get("full_size", image.size)
        return replace(item, width=width, height=height)

    def decide_precision(self, positions: Sequence[int], count: int) -> Precision:
        """Compare both precisions on the first of `positions`, as `encode` does for `count` pictures; return which to use."""
        if self._checks_bf16(count):
            self._encode_batch(positions[:CHECKED], check=True)
        return self.precision

    def _checks_bf16(self, count: int) -> bool:
        """Whether the hardware is faster with bf16, and there are enough pictures to make a check worthwhile."""
        from spq.model.device import resolve_precision

        return count >= 8 * CHECKED and resolve_precision("auto", self.model.device.type) == "bf16"

    def _checked(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The fp32 codes of `pixels` (N, 3, S, S). Their comparison decides the precision for all others."""
        codes = self.model.encode(pixels)
        same = float(np.mean(self.model.encode(pixels, precision="bf16") == codes))
        if same >= AGREEMENT:
            self.precision = "bf16"
        else:
            self.note = f"encoded in fp32: bf16 gives only {same:.1%} of the same sub-codes on {len(codes)} pictures"
        return codes


def open_features(model: Model, precision: Precision) -> FeatureStore | None:
    """The cached features of the model's backbone; None if training changes the backbone, so no other model shares it."""
    config = model.config
    if not config.train.frozen:
        return None
    return FeatureStore(features_key(model.network.backbone, config.input, config.train.channels_last, precision))


def default_workers(model: Model) -> int:
    """As many workers as torch uses threads on a CPU; with a GPU, as many as there are cores for decoding."""
    import torch

    if model.device.type == "cpu":
        return torch.get_num_threads()
    return cores()


def is_unchanged(source: ImageSet, position: int, known: tuple[int, int, int]) -> bool:
    """Whether a picture still has the known size and times of change."""
    try:
        return source.status(position) == known
    except ImageError:
        return False  # it has vanished: it is read again, and recorded as unreadable


def to_be_retried(item: Item) -> Item:
    """An item that the next sync reads again, because no file has this size and time. It has no hash, so no twin."""
    return replace(item, size=-1, mtime_ns=-1, hash=b"")
