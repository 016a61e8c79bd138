"""`ImageSet`: what all collections of pictures are, wherever the pictures lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.decode import load_image

Labels = NDArray[np.int64] | NDArray[np.bool_]


class ImageSet:
    """N pictures under stable ids.

    Attributes:
        name: as the user gave it.
        ids: unique; the path below the folder with `/`, or the key inside the container.
        labels: (N,) int64 class numbers, (N, L) bool for multi-label, or None. Training never reads them.
        class_names: what the numbers or columns mean.
        metadata: further columns of a `metadata.csv` or `.parquet`, each of length N.
        unlisted: (folder, reason) of folders that could not be listed, `.` for any: there may be more pictures in them.
        unopened: (path, reason) of pictures beside these, of a kind that nothing here opens.
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        labels: Labels | None = None,
        class_names: Sequence[str] = (),
        metadata: dict[str, list[str]] | None = None,
    ) -> None:
        self.name, self.ids, self.labels = name, list(ids), labels
        self.class_names, self.metadata = list(class_names), metadata or {}
        self.unlisted: list[tuple[str, str]] = []
        self.unopened: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        """The picture, RGB and upright.

        Raises:
            ImageError: it cannot be read.
        """
        return self.decode(position, self.read(position), size_hint)

    def read(self, position: int) -> bytes:
        """Its bytes as stored: the same bytes mean the same picture."""
        raise NotImplementedError

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        """The picture in the bytes that `read` gave, for those who need both and read once."""
        return load_image(data, size_hint, self.ids[position])

    def stat(self, position: int) -> tuple[int, int]:
        """(size in bytes, time of last change in ns): when both are as before, the picture is taken as unchanged."""
        raise NotImplementedError

    def path(self, position: int) -> Path | None:
        """Where the picture lies as a file of its own; None inside a container."""
        return None


def changed_at(status: os.stat_result) -> int:
    """Time of last change in ns, at the nearest that 64 bits hold: broken clocks leave dates beyond 1677..2262."""
    return max(-(2**63), min(2**63 - 1, status.st_mtime_ns))


class Subset(ImageSet):
    """Some pictures of another set, in the given order."""

    def __init__(self, images: ImageSet, positions: NDArray[np.int64], name: str | None = None) -> None:
        super().__init__(
            name or images.name,
            [images.ids[p] for p in positions],
            None if images.labels is None else images.labels[positions],
            images.class_names,
            {key: [column[p] for p in positions] for key, column in images.metadata.items()},
        )
        self.images, self.positions = images, positions
        self.unlisted, self.unopened = images.unlisted, images.unopened

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        return self.images.image(int(self.positions[position]), size_hint)

    def read(self, position: int) -> bytes:
        return self.images.read(int(self.positions[position]))

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        return self.images.decode(int(self.positions[position]), data, size_hint)

    def stat(self, position: int) -> tuple[int, int]:
        return self.images.stat(int(self.positions[position]))

    def path(self, position: int) -> Path | None:
        return self.images.path(int(self.positions[position]))


def subset(images: ImageSet, positions: Iterable[int], name: str | None = None) -> ImageSet:
    """The pictures at `positions`."""
    return Subset(images, np.fromiter(positions, np.int64), name)


def class_numbers(names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Class names -> (N,) numbers in sorted order of the names, and those names.

    >>> class_numbers(["shoe", "hat", "shoe"])
    (array([1, 0, 1]), ['hat', 'shoe'])
    """
    known, numbers = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    return numbers.astype(np.int64), known.tolist()


def multi_hot(lists: Sequence[Iterable[Any]]) -> tuple[NDArray[np.bool_], list[str]]:
    """Lists of labels -> (N, L) bool, and what the columns are.

    >>> multi_hot([["sky"], ["sea", "sky"]])
    (array([[False,  True],
           [ True,  True]]), ['sea', 'sky'])
    """
    sets = [{str(label) for label in labels} for labels in lists]
    names = sorted(set().union(*sets)) if sets else []
    return np.array([[name in labels for name in names] for labels in sets], bool).reshape(len(sets), len(names)), names
