"""Arrays in memory-mapped files: their pages count as memory of the process until they are given back."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """The read-only memory map that an array lies in; None if it lies elsewhere."""
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return None
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def release(*arrays: NDArray[Any]) -> None:
    """Give back the pages of mapped arrays. The system reads them again when they are needed."""
    for array in arrays:
        mapped = mapping(array)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
