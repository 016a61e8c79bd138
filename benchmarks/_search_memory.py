"""Memory that a search holds, measured in a separate process, for search.py."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spq.pq.scan import Scan

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


def memory(codes: Codes, tables: Floats, nprobe: int, top: int) -> list[tuple[int, float, float]]:
    """(lists, bytes per row in use, and at most), without and with lists; none if the system does not report them."""
    if not Path("/proc/self/status").exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "codes.npy"), codes)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            held = [pool.submit(held_bytes, Path(folder, "codes.npy"), tables, top, n) for n in {0, nprobe}]
            return [future.result() for future in held]


def held_bytes(path: Path, tables: Floats, top: int, nprobe: int) -> tuple[int, float, float]:
    """Memory after a search and at most, without codes and without the memory in use before. Runs in a separate process."""
    method = "ivf" if nprobe else "auto"
    M, K = tables.shape[1:]
    small = np.tile(np.arange(16, dtype=np.uint8)[:, None], (5000, M))
    Scan(small, K).search(tables, top, "fast")  # libraries that are loaded once are not part of the gallery
    codes = np.load(path, mmap_mode="r")
    give_back()
    before, done, seen = anonymous_bytes(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    scan = Scan(codes if K <= 16 else codes.copy(), K)  # a scan of bytes keeps the array that it gets
    scan.search(tables, top, method, nprobe=nprobe or None)  # type: ignore[arg-type]
    done.set()
    watcher.join()
    give_back()
    after = anonymous_bytes()
    return nprobe, (after - before) / len(codes), (max(*seen, after) - before) / len(codes)


def give_back() -> None:
    """Return free memory to the system."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def anonymous_bytes() -> int:
    """Memory of this process, without mapped files."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
