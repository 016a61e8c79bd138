"""The table of a folder, `metadata.csv` or `metadata.parquet`: labels and other columns."""

from __future__ import annotations

import csv
import datetime
import re
import unicodedata
from pathlib import Path
from typing import Any

from spq.data.decode import first_line
from spq.data.image_set import Labels, class_numbers, multi_hot
from spq.errors import DataError

NAMES = ("metadata.csv", "metadata.parquet")
Cells = dict[str, list[str]]  # column -> a cell for each row


def find_table(root: Path) -> Path | None:
    """Return the path of a folder's table, or None.

    Raises:
        DataError: there are two.
    """
    tables = [root / name for name in NAMES if (root / name).is_file()]
    if len(tables) > 1:
        raise DataError(f"{root} has {' and '.join(NAMES)}; keep one")
    return tables[0] if tables else None


def read_table(table: Path, ids: list[str]) -> tuple[Labels | None, list[str], Cells]:
    """Read labels, class names and other columns in the order of `ids`; a picture without a row has empty cells.

    Column `file_name` is the path below the folder, and `label` a class. Column `labels` has several classes, separated by `|`
    or `;`, or as a list.

    Raises:
        DataError: the file is unreadable, has no column `file_name`, or a picture has no label.
    """
    cells = _parquet(table) if table.suffix == ".parquet" else _csv(table)
    if "file_name" not in cells:
        raise DataError(f"{table} has no column file_name, only {_listed(list(cells))}; add it or remove the file")
    names = cells.pop("file_name")
    row = {_composed(name): number for number, name in enumerate(names)}
    row |= {name: number for number, name in enumerate(names)}  # the exact spelling has priority
    rows = [row.get(i, row.get(_composed(i))) for i in ids]
    if names and all(number is None for number in rows):
        raise DataError(
            f"{table} names no picture of the folder, first {_listed(names[:1])}; give paths below the folder"
        )
    values = {key: ["" if n is None else column[n] for n in rows] for key, column in cells.items()}
    if "label" in values:
        missing = next((i for i, label in zip(ids, values["label"], strict=True) if not label), None)
        if missing:
            raise DataError(f"{table} gives {missing} no label; add a row for it, or remove the column label")
        return *class_numbers(values.pop("label")), values
    if "labels" in values:
        parts = [re.split("[|;]", cell) for cell in values.pop("labels")]
        return *multi_hot([filter(None, map(str.strip, cell)) for cell in parts]), values
    return None, [], values


def _composed(name: str) -> str:
    """Combine letters and accents into one character; some disks store them separately."""
    return unicodedata.normalize("NFC", name)


def _csv(table: Path) -> Cells:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            columns = list(reader.fieldnames or ())
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{table} is not a CSV file in UTF-8: {error}; fix or remove it") from None
    return {key: [row.get(key) or "" for row in rows] for key in columns if key}


def _parquet(table: Path) -> Cells:
    """Read cells as text, as in a CSV file. Columns of bytes, structs and similar types are skipped."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(table)
        columns = [field.name for field in schema if _is_plain(field.type)]
        read = pq.read_table(table, columns=columns)
        is_multi_label = "label" in columns and _is_list(schema.field("label").type)
        cells = {name: [_text(value) for value in read[name].to_pylist()] for name in columns}
        return {"labels" if is_multi_label and name == "label" else name: column for name, column in cells.items()}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{table} is not readable as Parquet: {first_line(error)}; fix or remove it") from None


def _is_plain(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind) or _is_list(kind):
        kind = kind.value_type
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind))


def _text(value: Any) -> str:
    """
    >>> [_text(value) for value in (None, 3, 2.5, True, datetime.date(2024, 5, 1), ["sky", "sea"])]
    ['', '3', '2.5', 'true', '2024-05-01', 'sky|sea']
    """
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def _listed(columns: list[str]) -> str:
    text = " ".join(", ".join(columns).split())  # a file that is not a table may have any content
    return text[:100] or "nothing"
