"""Read tables of facts about pictures, row by row: CSV of any program, JSON lines and Parquet. Every cell is text."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from spq.data.decode import first_line
from spq.data.pages import RowGroups, check_footer, opened
from spq.errors import DataError

FILE_NAME = "file_name"
LONGEST_LINE = 2**24  # characters
LONGEST_CELL = 2**20  # characters; a longer one is not used
LONGEST_NAME = 4096  # characters of a file's name
LONGEST_HEADER = 65536  # characters
MAX_COLUMNS = 1000
MAX_BACKS = 100  # times that a table is read again after a quote that nothing closes
_MARKS = {  # the first bytes of a text file that tell its encoding; the longer mark first
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
Row = dict[str, str]


@dataclass
class TableFile:
    """A table while it is read.

    Attributes:
        remarks: what of the table is not used, or was read in another way, and why.
        broken: the number of rows that cannot be used. first_broken: where the first of them is.
    """

    path: Path
    remarks: list[str] = field(default_factory=list)
    broken: int = 0
    first_broken: str = ""

    def rows(self) -> Iterator[Row]:
        """Yield the rows that have a file name, as column -> text.

        Raises:
            DataError: the file cannot be read, or has no column `file_name`; the reason alone.
        """
        read = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[self.path.suffix.lower()]
        try:
            for row in read(self):
                if row.get(FILE_NAME):
                    yield row
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}") from None
        if self.broken:
            rows = "1 row is" if self.broken == 1 else f"{self.broken:,} rows are"
            self.remarks.append(f"{rows} broken and not used, first {self.first_broken}")

    def skip(self, where: str) -> None:
        """Count a row that cannot be used."""
        self.broken += 1
        self.first_broken = self.first_broken or where


def _csv(table: TableFile) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    encoding = _encoding(table)
    with table.path.open(encoding=encoding, errors="replace", newline="") as file:
        lines = enumerate(_lines(file, table), 1)
        start, first = next(((n, line) for n, line in lines if line.strip("\r\n\t ,;")), (0, ""))
        if told := _told_separator(first):
            start, first = next(lines, (start, ""))
        while first.count('"') % 2 and len(first) < LONGEST_HEADER and (more := next(lines, None)):
            start, first = more[0], first + more[1]  # a line break inside a name
        header = _header(first, told)
        if not first:
            raise DataError("it is empty")
        if header is None:
            raise _foreign(_columns(first))
        separator, columns = header
        columns = _without_twice(columns, table)
        for line, cells in _records(_Lines(_lines(file, table), start), separator, table):
            if any(cell.strip() for cell in cells[len(columns) :]):
                table.skip(f"line {line}: more cells than columns")
                continue
            yield {name: as_cell(cell) for name, cell in zip(columns, cells, strict=False) if name}


def _lines(file: TextIO, table: TableFile) -> Iterator[str]:
    """Yield the lines of a file; one that is too long is counted, and its place is empty."""
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            table.skip(f"one of more than {LONGEST_LINE:,} characters")
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                pass
            line = "\n"
        yield line


class _Lines:
    """The lines of a file.

    Attributes:
        number: of the last line that was read, from 1. record: the lines since it was emptied.
    """

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines, self._again = lines, deque[str]()
        self.number, self.record = number, list[str]()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.number += 1
        self.record.append(line)
        return line

    def back(self) -> None:
        """Go back to the second line of the record."""
        lines = self.record[1:]
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


def _records(lines: _Lines, separator: str, table: TableFile) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the last line, cells) of records.

    A quote that nothing closes takes all that follows into one cell. Then only the line that it is in is left out.
    """
    reader, backs = csv.reader(lines, delimiter=separator, strict=True), 0
    while True:
        lines.record.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if len(lines.record) > 1 and backs < MAX_BACKS:
                lines.back()
                backs += 1
            table.skip(f"line {lines.number}: {first_line(error)}")
            continue
        yield lines.number, cells


def _foreign(columns: list[str]) -> DataError:
    return DataError(
        f"it has no column {FILE_NAME}, only {listed(columns)}; rename the column with the paths to use it"
    )


def _encoding(table: TableFile) -> str:
    """Return the encoding: by its mark, else UTF-8 if all of it is valid, else that of older Windows programs.

    Raises:
        DataError: it is not text.
    """
    with table.path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        for mark, name in _MARKS.items():
            if start.startswith(mark):
                return name
        decoder, has_zero = codecs.getincrementaldecoder("utf-8")(), b"\0" in file.readline(LONGEST_HEADER)
        file.seek(0)
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
            encoding = "utf-8"
        except UnicodeDecodeError:
            encoding = "cp1252"
            has_zero = has_zero or b"\0" in block
    if has_zero:  # a zero in a cell of a text is left out
        raise DataError("it is not a text file; save it as UTF-8")
    if encoding == "cp1252":
        table.remarks.append("it is not UTF-8, so it was read as Windows-1252; save it as UTF-8 if letters are wrong")
    return encoding


def _told_separator(line: str) -> str:
    """Return the separator that a first line such as `sep=;` tells Excel, or nothing."""
    text = line.strip().strip('"')
    return text[4:5] if text.lower().startswith("sep=") and len(text) <= 5 else ""


def _header(line: str, told: str) -> tuple[str, list[str]] | None:
    """Return separator and columns of a header: the separator with which one column is the file name.

    >>> _header("file_name;tag, or more\\n", "")
    (';', ['file_name', 'tag, or more'])
    """
    for separator in told or ",;\t|":
        columns = _cells(line, separator)
        names = [name.casefold() for name in columns]
        if FILE_NAME in names:
            for name in {FILE_NAME, "label", "labels"}.intersection(names).difference(
                columns
            ):  # in other letters, as Label
                columns[names.index(name)] = name
            return separator, columns
    return None


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader(io.StringIO(line, ""), delimiter=separator), [])]


def _columns(line: str) -> list[str]:
    """Return the columns of a header that has no file name, with the separator that gives the most."""
    return max((_cells(line, separator) for separator in ",;\t|"), key=len)


def _without_twice(columns: list[str], table: TableFile) -> list[str]:
    """Return the columns; the second one of a name has no name, and is said in the remarks."""
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"it has {len(columns):,} columns, and the limit is {MAX_COLUMNS:,}")
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        are = "the column is" if len(twice) == 1 else "columns are"
        table.remarks.append(f"{are} there more than once: {listed(twice)}; the first one is used")
    return [name if columns.index(name) == number else "" for number, name in enumerate(columns)]


def _json_lines(table: TableFile) -> Iterator[Row]:
    columns: dict[str, None] = {}
    found = False
    with table.path.open(encoding=_encoding(table), errors="replace") as file:
        for number, line in enumerate(_lines(file, table), 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
                cells = _as_labels(row)
            except (ValueError, RecursionError, AttributeError):  # AttributeError: it is no object
                table.skip(f"line {number}")
                continue
            found = found or FILE_NAME in row
            columns |= dict.fromkeys(islice(row, 20)) if len(columns) < MAX_COLUMNS else {}
            yield cells
    if not found and columns:
        raise _foreign(list(columns))
    if not found:
        raise DataError(
            "it has no line with a JSON object; write one picture on each line" if table.broken else "it is empty"
        )


def _as_labels(row: dict[str, Any]) -> Row:
    """Return a row as text. A `label` that is a list is several labels."""
    several = isinstance(row.get("label"), list)
    return {"labels" if several and name == "label" else name: as_cell(value) for name, value in row.items()}


def _parquet(table: TableFile) -> Iterator[Row]:
    """Yield cells as text, as in a CSV file. Columns of bytes, structs and similar types are skipped."""
    try:
        check_footer(table.path)
        with opened(table.path) as file:
            schema = file.schema_arrow
        names = plain_columns(schema)
        if FILE_NAME not in names:
            raise _foreign(schema.names)
        if len(names) < len(schema.names):
            others = [name for name in schema.names if name not in names]
            table.remarks.append(f"columns that are nested, or there twice, are not used: {listed(others)}")
        labels = "labels" if "label" in names and is_list(schema.field("label").type) else "label"
        for block in RowGroups(table.path, names):
            columns = [map(as_cell, values_of(column)) for column in block.columns]
            keys = [labels if name == "label" else name for name in block.schema.names]
            yield from (dict(zip(keys, cells, strict=True)) for cells in zip(*columns, strict=True))
    except arrow_errors() as error:
        raise DataError(f"it is not readable as Parquet: {first_line(error)}") from None


def values_of(column: Any) -> list[Any]:
    """Return the values of an Arrow array; None where Python has none, as for the year 20000, or bytes that are no text."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError, TypeError):
        return [_value_of(value) for value in column]


def _value_of(value: Any) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError, TypeError):
        return None


def arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for damaged files."""
    import pyarrow as pa

    return pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError


def plain_columns(schema: Any) -> list[str]:
    """Return the columns of an Arrow schema whose values are text, numbers, dates or lists of them; none that is there twice."""
    return [field.name for field in schema if is_plain(field.type) and schema.names.count(field.name) == 1]


def is_plain(kind: Any) -> bool:
    """Whether the values of an Arrow type have a text: no bytes, structs or lists of lists."""
    from pyarrow import types

    if types.is_dictionary(kind) or is_list(kind):
        kind = kind.value_type
    return not (
        types.is_nested(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_list(kind: Any) -> bool:
    """Whether the values of an Arrow type are lists."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def as_text(value: Any) -> str:
    """Return a value as a cell has it. Values inside others are JSON.

    >>> [as_text(value) for value in (None, 3, 2.5, True, datetime.date(2024, 5, 1), ["sky", "sea"], {"x": [1]})]
    ['', '3', '2.5', 'true', '2024-05-01', 'sky|sea', '{"x": [1]}']
    """
    if value is None:
        return ""
    if isinstance(value, str):
        text = value.replace("\0", "")
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and not any(isinstance(part, list | dict) for part in value):
        return "|".join(map(as_text, value))
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def as_cell(value: Any) -> str:
    """Return a value as text; nothing if it is longer than a cell may be, or too deep.

    >>> as_cell("a" * (LONGEST_CELL + 1)), as_cell(7)
    ('', '7')
    """
    if isinstance(value, str) and len(value) > LONGEST_CELL:
        return ""
    try:
        text = as_text(value)
    except (ValueError, RecursionError):
        return ""
    return text if len(text) <= LONGEST_CELL else ""


def listed(columns: list[str]) -> str:
    """Return names as one short line; a file that is not a table may have any content."""
    text = " ".join(", ".join(columns).split())
    return (text if len(text) <= 100 else text[:97] + "...") or "nothing"
