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
from spq.dupes.confirm import Verdict, judge
from spq.errors import ImageError

CACHE_BYTES = 256 * 2**20  # of decoded pictures, beside those that are in work
QUICK_SIDE = 512  # pixels of the longer side at which large pictures are compared first
ONE_SCALE = 1.5  # ratio of the longer sides of two pictures that may be at one scale
NONE = Verdict("", "")
Pair = tuple[int, int]
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

    def reduce(self, row: int, size: tuple[int, int]) -> None:
        """From now on, judge a blown-up picture at (width, height), at which its pixels are real."""
        self._verdicts = {pair: verdict for pair, verdict in self._verdicts.items() if row not in pair}
        self._decoded.reduce(row, size)

    def _judge(self, pair: Pair) -> Verdict:
        if self.is_apart(*pair):
            return NONE
        try:
            first, second = (self._decoded.get(row) for row in pair)
            if min(max(first.shape), max(second.shape)) > 2 * QUICK_SIDE and not judge(*_small(first, second)).kind:
                return NONE  # what has nothing in common at a small size has nothing in common at full size
            return judge(first, second)
        except ImageError:  # it has changed or vanished meanwhile
            return NONE


def _small(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two pictures (H, W, 4) with longer sides of QUICK_SIDE; both at one scale if their sizes are similar.

    A picture and the same with a border have one scale, and it is part of what shows that they are copies.
    """
    scales = [QUICK_SIDE / max(picture.shape) for picture in (first, second)]
    if max(scales) <= ONE_SCALE * min(scales):
        scales = [max(scales)] * 2
    found = []
    for picture, scale in zip((first, second), scales, strict=True):
        size = [max(1, round(side * scale)) for side in (picture.shape[1], picture.shape[0])]
        found.append(np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)))
    return found[0], found[1]


class _Decoded:
    """Pictures (H, W, 4) uint8, the least recently used ones forgotten."""

    def __init__(self, images: ImageSet, positions: NDArray[np.int64]) -> None:
        self.images, self.positions = images, positions
        self._sizes: dict[int, tuple[int, int]] = {}
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def reduce(self, row: int, size: tuple[int, int]) -> None:
        with self._lock:
            self._sizes[row] = size
            if row in self._kept:
                self._bytes -= self._kept.pop(row).nbytes

    def get(self, row: int) -> NDArray[np.uint8]:
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        image = self.images.rgba(int(self.positions[row]))
        if row in self._sizes:
            image = image.resize(self._sizes[row], Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
        with self._lock:
            if row not in self._kept and pixels.nbytes <= CACHE_BYTES // 2:
                self._kept[row] = pixels
                self._bytes += pixels.nbytes
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels
