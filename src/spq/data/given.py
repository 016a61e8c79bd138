"""Collections that the caller has at hand: lists of paths or pictures, arrays, tensors, torch and Hugging Face datasets.

Nothing here imports torch or datasets: a dataset is what has a length, and gives an item for a position.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.common.files import absolute
from spq.common.text import name_to_id
from spq.data.decode import first_line, load_image
from spq.data.formats import read_file
from spq.data.image_set import ImageSet, Labels, changed_at, limited
from spq.data.metadata import labels_of
from spq.data.named import ArrayImages
from spq.errors import DataError, ImageError, ShutError

KINDS = "a folder, a list of paths or pictures, an array (N, H, W, 3), a torch or Hugging Face dataset, or an ImageSet"
PICTURE_KEYS = ("image", "img")
LABEL_KEYS = ("label", "labels")


class PathImages(ImageSet):
    """Files with pictures, in a given order; the id of a picture is its path as given."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.files = [os.fspath(path) for path in paths]
        ids = [name_to_id(file.replace(os.sep, "/")) for file in self.files]
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_, seen in zip(sorted(ids), sorted(ids)[1:], strict=False) if id_ == seen)
            raise DataError(f"{twice} is listed twice; give each picture once")
        super().__init__(f"list of {len(ids):,} paths", ids)
        self.given = paths

    def read(self, position: int) -> bytes:
        return read_file(self.files[position])

    def stat(self, position: int) -> tuple[int, int]:
        size, mtime_ns, _ = self.status(position)
        return size, mtime_ns

    def status(self, position: int) -> tuple[int, int, int]:
        try:
            status = os.stat(self.files[position])  # noqa: PTH116 (a Path is slower than the call)
        except OSError as error:
            raise ShutError(f"cannot read {self.files[position]}: {error.strerror}") from None
        return status.st_size, changed_at(status), limited(status.st_ctime_ns)

    def path(self, position: int) -> Path | None:
        return absolute(Path(self.files[position]))


class GivenArray(ArrayImages):
    """Pictures in one array (N, H, W) or (N, H, W, 3) uint8, without labels."""

    def __init__(self, name: str, array: NDArray[np.uint8]) -> None:
        ImageSet.__init__(self, name, [str(position) for position in range(len(array))])
        self.array = self.given = array
        self._opened = time.time_ns()

    def stat(self, position: int) -> tuple[int, int]:
        return self.array[position].nbytes, self._opened  # as of `ItemImages`


@dataclass(frozen=True)
class _Layout:
    """Where the items of a dataset have their picture and label: keys of a mapping, or places of a tuple.

    Attributes:
        picture: None if the item is the picture. label: None if there is none.
    """

    picture: str | int | None = None
    label: str | int | None = None


class ItemImages(ImageSet):
    """Pictures that a function gives for each position, one at a time: it may be a dataset that no two threads may ask.

    Labels are read with the first use of `labels`, which evaluation and index need; training never uses them.

    Args:
        given: what the caller gave. item: returns the item of a position.
        labels_now: returns all labels without reading a picture; None where they are in the items.
    """

    def __init__(
        self,
        name: str,
        given: Any,
        item: Callable[[int], Any],
        layout: _Layout,
        labels_now: Callable[[], Sequence[Any] | None] = lambda: None,
        class_names: Sequence[str] = (),
    ) -> None:
        self._layout, self._item, self._labels_now = layout, item, labels_now
        self._lock, self._opened = threading.Lock(), time.time_ns()
        super().__init__(name, [str(position) for position in range(len(given))], None, class_names)
        self._has_labels = False
        self.given = given

    @property
    def labels(self) -> Labels | None:
        if not self._has_labels:
            values, key = self._labels_now(), self._layout.label
            if values is None and key is not None:
                values = [self._label_at(position, key) for position in range(len(self))]
            found = (None, []) if values is None else _labels_of(values, self.class_names)
            self._has_labels, (self._labels, self.class_names) = True, found
        return self._labels

    @labels.setter
    def labels(self, labels: Labels | None) -> None:
        self._has_labels, self._labels = True, labels

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        picture = self._picture(position)
        return load_image(picture, size_hint, self._name(position))

    def rgba(self, position: int) -> Image.Image:
        return load_image(self._picture(position), name=self._name(position), keep_alpha=True)

    def read(self, position: int) -> bytes:
        picture = self._picture(position)
        if isinstance(picture, bytes):
            return picture
        if isinstance(picture, str | Path):
            return read_file(picture)
        file = io.BytesIO()
        load_image(picture, name=self._name(position), keep_alpha=True).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def stat(self, position: int) -> tuple[int, int]:
        return 0, self._opened  # nobody knows when it last changed: an index reads it again, and compares its bytes

    def _picture(self, position: int) -> Any:
        """The picture of an item: bytes, a path, or something that `load_image` takes."""
        item = self._item_at(position)
        picture = item if self._layout.picture is None else item[self._layout.picture]
        if isinstance(picture, Mapping):  # of Hugging Face, not decoded
            picture = picture.get("bytes") or picture.get("path")
        if picture is None:
            raise ImageError(f"cannot read {self._name(position)}: it has no picture")
        return picture

    def _label_at(self, position: int, key: str | int) -> Any:
        try:
            return self._item_at(position)[key]
        except ImageError:
            return None

    def _item_at(self, position: int) -> Any:
        try:
            with self._lock:
                return self._item(position)
        except Exception as error:  # of the caller's code
            raise ImageError(f"cannot read {self._name(position)}: {first_line(error)}") from error

    def _name(self, position: int) -> str:
        return f"item {position} of {self.name}"


def given_images(given: Any) -> ImageSet:
    """Make a collection of what the caller has at hand.

    Raises:
        DataError: it is empty, or of a kind that is not supported; the message says what to give.
    """
    kind = type(given).__name__
    if hasattr(given, "dataset") and hasattr(given, "batch_size"):
        raise DataError(f"a {kind} gives batches; give its dataset, `loader.dataset`")
    if not (hasattr(type(given), "__len__") and hasattr(type(given), "__getitem__")):
        if hasattr(type(given), "__iter__"):
            raise DataError(
                f"{kind} gives its items in one order only; give a map-style dataset, or `list` of its items"
            )
        raise DataError(f"{kind} is not a collection; give {KINDS}")
    if isinstance(given, Mapping):
        raise DataError(f"{kind} is not a collection; give its part with the pictures, such as `datasets['train']`")
    if not len(given):
        raise DataError(f"{kind} is empty; give at least one picture")
    if hasattr(given, "__array__"):
        return _from_array(np.asarray(given.detach().cpu() if hasattr(given, "detach") else given))  # a tensor of a GPU
    if isinstance(given, Sequence) and all(isinstance(item, str | os.PathLike) for item in given):
        return PathImages(given)
    return _from_items(given)


def is_one_picture(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is a single picture, and not several grey ones."""
    if len(shape) != 3:
        return len(shape) == 2
    return shape[2] in (3, 4) or shape[0] in (3, 4)


def _from_array(array: NDArray[Any]) -> ImageSet:
    """Pictures in one array or tensor: (N, H, W), or (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels."""
    shape = array.shape
    if array.dtype.kind in "OUS":
        return given_images(array.tolist())
    is_one = is_one_picture(shape)
    if is_one or array.ndim not in (3, 4) or (array.ndim == 4 and not {1, 3, 4} & {shape[1], shape[3]}):
        one = "one picture" if is_one else "no collection of pictures"
        raise DataError(f"an array of shape {shape} is {one}; give (N, H, W), (N, H, W, 3) or (N, 3, H, W)")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"float pixels must lie in 0..1, got {low:.4g}..{high:.4g}; undo the normalisation, or divide by 255"
            )
    elif array.dtype not in (np.uint8, np.uint16):
        raise DataError(f"pixels of type {array.dtype} are ambiguous; give uint8, uint16 or float in 0..1")
    name = f"array of {len(array):,} pictures"
    if array.ndim == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
        array = array.transpose(0, 2, 3, 1)
    if array.dtype == np.uint8 and (array.ndim == 3 or array.shape[3] == 3):
        return GivenArray(name, array)
    return ItemImages(name, array, array.__getitem__, _Layout())


def _from_items(given: Any) -> ImageSet:
    """Pictures that have to be asked for one by one."""
    name = f"{type(given).__name__} of {len(given):,} pictures"
    if isinstance(getattr(given, "features", None), Mapping):
        return _from_columns(name, given)
    try:
        first = given[0]
    except Exception as error:  # of the caller's code
        raise DataError(f"{name}: its first item cannot be read: {first_line(error)}; check the dataset") from error
    layout = _layout_of(name, first)
    _check_first(name, first, layout)
    names = getattr(given, "classes", ())
    class_names = names if isinstance(names, list | tuple) and all(isinstance(each, str) for each in names) else ()
    has_label = layout.label is not None
    return ItemImages(
        name,
        given,
        given.__getitem__,
        layout,
        (lambda: _known_labels(given)) if has_label else lambda: None,
        class_names,
    )


def _from_columns(name: str, given: Any) -> ImageSet:
    """A Hugging Face dataset: its features say which column holds pictures, and which one class labels."""
    kinds = {column: type(feature).__name__ for column, feature in given.features.items()}
    pictures = [column for column, kind in kinds.items() if kind == "Image"]
    picture = next((key for key in PICTURE_KEYS if key in pictures), pictures[0] if len(pictures) == 1 else None)
    if picture is None:
        found = f"several columns of pictures ({', '.join(pictures)})" if pictures else "no column of pictures"
        raise DataError(f"{name} has {found}; keep one with `select_columns`, or give the column a name: `image`")
    classes = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    label = next((key for key in LABEL_KEYS if key in kinds), classes[0] if len(classes) == 1 else None)
    names = getattr(given.features[label], "names", None) if label else None
    encoded = given.cast_column(picture, type(given.features[picture])(decode=False))  # the bytes as stored
    rows = encoded.select_columns([picture])
    labels: Callable[[], Sequence[Any] | None] = (lambda: list(given[label])) if label else (lambda: None)
    return ItemImages(name, given, lambda position: rows[position], _Layout(picture, label), labels, names or ())


def _layout_of(name: str, item: Any) -> _Layout:
    if isinstance(item, Mapping):
        picture = next((key for key in PICTURE_KEYS if key in item), None)
        if picture is None:
            keys = ", ".join(map(str, item))
            raise DataError(
                f"{name}: its items have no `image`, but {keys or 'nothing'}; give items that are pictures or pairs"
            )
        return _Layout(picture, next((key for key in LABEL_KEYS if key in item), None))
    if isinstance(item, tuple | list):
        if not item:
            raise DataError(f"{name}: its items are empty; give items that are pictures, or pairs of picture and label")
        return _Layout(0, 1 if len(item) > 1 else None)
    return _Layout()


def _check_first(name: str, item: Any, layout: _Layout) -> None:
    """Refuse a dataset whose first item is no picture: most likely the others are none either."""
    picture = item if layout.picture is None else item[layout.picture]
    if isinstance(picture, str | Path | bytes | Mapping | Image.Image):
        return
    if not hasattr(picture, "__array__"):
        raise DataError(f"{name}: its first item is {type(picture).__name__}, not a picture; give {KINDS}")
    try:
        load_image(picture, name=f"item 0 of {name}")
    except ImageError as error:
        reason = str(error).removeprefix("cannot read ")
        raise DataError(f"{reason} (a dataset without `Normalize`)" if "divide by 255" in reason else reason) from None


def _known_labels(given: Any) -> Sequence[Any] | None:
    """Labels that a dataset has beside its items, as those of torchvision have, also of a part of such a dataset."""
    if hasattr(given, "dataset") and hasattr(given, "indices"):  # torch.utils.data.Subset
        known = _known_labels(given.dataset)
        return None if known is None else [known[position] for position in given.indices]
    for attribute in ("targets", "labels"):
        values = getattr(given, attribute, None)
        if values is not None and hasattr(values, "__len__") and len(values) == len(given):
            return list(values.tolist() if hasattr(values, "tolist") else values)
    return None


def _labels_of(values: Sequence[Any], class_names: list[str]) -> tuple[Labels | None, list[str]]:
    """Labels and names of the classes: of numbers, texts, lists of these, or rows with a 0 or 1 for each class.

    Args:
        class_names: those that the dataset gives, for labels that are numbers.
    """
    plain = [_plain(value) for value in values]
    if (rows := _rows_of_zeros_and_ones(plain, all(hasattr(value, "shape") for value in values))) is not None:
        has_names = len(class_names) == rows.shape[1]
        return rows, class_names if has_names else [str(number) for number in range(rows.shape[1])]
    labels, names = labels_of(plain)
    are_numbers = labels is not None and labels.ndim == 1 and names == [str(number) for number in range(len(names))]
    return labels, class_names if are_numbers and len(class_names) >= len(names) else names


def _rows_of_zeros_and_ones(values: list[Any], are_arrays: bool) -> NDArray[np.bool_] | None:
    """Labels (N, L) bool that are rows of one length with a 0 or 1 for each class; None if they are anything else.

    Arrays and tensors of zeros and ones are such rows. Lists may name classes by number: these name none twice, so one row with
    two zeros or two ones tells which they are.
    """
    lengths = {len(value) if isinstance(value, list) else 0 for value in values}
    if len(lengths) != 1 or min(lengths) < 2 or not all(cell in (0, 1) for value in values for cell in value):
        return None
    return np.array(values, bool) if are_arrays or any(len(set(value)) < len(value) for value in values) else None


def _plain(value: Any) -> Any:
    """A label as a plain Python value: a number of NumPy or torch, or a list of such."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value
