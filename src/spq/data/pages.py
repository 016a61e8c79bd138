"""The pages of Parquet files: their sizes, told by their headers, and their values, read block by block in a bounded memory."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from spq.data.thrift import Struct, read_struct
from spq.errors import DataError

MAX_PAGE = (
    2**28
)  # bytes of an unpacked page, which is in memory as a whole; more only where at least half is in the file
MAX_BLOCK = 2**26  # bytes of the rows that are read at once, where pages are not larger
MAX_ROWS = 1024  # rows that are read at once
LEAST_ROWS = 100_000  # rows that a file may have; more only where it has a byte for each
FEWER = "the file has fewer rows than its footer tells"
MAX_UNPACKED = 2**32  # bytes that all rows of a column unpack to; more where the file is larger than a hundredth of it
CACHE = 2**27  # bytes of blocks that are kept
HEADERS = (2**12, 2**24)  # bytes in which the header of a page is looked for; the values in its statistics may be long
MAX_FOOTER = 2**26
READERS = 4  # files that are open
_BUFFER = 2**20  # bytes that Arrow reads at once


def check_footer(file: Path) -> None:
    """Refuse a file whose footer is damaged or very large.

    Raises:
        DataError: as `read_footer`.
    """
    read_footer(file)


def read_footer(file: Path) -> Footer:
    """Read what the footer of a Parquet file tells of its rows and where they are.

    Raises:
        DataError: it is damaged, or very large; the reason alone.
    """
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 8))
        end = opened.read(8)
        length = int.from_bytes(end[:4], "little")
        if len(end) < 8 or end[4:] != b"PAR1" or length + 8 > size:
            raise DataError("it is not readable as Parquet: it has no footer")
        if length > MAX_FOOTER:
            raise DataError(f"its footer of {length:,} bytes is over the limit of {MAX_FOOTER:,}")
        opened.seek(size - 8 - length)
        data = opened.read(length)
    try:
        told, _ = read_struct(data)
        groups = [(_whole(group[3]), [_chunk(part) for part in group[1]]) for group in told[4]]
        return Footer(_whole(told[3]), groups)
    except (IndexError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError("it is not readable as Parquet: its footer is damaged") from None


def _chunk(part: Struct) -> Chunk:
    told = part[3]
    path = b".".join(told[3]).decode("utf-8", "replace")
    return Chunk(path, min(_whole(told[9]), _whole(told.get(11)) or _whole(told[9])), _whole(told[7]))


def _whole(value: Any) -> int:
    if value is not None and not isinstance(value, int):
        raise ValueError("no number")
    return value or 0


@dataclass(frozen=True)
class Chunk:
    """The part of a column in a row group: the path of the column, and the place of its pages in the file."""

    path: str
    start: int
    size: int


@dataclass(frozen=True)
class Footer:
    """What a footer tells: the number of all rows, and for each row group that of its rows, and its chunks."""

    rows: int
    groups: list[tuple[int, list[Chunk]]]


@dataclass(frozen=True)
class Group:
    """A row group of a file: the number of its first row in the file, and how many rows are read at once."""

    number: int
    first: int
    rows: int
    step: int


class RowGroups:
    """Some columns of a Parquet file, read block by block.

    Args:
        columns: their paths in the schema, such as `image.bytes`, or `image` for all below it.
    Attributes:
        groups: the row groups. rows: of all of them.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self.file, self.columns = file, list(columns)
        footer = read_footer(file)
        self.groups = list(self._groups(footer, tuple(f"{column}." for column in columns)))
        self.rows = sum(group.rows for group in self.groups)

    def _groups(self, footer: Footer, starts: tuple[str, ...]) -> Iterator[Group]:
        first, size = 0, self.file.stat().st_size
        if not 0 <= footer.rows <= max(LEAST_ROWS, size):
            raise DataError(f"its footer tells {footer.rows:,} rows, which is more than it can have")
        with self.file.open("rb") as file:
            for number, (rows, chunks) in enumerate(footer.groups):
                if not 0 <= rows <= footer.rows - first:
                    break
                wanted = [chunk for chunk in chunks if f"{chunk.path}.".startswith(starts)]
                largest = sum(_largest_page(file, chunk) for chunk in wanted if rows)
                yield Group(number, first, rows, max(1, min(MAX_ROWS, MAX_BLOCK // max(1, largest))))
                first += rows
        if first != footer.rows:
            raise DataError("its footer tells different numbers of rows")

    def blocks(self, group: Group) -> Iterator[Any]:
        """Yield record batches of a row group, each of `step` rows; the last may have fewer."""
        with opened(self.file) as parquet:
            yield from parquet.iter_batches(
                group.step, row_groups=[group.number], columns=self.columns, use_threads=False
            )

    def __iter__(self) -> Iterator[Any]:
        """Yield all blocks.

        Raises:
            DataError: they unpack to far more bytes than the file has, or have another number of rows than the footer tells.
        """
        total, rows, most = 0, 0, MAX_UNPACKED + 100 * self.file.stat().st_size
        for group in self.groups:
            for block in self.blocks(group):
                total, rows = total + block.nbytes, rows + len(block)
                if total > most:
                    raise DataError(f"{listed_columns(self.columns)} unpacks to more than {most:,} bytes")
                yield block
        if rows != self.rows:
            raise DataError(f"it has {rows:,} rows, and its footer tells {self.rows:,}")


def listed_columns(columns: Sequence[str]) -> str:
    """Return the first name of columns, for an error."""
    return f"column {columns[0][:50]}" if columns else "it"


def opened(file: Path) -> Any:
    """Open a Parquet file, and close it at the end of a `with`.

    It is read, not mapped: where a mapped file becomes shorter, the system ends the program. Arrow takes the bytes of a name as
    they are, but text as UTF-8 alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.OSFile(os.fsencode(file)), buffer_size=_BUFFER)


def _largest_page(file: BinaryIO, chunk: Chunk) -> int:
    """Return the bytes of the largest page of a chunk, unpacked.

    Raises:
        DataError: it is over the limit, or the headers of the pages are damaged.
    """
    at, end, largest = chunk.start, chunk.start + chunk.size, 0
    while 0 <= at < end:
        size, packed, length = _page_at(file, at)
        if size > max(MAX_PAGE, 2 * packed):
            raise DataError(
                f"a page of {size:,} bytes is over the limit of {MAX_PAGE:,}; save it with smaller row groups"
            )
        largest = max(largest, size)
        at += length + packed
    return largest


def _page_at(file: BinaryIO, at: int) -> tuple[int, int, int]:
    for size in HEADERS:
        file.seek(at)
        with suppress(IndexError, ValueError):
            return page_sizes(file.read(size))
    raise DataError("a header of its pages is damaged")


def page_sizes(header: bytes) -> tuple[int, int, int]:
    """Return the bytes of a page, unpacked and packed, and of its header.

    Raises:
        IndexError, ValueError: it is damaged.

    >>> page_sizes(bytes([0x15, 0, 0x15, 200, 1, 0x15, 20, 0]))
    (100, 10, 8)
    """
    sizes, length = read_struct(header)
    size, packed = sizes.get(2), sizes.get(3)
    if not isinstance(size, int) or not isinstance(packed, int) or min(size, packed) < 0:
        raise ValueError("sizes that are none")
    return size, packed, length


class Kept:
    """The last blocks of all files of a collection, and the readers that are open. Its lock is that of all of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks: OrderedDict[tuple[Blocks, int, int], Any] = OrderedDict()
        self.readers: OrderedDict[Blocks, None] = OrderedDict()
        self.bytes = 0

    def keep(self, key: tuple[Blocks, int, int], block: Any) -> None:
        """Keep a block, and forget those that were not used for the longest time."""
        self.bytes += block.nbytes - (self.blocks.pop(key).nbytes if key in self.blocks else 0)
        self.blocks[key] = block
        while self.bytes > CACHE and len(self.blocks) > 1:
            self.bytes -= self.blocks.popitem(last=False)[1].nbytes

    def reads(self, blocks: Blocks) -> None:
        """Keep the reader of a file open, and close the one that was not used for the longest time."""
        self.readers[blocks] = None
        self.readers.move_to_end(blocks)
        if len(self.readers) > READERS:
            self.readers.popitem(last=False)[0].close()


class Blocks:
    """The values of a column of a file, in the order in which they are asked for or in another. Any thread may ask.

    Pictures are read in order in practice. So a reader stays open where it is, and the last blocks are kept.

    Args:
        column_of: takes the array of values out of a record batch.
    """

    def __init__(self, table: RowGroups, column_of: Callable[[Any], Any], kept: Kept) -> None:
        self.table, self._column_of, self._all = table, column_of, kept
        self._firsts = [group.first for group in table.groups]
        self.close()

    def close(self) -> None:
        """Close the reader."""
        self._reader: Iterator[Any] = iter(())
        self._next = (-1, 0)  # group and block that the reader comes to

    def row(self, row: int) -> tuple[Any, int]:
        """Return the array that has the value of a row, and its number inside.

        Raises:
            IndexError: the file has fewer rows than its footer tells.
        """
        number = bisect_right(self._firsts, row) - 1  # of groups without rows, the last one
        group = self.table.groups[number]
        block, inside = divmod(row - group.first, group.step)
        with self._all.lock:
            found = self._all.blocks.get((self, number, block))
            if found is None:
                found = self._read(group, number, block)
            else:
                self._all.blocks.move_to_end((self, number, block))
        if inside >= len(found):
            raise IndexError(FEWER)
        return found, inside

    def _read(self, group: Group, number: int, block: int) -> Any:
        if self._next[0] != number or self._next[1] > block:
            self._reader, self._next = self.table.blocks(group), (number, 0)
        reader, here = self._reader, self._next[1]
        self.close()  # if it fails
        for found in map(self._column_of, reader):
            self._all.keep((self, number, here), found)
            here += 1
            if here > block:
                self._reader, self._next = reader, (number, here)
                self._all.reads(self)
                return found
        raise IndexError(FEWER)
