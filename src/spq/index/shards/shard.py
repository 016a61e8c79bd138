"""A shard: items and their codes in files that never change, by ascending id. Arrays are memory maps."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import check_regular
from spq.data.decode import first_line
from spq.errors import StoreError
from spq.index.items import Item, text_bytes
from spq.index.shards.shard_facts import FOLDER, ShardFacts
from spq.index.shards.shard_writer import ROWS_AT_ONCE, Keys, Kind, check_of, first_words, keys_of
from spq.pq.mapped import release
from spq.pq.parts import Part
from spq.pq.questions import HeldPart
from spq.pq.scan import Scan
from spq.pq.sums import unpack

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Rows = NDArray[np.int64]
ABSENT = -1
FEW = 1000  # paths: more are read from a memory map, whose pages are given back then
GROUPS_KEPT = 4  # of rows, read from Parquet
REPAIR = "restore a copy of the index folder, or build the index again"


class Shard:
    """An open shard of an index folder, for any number of threads.

    Args:
        kind: of the codes.
    Raises:
        StoreError: a file is missing, or has not the size that was written.
    """

    def __init__(self, index: Path, facts: ShardFacts, kind: Kind) -> None:
        self.folder, self.facts, self.kind = index / FOLDER / facts.name, facts, kind
        self._lock, self._is_checked = Lock(), False
        self._groups: OrderedDict[tuple[int, tuple[str, ...]], pa.Table] = OrderedDict()
        for file in facts.files:
            try:
                check_regular(self.folder / file.name)
                found = (self.folder / file.name).stat().st_size
            except FileNotFoundError:
                raise StoreError(f"shard {self.folder}: {file.name} is missing; {REPAIR}") from None
            except (OSError, ValueError) as error:
                raise self._damaged(file.name, first_line(error)) from None
            if found != file.size:
                raise self._damaged(file.name, f"it has {found:,} bytes, and {file.size:,} were written")
        if self.codes.shape != (len(self), len(self._packed_zeros)) or self.codes.dtype != np.uint8:
            raise self._damaged("codes.npy", f"it has shape {self.codes.shape}")

    def __len__(self) -> int:
        return self.facts.count

    @property
    def _packed_zeros(self) -> NDArray[np.uint8]:
        zeros: NDArray[np.uint8] = np.zeros(-(-self.kind.M // 2) if self.kind.K <= 16 else self.kind.M, np.uint8)
        return zeros

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        """Packed codes (N, P), a memory map."""
        return self._array("codes")

    @cached_property
    def ids(self) -> NDArray[np.int64] | range:
        """Ids (N,), ascending. A range where there are no gaps."""
        if any(file.name == "ids.npy" for file in self.facts.files):
            return self._array("ids")
        return range(self.facts.first_id, self.facts.last_id + 1)

    def codes_of(self, rows: Rows) -> NDArray[np.uint8]:
        """The codes (n, M) of rows."""
        return np.ascontiguousarray(unpack(np.asarray(self.codes[rows]), *self.kind))

    def ids_of(self, rows: Rows) -> NDArray[np.int64]:
        """The ids (n,) of rows."""
        if isinstance(self.ids, range):
            return rows + self.ids.start
        return np.asarray(self.ids[rows])

    def rows_of_ids(self, ids: NDArray[np.int64]) -> Rows:
        """The row (n,) of each id; ABSENT where there is none."""
        if isinstance(self.ids, range):
            return np.where((ids >= self.ids.start) & (ids < self.ids.stop), ids - self.ids.start, ABSENT)
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        return np.where(self.ids[rows] == ids, rows, ABSENT)

    def paths(self, rows: Sequence[int] | Rows) -> list[str]:
        """The paths of rows."""
        return [name.decode("utf-8", "surrogateescape") for name in self._names(rows)]

    def _names(self, rows: Sequence[int] | Rows) -> list[bytes]:
        rows = np.asarray(rows, np.int64)
        if len(rows) <= FEW:
            return self._few_names(rows.tolist())
        ends = self._path_ends[rows].tolist()
        starts = np.where(rows > 0, self._path_ends[np.maximum(rows - 1, 0)], 0).tolist()
        data = self._path_bytes
        names = [data[start:end].tobytes() for start, end in zip(starts, ends, strict=True)]
        release(self._path_ends)
        if hasattr(mmap, "MADV_DONTNEED"):
            data.obj.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
        return names

    def _few_names(self, rows: list[int]) -> list[bytes]:
        """Some paths, read from the files one by one: a memory map would load large parts of them."""
        first = int(self._path_ends.offset)  # type: ignore[attr-defined]
        names = []
        with (
            (self.folder / "path_ends.npy").open("rb", buffering=0) as ends,
            (self.folder / "paths.bin").open("rb", buffering=0) as paths,
        ):
            for row in rows:
                ends.seek(first + 8 * max(row - 1, 0))
                found = np.frombuffer(ends.read(16), "<i8")
                start, end = (0, int(found[0])) if row == 0 else (int(found[0]), int(found[1]))
                paths.seek(start)
                names.append(paths.read(end - start))
        return names

    def rows_of_paths(self, paths: Sequence[str]) -> Rows:
        """The row (n,) of each path; ABSENT where there is none."""
        names = [text_bytes(path) for path in paths]
        return self.rows_of_names(names, keys_of(names))

    def rows_of_names(self, names: Sequence[bytes], keys: Keys) -> Rows:
        """`rows_of_paths` for paths as bytes, with their keys."""
        found = np.full(len(names), ABSENT, np.int64)
        positions, rows = self._candidates("path", keys)
        for position, row, name in zip(positions.tolist(), rows.tolist(), self._names(rows), strict=True):
            if name == names[position]:
                found[position] = row
        return found

    def repeated_path(self) -> str | None:
        """A path that two rows have, if there is one."""
        same = np.flatnonzero(self._path_keys[1:] == self._path_keys[:-1])
        for place in same.tolist():
            first, second = self.paths(self._path_rows[place : place + 2].tolist())
            if first == second:
                return first
        return None

    def rows_with_keys_of(self, other: Shard) -> Rows:
        """Rows whose path may be one of another shard: their keys are the same."""
        places = np.minimum(np.searchsorted(other._path_keys, self._path_keys), len(other) - 1)
        rows: Rows = self._path_rows[other._path_keys[places] == self._path_keys].astype(np.int64)
        return rows

    def shared_path(self, other: Shard) -> str | None:
        """A path that a row of both shards has, if there is one."""
        maybe = other.rows_with_keys_of(self)
        for some in np.array_split(maybe, -(-len(maybe) // ROWS_AT_ONCE) or 1):
            paths = other.paths(some)
            for path, row in zip(paths, self.rows_of_paths(paths), strict=True):
                if row != ABSENT:
                    return path
        return None

    def rows_of_hash(self, digest: bytes) -> Rows:
        """All rows whose pictures have this hash of their bytes, ascending."""
        _, rows = self._candidates("hash", first_words([digest]))
        hashes = self.columns(rows, ("hash",))["hash"].to_pylist() if len(rows) else []
        return np.sort(rows[[known == digest for known in hashes]])

    def _candidates(self, kind: str, keys: Keys) -> tuple[Rows, Rows]:
        """Positions (n,) in `keys`, and rows (n,) that have the key there."""
        known, rows = (self._path_keys, self._path_rows) if kind == "path" else (self._hash_keys, self._hash_rows)
        order = keys.argsort()  # neighbours in the map are looked up one after the other
        starts, ends = (np.searchsorted(known, keys[order], side) for side in ("left", "right"))
        counts = ends - starts
        positions = order.repeat(counts)
        places = starts.repeat(counts) + np.arange(len(positions)) - (counts.cumsum() - counts).repeat(counts)
        return positions, rows[places].astype(np.int64)

    def columns(self, rows: Sequence[int] | Rows, names: tuple[str, ...]) -> pa.Table:
        """Columns of rows, in the order of `rows`. Groups of rows are read one after the other."""
        import pyarrow as pa

        rows = np.asarray(rows, np.int64)
        order = rows.argsort(kind="stable")
        groups, starts = np.unique(rows[order] // ROWS_AT_ONCE, return_index=True)
        parts = []
        for group, some in zip(groups.tolist(), np.split(rows[order], starts[1:]), strict=True):
            parts.append(self._group(group, names).take(pa.array(some - group * ROWS_AT_ONCE)))
        if not parts:
            return self._group(0, names).slice(0, 0)
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_tables(parts).combine_chunks().take(pa.array(back))

    def tables(self, names: tuple[str, ...]) -> Iterator[tuple[int, pa.Table]]:
        """(first row, columns of the rows) of all groups of rows, one after the other."""
        for group in range(-(-len(self) // ROWS_AT_ONCE)):
            yield group * ROWS_AT_ONCE, self._read(group, names)

    def items(self, rows: Sequence[int] | Rows) -> list[Item]:
        """The items of rows."""
        from spq.index.item_table import items_of

        return list(items_of(self.with_codes(self.columns(rows, ALL), np.asarray(rows, np.int64))))

    def with_codes(self, table: pa.Table, rows: Rows) -> pa.Table:
        """The table of whole items, as `item_table` has it."""
        import pyarrow as pa

        from spq.index.item_table import schema

        codes = self.codes_of(rows)
        width = pa.binary(self.kind.M)
        column = pa.Array.from_buffers(width, len(rows), [None, pa.py_buffer(codes)])
        none = pa.nulls(len(rows), pa.binary())
        columns = {name: table[name] for name in ALL} | {"code": column, "reason": none}
        wanted = schema(self.kind.M)
        return pa.table([columns[field.name] for field in wanted], schema=wanted)

    def faults(self) -> Iterator[str]:
        """A line for each file that is not what was written."""
        for file in self.facts.files:
            try:
                is_same = check_of(self.folder / file.name) == file.check
            except OSError as error:
                yield str(self._damaged(file.name, first_line(error)))
                continue
            if not is_same:
                yield str(self._damaged(file.name, "its checksum does not match"))

    def check_files(self) -> None:
        """Compare all files with their checksums, once. A writer that trusts damaged ones would add items twice.

        Raises:
            StoreError: a file is not what was written.
        """
        if not self._is_checked and (fault := next(self.faults(), None)):
            raise StoreError(fault)
        self._is_checked = True

    def check_codes(self) -> None:
        """Compare the codes with their checksum.

        Raises:
            StoreError: they are not what was written.
        """
        known = next(file for file in self.facts.files if file.name == "codes.npy")
        if check_of(self.folder / known.name) != known.check:
            raise self._damaged(known.name, "its checksum does not match")

    def part(self) -> Part:
        """The shard, ready to be searched. Its codes are compared with their checksum first.

        Raises:
            StoreError: they are not what was written.
        """
        self.check_codes()
        return Part(Scan.of_packed(self.codes, *self.kind, self.facts.distinct, self.ids))

    def held_part(self) -> HeldPart:
        """The shard, to be searched by a process that holds it. The codes are not read."""
        scan = Scan.of_packed(self.codes, *self.kind, len(self), self.ids)  # no equal codes are grouped
        return HeldPart(scan, self.facts.name, self.facts.distinct)

    def _group(self, group: int, names: tuple[str, ...]) -> pa.Table:
        key = group, names
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        table = self._read(group, names)
        with self._lock:
            self._groups[key] = table
            while len(self._groups) > GROUPS_KEPT:
                self._groups.popitem(last=False)
        return table

    def _read(self, group: int, names: tuple[str, ...]) -> pa.Table:
        import pyarrow as pa

        try:
            with self._lock:
                table = self._parquet.read_row_group(group, columns=list(names))
        except (OSError, pa.ArrowException) as error:
            raise self._damaged("items.parquet", first_line(error)) from None
        if set(table.column_names) != set(names):
            raise self._damaged("items.parquet", f"it has the columns {', '.join(table.column_names)}")
        return table

    @cached_property
    def _parquet(self) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.folder / "items.parquet")
        except (OSError, pa.ArrowException) as error:
            raise self._damaged("items.parquet", first_line(error)) from None

    @cached_property
    def _path_bytes(self) -> memoryview:
        with (self.folder / "paths.bin").open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @cached_property
    def _path_ends(self) -> NDArray[np.int64]:
        return self._array("path_ends")

    @cached_property
    def _path_keys(self) -> Keys:
        return self._array("path_keys")

    @cached_property
    def _path_rows(self) -> NDArray[np.uint32]:
        return self._array("path_rows")

    @cached_property
    def _hash_keys(self) -> Keys:
        return self._array("hash_keys")

    @cached_property
    def _hash_rows(self) -> NDArray[np.uint32]:
        return self._array("hash_rows")

    def _array(self, name: str) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise self._damaged(f"{name}.npy", first_line(error)) from None
        if len(array) != len(self):
            raise self._damaged(f"{name}.npy", f"it has {len(array):,} rows instead of {len(self):,}")
        return array

    def _damaged(self, file: str, what: str) -> StoreError:
        return StoreError(f"shard {self.folder}: {file} is damaged: {what}; {REPAIR}")


ALL = ("id", "path", "hash", "size", "mtime_ns", "ctime_ns", "width", "height", "metadata")
