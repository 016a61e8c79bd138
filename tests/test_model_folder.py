from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from spq.common.locks import held
from spq.errors import ModelError
from spq.model import model_folder as module
from spq.model.model import Model
from spq.model.model_folder import read_config


def change(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**content, **changes}), "utf-8")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"recipe": {}, "format": 1' + "0" * 5000 + "}", "a number of too many digits"),
        ('{"recipe": {}, "recipe": {}}', "twice"),
        ('{"recipe": {}, "format": "one"}', "is not of an spq model"),
        ("[1]", "is not of an spq model"),
    ],
)
def test_a_damaged_configuration_is_refused_in_one_line(model_folder: Path, text: str, reason: str) -> None:
    (model_folder / "config.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=reason) as caught:
        Model.load(model_folder)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


def test_a_pipe_in_the_place_of_a_file_does_not_wait(model_folder: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (model_folder / name).unlink()
        os.mkfifo(model_folder / name)
        with pytest.raises(ModelError, match="it is not a regular file"):
            Model.load(model_folder)


def test_any_change_of_the_recipe_is_noticed_and_models_of_before_load(model_folder: Path) -> None:
    recipe = read_config(model_folder)["recipe"]
    for section, key, value in (("train", "channels_last", True), ("views", "flip", 0.25), ("train", "seed", 9)):
        change(model_folder, recipe={**recipe, section: {**recipe[section], key: value}})
        with pytest.raises(ModelError, match="its recipe has changed since it was saved; copy the folder again"):
            Model.load(model_folder)
    change(model_folder, recipe=recipe, recipe_hash=None)
    Model.load(model_folder)


def test_a_recipe_that_needs_more_memory_than_the_weights_is_refused_first(model_folder: Path) -> None:
    recipe = read_config(model_folder)["recipe"]
    wide = {**recipe, "backbone": {**recipe["backbone"], "width": 1024}}
    change(model_folder, recipe=wide, recipe_hash=None)
    with pytest.raises(ModelError, match=r"bytes are too few for .* parameters"):
        Model.load(model_folder)
    wide["backbone"]["width"] = 2**63
    change(model_folder, recipe=wide, recipe_hash=None)
    with pytest.raises(ModelError, match=r"backbone\.width must be from 1 to 4096, got 9223372036854775808"):
        Model.load(model_folder)


def test_facts_of_wrong_types_are_refused(model_folder: Path) -> None:
    for facts in ({"codes": [{"bits": "many"}]}, {"health": 3}, [1]):
        change(model_folder, training=facts)
        with pytest.raises(ModelError, match=r"config\.json is damaged: .*training.*; copy it again"):
            Model.load(model_folder)


def test_one_process_at_a_time_saves_a_model(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVING_SECONDS", 0.0)
    tiny_model.save(tmp_path / "m")
    (tmp_path / "m" / ".config.json.77-0").write_text("of a killed process")
    before = (tmp_path / "m" / "config.json").stat().st_mtime_ns
    with (
        held(tmp_path / "m" / ".saving"),
        pytest.raises(ModelError, match=r"another process saves a model in .*m; wait"),
    ):
        tiny_model.save(tmp_path / "m")
    assert (tmp_path / "m" / "config.json").stat().st_mtime_ns == before
    tiny_model.save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]
