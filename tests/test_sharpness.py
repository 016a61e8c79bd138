"""The scripts that measure views and memory run on a few pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpness import measure
from small_training import small_recipe
from spq.config import InputConfig
from spq.data.decode import load_pixels
from spq.data.open import open_images


def mosaics(count: int) -> np.ndarray:
    """Pictures (count, 112, 112, 3) of 16 real ones."""
    tiles = load_pixels(open_images("sample:test"), 28, positions=range(16 * count)).array
    return tiles.reshape(count, 4, 4, 3, 28, 28).transpose(0, 1, 4, 2, 5, 3).reshape(count, 112, 112, 3)


def test_larger_copies_give_sharper_views_than_whole_pictures() -> None:
    recipe = replace(small_recipe(epochs=1), input=InputConfig(size=28))
    row = measure(open_images(mosaics(12)), recipe, count=12, batch=8, rounds=1)
    assert (row.size, row.kept_side) == (28, 56)
    assert row.whole < row.larger
    assert 0.95 < row.larger < 1.05
    assert min(row.whole_seconds, row.larger_seconds) > 0


@pytest.mark.drill
def test_a_training_that_needs_more_than_its_address_space_runs(tmp_path: Path) -> None:
    for number, picture in enumerate(mosaics(30)):
        Image.fromarray(picture).save(tmp_path / f"{number}.jpg")
    script = Path(__file__).parent / "faults" / "address_space.py"
    words = ["--count", "4000", "--size", "128", "--gigabytes", "0.8"]  # 0.98 GB of pixels
    done = subprocess.run(
        [sys.executable, script, tmp_path, *words], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4,000 pictures at 128 px: 62 steps" in done.stdout
