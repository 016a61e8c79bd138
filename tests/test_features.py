from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from small_training import Patches
from spq.config import InputConfig, Recipe, TrainConfig, ViewsConfig
from spq.data import decode
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import ConfigError, ModelError
from spq.model.model import normalise
from spq.training import features as module
from spq.training.features import FeatureExtractor, Features, cached_features

RECIPE = Recipe(input=InputConfig(size=16), train=TrainConfig(frozen=True, cached_views=2))


class Tiny(nn.Module):
    """Pictures -> 6 numbers; counts the pictures that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, 2)
        self.seen, self.shift = 0, 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return torch.relu(self.conv(images)).mean((2, 3)) + self.shift


@pytest.fixture
def backbone() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(60))


@pytest.fixture
def compute(images: ImageSet, backbone: Tiny, tmp_path: Path) -> Callable[..., Features]:
    def run(images: ImageSet = images, recipe: Recipe = RECIPE, precision: str = "fp32", **options: Any) -> Features:
        extractor = FeatureExtractor(recipe, backbone, precision)
        return cached_features(images, extractor, 6, folder=tmp_path / "c", **options)

    return run


def test_the_second_run_reads_what_the_first_one_computed(compute: Callable[..., Features], backbone: Tiny) -> None:
    first = compute()
    assert (first.array.shape, first.cached, backbone.seen) == ((60, 3, 6), False, 180)
    second = compute()
    assert second.cached
    assert backbone.seen == 180 + module.PROBES
    np.testing.assert_array_equal(second.array, first.array)


def test_features_are_those_of_the_whole_picture_and_of_views_that_differ(
    compute: Callable[..., Features], backbone: Tiny, images: ImageSet
) -> None:
    found = compute().array
    pixels = np.stack([np.asarray(images.image(i).resize((16, 16), 2)).transpose(2, 0, 1) for i in range(60)])
    with torch.no_grad():
        whole = backbone((torch.from_numpy(pixels).float() / 255 - 0.5) / 0.25)
    np.testing.assert_allclose(found[:, 0], whole, rtol=1e-4, atol=1e-5)
    assert all(np.abs(found[:, a] - found[:, b]).max() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))
    views = replace(RECIPE, views=ViewsConfig(crop_scale=(1, 1), flip=0, jitter=0, grayscale=0, blur=0))
    same = compute(recipe=views).array  # a view without a change is the picture
    np.testing.assert_allclose(same[:, 1], same[:, 0], rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    "changed",
    [
        {"input": InputConfig(size=20)},
        {"views": ViewsConfig(flip=0.1)},
        {"train": replace(RECIPE.train, channels_last=True)},
        {"train": replace(RECIPE.train, cached_views=1)},
    ],
)
def test_settings_that_affect_features_are_part_of_the_key(
    compute: Callable[..., Features], changed: dict[str, object]
) -> None:
    first, other = compute(), compute(recipe=replace(RECIPE, **changed))  # type: ignore[arg-type]
    assert not other.cached
    assert other.fingerprint != first.fingerprint
    assert compute(recipe=replace(RECIPE, train=replace(RECIPE.train, epochs=7, seed=1))).cached  # these decide none


def test_other_weights_or_pictures_make_new_features(
    compute: Callable[..., Features], backbone: Tiny, images: ImageSet
) -> None:
    compute()
    assert not compute(subset(images, range(1, 60))).cached
    assert compute(precision="fp32").cached
    assert not compute(precision="bf16").cached
    with torch.no_grad():
        backbone.conv.bias[0] += 1e-3
    assert not compute().cached


def test_changed_code_of_a_backbone_is_noticed_though_its_weights_are_the_same(
    compute: Callable[..., Features], backbone: Tiny
) -> None:
    first = compute().array.copy()
    backbone.shift = 1.0
    again = compute()
    assert not again.cached
    np.testing.assert_allclose(again.array, first + 1, atol=1e-5)


def test_a_stopped_computation_continues_to_the_same_features(
    compute: Callable[..., Features], backbone: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)
    whole = cached_features(
        subset(open_images("sample:train"), range(60)), FeatureExtractor(RECIPE, backbone), 6, folder=tmp_path / "whole"
    )
    backbone.seen = 0

    def stop(done: int) -> None:
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(progress=stop)
    assert backbone.seen == 32 * 3
    resumed = compute()
    assert backbone.seen == 60 * 3 + module.PROBES
    np.testing.assert_array_equal(resumed.array, whole.array)


def test_unreadable_pictures_are_left_out(photos: Path, backbone: Tiny, tmp_path: Path) -> None:
    broken = sorted(photos.rglob("*.jpg"))[3]
    broken.write_bytes(b"no picture")
    images = open_images(photos)
    for _ in range(2):
        found = cached_features(images, FeatureExtractor(RECIPE, backbone), 6, folder=tmp_path / "c")
        assert found.array.shape == (59, 3, 6)
        assert [images.path(position) for position, _ in found.failures] == [broken]
        assert found.failures[0][0] not in found.kept
    assert found.cached


@pytest.mark.parametrize("views", [0, 2])
def test_pictures_over_a_limit_of_pixels_are_read_once_it_is_raised_and_refused_once_it_is_lowered(
    photos: Path, backbone: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: int
) -> None:
    Image.new("RGB", (300, 200), "red").save(photos / "large.png")
    images = open_images(photos)
    recipe = replace(RECIPE, train=replace(RECIPE.train, cached_views=views))
    counts = []
    for limit in (59_999, 60_000, 59_999):
        monkeypatch.setattr(decode, "_max_pixels", limit)
        found = cached_features(images, FeatureExtractor(recipe, backbone), 6, folder=tmp_path / "c")
        counts.append(len(found.failures))
    assert counts == [1, 0, 1]


def test_features_are_kept_though_the_first_pictures_or_a_whole_chunk_are_unreadable(
    photos: Path, backbone: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    images = open_images(photos)
    for position in range(10):
        images.path(position).write_bytes(b"no picture")
    for cached in (False, True):
        found = cached_features(images, FeatureExtractor(RECIPE, backbone), 6, folder=tmp_path / "c")
        assert found.array.shape == (50, 3, 6)
        assert found.cached == cached


def test_features_of_whole_pictures_are_known_by_their_bytes(
    compute: Callable[..., Features], backbone: Tiny, images: ImageSet
) -> None:
    whole = replace(RECIPE, train=replace(RECIPE.train, cached_views=0))
    first = compute(recipe=whole)
    assert (first.array.shape, first.cached, backbone.seen) == ((60, 1, 6), False, 60)
    np.testing.assert_allclose(first.array[:, 0], compute().array[:, 0], rtol=1e-4, atol=1e-5)
    backbone.seen = 0
    more = compute(subset(open_images("sample:train"), [*range(30, 60), 70, *range(30)]), recipe=whole)
    assert (more.cached, backbone.seen) == (False, 1)
    np.testing.assert_array_equal(np.delete(more.array, 30, 0), np.roll(first.array, 30, 0))
    assert compute(recipe=whole).cached
    assert compute(recipe=whole).pictures == first.pictures != more.pictures


def test_a_stopped_computation_of_whole_pictures_keeps_what_it_has(
    compute: Callable[..., Features], backbone: Tiny, photos: Path
) -> None:
    whole = replace(RECIPE, train=replace(RECIPE.train, cached_views=0))
    broken = sorted(photos.rglob("*.jpg"))[3]
    broken.write_bytes(b"no picture")
    images, seen = open_images(photos), []

    def stop(done: int) -> None:
        seen.append(done)
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(images, recipe=whole, progress=stop)
    before, backbone.seen = backbone.seen, 0
    found = compute(images, recipe=whole)
    assert (seen, before + backbone.seen) == ([20, 40], 59)
    assert before >= 39
    assert [images.path(position) for position, _ in found.failures] == [broken]
    assert found.array.shape == (59, 1, 6)
    assert found.array.any(2).all()


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(file.read_bytes()[:500]), Path.unlink])
def test_a_damaged_file_is_computed_again(
    compute: Callable[..., Features], damage: Callable[[Path], object], tmp_path: Path
) -> None:
    first = compute()
    expected = first.array.copy()
    damage(next((tmp_path / "c").glob("*.npy")))
    again = compute()
    assert not again.cached
    np.testing.assert_array_equal(again.array, expected)


def test_features_beyond_the_limit_are_refused_before_any_work(
    compute: Callable[..., Features], backbone: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE_GB", "1e-6")
    with pytest.raises(
        ConfigError, match=r"60 pictures x 3 views take 0\.0 GB, but the cache is limited to 1e-06 GB; lower"
    ):
        compute()
    monkeypatch.setenv("SPQ_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="must be a number, got 'much'; give gigabytes"):
        compute()
    assert not backbone.seen


def test_the_state_of_a_file_is_plain_json(compute: Callable[..., Features], tmp_path: Path) -> None:
    compute()
    state = next((tmp_path / "c").glob("*.json"))
    content = json.loads(state.read_text("utf-8"))
    assert (content["done"], content["failures"], content["parts"][0][0]) == (60, [], 60)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 40), views=st.integers(0, 2))
def test_features_in_batches_equal_features_of_one_picture_at_a_time(seed: int, count: int, views: int) -> None:
    torch.manual_seed(0)
    network = Patches().eval()
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 16, 16), np.uint8)
    extractor = FeatureExtractor(RECIPE, network)
    features = extractor.describe(pixels, views, seed)
    assert features.shape == (count, 1 + views, 96)
    with torch.no_grad():
        alone = [network(normalise(torch.from_numpy(pixels[i : i + 1]), RECIPE.input)) for i in range(count)]
    np.testing.assert_allclose(features[:, 0], torch.cat(alone).numpy(), atol=1e-5)
    if views == 2:
        assert (np.abs(features[:, 1] - features[:, 2]).max(1) > 1e-4).all()  # each view is another one
    np.testing.assert_array_equal(extractor.describe(pixels, views, seed), features)
    small = FeatureExtractor(RECIPE, network, view_input=RECIPE.input.scaled(0.75)).describe(pixels, views, seed)
    np.testing.assert_array_equal(small[:, 0], features[:, 0])
    assert not views or np.abs(small[:, 1] - features[:, 1]).max() > 1e-4


@pytest.mark.parametrize("views", [0, 2])
def test_damage_in_cached_features_is_noticed_and_named(
    compute: Callable[..., Features], tmp_path: Path, views: int
) -> None:
    recipe, notes = replace(RECIPE, train=replace(RECIPE.train, cached_views=views)), list[str]()
    expected = compute(recipe=recipe).array.copy()
    file = next(path for path in (tmp_path / "c").iterdir() if path.suffix in (".npy", ".sqlite"))
    data = bytearray(file.read_bytes())
    data[data.index(expected[30, views].tobytes()) + 5] ^= 4
    file.write_bytes(data)
    again = compute(recipe=recipe, note=notes.append)
    np.testing.assert_array_equal(again.array, expected)
    assert not again.cached
    assert len(notes) == 1
    assert "damaged" in notes[0]
    assert str(file) in notes[0]
    assert compute(recipe=recipe, note=notes.append).cached
    assert len(notes) == 1


def test_features_that_are_not_finite_are_refused(compute: Callable[..., Features], backbone: Tiny) -> None:
    backbone.shift = float("nan")
    with pytest.raises(ModelError, match="features of the backbone are not finite"):
        compute()


def test_a_folder_in_the_place_of_cached_features_is_named(compute: Callable[..., Features], tmp_path: Path) -> None:
    compute()
    file = next((tmp_path / "c").glob("*.npy"))
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=r"\.npy is a folder in the place of cached features; delete it"):
        compute()
