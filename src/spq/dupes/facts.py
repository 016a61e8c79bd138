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
        names: how many names the file has on its disk (hard links).
        is_link: whether the file is a symbolic link. is_behind_link: whether a folder on its path is one; then the file is
            there once, and deleting it by this path deletes it. target: in both cases, the path of the file itself.
        hash: of its bytes. code: (M,) uint8; None without an index.
        beside: names of the files that belong to it, such as a sidecar.
        is_reference: whether it belongs to the collection that new pictures are compared with, which is always kept.
    """

    path: str
    size: int
    mtime_ns: int
    width: int = 0
    height: int = 0
    hash: bytes = b""
    id: int = 0
    file: str = ""
    inode: tuple[int, int] | None = None
    names: int = 1
    is_link: bool = False
    is_behind_link: bool = False
    target: str = ""
    beside: tuple[str, ...] = ()
    code: NDArray[np.uint8] | None = None
    is_reference: bool = False

    @property
    def pixels(self) -> int:
        return self.width * self.height
