from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from small_training import FROZEN, Patches
from spq.model.model import Model
from spq.model.network import Network
from spq.training.check_codes import CodeCheck, check_codes, is_safe
from spq.training.pq_start import start_at_pq


@pytest.fixture
def features() -> np.ndarray:
    """200 pictures of 10 kinds."""
    rng = np.random.default_rng(0)
    return (2 * rng.normal(size=(10, 96))[np.arange(200) % 10] + rng.normal(size=(200, 96))).astype(np.float32)


@pytest.fixture
def model(features: np.ndarray) -> Model:
    recipe = replace(FROZEN, quantizer=replace(FROZEN.quantizer, codebook_size=64))
    torch.manual_seed(0)
    network = Network(recipe, Patches())
    start_at_pq(network, features, "opq")
    return Model(network, recipe)


def test_codes_of_the_features_pass_and_codes_that_are_all_equal_do_not(model: Model, features: np.ndarray) -> None:
    originals = np.arange(0, 200, 4)
    copies = features[originals] + 0.1 * np.random.default_rng(1).normal(size=(50, 96)).astype(np.float32)
    good = check_codes(model, features, copies, originals)
    assert good.copy_at_1 > 0.5
    assert good.copy_at_10 > 0.9
    assert good.near_at_10 > 0.9
    assert is_safe(good, good)
    with torch.no_grad():
        model.network.quantizer.codebooks.zero_()
    bad = check_codes(model, features, copies, originals)
    assert bad.near_at_10 < good.near_at_10
    assert not is_safe(good, bad)
    assert is_safe(bad, good)


def test_the_shares_equal_those_of_slow_loops(model: Model, features: np.ndarray) -> None:
    originals = np.arange(20)
    copies = features[originals] + np.random.default_rng(1).normal(size=(20, 96)).astype(np.float32)
    found = check_codes(model, features, copies, originals)
    decoded = np.concatenate(
        [model.codebooks[m, column] for m, column in enumerate(model.encode_descriptors(model.project(features)).T)], 1
    )
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    unit -= unit.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    first, near = [], []
    for row, query in zip(originals, model.project(copies), strict=True):
        far = np.square(decoded - query).sum(1)
        ties = np.abs(far - far[row]) < 1e-5
        first.append(float((far[~ties] > far[row]).all()) / ties.sum())
        far[row] = np.inf
        similar = np.argsort(-np.where(np.arange(200) == row, -2, unit @ unit[row]))[:50]
        near.append(np.isin(np.argsort(far, kind="stable")[:10], similar).mean())
    assert found.copy_at_1 == pytest.approx(np.mean(first), abs=1e-3)
    assert found.near_at_10 == pytest.approx(np.mean(near), abs=0.02)  # of equal distances another may come first


def test_a_small_loss_is_safe_and_a_large_one_is_not() -> None:
    floor = CodeCheck(0.6, 0.95, 0.9)
    assert is_safe(floor, CodeCheck(0.4, 0.85, 0.88))
    assert not is_safe(floor, CodeCheck(0.4, 0.7, 0.9))
    assert not is_safe(floor, CodeCheck(0.6, 0.95, 0.75))
