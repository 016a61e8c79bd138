"""A file of features that is filled part by part, and read again only as far as its checksums are right."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import Replacing, check_regular, clear_place, naming, reserve
from spq.common.json_file import read_json
from spq.data.decode import first_line

MOST_STATE = 2**26  # bytes of the state, which lists unreadable pictures
Failures = list[tuple[int, str]]


@dataclass
class ViewFile:
    """An array (N, 1 + V, F) float32 in a .npy file. A .json file beside it says how far it is filled.

    Attributes:
        done: pictures whose rows are filled. failures: (position, reason) of those that are unreadable.
        parts: (end, checksum) of the rows of each part, from the end of the part before.
        damage: why less is used than was written; else empty.
    """

    file: Path
    shape: tuple[int, int, int]
    done: int = 0
    failures: Failures = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    damage: str = ""

    @classmethod
    def open(cls, file: Path, shape: tuple[int, int, int]) -> ViewFile:
        """Return the file with all that is undamaged in it, which may be nothing."""
        found = cls(file, shape)
        for path in (file, found._state):
            clear_place(path)
        try:
            content = read_json(found._state, MOST_STATE)
        except FileNotFoundError:
            return found
        except (OSError, ValueError) as error:
            found.damage = first_line(error)
            return found
        try:
            found._take(content)
        except Exception as error:  # NumPy raises errors of any type for a damaged header
            found._keep(0, first_line(error))
        return found

    @property
    def array(self) -> NDArray[np.float32]:
        """The whole array, which is mapped into memory."""
        found: NDArray[np.float32] = np.lib.format.open_memmap(self.file, "r")
        return found

    def restart(self) -> None:
        """Forget all rows."""
        self._keep(0, "")

    def reserve(self) -> NDArray[np.float32]:
        """Take room on the disk for all rows; return the array to write to."""
        if not self.done:
            self.file.unlink(missing_ok=True)
        with naming(self.file):
            array: NDArray[np.float32] = np.lib.format.open_memmap(
                self.file, "r+" if self.done else "w+", np.float32, self.shape
            )
        with self.file.open("r+b") as file:
            reserve(file, self.file.stat().st_size, self.file)
        return array

    def add(self, array: NDArray[np.float32], end: int, failures: Failures) -> None:
        """Count rows that were written to the array; the state is written after the rows."""
        if isinstance(array, np.memmap):
            array.flush()
        self.parts.append((end, _checksum(array[self.done : end])))
        self.failures += failures
        self.done = end
        content = {"done": self.done, "failures": self.failures, "parts": self.parts}
        with Replacing(self._state) as temporary:
            temporary.write_text(json.dumps({**content, "checksum": _checksum_of_state(content)}), "utf-8")

    @property
    def _state(self) -> Path:
        return self.file.with_suffix(".json")

    def _take(self, content: Any) -> None:
        """Take what a state counts, up to the first part that is damaged."""
        if not isinstance(content, dict) or content.pop("checksum") != _checksum_of_state(content):
            raise ValueError("its list of parts is damaged")
        self.failures = [(position, reason) for position, reason in content["failures"]]
        check_regular(self.file)
        array = self.array
        if array.shape != self.shape or array.dtype != np.float32:
            raise ValueError("it has another shape")
        for end, checksum in content["parts"]:
            if _checksum(array[self.done : end]) != checksum:
                self._keep(self.done, f"the features of pictures {self.done:,} to {end:,} have another checksum")
                return
            self.parts.append((end, checksum))
            self.done = end

    def _keep(self, done: int, damage: str) -> None:
        self.done, self.damage = done, damage
        self.failures = [failure for failure in self.failures if failure[0] < done]
        self.parts = [part for part in self.parts if part[0] <= done]


def _checksum(rows: NDArray[np.float32]) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data)


def _checksum_of_state(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
