from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import FROZEN, Patches, sample_images
from spq.data.decode import load_pixels
from spq.data.image_set import ImageSet
from spq.errors import ConfigError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.pq_start import start_at_pq
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


def test_the_start_is_as_good_as_pq_of_the_principal_axes_of_each_share(images: ImageSet, backbone: Patches) -> None:
    import faiss

    pixels = np.stack([np.asarray(images.image(i).resize((16, 16), 2)).transpose(2, 0, 1) for i in range(300)])
    recipe = replace(FROZEN, head=replace(FROZEN.head, norm=0.0))
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


def test_a_hidden_layer_or_too_few_features_are_refused_before_features_are_computed(
    images: ImageSet, backbone: Patches, cache: Path, tmp_path: Path
) -> None:
    hidden = replace(FROZEN, head=replace(FROZEN.head, hidden=8))
    with pytest.raises(ConfigError, match="needs a head of one layer"):
        train(images, hidden, tmp_path / "m", backbone=backbone)
    assert not cache.exists()
    train(images, replace(hidden, head=replace(hidden.head, start="random")), tmp_path / "m", backbone=backbone)
    wide = replace(FROZEN, quantizer=replace(FROZEN.quantizer, codeword_dim=32))
    with pytest.raises(
        ConfigError, match="codeword_dim must be at most 24, since 4 codebooks share 96 features, got 32"
    ):
        train(images, wide, tmp_path / "wide", backbone=backbone)


def test_opq_starts_from_the_principal_axes_of_all_features(images: ImageSet, backbone: Patches) -> None:
    recipe = replace(FROZEN, head=replace(FROZEN.head, start="opq", norm=0.0))
    recipe = replace(recipe, quantizer=recipe.quantizer.with_bits(8, 16))
    network = Network(recipe, backbone)
    pixels = np.stack([np.asarray(images.image(i).resize((16, 16), 2)).transpose(2, 0, 1) for i in range(300)])
    features = Model(network, recipe).features(pixels)
    start_at_pq(network, features, "opq")
    x = Model(network, recipe).project(features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    axes = np.linalg.svd(unit - unit.mean(0), full_matrices=False)[2]
    for numbers in (8, 16):  # the prefix has the first axes too
        rows = (features - features.mean(0)) @ axes[:numbers].T
        cosines = [a @ a.T / np.square(a).sum() for a in (x[:, :numbers], rows)]
        np.testing.assert_allclose(*cosines, atol=1e-4)
    variances = np.log(x.var(0)).reshape(4, 4).sum(1)
    assert np.ptp(variances[:2]) < 1  # while the axes range over more
    assert np.ptp(variances[2:]) < 1


def test_without_epochs_the_model_is_the_start(images: ImageSet, backbone: Patches, tmp_path: Path) -> None:
    recipe = replace(FROZEN, head=replace(FROZEN.head, start="opq"))
    recipe = replace(recipe, train=replace(recipe.train, epochs=0, cached_views=0))
    model = train(images, recipe, tmp_path / "m", backbone=backbone)
    assert (model.facts["epochs"], model.facts["images"]) == (0, 300)
    network = Network(recipe, backbone)
    pixels = load_pixels(images, 16).array
    start_at_pq(network, model.features(pixels), "opq")
    np.testing.assert_allclose(model.embed(pixels), Model(network, recipe).embed(pixels), atol=1e-4)
    assert np.mean(model.encode(pixels) == Model(network, recipe).encode(pixels)) > 0.9
    with pytest.raises(ConfigError, match=r'`epochs` 0 leaves head and codebooks random; set head.start = "pq"'):
        replace(recipe, head=replace(recipe.head, start="random"))
