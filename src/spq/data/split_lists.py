"""List files of published splits: which pictures are queries, gallery and training, and their labels.

Two kinds are read, in the folder itself or one below it:

- a split, as DeepHash, HashNet and MeCoQ publish it: `test.txt` (the queries), `database.txt` and `train.txt`, each perhaps in
  numbered pieces (`database0.txt`, ...), with a path and the labels on each line: `a/b.jpg 0 1 0`;
- a pool that a protocol draws from: `img.txt` with a path on each line, and `targets.txt` with its labels, `0 1 0`.

More than one label column is 0 or 1 for each label. A single column is a class number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from spq.data.decode import first_line
from spq.data.image_set import ImageSet, Labels
from spq.data.multilabel import ListedImages
from spq.errors import DataError

QUERIES, GALLERY, TRAINING = "test", "database", "train"
POOLS = (("img.txt", "targets.txt"), ("img_tc21.txt", "targets_onehot_tc21.txt"))


@dataclass(frozen=True)
class ListedSplit:
    """Queries, gallery and training pictures of list files; the training pictures may lie outside of the gallery."""

    queries: ImageSet
    gallery: ImageSet
    training: ImageSet


@dataclass(frozen=True)
class _Line:
    """A picture of a list, and where it is listed."""

    file: Path
    number: int
    path: str
    labels: str

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.number}"


def find_split(root: Path) -> ListedSplit | None:
    """Read the lists of a split below a folder, or return None if there are none.

    Raises:
        DataError: a list is missing or damaged, a picture is listed twice, or pictures are not where the lists say.
    """
    files = {part: _pieces(root, part) for part in (QUERIES, GALLERY, TRAINING)}
    if not files[QUERIES] and not files[GALLERY]:
        return None
    for part in (QUERIES, GALLERY):
        if not files[part]:
            raise DataError(f"{root} has lists of a split, but no {part}.txt; copy it there too")
    lines = {part: [line for file in found for line in _lines(file)] for part, found in files.items()}
    _check_apart(lines)
    columns = _columns(lines[QUERIES][0])
    place = _Pictures(root, lines[GALLERY][0])
    sets = {part: _image_set(root, place, found, columns) for part, found in lines.items() if found}
    named = ", ".join(file.name for found in files.values() for file in found)
    sets[QUERIES].remarks.append((str(root), f"the split is that of the lists {named}"))
    if TRAINING not in sets:
        sets[TRAINING] = sets[GALLERY]
        sets[GALLERY].remarks.append((str(root), f"no {TRAINING}.txt, so the gallery is the training set"))
    return ListedSplit(sets[QUERIES], sets[GALLERY], sets[TRAINING])


def find_pool(root: Path) -> ImageSet | None:
    """Read a pool of pictures from `img.txt` and `targets.txt` below a folder, or return None if there is none.

    Raises:
        DataError: the lists are damaged, or of different lengths; or pictures are not where they say.
    """
    pairs = ((folder / names, folder / targets) for folder in _folders(root) for names, targets in POOLS)
    pair = next(((names, targets) for names, targets in pairs if names.is_file() and targets.is_file()), None)
    if pair is None:
        return None
    names, targets = (_numbered(file) for file in pair)
    if len(names) != len(targets):
        raise DataError(f"{pair[0]} has {len(names):,} lines and {pair[1].name} {len(targets):,}; copy both again")
    lines = [_Line(pair[1], number, path, labels) for (_, path), (number, labels) in zip(names, targets, strict=True)]
    _check_once(lines)
    columns = len(lines[0].labels.split())
    return _image_set(root, _Pictures(root, lines[0]), lines, columns)


class _Pictures:
    """Where the pictures of lists are. Lists were made elsewhere, so the first folders of their paths may not exist here.

    Args:
        root: the folder to look in, and in the folders in it. line: a picture that must be there.
    """

    def __init__(self, root: Path, line: _Line) -> None:
        parts = _parts(line.path)
        folders = [root, *_folders(root)[1:]]
        for self.left_out in range(len(parts)):
            for folder in folders:
                if folder.joinpath(*parts[self.left_out :]).is_file():
                    self.folder = folder.relative_to(root).as_posix()
                    return
        raise DataError(f"{line.place}: {line.path} is not below {root}; put the pictures there")

    def id_of(self, path: str) -> str:
        return str(PurePosixPath(self.folder, *_parts(path)[self.left_out :]))


def _image_set(root: Path, pictures: _Pictures, lines: list[_Line], columns: int) -> ImageSet:
    ids = [pictures.id_of(line.path) for line in lines]
    labels = _labels(lines, columns)
    count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    width = len(str(max(count - 1, 0)))
    return ListedImages(str(root), root, ids, labels, [f"{number:0{width}d}" for number in range(count)])


def _labels(lines: list[_Line], columns: int) -> Labels:
    """(N, L) bool of label columns, or (N,) class numbers of one column."""
    wanted = r"\d{1,9}" if columns == 1 else rf"[01](\s+[01]){{{columns - 1}}}"
    pattern = re.compile(wanted)
    wrong = next((line for line in lines if not pattern.fullmatch(line.labels)), None)
    if wrong:
        what = "a class number" if columns == 1 else f"{columns} labels of 0 or 1"
        raise DataError(f"{wrong.place}: expected a path and {what}; copy the list again")
    if columns == 1:
        return np.array([int(line.labels) for line in lines], np.int64)
    ones: NDArray[np.bool_] = np.array([line.labels.split() for line in lines], "S1") == b"1"
    return ones


def _columns(line: _Line) -> int:
    if not line.labels:
        raise DataError(f"{line.place}: expected a path and its labels, such as a/b.jpg 0 1 0; copy the list again")
    return len(line.labels.split())


def _lines(file: Path) -> Iterator[_Line]:
    """The pictures of a list `path 0 1 0`."""
    for number, text in _numbered(file):
        match = re.fullmatch(r"(.*?\S)\s+((?:\d+\s+)*\d+)", text)  # a path may have spaces
        yield _Line(file, number, *(match.groups() if match else (text, "")))


def _numbered(file: Path) -> list[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers from 1."""
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({first_line(error)}); copy it again") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{file} is empty; copy it again")
    return lines


def _check_apart(lines: dict[str, list[_Line]]) -> None:
    """Refuse queries that are in the gallery or in the training set, and pictures that a list has twice."""
    for listed in lines.values():
        _check_once(listed)
    queries = {line.path: line for line in lines[QUERIES]}
    for part in (GALLERY, TRAINING):
        both = next((line for line in lines[part] if line.path in queries), None)
        if both:
            raise DataError(
                f"{both.place}: {both.path} is a query too ({queries[both.path].place}); a query is no answer"
            )


def _check_once(lines: list[_Line]) -> None:
    first: dict[str, _Line] = {}
    for line in lines:
        if line.path in first:
            raise DataError(
                f"{line.place}: {line.path} is listed before, in line {first[line.path].number}; list it once"
            )
        first[line.path] = line


def _pieces(root: Path, part: str) -> list[Path]:
    """`test.txt`, or `test0.txt` and so on, in the first folder that has them."""
    for folder in _folders(root):
        found = [path for path in folder.glob(f"{part}*.txt") if re.fullmatch(rf"{part}\d*", path.stem)]
        if found:
            whole = [path for path in found if path.stem == part]
            return whole or sorted(found, key=lambda path: int(path.stem.removeprefix(part)))
    return []


def _folders(root: Path) -> list[Path]:
    """A folder, and the folders in it."""
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", ".."))
