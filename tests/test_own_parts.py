"""The caller's own parts are recorded; loading or resuming without them, or with others, is refused by name."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import run_spq
from small_training import Patches, StopError, sample_images, small_recipe, weights
from spq import SPQ, CrossQuantized, ImageIndex, open_images
from spq.data.image_set import ImageSet
from spq.errors import ConfigError, ModelError
from spq.model.own_parts import checked_parts, full_name, recorded
from spq.scale.run_job import begin
from spq.training.train import train


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images()


@pytest.fixture(scope="module")
def own(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "own.spq"
    train(images, small_recipe(epochs=1, small_share=0.0), folder, backbone=Patches())
    return folder


def test_names_are_those_of_the_class_or_the_function() -> None:
    assert full_name(nn.Linear(1, 1)) == "torch.nn.modules.linear.Linear"
    assert full_name(partial(partial(np.linalg.norm, axis=1), ord=2)) == full_name(np.linalg.norm)
    assert recorded(loss=None, backbone="timm/resnet18") == {}
    (part,) = recorded(backbone=nn.Sequential(*[nn.Conv2d(3, 3, 3) for _ in range(20)])).values()
    assert part["description"].startswith("Sequential( (0): Conv2d(3, 3,")
    assert len(part["description"]) == 200
    (part,) = recorded(loss=lambda outputs: outputs).values()
    assert part["description"] == ""  # an address in memory says nothing


@pytest.mark.parametrize("found", [[], {"loss": "Margin"}, {"optimizer": {"class": "A", "description": ""}}])
def test_a_damaged_record_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="the parts of the model"):
        checked_parts(found)


def test_the_model_folder_names_an_own_backbone(own: Path) -> None:
    parts = json.loads((own / "config.json").read_text("utf-8"))["training"]["parts"]
    assert parts["backbone"]["class"] == "small_training.Patches"
    assert "(conv): Conv2d(3, 24" in parts["backbone"]["description"]
    assert "- own backbone: `small_training.Patches`" in (own / "README.md").read_text("utf-8")


def test_loading_needs_the_own_backbone_and_no_other(own: Path) -> None:
    with pytest.raises(
        ModelError, match=r"own\.spq was trained with your own backbone small_training\.Patches, .*SPQ\."
    ):
        SPQ.load(own)
    with pytest.raises(
        ModelError, match=r"your own backbone small_training\.Patches, not torch\..*\.Identity; give that"
    ):
        SPQ.load(own, backbone=nn.Identity())
    assert SPQ.from_pretrained(own, backbone=Patches()).hash == SPQ.load(own, backbone=Patches()).hash


def test_a_backbone_is_refused_where_the_model_has_none_of_its_own(images: ImageSet, tmp_path: Path) -> None:
    train(images, small_recipe(epochs=1), tmp_path / "m")
    with pytest.raises(ModelError, match=r"m has the backbone of its recipe, no own one; omit `backbone`"):
        SPQ.load(tmp_path / "m", backbone=Patches())


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["eval", "--gallery", "PHOTOS", "--queries", "sample:test"],
        ["index", "PHOTOS", "--out", "OUT", "--model"],
    ],
)
def test_the_command_line_says_that_python_opens_it(
    own: Path, photos: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"PHOTOS": str(photos), "OUT": str(tmp_path / "photos.index")}
    arguments = [names.get(word, word) for word in command]
    assert run_spq(*arguments, own) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "with your own backbone small_training.Patches, and its code is not in the folder; open it in Python" in line
    assert not (tmp_path / "photos.index").exists()


def test_training_from_a_model_takes_a_copy_of_its_backbone(images: ImageSet, own: Path) -> None:
    start = SPQ.load(own, backbone=Patches())
    before = weights(start)
    recipe = small_recipe(epochs=1, small_share=0.0, optimizer="adam")
    model = SPQ.train(images, recipe=recipe, start=start, device="cpu")
    assert model.facts["parts"]["backbone"]["class"] == "small_training.Patches"
    np.testing.assert_array_equal(weights(start), before)
    assert not np.array_equal(weights(model), before)


def test_an_index_of_it_is_searched_by_item_and_verified_without_its_code(
    own: Path, photos: Path, tmp_path: Path
) -> None:
    model = SPQ.load(own, backbone=Patches())
    with ImageIndex.build(tmp_path / "i", model, photos) as index:
        best = index.search(sorted(photos.rglob("*.png"))[0])
    assert run_spq("index", "--verify", tmp_path / "i") == 0
    with ImageIndex.open(tmp_path / "i") as index:
        assert index.search(best[0].id, top=1)
    (tmp_path / "i" / "model" / "model.safetensors").write_bytes(b"changed")
    assert run_spq("index", "--verify", tmp_path / "i") == 1


def test_a_job_of_several_processes_is_refused(own: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the model has your own backbone, whose code the processes of a job do not"):
        begin(open_images(photos).source, SPQ.load(own, backbone=Patches()), str(tmp_path / "job"))
    assert not (tmp_path / "job").exists()


class Other(Patches):
    """A backbone with the same weights, and other features."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(images))


def test_a_training_resumes_with_the_same_parts_only(images: ImageSet, tmp_path: Path) -> None:
    recipe, out = small_recipe(epochs=2, small_share=0.0, checkpoint_minutes=0.0), tmp_path / "m"

    def stop(epoch: int, network: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(images, recipe, out, backbone=Patches(), on_epoch=stop)
    with pytest.raises(
        ConfigError, match=r"m began with your own backbone small_training\.Patches; continue it in Python"
    ):
        train(images, recipe, out, resume=True)
    with pytest.raises(
        ConfigError, match=r"own backbone small_training\.Patches, not with test_own_parts\.Other; give that"
    ):
        train(images, recipe, out, backbone=Other(), resume=True)
    assert train(images, recipe, out, backbone=Patches(), resume=True).facts["epochs"] == 2
    with pytest.raises(StopError):
        train(images, recipe, tmp_path / "plain", on_epoch=stop)
    with pytest.raises(ConfigError, match=r"plain began with the backbone of its recipe, not with .*; omit `backbone`"):
        train(images, recipe, tmp_path / "plain", backbone=Patches(), resume=True)


def test_another_setting_of_the_same_class_is_noted_at_resume(images: ImageSet, tmp_path: Path) -> None:
    notes: list[str] = []
    for temperature in (0.5, 0.2):
        train(
            images, small_recipe(epochs=1), tmp_path / "m", loss=CrossQuantized(temperature), resume=temperature == 0.2,
            on_note=notes.append,
        )  # fmt: skip
    assert notes == [f"the training in {tmp_path / 'm'} began with CrossQuantized(0.5), now CrossQuantized(0.2)"]
