"""`ImageSet`: the interface of all collections of pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.decode import load_image
from spq.data.source import Source
from spq.data.walk import Aside
from spq.errors import DataError

Labels = NDArray[np.int64] | NDArray[np.bool_]
NO_LABEL = -1  # instead of a class number
MISSING = "it is missing; update the index"  # of a picture of an index
CHANGED = "it has changed since it was indexed; update the index"
METHODS = {  # what an image set of one's own must have; `stat` only for an index
    "read": "def read(self, position: int) -> bytes",
    "stat": "def stat(self, position: int) -> tuple[int, int]",
}


class ImageSet:
    """N pictures with stable ids.

    Attributes:
        name: as given by the user.
        source: what opens the collection again.
        ids: unique; the path below the folder with `/`, or the key in the container.
        labels: (N,) int64 class numbers, where NO_LABEL is none; (N, L) bool for multi-label; or None. Training never reads
            them.
        class_names: names of the class numbers or columns.
        metadata: other columns of the tables beside the pictures, each of length N; an empty cell is "".
        protocol: facts of the protocol whose training part this is (name, hashes, seed of the split); a model records them.
        unlisted: (folder, reason) of folders that cannot be listed and may have more pictures; `.` if the folder is unknown.
        unopened: (path, reason) of files in a picture format that is not supported here, of pipes and devices, and of links
            that lead nowhere.
        aside: what lies beside the pictures in folders: what was passed over, and folders whose disk may not be mounted.
        remarks: (file, remark) of what else was found but not used, such as a broken table; `.` is the collection itself.
        given: what the caller gave, of a collection that cannot be opened again by its name; else None.
    """

    given: Any = None

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        labels: Labels | None = None,
        class_names: Sequence[str] = (),
        metadata: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name, self.ids, self.labels = name, list(ids), labels
        self.source = Source((name,))
        self.class_names, self.metadata = list(class_names), metadata or {}
        self.protocol: dict[str, str | int] = {}
        self.unlisted: list[tuple[str, str]] = []
        self.unopened: list[tuple[str, str]] = []
        self.aside = Aside()
        self.remarks: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def why_missing(self, id_: str) -> str:
        """Say why a picture of an index is not listed, and what to do."""
        reasons = dict([*self.unlisted, *self.unopened, *self.aside.absent])
        if not reasons:
            return MISSING
        above = [id_[: match.start()] for match in re.finditer("/", id_)]
        reason = next((reasons[path] for path in (id_, *reversed(above), ".") if path in reasons), "")
        remedy = "" if ";" in reason else "; mend that, and try again"
        return f"it is missing: {reason}{remedy}" if reason else MISSING

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        """Return the picture, RGB and upright.

        Raises:
            ImageError: it is unreadable.
        """
        return self.decode(position, self.read(position), size_hint)

    def rgba(self, position: int) -> Image.Image:
        """Return the picture at full size, RGBA and upright.

        Raises:
            ImageError: it is unreadable.
        """
        return load_image(self.read(position), name=self.ids[position], keep_alpha=True)

    def read(self, position: int) -> bytes:
        """Return its bytes as stored; equal bytes mean the same picture."""
        raise self._lacks("read")

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        """Decode bytes from `read`, for callers that need bytes and picture."""
        return load_image(data, size_hint, self.ids[position])

    def stat(self, position: int) -> tuple[int, int]:
        """Return (size in bytes, time of last change in ns); if both are the same, the picture counts as unchanged."""
        raise self._lacks("stat")

    def _lacks(self, method: str) -> DataError:
        kind = type(self).__name__
        return DataError(f"your image set {kind} has no method `{method}`(position); define it, as `{METHODS[method]}`")

    def status(self, position: int) -> tuple[int, int, int]:
        """Return `stat`, and the time of last change of the file's entry (ctime) in ns, or 0 if there is none.

        It shows a change that keeps size and time. It may also change alone, as when the file is renamed.
        """
        return *self.stat(position), 0

    def path(self, position: int) -> Path | None:
        """Return the path of the picture's file; None inside a container."""
        return None


def check_image_set(images: ImageSet) -> None:
    """Refuse an image set of the caller that lacks a part, before any work.

    Raises:
        DataError: names the class and the part.
    """
    kind = type(images)
    if not hasattr(images, "ids"):
        raise DataError(f"your image set {kind.__name__} has no ids; call super().__init__(name, ids) in its __init__")
    if kind.read is ImageSet.read and kind.image is ImageSet.image:
        raise images._lacks("read")


def changed_at(status: os.stat_result) -> int:
    """Return the time of last change in ns."""
    return limited(status.st_mtime_ns)


def limited(time_ns: int) -> int:
    """Return a time limited to 64 bits; wrong clocks write dates outside 1677..2262."""
    return max(-(2**63), min(2**63 - 1, time_ns))


class LazyColumns(Mapping[str, Sequence[str]]):
    """Columns that are read when they are used; training uses none of them.

    Args:
        read: the column of a name.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Sequence[str]]) -> None:
        self._read = read
        self._columns: dict[str, Sequence[str] | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Sequence[str]:
        if (column := self._columns[name]) is None:
            column = self._columns[name] = self._read(name)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Subset(ImageSet):
    """Some pictures of another collection, in a given order.

    Its labels are taken from the other collection when they are used, as that one may have to read them.
    """

    def __init__(self, images: ImageSet, positions: NDArray[np.int64], name: str | None = None) -> None:
        self.images, self.positions = images, positions
        super().__init__(
            name or images.name,
            [images.ids[p] for p in positions],
            metadata=LazyColumns(list(images.metadata), lambda name: [images.metadata[name][p] for p in positions]),
        )
        self._labels: Labels | None = None
        self._class_names: list[str] | None = None
        self._has_labels = False
        self.protocol = images.protocol
        self.unlisted, self.unopened, self.aside = images.unlisted, images.unopened, images.aside
        self.source = images.source
        self.remarks, self.given = images.remarks, images.given

    @property
    def labels(self) -> Labels | None:
        if not self._has_labels:
            labels = self.images.labels
            self.labels = None if labels is None else labels[self.positions]
        return self._labels

    @labels.setter
    def labels(self, labels: Labels | None) -> None:
        self._has_labels, self._labels = True, labels

    @property
    def class_names(self) -> list[str]:
        return self.images.class_names if self._class_names is None else self._class_names

    @class_names.setter
    def class_names(self, names: list[str]) -> None:
        self._class_names = names

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        return self.images.image(int(self.positions[position]), size_hint)

    def rgba(self, position: int) -> Image.Image:
        return self.images.rgba(int(self.positions[position]))

    def read(self, position: int) -> bytes:
        return self.images.read(int(self.positions[position]))

    def decode(self, position: int, data: bytes, size_hint: int | None = None) -> Image.Image:
        return self.images.decode(int(self.positions[position]), data, size_hint)

    def stat(self, position: int) -> tuple[int, int]:
        return self.images.stat(int(self.positions[position]))

    def status(self, position: int) -> tuple[int, int, int]:
        return self.images.status(int(self.positions[position]))

    def path(self, position: int) -> Path | None:
        return self.images.path(int(self.positions[position]))


def subset(images: ImageSet, positions: Iterable[int], name: str | None = None) -> ImageSet:
    """Return the pictures at `positions` as a collection."""
    return Subset(images, np.fromiter(positions, np.int64), name)


def labelled(images: ImageSet) -> ImageSet:
    """Return the pictures that have a class number, and say how many have none. Multi-label collections stay as they are.

    Raises:
        DataError: no picture has a label.
    """
    labels = images.labels
    kept = () if labels is None else np.flatnonzero(labels != NO_LABEL) if labels.ndim == 1 else range(len(images))
    if not len(kept):
        raise DataError(
            f"{images.name} has no labels; evaluation needs two class subfolders or more, or a metadata.csv"
        )
    if len(kept) == len(images):
        return images
    rest = subset(images, kept)
    left_out = f"{len(images) - len(kept):,} of {len(images):,} pictures have no label and are left out"
    rest.remarks = [*images.remarks, (images.name, left_out)]
    return rest


def class_numbers(names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Turn class names into (N,) numbers, and return the sorted names too.

    >>> class_numbers(["shoe", "hat", "shoe"])
    (array([1, 0, 1]), ['hat', 'shoe'])
    """
    known = sorted(set(names))
    numbers = {name: number for number, name in enumerate(known)}
    return np.array([numbers[name] for name in names], np.int64), known


def multi_hot(lists: Sequence[Iterable[Any]]) -> tuple[NDArray[np.bool_], list[str]]:
    """Turn lists of labels into (N, L) bool, and return the names of the columns too.

    >>> multi_hot([["sky"], ["sea", "sky"]])
    (array([[False,  True],
           [ True,  True]]), ['sea', 'sky'])
    """
    sets = [{str(label) for label in labels} for labels in lists]
    names = sorted(set().union(*sets)) if sets else []
    return np.array([[name in labels for name in names] for labels in sets], bool).reshape(len(sets), len(names)), names
