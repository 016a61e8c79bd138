from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clusters import CODEBOOKS, LENGTHS, Data, Source, cluster_codes, compare, finish_recipe, gains, load, table
from spq.config import ClusterConfig, load_recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.errors import DataError
from spq.model.model import Model

QUICK = ClusterConfig(clusters=8, neighbours=5, candidates=2, head_steps=60, head_batch=64)


@pytest.fixture
def data(tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    images = subset(open_images("sample:train"), range(200))
    network = tiny_model.network
    return load(images, Source(tiny_model.config, network.backbone, network.feature_dim), count=150, queries=50, at=40)


def test_every_method_is_scored_at_every_length(data: Data) -> None:
    rows = list(compare(data, 1, [3.0], without_choice=True, epochs=1, config=QUICK))
    coded = ["PQ-16", "OPQ-16", "finish", "heads, T = 3", "first heads, T = 3"]
    expected = [("float cosine", 0)] + [(name, bits) for name in coded for bits in LENGTHS]
    assert [(row["method"], row["bits"]) for row in rows] == expected
    chance = np.mean(data.query_labels[:, None] == data.gallery_labels)
    for row in rows:
        assert chance < row["map"] <= 1
        assert 0 <= row["precision_at_1"] <= 1
    assert [line[:24].strip() for line in table(rows).splitlines()[1:]] == ["float cosine", *coded]


def test_the_table_shows_means_of_seeds_and_the_gain_is_that_over_the_finish() -> None:
    maps = {"finish": (0.5, 0.6), "heads, T = 3": (0.6, 0.64)}
    rows = [
        {"method": name, "bits": bits, "seed": seed, "map": value, "precision_at_1": 0.7}
        for name, values in maps.items()
        for bits in LENGTHS
        for seed, value in enumerate(values)
    ]
    assert "0.5500 +- 0.0500, 0.700" in table(rows).splitlines()[1]
    assert gains(rows) == pytest.approx({"heads, T = 3": 0.07})


def test_queries_are_not_in_the_gallery_and_labels_fit_their_pictures(data: Data, tiny_model: Model) -> None:
    whole = data.gallery[:, 0]
    apart = np.abs(data.queries[:, None] - whole).sum(2)  # (50, 150)
    assert apart.min() > 1e-3
    assert data.images.labels is not None
    for position in range(0, 150, 10):
        row = np.abs(whole - tiny_model.features([data.images.image(position)])).sum(1).argmin()
        assert data.gallery_labels[row] == data.images.labels[position]


def test_a_code_is_the_nearest_codeword_and_is_ranked_by_dot() -> None:
    clear = torch.eye(4).repeat(10, 1)  # four kinds of pictures, each sure of its cluster
    codes, tables = cluster_codes(clear.repeat(1, CODEBOOKS), clear[:4].repeat(1, CODEBOOKS), 4, seed=0)
    assert codes.shape == (40, CODEBOOKS)
    assert tables.shape == (4, CODEBOOKS, 16)
    distances = tables[:, np.arange(CODEBOOKS), codes].sum(2)  # (4, 40)
    assert (distances.argmin(1) == np.arange(4)).all()


def test_the_finish_has_the_settings_of_recipe_spq(data: Data) -> None:
    recipe, spq = finish_recipe(data.source.recipe), load_recipe("spq")
    learned = recipe.train
    names = ("epochs", "batch_size", "temperature", "lr", "neighbours")
    assert [getattr(learned, name) for name in names] == [getattr(spq.finish, name) for name in names]
    assert (recipe.head, recipe.quantizer, learned.frozen) == (spq.head, spq.quantizer, True)
    assert finish_recipe(data.source.recipe, 2).train.epochs == 2


def test_too_few_pictures_are_refused(data: Data) -> None:
    with pytest.raises(DataError, match="give fewer --queries"):
        load(data.images, data.source, count=10, queries=150, at=10)
