from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from photos import METHODS, Data, Side, classic_row, float_row, recipe_row, table
from small_training import FROZEN, sample_images
from spq.data.decode import load_pixels
from spq.data.image_set import subset


@pytest.fixture
def data() -> Data:
    """Pictures of the sample, with their pixels as features."""
    images = sample_images(300)

    def side(rows: range) -> Side:
        part = subset(images, rows)
        pixels = load_pixels(part, 8).array.reshape(len(part), -1)
        return Side([part], np.asarray(part.labels), pixels.astype(np.float32))

    return Data("sample", side(range(240)), side(range(240, 300)))


def test_every_method_is_better_than_chance(data: Data) -> None:
    order = np.random.default_rng(0).permutation(240)
    chance = np.mean(data.queries.labels[:, None] == data.gallery.labels)
    rows = [classic_row(method, 16, 0, data, order) for method in METHODS]
    rows += [float_row(kind, data, order) for kind in ("float cosine", "colour histogram")]
    for row in rows:
        assert chance < row["map"] <= 1
        assert 1.2 * chance < row["p1"] <= 1


def test_a_recipe_without_training_steps_is_scored_from_features(data: Data) -> None:
    recipe = replace(FROZEN, head=replace(FROZEN.head, start="pq"))
    recipe = replace(
        recipe, train=replace(recipe.train, epochs=0), backbone=replace(recipe.backbone, blocks=(1,), width=192)
    )
    row = recipe_row(recipe, data, np.arange(240))
    assert row["map"] > 0.2
    torch.manual_seed(1)
    assert recipe_row(recipe, data, np.arange(240)) == row


def test_the_table_shows_means_of_seeds() -> None:
    rows = [
        {"method": "PQ-16", "bytes": 2, "seed": seed, "p1": 0.5, "p10": 0.4, "map": value}
        for seed, value in enumerate((0.3, 0.4))
    ]
    rows.append({"method": "float cosine", "bytes": 0, "seed": 0, "p1": 0.6, "p10": 0.5, "map": 0.45})
    lines = table(rows, [2]).splitlines()
    assert lines[1].split() == ["PQ-16", "0.500", "/", "0.400", "/", "0.350", "+-0.050"]
    assert lines[2].split() == ["float", "cosine", "0.600", "/", "0.500", "/", "0.450", "+-0.000"]
