"""Head and codebooks on the features of a frozen backbone, and fine-tuning from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from small_training import FROZEN, Patches, StopError, sample_images, weights
from spq import SPQ, ImageIndex
from spq.config import FinishConfig
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import DataError, ModelError, ModelMismatchError
from spq.training.context import Training
from spq.training.train import train


@pytest.fixture
def backbone() -> Patches:
    torch.manual_seed(0)
    return Patches()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sample_images(300)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.mark.parametrize("count", [1, 2, 5, 15])
@pytest.mark.parametrize("start", ["pq", "opq"])
def test_a_few_pictures_are_enough_without_training_steps(
    images: ImageSet, backbone: Patches, tmp_path: Path, count: int, start: str
) -> None:
    few, said = subset(images, range(count)), list[str]()
    recipe = replace(
        FROZEN, head=replace(FROZEN.head, start=start), train=replace(FROZEN.train, epochs=0, cached_views=0)
    )
    model = train(few, recipe, tmp_path / "m", backbone=backbone, on_note=said.append)
    assert said[0].startswith(f"codes are fitted to {count} picture{'' if count == 1 else 's'} and altered copies; ")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.network.state_dict().values())
    with ImageIndex.build(tmp_path / "i", model, few) as index:
        for position in range(count):
            hits = index.search(few.image(position), count)
            assert sorted(hit.path for hit in hits) == sorted(few.ids)
            assert hits[0].path == few.ids[position]


def test_equal_pictures_have_codes_too(backbone: Patches, images: ImageSet, tmp_path: Path) -> None:
    for name in "ab":
        Image.new("RGB", (16, 16), "white").save(tmp_path / f"{name}.png")
    recipe = replace(FROZEN, train=replace(FROZEN.train, epochs=0, cached_views=0))
    model = train(open_images(tmp_path), recipe, tmp_path / "m", backbone=backbone)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.network.state_dict().values())


def test_training_steps_need_sixteen_pictures(images: ImageSet, backbone: Patches, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="15 readable pictures in sample:train are too few; give at least 16, "):
        train(subset(images, range(15)), FROZEN, tmp_path / "m", backbone=backbone)
    train(subset(images, range(16)), FROZEN, tmp_path / "m", backbone=backbone)


def test_training_from_the_cache_gives_the_weights_of_training_without_one(
    images: ImageSet, backbone: Patches, cache: Path, tmp_path: Path
) -> None:
    first = train(images, FROZEN, tmp_path / "a", backbone=backbone)
    assert len(list(cache.glob("*.npy"))) == 1
    from_cache = train(images, FROZEN, tmp_path / "b", backbone=backbone)
    next(cache.glob("*.npy")).unlink()
    again = train(images, FROZEN, tmp_path / "c", backbone=backbone)
    np.testing.assert_array_equal(weights(from_cache), weights(first))
    np.testing.assert_array_equal(weights(again), weights(first))


def test_the_backbone_does_not_change_and_the_loss_falls(
    images: ImageSet, backbone: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    losses: list[float] = []
    recipe = replace(FROZEN, train=replace(FROZEN.train, epochs=30, lr=1e-2, temperature=0.2))
    model = train(
        images, recipe, tmp_path / "m", backbone=backbone, on_status=lambda status: losses.append(status.loss)
    )
    for name, tensor in model.network.backbone.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert np.mean(losses[-20:]) < np.mean(losses[:4]) - 0.1
    assert model.facts["health"]["codeword_use"] > 0.7


def test_a_stopped_training_resumes_to_the_same_weights(images: ImageSet, backbone: Patches, tmp_path: Path) -> None:
    whole = train(images, FROZEN, tmp_path / "whole", backbone=backbone)
    recipe = replace(FROZEN, train=replace(FROZEN.train, checkpoint_minutes=0.0))

    def stop(epoch: int, network: object) -> None:
        if epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(images, recipe, tmp_path / "stopped", backbone=backbone, on_epoch=stop)
    # the checkpoint has the weights of the backbone
    resumed = train(images, recipe, tmp_path / "stopped", backbone=Patches(), resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_a_training_resumes_on_a_machine_with_another_precision(
    images: ImageSet, backbone: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(images, FROZEN, tmp_path / "m", backbone=backbone)
    monkeypatch.setattr(Training, "bf16", True)
    train(images, FROZEN, tmp_path / "m", backbone=backbone, resume=True)
    with pytest.raises(ModelError, match="made from other pictures"):
        train(subset(images, range(200)), FROZEN, tmp_path / "m", backbone=backbone, resume=True)


def test_one_head_gives_several_lengths(images: ImageSet, backbone: Patches) -> None:
    model = SPQ.train(images, recipe=FROZEN, bits=[8, 16], epochs=1, backbone=backbone)
    codes = model.encode([images.image(i) for i in range(5)])
    np.testing.assert_array_equal(model.truncate(8).encode([images.image(i) for i in range(5)]), codes[:, :2])


def test_a_model_with_a_given_backbone_loads_and_searches_with_it(
    images: ImageSet, backbone: Patches, photos: Path, tmp_path: Path
) -> None:
    model = SPQ.train(images, recipe=FROZEN, epochs=1, backbone=backbone, out=tmp_path / "m")
    pictures = [images.image(i) for i in range(5)]
    with pytest.raises(
        ModelError,
        match=r"m was trained with your own backbone small_training\.Patches, .*: SPQ\.load\(folder, backbone=",
    ):
        SPQ.load(tmp_path / "m")
    again = SPQ.load(tmp_path / "m", backbone=Patches())
    np.testing.assert_array_equal(again.encode(pictures), model.encode(pictures))
    ImageIndex.build(tmp_path / "i", model, photos).close()
    picture = sorted(photos.rglob("*.png"))[0]
    with (
        ImageIndex.open(tmp_path / "i") as index,
        pytest.raises(ModelError, match=r"i/model was trained with your own backbone"),
    ):
        index.search(picture)
    with ImageIndex.open(tmp_path / "i", again) as index:
        assert index.search(picture, top=1)[0].distance >= 0
    other = SPQ.train(images, recipe=FROZEN, epochs=2, backbone=Patches())
    with pytest.raises(ModelMismatchError):
        ImageIndex.open(tmp_path / "i", other)


def test_fine_tuning_starts_from_a_trained_head_and_resumes(
    images: ImageSet, backbone: Patches, tmp_path: Path
) -> None:
    head = train(images, FROZEN, tmp_path / "head", backbone=backbone)
    tune = replace(
        FROZEN, train=replace(FROZEN.train, frozen=False, backbone_lr_scale=0.1, lr=1e-9, epochs=1, refit=False)
    )
    same = train(images, tune, tmp_path / "same", backbone=Patches(), start=head)
    np.testing.assert_allclose(weights(same), weights(head), atol=1e-6)  # batch statistics too
    tune = replace(tune, train=replace(tune.train, lr=1e-3, checkpoint_minutes=0.0, epochs=2))
    whole = train(images, tune, tmp_path / "whole", backbone=Patches(), start=head)
    assert (whole.network.backbone.conv.weight - head.network.backbone.conv.weight).abs().max() > 1e-5
    assert np.abs(weights(whole) - weights(head)).max() > 1e-4

    def stop(epoch: int, network: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(images, tune, tmp_path / "stopped", backbone=Patches(), start=head, on_epoch=stop)
    # the checkpoint has the neighbours
    resumed = train(images, tune, tmp_path / "stopped", backbone=Patches(), resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_a_frozen_backbone_has_no_finish(images: ImageSet, backbone: Patches, tmp_path: Path) -> None:
    done: list[float] = []
    train(
        images, replace(FROZEN, finish=FinishConfig(epochs=2, share=0.5)), tmp_path / "m", backbone=backbone,
        on_status=lambda status: done.append(status.done),
    )  # fmt: skip
    assert done[-1] == 1


def test_pictures_that_are_deleted_during_training_do_not_stop_it(
    photos: Path, backbone: Patches, tmp_path: Path
) -> None:
    gone = [file for file in sorted(photos.rglob("*")) if file.is_file()][::3]

    def vanish(epoch: int, network: object) -> None:
        for file in gone:
            file.unlink(missing_ok=True)

    model = train(open_images(photos), FROZEN, tmp_path / "m", backbone=backbone, on_epoch=vanish)
    assert model.facts["codes"][-1]["queries"] == 60 - len(gone)
    assert 0 <= model.facts["codes"][-1]["copy_at_1"] <= 1
    SPQ.load(tmp_path / "m", backbone=Patches())
