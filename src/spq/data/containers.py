"""Pictures inside Parquet files (Hugging Face layout) and tar files (WebDataset layout), read without unpacking."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spq.common.text import name_to_id
from spq.data.decode import first_line
from spq.data.formats import EXTENSIONS
from spq.data.image_set import ImageSet, Labels, changed_at, class_numbers, multi_hot
from spq.errors import DataError, ImageError

MAX_CLASSES = 1_000_000  # larger labels are not class numbers but names, such as customer numbers


class ParquetImages(ImageSet):
    """Column `image: struct<bytes, path>` or plain binary, and an optional column `label` (int, string or a list).

    The encoded bytes stay in Arrow's memory, in the chunks of the file: 50,000 CIFAR pictures take 16 MB.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schemas = [pq.read_schema(file).names for file in files]
            columns = [column for column in ("image", "label") if all(column in names for names in schemas)]
            if "image" not in columns:
                found = ", ".join(schemas[0])
                raise DataError(f"{name} has no column image, only {found}; use the Hugging Face layout")
            table = pa.concat_tables([pq.read_table(file, columns=columns, memory_map=True) for file in files])
            labels, class_names = _labels(table["label"].to_pylist()) if "label" in columns else (None, [])
            class_names = _stored_names(pq.read_schema(files[0]).metadata, labels) or class_names
            self.chunks, paths = _bytes_and_paths(name, table["image"])
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise DataError(f"{name} is not readable as Parquet: {first_line(error)}; save it again") from None
        if not len(table):
            raise DataError(f"no pictures in {name}; the table has no rows")
        self.ends = np.cumsum([len(chunk) for chunk in self.chunks])
        self.mtime = max(changed_at(file.stat()) for file in files)
        super().__init__(name, _unique(paths, len(table)), labels, class_names)

    def _cell(self, position: int) -> Any:
        number = int(np.searchsorted(self.ends, position, "right"))
        return self.chunks[number][position - int(self.ends[number])]  # negative: counted from the end of the chunk

    def read(self, position: int) -> bytes:
        return self._cell(position).as_py() or b""

    def stat(self, position: int) -> tuple[int, int]:
        return len(self._cell(position).as_buffer() or b""), self.mtime


def _stored_names(metadata: dict[bytes, bytes] | None, labels: Labels | None) -> list[str]:
    """Read class names that Hugging Face's datasets stores with the schema; an empty list if they do not fit the labels."""
    try:
        stored = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = [str(name) for name in stored["info"]["features"]["label"]["names"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    fit = labels is not None and labels.ndim == 1 and labels.max(initial=0) < len(names) == len(set(names))
    return names if fit else []


def _bytes_and_paths(name: str, column: Any) -> tuple[list[Any], list[str | None]]:
    """Return the binary arrays of an image column, one for each chunk, and its paths. One array could exceed Arrow's 2 GB."""
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        if column.type.get_field_index("bytes") < 0:
            raise DataError(f"{name}: column image holds no bytes; embed the pictures when saving")
        paths: list[str | None] = [None] * len(column)
        if column.type.get_field_index("path") >= 0:
            paths = [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]
        return [chunk.field("bytes") for chunk in column.chunks], paths
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DataError(f"{name}: column image is {column.type}; use the Hugging Face layout, struct<bytes, path>")
    return column.chunks, [None] * len(column)


class TarImages(ImageSet):
    """WebDataset: members with the same key (the name up to the first dot) are one sample.

    A sample is a picture with an optional `.cls`, or `.json` with a `label`. Members are read by offset without unpacking. The id
    of a picture is its key. It is the whole name if there is more text before the extension, or if another picture has the key.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.files = list(files)
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
        labels, class_names = _labels(found)
        self.mtimes = [changed_at(file.stat()) for file in files]
        super().__init__(name, _unique(keys, len(keys)), labels, class_names)

    def read(self, position: int) -> bytes:
        number, offset, size = self.members[position]
        try:
            with self.files[number].open(
                "rb"
            ) as handle:  # opened each time, which takes microseconds, so that threads share nothing
                handle.seek(offset)
                return handle.read(size)
        except OSError as error:
            raise ImageError(f"cannot read {self.files[number]}: {first_line(error)}") from None

    def stat(self, position: int) -> tuple[int, int]:
        number, _, size = self.members[position]
        return size, self.mtimes[number]


def _samples(name: str, file: Path) -> list[tuple[str, tuple[int, int], Any]]:
    pictures: dict[str, tuple[int, int]] = {}
    members: dict[str, tuple[str, str]] = {}  # id -> key and name
    labels: dict[str, Any] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                key, dot, extension = base.partition(".")
                key = name_to_id(f"{folder}/{key}" if folder else key)
                if not member.isfile() or not key or not dot:
                    continue
                suffix = extension.rpartition(".")[2]
                if f".{suffix.lower()}" in EXTENSIONS:
                    here = key, member.name  # a repeated name replaces the first one, as in tar itself
                    id_ = key if suffix == extension and members.get(key, here) == here else name_to_id(member.name)
                    pictures[id_], members[id_] = (member.offset_data, member.size), here
                elif extension in ("cls", "json"):
                    handle = tar.extractfile(member)
                    labels[key] = _label(extension, handle.read() if handle else b"", labels.get(key))
    except (tarfile.TarError, OSError, ValueError) as error:
        reason = first_line(error)
        raise DataError(f"{name}: {file.name} is not an uncompressed tar file: {reason}; create it again") from None
    return [(id_, pictures[id_], labels.get(members[id_][0])) for id_ in pictures]


def _label(extension: str, content: bytes, known: Any) -> Any:
    text = content.decode("utf-8", "replace").strip()
    if extension == "cls":
        return int(text) if text.isdecimal() else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return known
    return value.get("label", known) if isinstance(value, dict) else known


def _labels(values: list[Any]) -> tuple[Labels | None, list[str]]:
    if not values or any(value is None or value == -1 for value in values):  # -1: Hugging Face's "no label"
        return None, []
    if all(isinstance(value, int) and 0 <= value < MAX_CLASSES for value in values):
        numbers = np.array(values, np.int64)
        return numbers, [str(number) for number in range(int(numbers.max()) + 1)]
    if all(isinstance(value, list) for value in values):
        return multi_hot(values)
    return class_numbers([str(value) for value in values])


def _unique(names: Sequence[str | None], count: int) -> list[str]:
    """Return the names if all exist and differ, else row numbers."""
    if all(names) and len(set(names)) == count:
        return [str(name) for name in names]
    return [f"{position:0{len(str(count - 1))}d}" for position in range(count)]
