"""The pixels that views are cut from, on the device if there is room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spq.common.parallel import slices
from spq.training.pixel_file import Rows
from spq.training.pixel_memory import Pictures

COPIED = 4096  # pictures that are copied to the device at a time


class Cut(NamedTuple):
    """Pictures that views are cut from: pixels (B, 3, C, C) uint8, and the frames of `make_views`."""

    pixels: Tensor
    frame: Tensor | None


@dataclass(frozen=True)
class ViewSource:
    """Pixels (N, 3, C, C) uint8, larger than the input where the pictures are.

    Attributes:
        frames: (N, 2) height and width of the pictures as stored, on the device of the training; None if views are cut from
            whole pictures at the size of the input, where all are squares.
    """

    pixels: Tensor | Rows
    frames: Tensor | None

    def frames_of(self, rows: Tensor) -> Tensor | None:
        return None if self.frames is None else self.frames[rows]

    def take(self, rows: Tensor) -> Tensor:
        """Return the pixels of some rows, on the device of `rows`."""
        if isinstance(self.pixels, Tensor):
            return self.pixels[rows.to(self.pixels.device)].to(rows.device)
        return torch.from_numpy(self.pixels[rows.cpu().numpy()]).to(rows.device)

    def cut(self, rows: Tensor) -> Cut:
        return Cut(self.take(rows), self.frames_of(rows))

    def is_on(self, device: torch.device) -> bool:
        """Whether the pixels lie in the memory of a device, so that a step can be recorded there."""
        return isinstance(self.pixels, Tensor) and self.pixels.device.type == device.type


def view_source(pictures: Pictures, device: torch.device, chosen: NDArray[np.int64] | None = None) -> ViewSource:
    """Return what views of all pictures, or of the chosen ones, are cut from.

    Args:
        chosen: (n,) rows; row i of the result is row chosen[i].
    """
    wanted = np.arange(len(pictures.array)) if chosen is None else chosen
    if pictures.large is None:
        return ViewSource(_placed(pictures.array, device, chosen), None)
    frames = torch.from_numpy(np.ascontiguousarray(pictures.full_sizes[wanted, ::-1])).to(device)
    return ViewSource(_placed(pictures.large, device, chosen), frames)


@dataclass(frozen=True)
class _Chosen:
    """Some rows of an array, read when they are used."""

    array: Rows
    chosen: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.array.shape[1:])

    @property
    def nbytes(self) -> int:
        return self.array.nbytes // max(1, len(self.array)) * len(self)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: slice | NDArray[np.int64], /) -> NDArray[np.uint8]:
        return self.array[self.chosen[rows]]


def _placed(array: Rows, device: torch.device, chosen: NDArray[np.int64] | None) -> Tensor | Rows:
    """Return pixels on the device, unless they take more than half of the free memory of a GPU."""
    rows = array if chosen is None else _Chosen(array, chosen)
    if device.type == "cpu":
        return torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows
    if device.type == "cuda" and rows.nbytes > torch.cuda.mem_get_info()[0] // 2:
        return rows
    found = torch.empty(rows.shape, dtype=torch.uint8, device=device)
    for part in slices(len(rows), COPIED):
        found[part] = torch.from_numpy(rows[part]).to(device)
    return found
