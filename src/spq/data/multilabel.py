"""MIRFLICKR-25000 and NUS-WIDE in the layouts that their authors distribute. Both are given by path, neither is fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.images import load_image
from spq.data.sources import ImageSet
from spq.errors import DataError, ImageError


class ListedImages(ImageSet):
    """Pictures at listed paths below a folder, with multi-label labels."""

    def __init__(self, name: str, root: Path, ids: list[str], labels: NDArray[np.bool_], class_names: list[str]) -> None:
        super().__init__(name, ids, labels, class_names)
        self.root = root

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        return load_image(self.root / self.ids[position], size_hint)

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
        return status.st_size, status.st_mtime_ns

    def path(self, position: int) -> Path | None:
        return (self.root / self.ids[position]).absolute()


def open_mirflickr(root: Path) -> ImageSet:
    """MIRFLICKR-25000: `im1.jpg` .. and, in `annotations/` or beside, `mirflickr25k_annotations_v080`: one file a concept
    with the numbers of its pictures. The 24 potential concepts are the labels; their stricter `_r1` variants are left out.
    Pictures without any of them stay in: the deep-hashing protocol draws from all 25,000.

    Raises:
        DataError: no pictures or no annotations there.
    """
    pictures = {int(path.stem[2:]): path for path in root.rglob("im*.jpg") if path.stem[2:].isdecimal()}
    concepts = [path for path in sorted(root.rglob("*.txt")) if not path.stem.endswith("_r1") and _is_numbers(path)]
    if not pictures or not concepts:
        lack = "im1.jpg, im2.jpg, ..." if not pictures else "annotation files such as animals.txt"
        raise DataError(f"mirflickr:{root} lacks {lack}; unpack mirflickr25k.zip and its annotations_v080 there")
    numbers = sorted(pictures)
    labels = np.zeros((len(numbers), len(concepts)), bool)
    for column, path in enumerate(concepts):
        labels[:, column] = np.isin(numbers, [int(line) for line in path.read_text("utf-8").split()])
    ids = [pictures[number].relative_to(root).as_posix() for number in numbers]
    return ListedImages(f"mirflickr:{root}", root, ids, labels, [path.stem for path in concepts])


def open_nuswide(root: Path, concepts: int = 21) -> ImageSet:
    """NUS-WIDE: `Imagelist.txt` (a relative path a line, Windows separators), `Labels_CONCEPT.txt` (0 or 1 a line) and the
    pictures below `Flickr/` or `images/`. The most frequent `concepts` are the labels, pictures without any are left out.

    Raises:
        DataError: a list is missing, or lists of different lengths.
    """
    lists = sorted(root.rglob("Imagelist.txt"), key=lambda path: len(path.parts))
    files = {path.stem.removeprefix("Labels_"): path for path in sorted(root.rglob("Labels_*.txt"))}
    # the distribution repeats the labels per split as Labels_x_Train.txt; those are shorter lists
    files = {name: path for name, path in files.items() if not name.endswith(("_Train", "_Test"))}
    if not lists or not files:
        lack = "Imagelist.txt" if not lists else "Labels_CONCEPT.txt files"
        raise DataError(f"nuswide:{root} lacks {lack}; unpack ImageList.zip and Groundtruth.zip there")
    names = [line.strip().replace("\\", "/") for line in lists[0].read_text("utf-8").splitlines() if line.strip()]
    columns = {name: np.array(path.read_text("utf-8").split(), np.int64) == 1 for name, path in files.items()}
    wrong = next((name for name, column in columns.items() if len(column) != len(names)), None)
    if wrong:
        raise DataError(f"nuswide:{root}: Labels_{wrong}.txt has {len(columns[wrong])} rows, Imagelist.txt {len(names)}; unpack both anew")
    frequent = sorted(columns, key=lambda name: (-int(columns[name].sum()), name))[:concepts]
    labels = np.stack([columns[name] for name in sorted(frequent)], 1)
    kept = np.flatnonzero(labels.any(1))
    folder = next((sub for sub in ("Flickr", "images") if (root / sub).is_dir()), "")
    ids = [f"{folder}/{names[position]}" if folder else names[position] for position in kept]
    return ListedImages(f"nuswide:{root}", root, ids, labels[kept], sorted(frequent))


READERS: dict[str, Callable[[Path], ImageSet]] = {"mirflickr": open_mirflickr, "nuswide": open_nuswide}


def _is_numbers(path: Path) -> bool:
    words = path.read_text("utf-8", "replace").split()
    return bool(words) and all(word.isdecimal() for word in words)
