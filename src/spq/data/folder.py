"""A folder of pictures: recursive, in a fixed order, labelled by its subfolders or by a metadata.csv."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from spq.data.sources import ImageSet, Labels, class_numbers, multi_hot
from spq.errors import DataError, ImageError

EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"} | {
    ".avif",
    ".jp2",
}
HEIF = {".heic", ".heif"}


class FolderImages(ImageSet):
    """All pictures below a folder. Hidden files and folders are skipped, links to folders are not followed.

    Labels are read by evaluation alone: from `metadata.csv` (column `file_name`, and `label`, or `labels` separated by
    `|` or `;`), else from the names of the parent folders when every picture lies in a subfolder.
    """

    def __init__(self, name: str, root: Path) -> None:
        try:
            os.scandir(root).close()  # os.walk below passes over what it may not list
        except OSError as error:
            raise DataError(f"cannot list {name}: {error.strerror}; make the folder readable") from None
        extensions = EXTENSIONS | (HEIF if _register_heif() else set())
        self.names = sorted(_walk(root, extensions), key=lambda name: name.split("/"))
        ids = [printable(name) for name in self.names]
        if not ids:
            heic = any(_walk(root, HEIF))
            hint = "HEIC needs pip install 'spq-retrieval[heif]'" if heic else "give a folder with JPEG or PNG files"
            raise DataError(f"no pictures in {name}; {hint}")
        self.root = root
        table = root / "metadata.csv"
        if table.is_file():
            super().__init__(name, ids, *_read_metadata(table, ids))
        else:
            labels, names = _parents(ids)
            super().__init__(name, ids, labels, names)

    def read(self, position: int) -> bytes:
        path = self.root / self.names[position]
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}") from None

    def stat(self, position: int) -> tuple[int, int]:
        path = self.root / self.names[position]
        try:
            status = path.stat()
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}") from None
        return status.st_size, status.st_mtime_ns

    def path(self, position: int) -> Path | None:
        return (self.root / self.names[position]).absolute()


def _walk(root: Path, extensions: set[str]) -> Iterator[str]:
    """Names below root. One that is not UTF-8 keeps its bytes as surrogates, as Python's file functions want them."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(folder).relative_to(root).as_posix()
        for file in files:
            if not file.startswith(".") and Path(file).suffix.lower() in extensions:
                yield file if prefix == "." else f"{prefix}/{file}"


def printable(name: str) -> str:
    """A file's name as an id, to print and to store: bytes that are not UTF-8 are spelled out, as in `caf\\xe9.jpg`.

    >>> print(printable("caf\\udce9.jpg"))
    caf\\xe9.jpg
    """
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _parents(ids: list[str]) -> tuple[Labels | None, list[str]]:
    parents = [i.split("/")[-2] if "/" in i else "" for i in ids]
    if all(parents) and len(set(parents)) > 1:
        return class_numbers(parents)
    return None, []


def _read_metadata(table: Path, ids: list[str]) -> tuple[Labels | None, list[str], dict[str, list[str]]]:
    """Labels, class names and further columns, in the order of `ids`; a picture without a row has empty values."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = {row["file_name"]: row for row in reader} if "file_name" in (reader.fieldnames or ()) else None
            columns = list(reader.fieldnames or ())
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{table} is not a CSV file in UTF-8: {error}; mend or remove it") from None
    if rows is None:
        raise DataError(f"{table} has no column file_name, only {_listed(columns)}; add it or remove the file")
    values = {key: [(rows.get(i, {}).get(key) or "") for i in ids] for key in columns if key and key != "file_name"}
    if "label" in values:
        missing = next((i for i, label in zip(ids, values["label"], strict=True) if not label), None)
        if missing:
            raise DataError(f"{table} gives {missing} no label; add a row for it, or remove the column label")
        return *class_numbers(values.pop("label")), values
    if "labels" in values:
        parts = [re.split("[|;]", cell) for cell in values.pop("labels")]
        return *multi_hot([filter(None, map(str.strip, cell)) for cell in parts]), values
    return None, [], values


def _listed(columns: list[str]) -> str:
    text = " ".join(", ".join(columns).split())  # a file that is no table at all may hold anything
    return text[:100] or "nothing"


def _register_heif() -> bool:
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True
