"""Where the decoded pictures of a training lie: in memory, or in a memory-mapped file of the cache folder.

The file is for more pictures than fit into memory, and for several processes on one machine, which share it. The system keeps
in memory what is used of it, as far as there is room. It has no name any more once every process has opened it, so nothing is
left however a process ends.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spq.common.files import remove_stale, reserve, user_cache
from spq.data.decode import Pixels, load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.training.out_folder import check_room
from spq.training.processes import Processes

NAME = "pixels"
SHARE = 0.5  # of the memory that is free: with more, pixels lie in a file

Progress = Callable[[int], None]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Place:
    """A file with pixels, and all else that is known of the pictures."""

    file: Path
    shape: Shape
    pixels: Pixels


def read_pixels(images: ImageSet, size: int, processes: Processes, progress: Progress) -> Pixels:
    """Decode all pictures, once on each machine.

    Raises:
        SpaceError: the disk has no room for the file. ConfigError: SPQ_PIXELS_GB is no number.
    """
    shape = len(images), 3, size, size
    needed = int(np.prod(shape))
    if not processes.several and needed <= memory_limit():
        return load_pixels(images, size, progress=progress)
    folder = user_cache() / NAME
    with _removed_later(processes) as remove:
        place = processes.on_each_machine(lambda: _decode(images, folder, shape, progress))
        remove.append(place.file)
        array = np.memmap(place.file, np.uint8, "c", shape=shape)  # torch warns of a map that cannot be written
        processes.meet()  # all have opened it
    return replace(place.pixels, array=array[: len(place.pixels.kept)])


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
    """Return the bytes that programs may still take, of the machine and of a container; infinite where it is not known."""
    free = [math.inf]
    with suppress(OSError, ValueError, StopIteration):
        lines = system.read_text("utf-8").splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # ValueError: the limit is `max`
        most, used = (int((group / name).read_text("utf-8")) for name in ("memory.max", "memory.current"))
        free.append(max(0, most - used))
    return min(free)


def _decode(images: ImageSet, folder: Path, shape: Shape, progress: Progress) -> _Place:
    """Decode pictures into a new file."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale(folder, NAME, is_locked=False)
    needed = int(np.prod(shape))
    check_room(folder, needed, "decoded pictures", "set SPQ_CACHE to a folder on another disk")
    path = folder / f".{NAME}.{os.getpid()}"  # as `remove_stale` knows them
    try:
        with path.open("w+b") as file:
            reserve(file, needed, path)
        array = np.memmap(path, np.uint8, "r+", shape=shape)
        pixels = load_pixels(images, shape[-1], progress=progress, into=array)
    except BaseException:
        _delete(path)
        raise
    return _Place(path, shape, replace(pixels, array=np.empty(0, np.uint8)))


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
