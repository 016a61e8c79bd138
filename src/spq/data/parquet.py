"""Pictures inside Parquet files, in the layout of Hugging Face: read block by block, without unpacking a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from spq.common.json_file import parse_json
from spq.data.decode import first_line, load_image
from spq.data.image_set import ImageSet, Labels, LazyColumns, changed_at
from spq.data.metadata import labels_of, unique_ids
from spq.data.pages import Blocks, Kept, RowGroups, check_footer, opened
from spq.data.table_files import LONGEST_NAME, arrow_errors, as_cell, listed, plain_columns, values_of
from spq.errors import DataError, ImageError

PROBED = 20  # values of a binary column that are tried as pictures
LONG = 64  # characters


class ParquetImages(ImageSet):
    """A column of pictures: `struct<bytes, path>` or plain binary, `image` if there are several. Other columns are metadata.

    Labels (int, string or a list) are in column `label` or `labels`, else in the only column that the schema of Hugging Face
    calls a ClassLabel. Pictures are read block by block, when they are asked for. Other columns are read when they are needed.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.file_of = {file: name if len(files) == 1 else str(file) for file in files}
        with _readable(name):
            kept = Kept()
            self.parts = [_Part(self.file_of[file], file, kept) for file in files]
            self.ends = np.cumsum([len(part) for part in self.parts])
            if not self.ends[-1]:
                raise DataError(f"no pictures in {name}; the table has no rows")
            if not any(part.has_bytes() for part in self.parts):
                raise DataError(f"{name}: column {self.parts[0].column} holds no bytes; embed the pictures when saving")
            paths = [path for part in self.parts for path in part.paths()]
            column = _label_column(self.parts)
            labels, class_names = labels_of(self._column(column)) if column else (None, [])
        class_names = next((n for part in self.parts if (n := part.class_names(column, labels))), class_names)
        self.mtime = max(changed_at(file.stat()) for file in files)
        names = dict.fromkeys(name for part in self.parts for name in part.plain if name != column)
        facts = LazyColumns(list(names), self._texts)
        super().__init__(name, unique_ids(paths, len(paths)), labels, class_names, facts)
        nested = dict.fromkeys(name for part in self.parts for name in part.skipped)
        if nested:
            self.remarks = [(".", f"columns that are nested, or there twice, are not used: {listed(list(nested))}")]

    def _column(self, name: str) -> list[Any]:
        return [value for part in self.parts for value in part.values(name)]

    def _texts(self, name: str) -> Sequence[str]:
        known: dict[str, str] = {}  # a long text that many rows have is in memory once
        texts = [as_cell(value) for value in self._column(name)]
        return [known.setdefault(text, text) if len(text) > LONG else text for text in texts]

    def _find(self, position: int) -> tuple[_Part, int]:
        number = int(np.searchsorted(self.ends, position, "right"))
        return self.parts[number], position - (int(self.ends[number - 1]) if number else 0)

    def read(self, position: int) -> bytes:
        part, row = self._find(position)
        try:
            data, path = part.picture(row)
        except arrow_errors() as error:
            raise ImageError(f"cannot read row {row} of {self.file_of[part.file]}: {first_line(error)}") from None
        if data is None and path:
            raise ImageError(
                f"row {position} of {self.name} has only the path {path}, without bytes; embed the pictures when saving"
            )
        return data or b""

    def stat(self, position: int) -> tuple[int, int]:
        part, row = self._find(position)
        try:
            return part.size(row), self.mtime
        except arrow_errors() as error:
            raise ImageError(f"cannot read row {row} of {self.file_of[part.file]}: {first_line(error)}") from None


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except arrow_errors() as error:
        raise DataError(f"{name} is not readable as Parquet: {first_line(error)}; save it again") from None


class _Part:
    """One file of a Parquet collection.

    Attributes:
        column: the name of the picture column.
        plain: the other columns that have a text. skipped: columns that have none.
    """

    def __init__(self, name: str, file: Path, kept: Kept) -> None:
        try:
            check_footer(file)
            with opened(file) as parquet:
                self.file, self.schema = file, parquet.schema_arrow
            self.column = _picture_column(name, file, self.schema)
            self._is_struct = _holds_bytes(self.schema.field(self.column).type)
            self.table = RowGroups(file, [f"{self.column}.bytes" if self._is_struct else self.column])
        except DataError as error:
            text = str(error).removeprefix("it is not readable as Parquet: ")
            raise DataError(
                text if name in text else f"{name} is not readable as Parquet: {text}; save it again"
            ) from None
        self.blocks = Blocks(self.table, self._bytes_of, kept)
        self.plain = [column for column in plain_columns(self.schema) if column != self.column]
        self.skipped = [column for column in self.schema.names if column not in (self.column, *self.plain)]
        self._sizes = np.full(len(self), -1, np.int64)

    def __len__(self) -> int:
        return self.table.rows

    def picture(self, row: int) -> tuple[bytes | None, str | None]:
        """Return the bytes of a picture, and the path where it has only that."""
        block, inside = self.blocks.row(row)
        data = block[inside].as_py()
        return data, None if data is not None else self._path(row)

    def size(self, row: int) -> int:
        """Return the number of bytes of a picture. Those of a whole block are kept, which needs no bytes of pictures."""
        if self._sizes[row] < 0:
            import pyarrow.compute as pc

            pictures, inside = self.blocks.row(row)
            is_packed = hasattr(pictures, "dictionary")  # each different picture once
            sizes = pc.binary_length(_plain(pictures.dictionary if is_packed else pictures))
            sizes = pc.fill_null(sizes.take(pictures.indices) if is_packed else sizes, 0)
            self._sizes[row - inside : row - inside + len(sizes)] = sizes.to_numpy(zero_copy_only=False)
        return int(self._sizes[row])

    def has_bytes(self) -> bool:
        """Whether any row has a picture; only its first blocks are read where they have one."""
        blocks = chain.from_iterable(map(self.table.blocks, self.table.groups))
        return any(column.null_count < len(column) for column in map(self._bytes_of, blocks))

    def _bytes_of(self, block: Any) -> Any:
        return block.column(0).field("bytes") if self._is_struct else block.column(0)

    def _path(self, row: int) -> str | None:
        paths = self.paths()
        return paths[row] if row < len(paths) else None

    def paths(self) -> list[str | None]:
        """Return the path of each picture, or None."""
        kind = self.schema.field(self.column).type
        index = kind.get_field_index("path") if self._is_struct else -1
        if index < 0 or not _is_text(kind.field(index).type):
            return [None] * len(self)
        blocks = (block.column(0).field("path") for block in RowGroups(self.file, [f"{self.column}.path"]))
        paths = [path for block in blocks for path in values_of(block)]
        self._check_rows(paths)
        return [path if path and len(path) <= LONGEST_NAME else None for path in paths]

    def values(self, column: str) -> list[Any]:
        """The values of a column; None for each row if the file lacks it."""
        if column not in self.plain:
            return [None] * len(self)
        errors: tuple[type[Exception], ...] = (DataError, *arrow_errors())
        try:
            found = [value for block in RowGroups(self.file, [column]) for value in values_of(block.column(0))]
        except errors as error:
            raise DataError(f"{self.file} is not readable as Parquet: {first_line(error)}; save it again") from None
        self._check_rows(found)
        return found

    def _check_rows(self, values: list[Any]) -> None:
        if len(values) != len(self):
            raise DataError(f"{self.file} was changed while it was read; try again")

    def features(self) -> dict[str, Any]:
        """What Hugging Face's datasets stores with the schema: a description of each column."""
        try:
            stored = parse_json((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            return dict(stored["info"]["features"])
        except (ValueError, KeyError, TypeError):
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
    tried = 0
    for block in RowGroups(file, [column]):
        for value in filter(None, values_of(block.column(0))):
            tried += 1
            try:
                load_image(value, 32, column)
            except ImageError:
                if tried >= PROBED:
                    return False
            else:
                return True
    return False


def _plain(pictures: Any) -> Any:
    """Return binary values whose bytes lie one after the other, as those of a view or a dictionary do not."""
    import pyarrow as pa

    is_plain = pa.types.is_binary(pictures.type) or pa.types.is_large_binary(pictures.type)
    return pictures if is_plain else pictures.cast(pa.large_binary())


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
