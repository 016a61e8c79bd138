"""Pictures inside Parquet files (Hugging Face layout) and tar files (WebDataset layout), read where they lie."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spq.data.folder import EXTENSIONS
from spq.data.sources import ImageSet, Labels, class_numbers, multi_hot
from spq.errors import DataError


class ParquetImages(ImageSet):
    """Column `image: struct<bytes, path>` or plain binary, and `label` (int, string or a list) where there is one.

    The encoded bytes stay in Arrow's memory, one row group after the other as they are asked for would be slower than
    holding them: 50,000 CIFAR pictures are 16 MB.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            tables = [pq.read_table(file, memory_map=True) for file in files]
            table = pa.concat_tables(tables)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is not readable as Parquet: {str(error).splitlines()[0]}") from None
        if "image" not in table.column_names:
            raise DataError(f"{name} has no column image, only {', '.join(table.column_names)}; use the Hugging Face layout")
        column = table["image"].combine_chunks()
        paths: list[str | None] = [None] * len(column)
        if pa.types.is_struct(column.type):
            if column.type.get_field_index("bytes") < 0:
                raise DataError(f"{name}: column image holds no bytes; embed the pictures when saving")
            if column.type.get_field_index("path") >= 0:
                paths = column.field("path").to_pylist()
            column = column.field("bytes")
        elif not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            raise DataError(f"{name}: column image is {column.type}, not struct<bytes, path> or binary")
        if not len(column):
            raise DataError(f"no pictures in {name}; the table has no rows")
        self.column = column
        self.mtime = max(file.stat().st_mtime_ns for file in files)
        labels, class_names = _labels(table["label"].to_pylist()) if "label" in table.column_names else (None, [])
        super().__init__(name, _unique(paths, len(column)), labels, class_names)

    def read(self, position: int) -> bytes:
        return self.column[position].as_py() or b""

    def stat(self, position: int) -> tuple[int, int]:
        return len(self.column[position].as_buffer() or b""), self.mtime


class TarImages(ImageSet):
    """WebDataset: members that share a key (the name up to the first dot) are one sample: a picture, and `.cls`, `.txt`
    or `.json` (its `label`) beside it. Members are read by offset, nothing is unpacked."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.files = [(file, threading.local()) for file in files]
        self.members: list[tuple[int, int, int]] = []  # file, offset, size
        keys: list[str] = []
        found: list[Any] = []
        for number, file in enumerate(files):
            for key, picture, label in _samples(name, file):
                keys.append(key if len(files) == 1 else f"{file.name}/{key}")
                self.members.append((number, *picture))
                found.append(label)
        if not keys:
            raise DataError(f"no pictures in {name}; expected members like 0001.jpg, 0001.cls")
        labels, class_names = _labels(found) if all(label is not None for label in found) else (None, [])
        self.mtimes = [file.stat().st_mtime_ns for file in files]
        super().__init__(name, _unique(keys, len(keys)), labels, class_names)

    def read(self, position: int) -> bytes:
        number, offset, size = self.members[position]
        file, local = self.files[number]
        if not hasattr(local, "handle"):  # one handle per thread: seek and read must not be torn apart
            local.handle = file.open("rb")
        local.handle.seek(offset)
        data: bytes = local.handle.read(size)
        return data

    def stat(self, position: int) -> tuple[int, int]:
        number, _, size = self.members[position]
        return size, self.mtimes[number]


def _samples(name: str, file: Path) -> list[tuple[str, tuple[int, int], Any]]:
    pictures: dict[str, tuple[int, int]] = {}
    labels: dict[str, Any] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                key, dot, extension = base.partition(".")
                key = f"{folder}/{key}" if folder else key
                if not member.isfile() or not key or not dot:
                    continue
                if f".{extension.lower()}" in EXTENSIONS:
                    pictures[key] = (member.offset_data, member.size)
                elif extension in ("cls", "txt", "json"):
                    handle = tar.extractfile(member)
                    labels[key] = _label(extension, handle.read() if handle else b"", labels.get(key))
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{name}: {file.name} is not an uncompressed tar file: {error}") from None
    return [(key, pictures[key], labels.get(key)) for key in pictures]


def _label(extension: str, content: bytes, known: Any) -> Any:
    text = content.decode("utf-8", "replace").strip()
    if extension == "cls":
        return int(text) if text.isdecimal() else text
    if extension == "txt":
        return known  # a caption, not a class
    try:
        value = json.loads(text)
    except ValueError:
        return known
    return value.get("label", known) if isinstance(value, dict) else known


def _labels(values: list[Any]) -> tuple[Labels | None, list[str]]:
    if any(value is None for value in values):
        return None, []
    if all(isinstance(value, int) for value in values):
        numbers = np.array(values, np.int64)
        return numbers, [str(number) for number in range(int(numbers.max()) + 1)] if numbers.min() >= 0 else []
    if all(isinstance(value, list) for value in values):
        return multi_hot(values)
    return class_numbers([str(value) for value in values])


def _unique(names: Sequence[str | None], count: int) -> list[str]:
    """The names where they are all there and differ, else row numbers."""
    if all(names) and len(set(names)) == count:
        return [str(name) for name in names]
    return [f"{position:0{len(str(count - 1))}d}" for position in range(count)]
