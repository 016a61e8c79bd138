"""Tables beside pictures, `metadata.csv`, `.jsonl` or `.parquet`: labels and other columns.

A table is a help, never a condition: what cannot be used is left out and named, and the pictures are there without it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from spq.common.text import composed, name_to_id
from spq.data.image_set import NO_LABEL, Labels, class_numbers, multi_hot
from spq.data.table_files import FILE_NAME, MAX_COLUMNS, Row, TableFile, as_cell, as_text, listed
from spq.data.walk import TABLES
from spq.errors import DataError

MAX_CLASSES = 1_000_000  # larger labels are not class numbers but names, such as customer numbers
MAX_MULTI_HOT = 10**9  # pictures times different labels
NO_PICTURES = "not used: no picture is taken from its folder or below it; put it beside the pictures, or above"


@dataclass
class Described:
    """What tables and folders say about N pictures.

    Attributes:
        labels, class_names, metadata: as in `ImageSet`. remarks: (table, what of it is not used and why).
    """

    labels: Labels | None = None
    class_names: list[str] = field(default_factory=list)
    metadata: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[tuple[str, str]] = field(default_factory=list)


def describe(
    root: Path, ids: Sequence[str], tables: Sequence[str], absent: Sequence[str] = (), is_part: bool = False
) -> Described:
    """Read what the tables in a folder and its subfolders say about its pictures, in the order of `ids`.

    The names of a table are relative to its folder. Column `label` is a class, and `labels` has several classes, separated by
    `|` or `;`, or as a list. If several tables describe a picture, the one nearest to it counts, cell by cell. Without a label
    in any table, the folders of the pictures are their labels.

    Args:
        tables: names of the tables below the root, as the disk has them. Of those in one folder, the first usable one counts.
        absent: folders whose disk is not there now.
        is_part: whether patterns leave out pictures, so that a table may have none.
    """
    cells: dict[str, list[str]] = {}
    remarks: list[tuple[str, str]] = []
    by_folder = _by_folder(tables)
    for folder, here in _below(by_folder, ids).items():
        names = by_folder[folder]
        if not here:
            remarks += [(name_to_id(name), NO_PICTURES) for name in names if not is_part]
            continue
        rows, said = _rows_of_folder(root, names, _Pictures(root / PurePosixPath(names[0]).parent, folder, here))
        remarks += said
        for position, row in rows.items():
            for name, value in row.items():
                if name not in cells and len(cells) < MAX_COLUMNS:
                    cells[name] = [""] * len(ids)
                if value and name in cells:
                    cells[name][position] = value
    labels, names = _labels(cells) or parents(ids, absent)
    return Described(labels, names, cells, remarks)


def parents(ids: Sequence[str], absent: Sequence[str] = ()) -> tuple[Labels | None, list[str]]:
    """Label pictures by the folder that they are in, if there is more than one; those in no subfolder have no label.

    A folder whose disk is absent is one of them, so that the others keep their labels.
    """
    names = [i.split("/")[-2] if "/" in i else "" for i in ids]
    others = {path.split("/")[-1] for path in absent}.difference(names)
    return gapped(names, least=1 if others else 2)


def gapped(names: Sequence[str], least: int = 1) -> tuple[Labels | None, list[str]]:
    """Return class numbers and class names of labels, where an empty name is no label; None with fewer than `least` classes.

    >>> gapped(["shoe", "", "hat"])
    (array([ 1, -1,  0]), ['hat', 'shoe'])
    """
    numbers, known = class_numbers(names)
    if "" in known:  # it is the first, so all others move down by one, and it becomes NO_LABEL
        numbers, known = numbers + NO_LABEL, known[1:]
    return (numbers, known) if len(known) >= least else (None, [])


def _by_folder(tables: Iterable[str]) -> dict[str, list[str]]:
    """Return folder, as an id -> names of its tables in the order of `TABLES`; the outer folders first."""
    found: dict[str, list[str]] = {}
    for name in sorted(tables, key=lambda name: (name.count("/"), name)):
        found.setdefault(name_to_id(name.rpartition("/")[0]), []).append(name)
    for names in found.values():  # of names that differ in capital letters alone, the small ones first
        names.sort(key=lambda name: (TABLES.index(PurePosixPath(name).name.lower()), name.swapcase()))
    return found


def _below(folders: Collection[str], ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return folder -> the pictures below it: id -> position."""
    below: dict[str, dict[str, int]] = {folder: {} for folder in folders}
    for position, id_ in enumerate(ids) if below else ():
        folder = id_
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in below:
                below[folder][id_] = position
    return below


def _rows_of_folder(
    root: Path, names: Sequence[str], pictures: _Pictures
) -> tuple[dict[int, Row], list[tuple[str, str]]]:
    """Read the tables of one folder: position of a picture -> its row, and remarks.

    Args:
        names: the tables, in the order in which they are tried.
    """
    used, remarks = "", list[tuple[str, str]]()
    rows: dict[int, Row] = {}
    for name in names:
        shown = name_to_id(name)
        if used:
            remarks.append((shown, f"not used, because {used} is"))
            continue
        table = TableFile(root / name)
        if not os.path.isfile(table.path):  # noqa: PTH113 (a Path raises where a path is too long)
            remarks.append((shown, "not used: it is not a regular file"))
            continue
        try:
            rows = pictures.rows(table)
            used = shown
        except DataError as error:
            remarks.append((shown, f"not used: {error}"))
        else:
            remarks += [(shown, "; ".join(table.remarks))] if table.remarks else []
    return rows, remarks


class _Pictures:
    """The pictures below a folder, found by the names that a table gives them."""

    def __init__(self, root: Path, folder: str, ids: dict[str, int]) -> None:
        before = f"{folder}/" if folder else ""
        self.root = root
        self.exact = {id_[len(before) :]: position for id_, position in ids.items()}
        self.composed = {composed(name): position for name, position in self.exact.items()}
        self.folded: dict[str, int | None] = {}  # None: several pictures whose names differ in capital letters alone
        for name, position in self.composed.items():
            self.folded[name.casefold()] = None if name.casefold() in self.folded else position

    def rows(self, table: TableFile) -> dict[int, Row]:
        """Return position -> row of the pictures that a table names; of two rows, the last one.

        Raises:
            DataError: the table cannot be used; the reason alone.
        """
        found: dict[int, Row] = {}
        named: dict[int, str] = {}
        twice: dict[str, None] = {}
        first, lost = "", list[str]()
        for row in table.rows():
            name = row.pop(FILE_NAME)
            first = first or name
            position = self.position(name)
            if position is None:
                lost.append(name)
                continue
            if named.get(position) == name:
                twice[name] = None
            elif position in named and self.exact.get(name) != position:
                continue  # the exact spelling has priority
            found[position], named[position] = row, name
        if not (first or table.broken):
            raise DataError("it has no row with a file name")
        if first and not found:
            raise DataError(f"it names no picture that is here, first {listed([first])}; give paths below its folder")
        if len(lost) > len(found):  # a few may be of pictures that were deleted
            table.remarks.append(f"{len(lost):,} rows name no picture that is here, first {listed(lost[:1])}")
        if twice:
            count = "1 picture has" if len(twice) == 1 else f"{len(twice):,} pictures have"
            table.remarks.append(f"{count} several rows, first {listed([next(iter(twice))])}; the last row is used")
        return found

    def position(self, name: str) -> int | None:
        """Find a picture by its name: as it is, with other separators, with accents composed, or as an absolute path.

        The last try is in other capital letters, as tables of systems have it that know no difference.
        """
        spellings = (name, name.strip(), *_spellings(self.root, name.strip()))
        for spelling in spellings:
            position = self.exact.get(spelling, self.composed.get(composed(spelling)))
            if position is not None:
                return position
        return self.folded.get(composed(spellings[-1]).casefold())


@lru_cache(maxsize=8)
def _places(root: Path) -> tuple[str, str]:
    """The ways to write the path of a folder, which a table with a million rows would ask for each."""
    return root.absolute().as_posix(), root.resolve().as_posix()


def _spellings(root: Path, name: str) -> list[str]:
    r"""Return the ways to read a name as a path below the folder.

    >>> _spellings(Path("/photos"), r".\\a\\b.jpg"), _spellings(Path("/photos"), "/photos/./b.jpg")
    (['a/b.jpg'], ['b.jpg'])
    """
    path = posixpath.normpath(re.sub(r"[\\/]+", "/", name))
    for place in _places(root):
        if path.startswith(f"{place}/"):
            return [path[len(place) + 1 :]]
    return [path]


def _labels(cells: dict[str, list[str]]) -> tuple[Labels | None, list[str]] | None:
    """Take the labels out of the columns; None if no picture has one."""
    if any(label.strip() for label in cells.get("label", ())):
        return gapped([label.strip() for label in cells.pop("label")])
    cells.pop("label", None)
    if "labels" in cells:
        parts = [re.split("[|;]", cell) for cell in cells.pop("labels")]
        labels, names = several_of([filter(None, map(str.strip, cell)) for cell in parts])
        return (labels, names) if names else None
    return None


def labels_of(values: Sequence[Any]) -> tuple[Labels | None, list[str]]:
    """Return labels and class names of what a container tells; None, NaN and Hugging Face's -1 are no label."""
    values = [as_text(value) if isinstance(value, bool) else value for value in values]
    has_none = [value is None or value == -1 or value != value for value in values]
    known = [value for value, is_none in zip(values, has_none, strict=True) if not is_none]
    if not known:
        return None, []
    if all(isinstance(value, int) and 0 <= value < MAX_CLASSES for value in known):
        numbers = np.array([NO_LABEL if is_none else v for v, is_none in zip(values, has_none, strict=True)], np.int64)
        return numbers, [str(number) for number in range(int(numbers.max()) + 1)]
    if all(isinstance(value, list) for value in known):
        return several_of([map(as_cell, value or ()) for value in values])
    return gapped(["" if is_none else as_cell(value) for value, is_none in zip(values, has_none, strict=True)])


def several_of(lists: Sequence[Iterable[str]]) -> tuple[Labels | None, list[str]]:
    """Return (N, L) labels and their names; none if there are too many different ones to be labels."""
    sets = [set(labels) for labels in lists]
    count = len(set().union(*sets))
    return multi_hot(sets) if 0 < count * len(sets) <= MAX_MULTI_HOT else (None, [])


def unique_ids(names: Sequence[str | None], count: int) -> list[str]:
    """Return the names if all exist and differ, else row numbers."""
    if all(names) and len(set(names)) == count:
        return [str(name) for name in names]
    return [f"{position:0{len(str(count - 1))}d}" for position in range(count)]
