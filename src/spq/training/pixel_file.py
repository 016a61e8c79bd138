"""An array of pixels in a file, of which only the rows that are used are read.

A memory map would take as much address space as the file has bytes, which a system may limit. Reading rows takes none, and
the system keeps in memory what is used of the file, as far as there is room.
"""

from __future__ import annotations

import math
import threading
import weakref
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """What stages use of an array (N, 3, S, S) uint8: a NumPy array, or `FileRows`."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]: ...


class PixelFile:
    """An open file, which several arrays may share. It is closed when nobody uses it any more."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("r+b", buffering=0)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def read(self, offset: int, row: NDArray[np.uint8]) -> None:
        """Fill a contiguous array with the bytes from `offset` on."""
        view, done = row.reshape(-1).data, 0
        with self._lock:
            self._file.seek(offset)
            while done < len(view):
                count = self._file.readinto(view[done:])  # type: ignore[attr-defined]  # a raw file has it
                if not count:
                    raise OSError(f"the file of decoded pictures ends at {offset + done} bytes")
                done += count

    def write(self, offset: int, rows: NDArray[np.uint8]) -> None:
        """Write an array from `offset` on."""
        view, done = np.ascontiguousarray(rows).reshape(-1).data, 0
        with self._lock:
            self._file.seek(offset)
            while done < len(view):
                done += self._file.write(view[done:])


class FileRows:
    """An array (N, ...) uint8 in a file, from an offset on; indexing it with a slice or with row numbers reads a copy."""

    def __init__(self, file: PixelFile, offset: int, shape: tuple[int, ...]) -> None:
        self.file, self.offset, self.shape = file, offset, shape
        self.row_bytes = math.prod(shape[1:])

    @property
    def nbytes(self) -> int:
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        numbers = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows.tolist()
        found = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        if isinstance(rows, slice) and len(numbers) and numbers == range(numbers[0], numbers[-1] + 1):
            self.file.read(self.offset + numbers[0] * self.row_bytes, found)
            return found
        for row, number in zip(found, numbers, strict=True):
            if not 0 <= number < len(self):
                raise IndexError(f"row {number} of {len(self)}")
            self.file.read(self.offset + number * self.row_bytes, row)
        return found
