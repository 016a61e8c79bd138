"""What is known about a picture, beside its pixels, when copies are found and one of them is to be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Facts:
    """A picture of a collection.

    Attributes:
        path: its id in the collection. id: in the index; 0 without an index.
        file: absolute path of its file as the system knows it; empty inside a container.
        inode: device and number of the file, which two names of one file share; None inside a container.
        is_link: whether the file is a symbolic link.
        hash: of its bytes. code: (M,) uint8; None without an index.
        camera: maker and model of the EXIF data. taken: when, as EXIF has it, with fractions of a second; empty if unknown.
        is_reference: whether it belongs to the collection that new pictures are compared with, which is always kept.
    """

    path: str
    size: int
    mtime_ns: int
    width: int
    height: int
    hash: bytes
    id: int = 0
    file: str = ""
    inode: tuple[int, int] | None = None
    is_link: bool = False
    code: NDArray[np.uint8] | None = None
    camera: str = ""
    taken: str = ""
    is_reference: bool = False
