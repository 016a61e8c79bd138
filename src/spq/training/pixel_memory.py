"""Decoded pictures of a training: whole at the size of the input, and larger for views that are cut from them.

They lie in memory, or in a file of the cache folder if they need too much of it; so a collection may be larger than memory.
Several processes on one machine share the file. It has no name any more once every process has opened it, so nothing is left
however a process ends.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spq.common.files import remove_stale, reserve, user_cache
from spq.common.parallel import slices
from spq.data.decode import Pixels, load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError, ImageError, SpaceError
from spq.training.pixel_file import FileRows, PixelFile, Rows
from spq.training.processes import Processes

NAME = "pixels"
SHARE = 0.5  # of the memory that is free: with more, pixels lie in a file
LARGER = (
    2  # largest side that is kept, divided by the side of the input: views are then as sharp as those of the originals
)
PROBED = 100  # pictures whose size decides the side that is kept
MOST_SIDES = 0.9  # share of these pictures that are not larger than the side that is kept
CHUNK_BYTES = 2**27  # decoded before they are written to the file
STATED = 10**8  # bytes from which on the user is told what the pictures need
LEAST = 1000  # pictures that a sample should have
SAFE = 0.9  # of the room that is free: a sample of so many pictures leaves some for the model

Progress = Callable[[int], None]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Pictures:
    """The readable pictures of a training.

    Attributes:
        array: (N, 3, S, S) uint8, the whole pictures as `embed` sees them.
        large: (N, 3, C, C) uint8 with C > S, from which views are cut; None if pictures are not larger than the input.
        kept: (N,) their positions in the collection. full_sizes: (N, 2) width and height as stored.
        failures: (position, reason) of the unreadable pictures.
    """

    array: Rows
    kept: NDArray[np.int64]
    full_sizes: NDArray[np.int64]
    failures: list[tuple[int, str]]
    large: Rows | None = None


@dataclass(frozen=True)
class _Plan:
    """How many pictures are kept, at which sides; `large` is 0 if only at the size of the input."""

    count: int
    size: int
    large: int

    @property
    def whole_bytes(self) -> int:
        return 3 * self.size**2

    @property
    def bytes_each(self) -> int:
        return self.whole_bytes + 3 * self.large**2

    @property
    def needed(self) -> int:
        return self.count * self.bytes_each

    def open(self, file: PixelFile, count: int) -> tuple[FileRows, FileRows | None]:
        """The first `count` pictures in a file, whole and larger."""
        whole = FileRows(file, 0, (count, 3, self.size, self.size))
        offset = self.count * self.whole_bytes
        return whole, FileRows(file, offset, (count, 3, self.large, self.large)) if self.large else None


def read_pixels(
    images: ImageSet, size: int, processes: Processes, progress: Progress, note: Note | None = None
) -> Pictures:
    """Decode all pictures, once on each machine.

    Args:
        note: called with a line that says what they need, before they are decoded.
    Raises:
        SpaceError: the disk has no room for the file. ConfigError: SPQ_PIXELS_GB is no number.
    """
    plan = _Plan(len(images), size, processes.from_first(lambda: larger_side(images, size)))
    in_memory = not processes.several and plan.needed <= memory_limit()
    folder = user_cache() / NAME
    if not in_memory:
        processes.on_each_machine(lambda: _make_room(folder, plan))
    if note and plan.needed >= STATED:
        place = "memory" if in_memory else f"{folder}, where {_written(_free(folder))} are free"
        note(f"{plan.count:,} decoded pictures take {_written(plan.needed)} in {place}")
    if in_memory:
        found = load_pixels(images, size, progress=progress, large=plan.large)
        return Pictures(found.array, found.kept, found.full_sizes, found.failures, found.large)
    with _removed_later(processes) as remove:
        path, found = processes.on_each_machine(lambda: _decode(images, folder, plan, progress))
        remove.append(path)
        file = PixelFile(path)
        processes.meet()  # all have opened it
    whole, large = plan.open(file, len(found.kept))
    return Pictures(whole, found.kept, found.full_sizes, found.failures, large)


def larger_side(images: ImageSet, size: int) -> int:
    """Return the side of the pictures that views are cut from, 0 if they are not larger than the input.

    It is that of most pictures, by some of them, but not above `LARGER` times the input.
    """
    sides = []
    for position in np.linspace(0, len(images) - 1, min(PROBED, len(images))).astype(int).tolist():
        with suppress(ImageError):
            image = images.image(position, size)
            sides.append(max(image.info.get("full_size", image.size)))
    most = int(np.quantile(sides, MOST_SIDES, method="lower")) if sides else 0
    return min(most, LARGER * size) if most > size else 0


def memory_limit() -> float:
    """Return how many bytes of pixels stay in memory: `$SPQ_PIXELS_GB`, else half of what is free.

    Raises:
        ConfigError: SPQ_PIXELS_GB is no number.
    """
    text = os.environ.get("SPQ_PIXELS_GB", "")
    try:
        return 1e9 * float(text) if text else SHARE * _free_memory()
    except ValueError:
        raise ConfigError(f"SPQ_PIXELS_GB must be a number, got {text!r}; give gigabytes, for example 8") from None


def _free_memory(system: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that this process may still take, of the machine, a container and its own limit; else infinite."""
    free = [math.inf, _free_addresses()]
    with suppress(OSError, ValueError, StopIteration):
        lines = system.read_text("utf-8").splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # ValueError: the limit is `max`
        most, used = (int((group / name).read_text("utf-8")) for name in ("memory.max", "memory.current"))
        free.append(max(0, most - used))
    return min(free)


def _free_addresses() -> float:
    """Return the bytes of address space that this process may still take (`ulimit -v`); infinite where there is no limit."""
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        used = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else max(0, limit - used)


def _decode(images: ImageSet, folder: Path, plan: _Plan, progress: Progress) -> tuple[Path, Pixels]:
    """Decode pictures into a new file; the result has no pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{NAME}.{os.getpid()}"  # as `remove_stale` knows them
    try:
        with path.open("w+b") as empty:
            reserve(empty, plan.needed, path)
        return path, _fill(images, PixelFile(path), plan, progress)
    except BaseException:
        _delete(path)
        raise


def _fill(images: ImageSet, file: PixelFile, plan: _Plan, progress: Progress) -> Pixels:
    """Decode part after part, and write the readable pictures one after the other."""
    parts: list[Pixels] = []
    whole, large = plan.open(file, plan.count)
    end = 0
    for rows in slices(plan.count, max(1, CHUNK_BYTES // plan.bytes_each)):
        part_progress = partial(_report_from, progress, rows.start)
        positions = range(rows.start, rows.stop)
        found = load_pixels(images, plan.size, positions=positions, large=plan.large, progress=part_progress)
        file.write(whole.offset + end * whole.row_bytes, found.array)
        if large and found.large is not None:
            file.write(large.offset + end * large.row_bytes, found.large)
        end += len(found.kept)
        parts.append(replace(found, array=np.empty(0, np.uint8), large=None))
    kept, sizes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("kept", "full_sizes"))
    return Pixels(np.empty(0, np.uint8), kept, sizes, [failure for part in parts for failure in part.failures])


def _report_from(progress: Progress, start: int, done: int) -> None:
    progress(start + done)


def _make_room(folder: Path, plan: _Plan) -> None:
    """Delete what killed processes have left, and refuse more pictures than the disk has room for.

    Raises:
        SpaceError: names the folder, what is needed and what is free.
    """
    remove_stale(folder, NAME, is_locked=False)
    if (free := _free(folder)) < plan.needed:
        fewer = int(SAFE * free / plan.bytes_each)
        sample = f"give `sample` {fewer:,} or less, " if fewer >= LEAST else ""
        raise SpaceError(
            f"{plan.count:,} decoded pictures need {_written(plan.needed)} in {folder}, and {_written(free)} are free; "
            f"{sample}free some space, or set SPQ_CACHE to a folder on another disk"
        )


def _written(count: int) -> str:
    """Bytes as text.

    >>> _written(752_640_000_000), _written(491_520)
    ('752.6 GB', '0.5 MB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _free(folder: Path) -> int:
    return shutil.disk_usage(
        next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    ).free


@contextmanager
def _removed_later(processes: Processes) -> Iterator[list[Path]]:
    """Delete the files of the list at the end, in one process of each machine."""
    files: list[Path] = []
    try:
        yield files
    finally:
        if processes.local_rank == 0:
            for file in files:
                _delete(file)


def _delete(file: Path) -> None:
    with suppress(OSError):  # a system that keeps open files
        file.unlink()
