from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from small_training import FROZEN, Patches, sample_images
from spq.config import Recipe
from spq.errors import ConfigError
from spq.evaluation.metrics import precision_at, relevance
from spq.model.model import Model
from spq.model.network import Network
from spq.training.pq_start import start_at_pq
from spq.training.smooth_start import start_smooth
from spq.training.train import train

RECIPE = replace(
    FROZEN,
    head=replace(FROZEN.head, hidden=120, unit=True, start="smooth"),
    train=replace(FROZEN.train, epochs=0, cached_views=0),
)


class Kinds:
    """Features (N, 40) of pictures of ten kinds; each picture differs from its kind by noise."""

    def __init__(self, count: int, seed: int, noise: float = 0.35) -> None:
        kinds = np.random.default_rng(0).normal(size=(10, 40))
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 10, count)
        self.features = (kinds[self.labels] + noise * 40**0.5 * rng.normal(size=(count, 40)) / 2 + 1).astype(np.float32)


def network_of(recipe: Recipe) -> Network:
    torch.manual_seed(0)
    network = Network(recipe, Patches())
    if recipe.head.hidden:
        network.head[0] = torch.nn.Linear(40, recipe.head.hidden)
    else:
        network.head[0] = torch.nn.Linear(40, recipe.quantizer.dim)
    network.feature_dim = 40
    return network


def precision(recipe: Recipe, gallery: Kinds, queries: Kinds, start: object) -> float:
    """P@10 of codes of the gallery, for queries that the start has not seen."""
    network = network_of(recipe)
    start(network, gallery.features)  # type: ignore[operator]
    model = Model(network, recipe)
    codes = model.encode_descriptors(model.project(gallery.features))
    tables = model.tables(model.project(queries.features))
    distances = np.stack([table[np.arange(codes.shape[1]), codes].sum(1) for table in tables])
    rows = distances.argsort(1, kind="stable")
    return precision_at(relevance(queries.labels, gallery.labels, rows), [10])[10]


def test_new_pictures_find_more_of_their_kind_than_with_product_quantization() -> None:
    gallery, queries = Kinds(400, 1), Kinds(150, 2)
    plain = replace(RECIPE, head=replace(FROZEN.head, start="pq"))
    assert precision(RECIPE, gallery, queries, start_smooth) > 0.02 + precision(plain, gallery, queries, start_at_pq)


def test_a_picture_stays_nearest_to_itself() -> None:
    gallery = Kinds(400, 1)
    network = network_of(RECIPE)
    start_smooth(network, gallery.features)
    x = Model(network, RECIPE).project(gallery.features)
    copies = Model(network, RECIPE).project(
        (1.7 * gallery.features + 0.02).astype(np.float32)
    )  # other lengths, and noise
    assert ((x @ copies.T).argmax(1) == np.arange(400)).mean() > 0.95


@pytest.mark.parametrize("count", [16, 60])
def test_few_pictures_are_enough(count: int) -> None:
    gallery = Kinds(count, 1)
    network = network_of(RECIPE)
    start_smooth(network, gallery.features)
    x: NDArray[np.float32] = Model(network, RECIPE).project(gallery.features)
    assert np.isfinite(x).all()
    assert np.linalg.matrix_rank(x - x.mean(0)) > 5
    assert torch.isfinite(network.quantizer.codebooks).all()


def test_equal_pictures_do_no_harm() -> None:
    features = np.repeat(Kinds(20, 1).features, 20, 0)
    network = network_of(RECIPE)
    start_smooth(network, features)
    assert np.isfinite(Model(network, RECIPE).project(features)).all()


def test_a_shorter_code_has_the_first_axes() -> None:
    gallery = Kinds(300, 1)
    recipe = replace(RECIPE, quantizer=RECIPE.quantizer.with_bits(8, 16))
    network = network_of(recipe)
    start_smooth(network, gallery.features)
    x = Model(network, replace(recipe, head=replace(recipe.head, norm=0.0))).project(gallery.features)
    assert x[:, :8].var(0).sum() > 0.4 * x.var(0).sum()


def test_a_model_is_trained_and_loads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    images, backbone = sample_images(200), Patches()
    model = train(images, RECIPE, tmp_path / "m", backbone=backbone)
    pictures = [images.image(i) for i in range(20)]
    again = Model.load(tmp_path / "m", backbone=Patches())
    np.testing.assert_array_equal(again.encode(pictures), model.encode(pictures))
    assert again.hash == model.hash
    assert model.facts["codes"][-1]["copy_at_10"] > 0.3


@pytest.mark.parametrize("head", [{"hidden": 0}, {"unit": False}, {"batch_norm": True}])
def test_a_head_that_does_not_fit_is_refused_before_features_are_computed(
    head: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    recipe = replace(RECIPE, head=replace(RECIPE.head, **head))
    with pytest.raises(ConfigError, match=r'head.start = "smooth" needs head.unit = true and a plain hidden layer'):
        train(sample_images(100), recipe, tmp_path / "m", backbone=Patches())
    assert not (tmp_path / "cache").exists()
