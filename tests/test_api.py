"""`SPQ.train`: options of other types, and options that a resumed training ignores. What it trains: test_train.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_training import sample_images, small_recipe
from spq import SPQ
from spq.api import ignored_by_resume, with_options
from spq.config import load_recipe
from spq.data.image_set import ImageSet
from spq.errors import ConfigError


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("bits", "16", "a whole number"), ("bits", [16, "32"], "a whole number"), ("bits", 16.0, "a whole number"),
        ("bits", {16}, "a whole number"), ("image_size", "32", "a whole number"), ("epochs", 1.5, "a whole number"),
        ("epochs", True, "a whole number"), ("minutes", "3", "a number"), ("seed", "x", "a whole number"),
        ("sample", "all", "a whole number"), ("device", 0, "text"), ("resume", "yes", "true or false"),
        ("deadline", "noon", "a number"), ("on_note", "print", "a function"), ("start", "m.spq", "a model"),
        ("loss", "ntxent", "a module or a function"), ("views", "crops", "a function"),
    ],
)  # fmt: skip
def test_an_option_of_another_type_is_refused_by_name(images: ImageSet, option: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=rf"^`{option}` must be {wanted}.*, got ") as found:
        SPQ.train(images, recipe=small_recipe(epochs=1), **{option: value})
    assert "\n" not in str(found.value)


def test_numbers_of_numpy_are_numbers() -> None:
    given = with_options(load_recipe("fast"), bits=np.array([16, 32]), minutes=np.float32(2), seed=np.int64(7))
    plain = with_options(load_recipe("fast"), bits=[16, 32], minutes=2, seed=7)
    assert (given, json.dumps([given.train.minutes, given.train.seed])) == (plain, "[2.0, 7]")


def test_what_a_resumed_training_ignores_is_said(images: ImageSet, tmp_path: Path) -> None:
    recipe, out = small_recipe(epochs=1), tmp_path / "m"
    given = {"recipe": recipe, "bits": 16, "overrides": {"train.lr": 0.01}}
    first = SPQ.train(images, **given, out=out, measure=False)
    assert ignored_by_resume(out, given) == []
    others = {"recipe": "spq", "bits": 16, "epochs": 1, "seed": 5, "overrides": ["train.lr=0.5"], "minutes": None}
    assert ignored_by_resume(out, others) == ["recipe", "seed", "overrides"]
    assert ignored_by_resume(out, {"recipe": "fast:train.lr=0.01"}) == []
    assert ignored_by_resume(out, {"recipe": "fast:train.lr=0.02"}) == ["recipe"]
    assert ignored_by_resume(tmp_path / "none", others) == []
    with pytest.warns(UserWarning, match="with its own recipe and ignores `seed`; for other values, give a new `out`"):
        again = SPQ.train(images, **given, seed=5, out=out, measure=False, resume=True)
    assert again.hash == first.hash


def test_a_training_without_a_folder_cannot_be_resumed(images: ImageSet) -> None:
    with pytest.raises(ConfigError, match="`resume` continues a training in `out`; give that folder"):
        SPQ.train(images, recipe=small_recipe(epochs=1), resume=True)
