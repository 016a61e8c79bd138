"""Pictures inside Parquet files (Hugging Face layout) and tar files (WebDataset layout), read without unpacking."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spq.common.text import name_to_id
from spq.data.decode import first_line, load_image
from spq.data.formats import kind_of
from spq.data.image_set import NO_LABEL, ImageSet, Labels, LazyColumns, changed_at, multi_hot
from spq.data.metadata import gapped
from spq.data.table_files import arrow_errors, as_text, listed, mapped, plain_columns
from spq.errors import DataError, ImageError

PROBED = 20  # values of a binary column that are tried as pictures
IN_TAR = "a link inside a tar is not read; store the picture itself"
MAX_CLASSES = 1_000_000  # larger labels are not class numbers but names, such as customer numbers


class ParquetImages(ImageSet):
    """A column of pictures: `struct<bytes, path>` or plain binary, `image` if there are several. Other columns are metadata.

    Labels (int, string or a list) are in column `label` or `labels`, else in the only column that the schema of Hugging Face
    calls a ClassLabel. The encoded bytes stay in Arrow's memory, in the chunks of the file: 50,000 CIFAR pictures take 16 MB.
    Other columns are read when they are needed.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        try:
            self.parts = [_Part(name if len(files) == 1 else str(file), file) for file in files]
            self.chunks = [chunk for part in self.parts for chunk in part.pictures]
            self.paths = [path for part in self.parts for path in part.paths]
            if not self.paths:
                raise DataError(f"no pictures in {name}; the table has no rows")
            if all(chunk.null_count == len(chunk) for chunk in self.chunks):
                raise DataError(f"{name}: column {self.parts[0].column} holds no bytes; embed the pictures when saving")
            column = _label_column(self.parts)
            labels, class_names = _labels(self._column(column)) if column else (None, [])
        except arrow_errors() as error:
            raise DataError(f"{name} is not readable as Parquet: {first_line(error)}; save it again") from None
        class_names = next((n for part in self.parts if (n := part.class_names(column, labels))), class_names)
        self.ends = np.cumsum([len(chunk) for chunk in self.chunks])
        self.mtime = max(changed_at(file.stat()) for file in files)
        names = dict.fromkeys(name for part in self.parts for name in part.plain if name != column)
        facts = LazyColumns(list(names), self._texts)
        super().__init__(name, _unique(self.paths, len(self.paths)), labels, class_names, facts)
        nested = dict.fromkeys(name for part in self.parts for name in part.skipped)
        if nested:
            self.remarks = [(name, f"columns that are nested, or there twice, are not used: {listed(list(nested))}")]

    def _column(self, name: str) -> list[Any]:
        return [value for part in self.parts for value in part.values(name)]

    def _texts(self, name: str) -> Sequence[str]:
        return [as_text(value) for value in self._column(name)]

    def _cell(self, position: int) -> Any:
        number = int(np.searchsorted(self.ends, position, "right"))
        return self.chunks[number][position - int(self.ends[number])]  # negative: counted from the end of the chunk

    def read(self, position: int) -> bytes:
        data = self._cell(position).as_py()
        if data is None and self.paths[position]:
            raise ImageError(
                f"row {position} of {self.name} has only the path {self.paths[position]}, without bytes; "
                "embed the pictures when saving"
            )
        return data or b""

    def stat(self, position: int) -> tuple[int, int]:
        return len(self._cell(position).as_buffer() or b""), self.mtime


class _Part:
    """One file of a Parquet collection.

    Attributes:
        column: the name of the picture column. pictures: its arrays of bytes, one for each chunk: one array could exceed Arrow's
            2 GB. paths: of each picture, or None.
        plain: the other columns that have a text. skipped: columns that have none.
    """

    def __init__(self, name: str, file: Path) -> None:
        import pyarrow.parquet as pq

        self.file, self.schema = file, pq.read_schema(mapped(file))
        self.column = _picture_column(name, file, self.schema)
        table = pq.read_table(mapped(file), columns=[self.column])
        self.pictures, self.paths = _bytes_and_paths(table[self.column])
        self.plain = [column for column in plain_columns(self.schema) if column != self.column]
        self.skipped = [column for column in self.schema.names if column not in (self.column, *self.plain)]

    def values(self, column: str) -> list[Any]:
        """The values of a column; None for each row if the file lacks it."""
        import pyarrow.parquet as pq

        if column not in self.plain:
            return [None] * len(self.paths)
        try:
            found: list[Any] = pq.read_table(mapped(self.file), columns=[column])[column].to_pylist()
        except arrow_errors() as error:
            raise DataError(f"{self.file} is not readable as Parquet: {first_line(error)}; save it again") from None
        if len(found) != len(self.paths):
            raise DataError(f"{self.file} was changed while it was read; try again")
        return found

    def features(self) -> dict[str, Any]:
        """What Hugging Face's datasets stores with the schema: a description of each column."""
        try:
            stored = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            return dict(stored["info"]["features"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}

    def class_names(self, column: str, labels: Labels | None) -> list[str]:
        """Class names that the schema stores for a label column; an empty list if they do not fit the labels."""
        try:
            names = [str(name) for name in self.features()[column]["names"]]
        except (KeyError, TypeError):
            return []
        fit = labels is not None and labels.ndim == 1 and labels.max(initial=0) < len(names) == len(set(names))
        return names if fit else []


def _label_column(parts: Sequence[_Part]) -> str:
    """Return the column of labels, or nothing."""
    for column in ("label", "labels"):
        if any(column in part.plain for part in parts):
            return column
    features = {name: value for part in parts for name, value in part.features().items() if name in part.plain}
    named = [name for name, value in features.items() if isinstance(value, dict) and value.get("_type") == "ClassLabel"]
    return named[0] if len(named) == 1 else ""


def _picture_column(name: str, file: Path, schema: Any) -> str:
    """Return the column that holds pictures: `image`, else the only struct with bytes, else the only binary one with a picture.

    Raises:
        DataError: there is none, or several.
    """
    names: list[str] = [field.name for field in schema if schema.names.count(field.name) == 1]
    structs = [column for column in names if _holds_bytes(schema.field(column).type)]
    binary = [column for column in names if _is_binary(schema.field(column).type)]
    if "image" in [*structs, *binary]:
        return "image"
    found = structs or [column for column in binary if _has_picture(file, column)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{name} has several columns of pictures, {listed(found)}; rename the one to use to image")
    if "image" in names:
        kind = schema.field("image").type
        raise DataError(f"{name}: column image is {kind} and holds no bytes; embed the pictures when saving")
    raise DataError(f"{name} has no column of pictures, only {listed(schema.names)}; use the Hugging Face layout")


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _has_picture(file: Path, column: str) -> bool:
    """Whether one of the first values that are not empty is a picture."""
    import pyarrow.parquet as pq

    tried = 0
    with pq.ParquetFile(mapped(file)) as opened:
        for batch in opened.iter_batches(PROBED, columns=[column]):
            for value in filter(None, batch.column(0).to_pylist()):
                tried += 1
                try:
                    load_image(value, 32, column)
                except ImageError:
                    continue
                return True
            if tried >= PROBED:
                return False
    return False


def _bytes_and_paths(column: Any) -> tuple[list[Any], list[str | None]]:
    """Return the binary arrays of a picture column, one for each chunk, and its paths."""
    import pyarrow as pa

    if not pa.types.is_struct(column.type):
        return _plain(column).chunks, [None] * len(column)
    paths: list[str | None] = [None] * len(column)
    index = column.type.get_field_index("path")
    if index >= 0 and _is_text(column.type.field(index).type):
        paths = [path for chunk in column.chunks for path in chunk.field("path").to_pylist()]
    return [_plain(chunk.field("bytes")) for chunk in column.chunks], paths


def _plain(pictures: Any) -> Any:
    """Return binary values whose bytes lie one after the other, as those of a view or a dictionary do not."""
    import pyarrow as pa

    is_plain = pa.types.is_binary(pictures.type) or pa.types.is_large_binary(pictures.type)
    return pictures if is_plain else pictures.cast(pa.large_binary())


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


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
        links: list[str] = []
        for number, file in enumerate(files):
            before = "" if len(files) == 1 else f"{file.name}/"
            samples, linked = _samples(name, file)
            links += [before + link for link in linked]
            for key, picture, label in samples:
                keys.append(before + key)
                self.members.append((number, *picture))
                found.append(label)
        if not keys:
            raise DataError(f"no pictures in {name}; expected members like 0001.jpg, 0001.cls")
        labels, class_names = _labels(found)
        self.mtimes = [changed_at(file.stat()) for file in files]
        super().__init__(name, _unique(keys, len(keys)), labels, class_names)
        self.unopened = [(link, IN_TAR) for link in links]

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


def _samples(name: str, file: Path) -> tuple[list[tuple[str, tuple[int, int], Any]], list[str]]:
    """Return (id, (offset, size), label) of the pictures of a tar, and the names of pictures that are links."""
    pictures: dict[str, tuple[int, int]] = {}
    members: dict[str, tuple[str, str]] = {}  # id -> key and name
    labels: dict[str, Any] = {}
    links: list[str] = []
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                key, dot, extension = base.partition(".")
                key = name_to_id(f"{folder}/{key}" if folder else key)
                if (member.issym() or member.islnk()) and kind_of(base) == "picture":
                    links.append(name_to_id(member.name))
                if not member.isfile() or not base.partition(".")[0] or not dot:  # `._a.jpg` is none
                    continue
                suffix = extension.rpartition(".")[2]
                if kind_of(base) == "picture":
                    here = key, member.name  # a repeated name replaces the first one, as in tar itself
                    id_ = key if suffix == extension and members.get(key, here) == here else name_to_id(member.name)
                    pictures[id_], members[id_] = (member.offset_data, member.size), here
                elif extension in ("cls", "json"):
                    handle = tar.extractfile(member)
                    labels[key] = _label(extension, handle.read() if handle else b"", labels.get(key))
    except (tarfile.TarError, OSError, ValueError) as error:
        reason = first_line(error)
        raise DataError(f"{name}: {file.name} is not an uncompressed tar file: {reason}; create it again") from None
    return [(id_, pictures[id_], labels.get(members[id_][0])) for id_ in pictures], links


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
    """Return labels and class names; None, NaN and Hugging Face's -1 are no label."""
    values = [as_text(value) if isinstance(value, bool) else value for value in values]
    has_none = [value is None or value == -1 or value != value for value in values]
    known = [value for value, is_none in zip(values, has_none, strict=True) if not is_none]
    if not known:
        return None, []
    if all(isinstance(value, int) and 0 <= value < MAX_CLASSES for value in known):
        numbers = np.array([NO_LABEL if is_none else v for v, is_none in zip(values, has_none, strict=True)], np.int64)
        return numbers, [str(number) for number in range(int(numbers.max()) + 1)]
    if all(isinstance(value, list) for value in known):
        return multi_hot([value or () for value in values])
    return gapped(["" if is_none else str(value) for value, is_none in zip(values, has_none, strict=True)])


def _unique(names: Sequence[str | None], count: int) -> list[str]:
    """Return the names if all exist and differ, else row numbers."""
    if all(names) and len(set(names)) == count:
        return [str(name) for name in names]
    return [f"{position:0{len(str(count - 1))}d}" for position in range(count)]
