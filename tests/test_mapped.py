from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spq.pq.mapped import mapping, release


def resident() -> int:
    """Kilobytes of mapped files that are in the memory of this process."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_pages_of_a_map_are_given_back_and_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5_000_000))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")[5:].view(np.uint8)
    before = resident()
    total = x.sum()
    assert resident() > before + 30_000
    release(x)
    assert resident() < before + 10_000
    assert x.sum() == total


def test_arrays_that_could_be_written_or_lie_in_memory_are_left_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5000))
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[:] = 7
    release(private, np.zeros(3))
    assert (private == 7).all()
    assert mapping(private) is None
    assert mapping(np.zeros(3)) is None
    assert mapping(np.load(tmp_path / "x.npy", mmap_mode="r").reshape(50, -1)[3:]) is not None
