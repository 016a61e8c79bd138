from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spq.training.head_only import start_at_pq
from torch import Tensor, nn

from spq import SPQ, ImageIndex
from spq.config import BackboneConfig, FinishConfig, HeadConfig, InputConfig, QuantizerConfig, Recipe, TrainConfig
from spq.data.image_set import ImageSet, subset
from spq.data.open import open_images
from spq.errors import ConfigError, ModelError, ModelMismatchError
from spq.model.model import Model, normalise
from spq.model.network import Network
from spq.training import head_only
from spq.training.features import describe
from spq.training.optimizers import make_optimizers
from spq.training.run import TrainStatus
from spq.training.train import train

RECIPE = Recipe(
    input=InputConfig(size=16),
    head=HeadConfig(hidden=0, norm=1.0, start="pq"),
    quantizer=QuantizerConfig(num_codebooks=4, codeword_dim=4, distance="sqeuclidean"),
    train=TrainConfig(frozen=True, cached_views=2, neighbours=5, batch_size=64, epochs=3, lr=1e-3, refit=True),
)


class Patches(nn.Module):
    """Random filters, average pooled on a 2 x 2 grid: (B, 3, 16, 16) -> (B, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 24, 5, 2), nn.BatchNorm2d(24)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(torch.relu(self.norm(self.conv(images))), 2).flatten(1)


@pytest.fixture
def backbone() -> Patches:
    torch.manual_seed(0)
    return Patches()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return subset(open_images("sample:train"), range(300))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def weights(model: Model) -> np.ndarray:
    return np.concatenate([t.float().numpy().ravel() for t in model.network.state_dict().values()])


def test_training_from_the_cache_gives_the_weights_of_training_without_one(
    images: ImageSet, backbone: Patches, cache: Path, tmp_path: Path
) -> None:
    first = train(images, RECIPE, tmp_path / "a", backbone=backbone)
    assert len(list(cache.glob("*.npy"))) == 1
    from_cache = train(images, RECIPE, tmp_path / "b", backbone=backbone)
    next(cache.glob("*.npy")).unlink()
    anew = train(images, RECIPE, tmp_path / "c", backbone=backbone)
    np.testing.assert_array_equal(weights(from_cache), weights(first))
    np.testing.assert_array_equal(weights(anew), weights(first))


def test_the_backbone_stays_as_it_is_and_the_loss_falls(
    images: ImageSet, backbone: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    losses: list[float] = []
    recipe = replace(RECIPE, train=replace(RECIPE.train, epochs=30, lr=1e-2, temperature=0.2))
    model = train(
        images, recipe, tmp_path / "m", backbone=backbone, on_status=lambda status: losses.append(status.loss)
    )
    for name, tensor in model.network.backbone.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert np.mean(losses[-20:]) < np.mean(losses[:4]) - 0.1
    assert model.training["health"]["codeword_use"] > 0.7


def test_the_start_is_as_good_a_quantizer_as_pq_of_each_shares_principal_axes(
    images: ImageSet, backbone: Patches
) -> None:
    import faiss

    pixels = np.stack([np.asarray(images.image(i).resize((16, 16), 2)).transpose(2, 0, 1) for i in range(300)])
    recipe = replace(RECIPE, head=replace(RECIPE.head, norm=0.0))
    network = Network(recipe, backbone)
    features = Model(network, recipe).features(pixels)
    start_at_pq(network, features)
    x = torch.from_numpy(Model(network, recipe).project(features))
    assert float(x.square().sum(1).mean()) == pytest.approx(4, rel=1e-3)  # 4 sub-vectors of length 1
    with torch.no_grad():
        decoded = network.quantizer.decode(network.quantizer.encode(x))
    error = float((x - decoded).square().sum() / x.square().sum())
    shares = np.split(features - features.mean(0), 4, axis=1)
    rows = np.hstack([part @ np.linalg.svd(part, full_matrices=False)[2][:4].T for part in shares])
    np.testing.assert_allclose(
        np.abs((x @ x.T).numpy()), np.abs(rows @ rows.T) * (4 / np.square(rows).sum(1).mean()), atol=2e-3
    )
    pq = faiss.ProductQuantizer(16, 4, 4)
    pq.train(rows)
    theirs = float(np.square(rows - pq.decode(pq.compute_codes(rows))).sum() / np.square(rows).sum())
    assert error < 1.1 * theirs


def test_a_head_run_that_died_resumes_to_the_same_weights(images: ImageSet, backbone: Patches, tmp_path: Path) -> None:
    whole = train(images, RECIPE, tmp_path / "whole", backbone=backbone)
    recipe = replace(RECIPE, train=replace(RECIPE.train, checkpoint_minutes=0.0))

    def die(epoch: int, network: object) -> None:
        if epoch == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(images, recipe, tmp_path / "died", backbone=backbone, on_epoch=die)
    resumed = train(
        images, recipe, tmp_path / "died", backbone=Patches(), resume=True
    )  # its weights are in the checkpoint
    np.testing.assert_array_equal(weights(resumed), weights(whole))


def test_a_head_run_goes_on_on_a_machine_that_computes_features_in_another_precision(
    images: ImageSet, backbone: Patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(images, RECIPE, tmp_path / "m", backbone=backbone)
    monkeypatch.setattr(head_only, "resolve_precision", lambda precision, device: "bf16")
    train(images, RECIPE, tmp_path / "m", backbone=backbone, resume=True)
    with pytest.raises(ModelError, match="made from other pictures"):
        train(subset(images, range(200)), RECIPE, tmp_path / "m", backbone=backbone, resume=True)


def test_a_head_with_a_hidden_layer_or_more_numbers_than_features_cannot_start_at_pq(
    images: ImageSet, backbone: Patches, cache: Path, tmp_path: Path
) -> None:
    hidden = replace(RECIPE, head=replace(RECIPE.head, hidden=8))
    with pytest.raises(ConfigError, match="sets a head of one layer"):
        train(images, hidden, tmp_path / "m", backbone=backbone)
    assert not cache.exists()  # before any features are made
    train(images, replace(hidden, head=replace(hidden.head, start="random")), tmp_path / "m", backbone=backbone)
    wide = replace(RECIPE, quantizer=replace(RECIPE.quantizer, codeword_dim=32))
    with pytest.raises(ConfigError, match="32 numbers a codeword are more than 96 features give 4 codebooks"):
        train(images, wide, tmp_path / "wide", backbone=backbone)


def test_one_head_gives_several_lengths(images: ImageSet, backbone: Patches) -> None:
    model = SPQ.train(images, recipe=RECIPE, bits=[8, 16], epochs=1, backbone=backbone)
    codes = model.encode([images.image(i) for i in range(5)])
    np.testing.assert_array_equal(model.truncate(8).encode([images.image(i) for i in range(5)]), codes[:, :2])


def test_a_model_with_a_backbone_of_ones_own_loads_and_searches_with_it(
    images: ImageSet, backbone: Patches, photos: Path, tmp_path: Path
) -> None:
    model = SPQ.train(images, recipe=RECIPE, epochs=1, backbone=backbone, out=tmp_path / "m")
    pictures = [images.image(i) for i in range(5)]
    with pytest.raises(
        ModelError, match=r"m: its backbone Patches is code of your own; give it once more, as backbone="
    ):
        SPQ.load(tmp_path / "m")
    again = SPQ.load(tmp_path / "m", backbone=Patches())
    np.testing.assert_array_equal(again.encode(pictures), model.encode(pictures))
    ImageIndex.build(tmp_path / "i", model, photos).close()
    picture = sorted(photos.rglob("*.png"))[0]
    with ImageIndex.open(tmp_path / "i") as index, pytest.raises(ModelError, match="give it once more"):
        index.search(picture)
    with ImageIndex.open(tmp_path / "i", again) as index:
        assert index.search(picture, top=1)[0].distance >= 0
    other = SPQ.train(images, recipe=RECIPE, epochs=2, backbone=Patches())
    with pytest.raises(ModelMismatchError):
        ImageIndex.open(tmp_path / "i", other)


def test_a_backbone_that_gives_no_features_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"returns \(1, 24, 6, 6\) for one picture, not \(1, F\); add pooling"):
        Network(RECIPE, nn.Conv2d(3, 24, 5, 2))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_pretrained_backbone_learns_at_its_share_of_the_rate(backbone: Patches, optimizer: str) -> None:
    recipe = replace(RECIPE, train=TrainConfig(optimizer=optimizer, backbone_lr_scale=0.1, lr=1e-3, muon_lr=0.1))  # type: ignore[arg-type]
    network = Network(recipe, backbone)
    rates = {
        id(p): group["peak_lr"]
        for made in make_optimizers(network, recipe)
        for group in made.param_groups
        for p in group["params"]
    }
    own = {id(p) for p in backbone.parameters()}
    assert len(rates) == len(list(network.parameters()))
    assert {rates[id(p)] for p in network.parameters() if id(p) not in own} == {1e-3}
    filters = {id(p) for p in backbone.parameters() if p.ndim == 4}
    assert [rates[i] for i in own - filters] == pytest.approx([1e-4] * 3)
    assert [rates[i] for i in filters] == pytest.approx([0.01 if optimizer == "muon" else 1e-4])


def test_fine_tuning_starts_from_a_trained_head_and_draws_neighbours_together(
    images: ImageSet, backbone: Patches, tmp_path: Path
) -> None:
    head = train(images, RECIPE, tmp_path / "head", backbone=backbone)
    tune = replace(
        RECIPE, train=replace(RECIPE.train, frozen=False, backbone_lr_scale=0.1, lr=1e-9, epochs=1, refit=False)
    )
    same = train(images, tune, tmp_path / "same", backbone=Patches(), start=head)
    np.testing.assert_allclose(weights(same), weights(head), atol=1e-6)  # batch statistics too
    tune = replace(tune, train=replace(tune.train, lr=1e-3, checkpoint_minutes=0.0, epochs=2))
    whole = train(images, tune, tmp_path / "whole", backbone=Patches(), start=head)
    moved = [name for name, tensor in whole.network.backbone.named_parameters() if (tensor != 0).any()]
    assert "conv.weight" in moved
    assert np.abs(weights(whole) - weights(head)).max() > 1e-4

    def die(epoch: int, network: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        train(images, tune, tmp_path / "died", backbone=Patches(), start=head, on_epoch=die)
    resumed = train(
        images, tune, tmp_path / "died", backbone=Patches(), resume=True
    )  # neighbours are in the checkpoint
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    with pytest.raises(ConfigError, match="does not fit the model to start from"):
        train(images, tune, tmp_path / "x", backbone=nn.Sequential(Patches()), start=head)


def test_a_frozen_backbone_needs_no_finish(images: ImageSet, backbone: Patches, tmp_path: Path) -> None:
    done: list[float] = []
    train(
        images, replace(RECIPE, finish=FinishConfig(epochs=2, share=0.5)), tmp_path / "m", backbone=backbone,
        on_status=lambda status: done.append(status.done),
    )  # fmt: skip
    assert done[-1] == 1


FINISHING = replace(
    RECIPE, backbone=BackboneConfig(blocks=(1, 1), width=16), head=HeadConfig(norm=1.0),
    train=replace(RECIPE.train, frozen=False, checkpoint_minutes=0.0, epochs=1),
    finish=FinishConfig(epochs=4, neighbours=5, batch_size=64),
)  # fmt: skip


def die_in_the_finish(status: TrainStatus) -> None:
    if (status.part, status.epoch) == ("head and codes", 1):
        raise RuntimeError


def test_a_finish_by_the_clock_ends_and_resumes_with_the_pictures_that_it_had(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.head_only.CHUNK", 64)
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    finish = replace(FINISHING.finish, epochs=100_000, share=0.9)
    recipe = replace(FINISHING, train=replace(FINISHING.train, minutes=0.1), finish=finish)
    described: list[int] = []
    original = head_only.describe

    def slow(*args: Any, **options: Any) -> np.ndarray:
        described.append(len(options["rows"]))
        time.sleep(0.6)  # 1.8 s are a third of what is kept
        return original(*args, **options)

    monkeypatch.setattr(head_only, "describe", slow)
    with pytest.raises(RuntimeError):
        train(images, recipe, tmp_path / "m", on_status=die_in_the_finish)
    assert 64 <= sum(described) < 300
    had = described.copy()
    seen: list[TrainStatus] = []
    train(images, recipe, tmp_path / "m", resume=True, on_status=seen.append)  # it ends, though not by its epochs
    assert described == 2 * had
    assert all(status.epoch < 100_000 for status in seen)


def test_a_finish_of_part_of_the_pictures_resumes_to_the_same_weights(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spq.training.head_only.PICTURES", 200)
    monkeypatch.setattr("spq.training.run.LOG_SECONDS", 0.0)
    seen: list[TrainStatus] = []
    whole = train(images, FINISHING, tmp_path / "whole", on_status=seen.append)
    batch = min(64, 200 // 4)
    assert (seen[-1].part, seen[-1].step, seen[-1].epoch) == ("head and codes", 4 * (200 // batch), 4)
    assert whole.training["images"] == 300

    with pytest.raises(RuntimeError):
        train(images, FINISHING, tmp_path / "died", on_status=die_in_the_finish)
    resumed = train(images, FINISHING, tmp_path / "died", resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 40), views=st.integers(0, 2))
def test_features_of_pictures_and_views_are_those_of_one_at_a_time(seed: int, count: int, views: int) -> None:
    torch.manual_seed(0)
    network = Patches().eval()
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 16, 16), np.uint8)
    features = describe(pixels, RECIPE, network, views, seed)
    assert features.shape == (count, 1 + views, 96)
    with torch.no_grad():
        alone = [network(normalise(torch.from_numpy(pixels[i : i + 1]), RECIPE.input)) for i in range(count)]
    np.testing.assert_allclose(features[:, 0], torch.cat(alone).numpy(), atol=1e-5)
    if views == 2:
        assert (np.abs(features[:, 1] - features[:, 2]).max(1) > 1e-4).all()  # each view is another one
    np.testing.assert_array_equal(describe(pixels, RECIPE, network, views, seed), features)
    some = np.arange(0, count, 3)
    np.testing.assert_allclose(
        describe(pixels, RECIPE, network, 0, seed, rows=some)[:, 0], features[some, 0], atol=1e-5
    )
    small = describe(pixels, RECIPE, network, views, seed, view_input=RECIPE.input.scaled(0.75))
    np.testing.assert_array_equal(small[:, 0], features[:, 0])
    assert not views or np.abs(small[:, 1] - features[:, 1]).max() > 1e-4


def test_a_backbone_of_ones_own_learns_on_after_a_training_that_kept_it(images: ImageSet, tmp_path: Path) -> None:
    backbone = Patches()
    head = train(images, RECIPE, tmp_path / "head", backbone=backbone)
    before = backbone.conv.weight.detach().clone()
    tune = replace(
        RECIPE, train=replace(RECIPE.train, frozen=False, epochs=1), finish=FinishConfig(epochs=1, neighbours=5)
    )
    train(images, tune, tmp_path / "tuned", backbone=backbone, start=head)
    assert not torch.equal(backbone.conv.weight, before)
    before = backbone.conv.weight.detach().clone()
    train(images, tune, tmp_path / "once more", backbone=backbone, start=head)
    assert not torch.equal(backbone.conv.weight, before)


def test_pictures_that_vanish_in_a_frozen_training_do_not_lose_it(
    photos: Path, backbone: Patches, tmp_path: Path
) -> None:
    gone = [file for file in sorted(photos.rglob("*")) if file.is_file()][::3]

    def vanish(epoch: int, network: object) -> None:
        for file in gone:
            file.unlink(missing_ok=True)

    model = train(open_images(photos), RECIPE, tmp_path / "m", backbone=backbone, on_epoch=vanish)
    assert model.training["codes"][-1]["queries"] == 60 - len(gone)
    assert 0 <= model.training["codes"][-1]["copy_at_1"] <= 1
    SPQ.load(tmp_path / "m", backbone=Patches())
