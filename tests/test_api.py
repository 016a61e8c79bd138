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
from spq.config import Recipe, load_recipe, with_overrides
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.training.context import TrainOptions


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("bits", "16", "a whole number"), ("bits", [16, "32"], "a whole number"), ("bits", 16.0, "a whole number"),
        ("bits", {16}, "a whole number"),
        ("bits", b"16", "a whole number"), ("minutes", 10**400, "a smaller number"),
        ("image_size", "32", "a whole number"), ("epochs", 1.5, "a whole number"),
        ("epochs", True, "a whole number"), ("minutes", "3", "a number"), ("seed", "x", "a whole number"),
        ("sample", "all", "a whole number"), ("device", 0, "text"), ("resume", "yes", "true or false"),
        ("deadline", "noon", "a number"), ("on_note", "print", "a function"), ("start", "m.spq", "a model"),
        ("backbone", 3, "a module"), ("out", 5, "text"), ("overrides", "train.lr=1", "a table"), ("overrides", 5, "a table"),
        ("loss", "ntxent", "a module or a function"), ("views", "crops", "a module or a function"),
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


def ignored(out: Path, recipe: str | Recipe, overrides: Any = None, **options: Any) -> list[str]:
    """What a resume with these options ignores of the training in `out`."""
    base = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    config = with_options(with_overrides(base, overrides or ()), **options)
    return ignored_by_resume(out, config, {"recipe": recipe, "overrides": overrides, **options})


def test_no_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="`bits` is empty; give the length of a code"):
        with_options(load_recipe("fast"), bits=[])
    assert with_options(load_recipe("fast"), bits=np.array(16)) == with_options(load_recipe("fast"), bits=16)
    assert TrainOptions().with_names(resume=np.True_, tensorboard=False).resume is True


def test_what_a_resumed_training_ignores_is_said(images: ImageSet, tmp_path: Path) -> None:
    recipe, out = small_recipe(epochs=1), tmp_path / "m"
    given = {"recipe": recipe, "bits": 16, "overrides": {"train.lr": 0.01}}
    first = SPQ.train(images, **given, out=out, measure=False)
    assert ignored(out, **given) == ignored(out, recipe, ["train.lr=0.01"], bits=16, epochs=1) == []
    assert ignored(out, recipe, {"train.lr": 0.5}, bits=8) == ["overrides", "bits"]
    assert ignored(out, recipe, {"train.lr": 0.5}, bits=16, seed=5) == ["overrides", "seed"]
    assert ignored(out, recipe, bits=16) == ["recipe"]  # its rate is another
    assert ignored(out, "spq", bits=16, minutes=3) == ["recipe", "minutes"]
    assert ignored(out, "pq", epochs=0) == ["recipe", "epochs"]  # together with the recipe of `out` that is no budget
    assert ignored(tmp_path / "none", "pq") == []
    config = with_options(load_recipe("spq"), bits=16)
    assert ignored_by_resume(out, config, {"recipe": None, "bits": 16}) == []  # nobody asked for the usual recipe
    with pytest.warns(
        UserWarning, match="with its own recipe and ignores `seed`; for other values, give a new `out`"
    ) as said:
        again = SPQ.train(images, **given, seed=5, out=out, measure=False, resume=True)
    assert again.hash == first.hash
    assert said[0].filename == __file__


@pytest.mark.parametrize(
    "same",
    [
        {"recipe": "{file}:train.lr=0.002", "overrides": {"train.lr": 0.003}},
        {"recipe": "{file}:train.epochs=5,train.seed=1", "epochs": 1, "seed": 2},
        {"recipe": "{file}:quantizer.num_codebooks=2", "bits": 16, "minutes": None},
        {"recipe": "{file}", "overrides": ["train.view_scale=0.9"]},
    ],
)
def test_the_same_call_again_ignores_nothing(
    images: ImageSet, recipe_file: Path, tmp_path: Path, same: dict[str, Any]
) -> None:
    given = {**same, "recipe": same["recipe"].format(file=recipe_file)}
    SPQ.train(images, **given, out=tmp_path / "m", measure=False)
    assert ignored(tmp_path / "m", **given) == []
    recipe_file.write_text(recipe_file.read_text().replace("width = 8", "width = 16"))
    assert ignored(tmp_path / "m", **given) == ["recipe"]


def test_a_training_without_a_folder_cannot_be_resumed(images: ImageSet) -> None:
    with pytest.raises(ConfigError, match="`resume` continues a training in `out`; give that folder"):
        SPQ.train(images, recipe=small_recipe(epochs=1), resume=True)
