"""Judge pairs of pictures at full size, in threads. No pair is judged twice, and few pictures are decoded twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.common.parallel import cores, map_in_order
from spq.data.image_set import ImageSet
from spq.dupes.confirm import CLEAR, Verdict, judge
from spq.errors import ImageError

CACHE_BYTES = 256 * 2**20  # of decoded pictures, beside those that are in work
QUICK_SIDE = 512  # pixels of the longer side at which large pictures are compared first
ONE_SCALE = 1.5  # ratio of the longer sides of two pictures that may be at one scale
NONE = Verdict("", "")
Pair = tuple[int, int]
Size = tuple[int, int]  # width, height
Progress = Callable[[int, int], None]  # done, total


class Matching:
    """What pairs of pictures are to each other.

    Args:
        positions: (N,) of the pictures in `images`. is_apart: whether the user said that two pictures are no copies.
    """

    def __init__(
        self,
        images: ImageSet,
        positions: NDArray[np.int64],
        is_apart: Callable[[int, int], bool] = lambda *_: False,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.images, self.positions, self.is_apart, self.progress = images, positions, is_apart, progress
        self.total = 0  # pairs that will probably be judged, for the progress
        self._verdicts: dict[Pair, Verdict] = {}
        self._decoded = _Decoded(images, positions)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """What the second of each pair is to the first. A picture that cannot be read is no copy."""
        todo = [pair for pair in dict.fromkeys(pairs) if pair not in self._verdicts]
        stopped = threading.Event()
        with closing(map_in_order(self._judge, todo, min(cores(), 8), stopped)) as verdicts:
            for pair, verdict in zip(todo, verdicts, strict=True):
                self._verdicts[pair] = verdict
                done = len(self._verdicts)
                self.total = self.total if done < self.total else done + done // 10 + 1  # more are found on the way
                self.progress(done, self.total)
        return [self._verdicts[pair] for pair in pairs]

    def image(self, row: int) -> Image.Image:
        """A picture at full size. Raises: ImageError."""
        return Image.fromarray(self._decoded.get(row))

    def reduce(self, row: int, size: Size) -> None:
        """From now on, judge a blown-up picture at (width, height), at which its pixels are real."""
        self._verdicts = {pair: verdict for pair, verdict in self._verdicts.items() if row not in pair}
        self._decoded.reduce(row, size)

    def _judge(self, pair: Pair) -> Verdict:
        if self.is_apart(*pair):
            return NONE
        try:
            first, second = (self._decoded.get(row) for row in pair)
            if min(max(first.shape), max(second.shape)) > 2 * QUICK_SIDE:
                sizes = _small_sizes(first.shape, second.shape)
                quick = judge(*map(self._decoded.small, pair, sizes))
                if not quick.kind or (quick.is_clear and quick.share > CLEAR):
                    return NONE  # what has nothing in common at a small size has nothing in common at full size
                if quick.is_clear:
                    return quick
            return judge(first, second)
        except ImageError:  # it has changed or vanished meanwhile
            return NONE


def _small_sizes(first: tuple[int, ...], second: tuple[int, ...]) -> list[Size]:
    """(width, height) at which pictures (H, W, 4) have longer sides of QUICK_SIDE; both at one scale if they are similar.

    A picture and the same with a border have one scale, and it is part of what shows that they are copies.
    """
    scales = [QUICK_SIDE / max(shape) for shape in (first, second)]
    if max(scales) <= ONE_SCALE * min(scales):
        scales = [max(scales)] * 2
    return [
        (max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale)))
        for shape, scale in zip((first, second), scales, strict=True)
    ]


class _Decoded:
    """Pictures (H, W, 4) uint8, also reduced; the least recently used ones are forgotten."""

    def __init__(self, images: ImageSet, positions: NDArray[np.int64]) -> None:
        self.images, self.positions = images, positions
        self._sizes: dict[int, Size] = {}
        self._kept: OrderedDict[tuple[int, Size | None], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def reduce(self, row: int, size: Size) -> None:
        with self._lock:
            self._sizes[row] = size
            for key in [key for key in self._kept if key[0] == row]:
                self._bytes -= self._kept.pop(key).nbytes

    def get(self, row: int) -> NDArray[np.uint8]:
        """A picture at full size, or as reduced. Raises: ImageError."""
        return self._kept_or(row, None, lambda: self._read(row))

    def small(self, row: int, size: Size) -> NDArray[np.uint8]:
        """A picture at (width, height). Raises: ImageError."""
        return self._kept_or(row, size, lambda: Image.fromarray(self.get(row)).resize(size, Image.Resampling.LANCZOS))

    def _read(self, row: int) -> Image.Image:
        image = self.images.rgba(int(self.positions[row]))
        return image.resize(self._sizes[row], Image.Resampling.LANCZOS) if row in self._sizes else image

    def _kept_or(self, row: int, size: Size | None, make: Callable[[], Image.Image]) -> NDArray[np.uint8]:
        key = row, size
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = np.asarray(make())
        with self._lock:
            if key not in self._kept and pixels.nbytes <= CACHE_BYTES // 2:
                self._kept[key] = pixels
                self._bytes += pixels.nbytes
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels
