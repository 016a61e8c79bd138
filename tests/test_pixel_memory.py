"""Decoded pictures: larger ones for views, the same pixels in a file, nothing left on the disk, one line if there is no room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import write_photos
from small_training import distance, sample_images, small_recipe, with_finish
from spq.config import InputConfig
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.data.named import ArrayImages
from spq.data.open import open_images
from spq.errors import ConfigError, SpaceError
from spq.training import pixel_memory
from spq.training.pixel_file import FileRows
from spq.training.pixel_memory import larger_side, memory_limit, read_pixels
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
        patch.setattr(pixel_memory, "CHUNK_BYTES", 15_000)  # several parts
        pixels = read_pixels(open_images(str(folder)), 16, processes, nothing)
        processes.meet()
        assert isinstance(pixels.array, FileRows)
        assert pixels.large is not None
        found = [pixels.array[:], pixels.large[:], pixels.kept, pixels.full_sizes]
        return found, [path.name for path in (cache / "pixels").iterdir()]


@pytest.mark.parametrize("count", [1, 2])
def test_pixels_in_a_file_are_those_in_memory(
    count: int, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_PIXELS_GB", "0")
    wanted = load_pixels(open_images(str(broken)), 16, large=32)
    assert len(wanted.failures) == 2
    found = together(2, read, broken, tmp_path / "c", folder=tmp_path) if count > 1 else [read(broken, tmp_path / "c")]
    for parts, left in found:
        for part, same in zip(parts, (wanted.array, wanted.large, wanted.kept, wanted.full_sizes), strict=True):
            np.testing.assert_array_equal(part, same)
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
    monkeypatch.setattr(pixel_memory.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        SpaceError, match=r"160 decoded pictures need 0.5 MB in .*, and 0.0 MB are free; free .*SPQ_CACHE"
    ):
        read_pixels(sample_images(), 32, ALONE, nothing)
    usage.free = 40_000_000_000
    million, notes = Many(sample_images(), 1_000_000), list[str]()
    with pytest.raises(SpaceError, match=r"1,000,000 .* need 150.5 GB .* 40.0 GB are free; give `sample` 239,1\d\d or"):
        read_pixels(million, 224, ALONE, nothing, notes.append)
    assert million.asked <= 100
    assert notes == []  # it is refused before it is announced
    assert not (tmp_path / "pixels").exists()
    monkeypatch.setattr(pixel_memory, "STATED", 0)
    read_pixels(Many(sample_images(), 20), 224, ALONE, nothing, notes.append)
    assert notes == [f"20 decoded pictures take 3.0 MB in {tmp_path}/pixels, where 40.0 GB are free"]


class Many(ImageSet):
    """A few pictures, again and again."""

    def __init__(self, images: ImageSet, count: int) -> None:
        super().__init__("many", [""] * count)
        self.few, self.asked = images, 0

    def image(self, position: int, size_hint: int | None = None) -> Image.Image:
        self.asked += 1
        return self.few.image(position % len(self.few), size_hint)


@pytest.mark.parametrize(("sizes", "wanted"), [([10] * 20, 0), ([16] * 20, 0), ([16] * 19 + [400], 0), ([20, 24] * 10, 24),
                                               ([300] * 20, 32), ([10] * 17 + [300] * 3, 32)])  # fmt: skip
def test_pictures_larger_than_the_input_are_kept_at_up_to_twice_its_side(sizes: list[int], wanted: int) -> None:
    array = np.zeros((20, 1, 1, 3), np.uint8)
    images = ArrayImages("sizes", array, np.zeros(20, np.int64), [])
    images.image = lambda position, hint=None: Image.new("RGB", (sizes[position], 8))  # type: ignore[method-assign]
    assert larger_side(images, 16) == wanted


def test_the_whole_pictures_of_a_training_are_those_that_embed_sees(broken: Path) -> None:
    images = open_images(str(broken))
    pixels = read_pixels(images, 16, ALONE, nothing)
    assert pixels.large is not None
    assert pixels.large.shape[1:] == (3, 32, 32)
    np.testing.assert_array_equal(pixels.array[:], load_pixels(images, 16).array)


def test_a_training_on_larger_pictures_in_a_file_gives_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_finish(replace(small_recipe(epochs=1), input=InputConfig(size=12)))
    wanted = train(sample_images(), recipe, tmp_path / "a", measure=False)
    monkeypatch.setenv("SPQ_PIXELS_GB", "0.00001")
    found = train(sample_images(), recipe, tmp_path / "b", measure=False)
    assert found.hash == wanted.hash
    monkeypatch.setattr(pixel_memory, "LARGER", 1)  # as if pictures were not larger
    assert train(sample_images(), recipe, tmp_path / "c", measure=False).hash != wanted.hash


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
