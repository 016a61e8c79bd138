"""MIRFLICKR-25000 and NUS-WIDE in the layouts of their authors. The user gives their folders; they are not downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spq.common.files import absolute
from spq.data.decode import first_line
from spq.data.image_set import ImageSet, Labels, changed_at
from spq.errors import DataError, ImageError

# fmt: off
MIRFLICKR_CONCEPTS = [
    "animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male", "night",
    "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport", "tree", "water",
]
# fmt: on


class ListedImages(ImageSet):
    """Pictures at given paths below a folder, each with a class number or with several labels."""

    def __init__(self, name: str, root: Path, ids: list[str], labels: Labels, classes: list[str]) -> None:
        super().__init__(name, ids, labels, classes)
        self.root = root

    def read(self, position: int) -> bytes:
        try:
            return (self.root / self.ids[position]).read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {self.root / self.ids[position]}: {error.strerror}") from None

    def stat(self, position: int) -> tuple[int, int]:
        try:
            status = (self.root / self.ids[position]).stat()
        except OSError as error:
            raise ImageError(f"cannot read {self.root / self.ids[position]}: {error.strerror}") from None
        return status.st_size, changed_at(status)

    def path(self, position: int) -> Path | None:
        return absolute(self.root) / self.ids[position]


def open_mirflickr(root: Path) -> ImageSet:
    """Open MIRFLICKR-25000: `im1.jpg` and so on, and the files of `mirflickr25k_annotations_v080` in any subfolder.

    Each annotation file has the picture numbers of one concept. The labels are the 24 concepts without their stricter `_r1`
    variants. Pictures without a concept are included, because the deep-hashing protocol draws from all 25,000.

    Raises:
        DataError: pictures or annotations are missing.
    """
    pictures = {int(path.stem[2:]): path for path in root.rglob("im*.jpg") if path.stem[2:].isdecimal()}
    # by name: tags of the distribution are text files too, and some contain only a number
    files = {path.stem: path for path in root.rglob("*.txt") if path.stem in MIRFLICKR_CONCEPTS}
    if not pictures or len(files) < len(MIRFLICKR_CONCEPTS):
        missing = sorted(set(MIRFLICKR_CONCEPTS) - set(files))
        lack = "im1.jpg, im2.jpg, ..." if not pictures else f"the annotations {missing[0]}.txt"
        raise DataError(f"mirflickr:{root} lacks {lack}; unpack mirflickr25k.zip and its annotations_v080 there")
    numbers = sorted(pictures)
    labels = np.stack([np.isin(numbers, _integers(files[name])) for name in MIRFLICKR_CONCEPTS], 1)
    ids = [pictures[number].relative_to(root).as_posix() for number in numbers]
    return ListedImages(f"mirflickr:{root}", root, ids, labels, MIRFLICKR_CONCEPTS)


def open_nuswide(root: Path, concepts: int = 21) -> ImageSet:
    """Open NUS-WIDE: `Imagelist.txt`, `Labels_CONCEPT.txt`, and pictures below `Flickr/` or `images/`.

    `Imagelist.txt` has one relative path on each line, with Windows separators. A label file has 0 or 1 on each line. The labels
    are the `concepts` most frequent ones, and pictures without any of them are left out.

    Raises:
        DataError: a list is missing, or lists have different lengths.
    """
    lists = sorted(root.rglob("Imagelist.txt"), key=lambda path: len(path.parts))
    files = {path.stem.removeprefix("Labels_"): path for path in sorted(root.rglob("Labels_*.txt"))}
    # the distribution also has shorter lists for its splits, such as Labels_x_Train.txt
    files = {name: path for name, path in files.items() if not name.endswith(("_Train", "_Test"))}
    if not lists or len(files) < concepts:
        lack = "Imagelist.txt" if not lists else f"Labels_CONCEPT.txt files ({len(files)} of at least {concepts} found)"
        raise DataError(f"nuswide:{root} lacks {lack}; unpack ImageList.zip and Groundtruth.zip there")
    lines = lists[0].read_text("utf-8", "replace").splitlines()
    names = [line.strip().replace("\\", "/") for line in lines if line.strip()]
    columns = {name: _integers(path) == 1 for name, path in files.items()}
    wrong = next((name for name, column in columns.items() if len(column) != len(names)), None)
    if wrong:
        rows = f"Labels_{wrong}.txt has {len(columns[wrong])} rows, Imagelist.txt {len(names)}"
        raise DataError(f"nuswide:{root}: {rows}; unpack both again")
    frequent = sorted(columns, key=lambda name: (-int(columns[name].sum()), name))[:concepts]
    labels = np.stack([columns[name] for name in sorted(frequent)], 1)
    kept = np.flatnonzero(labels.any(1))
    folder = next((sub for sub in ("Flickr", "images") if (root / sub).is_dir()), "")
    ids = [f"{folder}/{names[position]}" if folder else names[position] for position in kept]
    return ListedImages(f"nuswide:{root}", root, ids, labels[kept], sorted(frequent))


READERS: dict[str, Callable[[Path], ImageSet]] = {"mirflickr": open_mirflickr, "nuswide": open_nuswide}


def _integers(path: Path) -> NDArray[np.int64]:
    try:
        return np.array(path.read_text("utf-8").split(), np.int64)
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"{path} must contain only whole numbers ({first_line(error)}); unpack it again") from None
