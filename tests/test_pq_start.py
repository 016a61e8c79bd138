from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import FROZEN, Patches, sample_images
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
