from __future__ import annotations

import numpy as np
import pytest
import torch

from spq.training import neighbours as module
from spq.training.neighbours import neighbours, positive_rows

CPU = torch.device("cpu")


def crescents(count: int) -> np.ndarray:
    """Two half circles hooked into each other, row after row in turn: the ends of one are nearer to the other's middle."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, count)
    odd = np.arange(count) % 2
    x = np.where(odd, 1 - np.cos(angle), np.cos(angle))
    y = np.where(odd, 0.5 - np.sin(angle), np.sin(angle))
    return np.stack([x, y, np.full(count, 3.0)], 1).astype(np.float32) + rng.normal(0, 0.03, (count, 3)).astype(
        np.float32
    )


def blobs(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (3 * np.eye(3, 8)[np.arange(count) % 3] + rng.normal(0, 0.1, (count, 8))).astype(np.float32)


def share_of_own_kind(near: torch.Tensor, kinds: int) -> float:
    return float((near % kinds == torch.arange(len(near))[:, None] % kinds).float().mean())


def test_walks_are_those_of_dense_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 16)  # several chunks
    x = blobs(100)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    unit = unit - unit.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similar = unit @ unit.T - 2 * np.eye(100)
    links = np.zeros((100, 100))
    for row, best in enumerate(np.argsort(-similar, 1)[:, : module.LINKS]):
        links[row, best] = np.maximum(similar[row, best], 1e-3) ** 3
    links = links + links.T
    moves = links / links.sum(1, keepdims=True)
    visits = sum(np.linalg.matrix_power(module.CONTINUE * moves, step) for step in range(1, module.STEPS + 1))
    np.fill_diagonal(visits, -1)
    near = neighbours(x, 8, 0, CPU)
    assert near is not None
    found = np.take_along_axis(visits, near.numpy(), 1)
    np.testing.assert_allclose(found, -np.sort(-visits, 1)[:, :8], rtol=1e-3)


def test_walks_follow_the_shape_of_the_data() -> None:
    x = crescents(700)
    near = neighbours(x, 60, 0, CPU)
    assert near is not None
    assert (near != torch.arange(700)[:, None]).all()
    centred = x / np.linalg.norm(x, axis=1, keepdims=True)
    centred = centred - centred.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    by_cosine = torch.from_numpy(np.argsort(-(centred @ centred.T), 1)[:, 1:61].copy())
    assert share_of_own_kind(near, 2) > share_of_own_kind(by_cosine, 2) + 0.05


def test_beyond_the_pool_neighbours_come_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL", 120)
    near = neighbours(blobs(300), 10, 0, CPU)
    assert near is not None
    assert near.shape == (300, 10)
    assert len(near.unique()) <= 120
    assert (near != torch.arange(300)[:, None]).all()
    assert share_of_own_kind(near, 3) == 1


def test_a_picture_with_an_exact_copy_is_not_its_own_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL", 60)
    near = neighbours(np.repeat(blobs(45), 2, axis=0), 4, 0, CPU)
    assert near is not None
    assert (near != torch.arange(90)[:, None]).all()


def test_a_count_of_zero_gives_none_and_few_pictures_give_few() -> None:
    assert neighbours(blobs(30), 0, 0, CPU) is None
    for count, expected in ((5, 1), (30, 2), (301, 30)):
        few = neighbours(blobs(count), 50, 0, CPU)
        assert few is not None
        assert few.shape == (count, expected)


def test_a_small_separate_group_has_only_its_own_neighbours() -> None:
    rng = np.random.default_rng(0)
    group = np.eye(1, 8, 7) * 5 + rng.normal(0, 0.01, (15, 8))  # a burst of 15 shots: nothing else is linked to it
    near = neighbours(np.concatenate([blobs(600), group]).astype(np.float32), 50, 0, CPU)
    assert near is not None
    assert near.shape == (615, 50)
    assert (near[600:] >= 600).all()
    assert (near[600:] != torch.arange(600, 615)[:, None]).all()
    assert (near[:600] < 600).all()


def test_the_last_view_shows_a_neighbour_and_the_others_the_picture_itself() -> None:
    neighbour_ids = neighbours(blobs(60), 5, 0, CPU)
    assert neighbour_ids is not None
    rows, generator = torch.arange(60), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        own, again, other = positive_rows(rows, neighbour_ids, 3, generator)
        assert torch.equal(own, rows)
        assert torch.equal(again, rows)
        columns = (neighbour_ids == other[:, None]).nonzero()[:, 1]
        assert len(columns) == 60  # each shows one of its own neighbours
        seen |= set(columns.tolist())
    assert seen == set(range(5))
    assert all(torch.equal(shown, rows) for shown in positive_rows(rows, None, 3, generator))
