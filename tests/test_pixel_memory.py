"""Decoded pictures in a file: the same pixels, nothing left on the disk, and one line if there is no room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import write_photos
from small_training import distance, sample_images, small_recipe
from spq.data.decode import load_pixels
from spq.data.open import open_images
from spq.errors import ConfigError, SpaceError
from spq.training import out_folder, pixel_memory
from spq.training.pixel_memory import memory_limit, read_pixels
from spq.training.processes import ALONE, joined
from spq.training.train import train
from together import together


def nothing(done: int) -> None:
    pass


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Pictures, of which two cannot be read."""
    folder = write_photos(tmp_path / "photos")
    for file in sorted(folder.rglob("*.png"))[3:5]:
        file.write_bytes(b"no picture")
    return folder


def read(folder: Path, cache: Path) -> tuple[list[np.ndarray], list[str]]:
    """What a process has of the pixels, and what lies in the cache while it has them."""
    with pytest.MonkeyPatch.context() as patch, joined("cpu") as processes:
        patch.setenv("SPQ_CACHE", str(cache))
        pixels = read_pixels(open_images(str(folder)), 16, processes, nothing)
        processes.meet()
        assert isinstance(pixels.array.base, np.memmap)
        return [np.array(pixels.array), pixels.kept], [path.name for path in (cache / "pixels").iterdir()]


@pytest.mark.parametrize("count", [1, 2])
def test_pixels_in_a_file_are_those_in_memory(
    count: int, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_PIXELS_GB", "0")
    wanted = load_pixels(open_images(str(broken)), 16)
    assert len(wanted.failures) == 2
    found = together(2, read, broken, tmp_path / "c", folder=tmp_path) if count > 1 else [read(broken, tmp_path / "c")]
    for (array, kept), left in found:
        np.testing.assert_array_equal(array, wanted.array)
        np.testing.assert_array_equal(kept, wanted.kept)
        assert left == []


def test_a_training_on_pixels_in_a_file_gives_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(epochs=1)
    wanted = train(sample_images(), recipe, tmp_path / "a", measure=False)
    monkeypatch.setenv("SPQ_PIXELS_GB", "0.00001")
    found = train(sample_images(), recipe, tmp_path / "b", measure=False)
    assert found.hash == wanted.hash
    assert distance(found, wanted) == 0


def test_a_file_that_does_not_fit_on_the_disk_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPQ_PIXELS_GB", "0")
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path))
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(out_folder.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SpaceError, match=r"decoded pictures need .* MB are free; .* set SPQ_CACHE"):
        read_pixels(sample_images(), 32, ALONE, nothing)
    assert not list((tmp_path / "pixels").iterdir())


def test_half_of_the_free_memory_is_for_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SPQ_PIXELS_GB", raising=False)
    system = tmp_path / "meminfo"
    system.write_text("MemTotal:  99 kB\nMemAvailable:    4000 kB\n")
    free: Callable[..., float] = pixel_memory._free_memory
    assert free(system, tmp_path) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert free(system, tmp_path) == 2_000_000
    assert memory_limit() > 0
    monkeypatch.setenv("SPQ_PIXELS_GB", "much")
    with pytest.raises(ConfigError, match="SPQ_PIXELS_GB must be a number, got 'much'"):
        memory_limit()
