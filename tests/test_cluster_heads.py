from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spq.config import ClusterConfig, InputConfig, Recipe
from spq.model.network import Network
from spq.training.cluster_heads import (
    Teacher,
    assignment_loss,
    choose_heads,
    cluster_loss,
    confident_cross_entropy,
    cut_out,
    describe_whole,
    fit_heads,
    mix_up,
    nearest,
    recompute_statistics,
    soft_cross_entropy,
    targets,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(kinds: int = 4, each: int = 60, width: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, 2, F) of well separated kinds, rows of neighbours of the same kind, and the kinds."""
    kind = torch.arange(kinds).repeat_interleave(each)
    centres = 4 * F.one_hot(torch.arange(kinds), width).float()
    features = centres[kind][:, None] + torch.randn(len(kind), 2, width, generator=generator())
    near = torch.stack([(kind == k).nonzero()[:5, 0] for k in kind])
    return features, near, kind


def test_cluster_loss_equals_a_slow_transcription_of_scan() -> None:
    own, near = torch.randn(2, 6, 3, 4, generator=generator()).unbind(0)
    p, q = own.softmax(2).numpy(), near.softmax(2).numpy()
    total = 0.0
    for m in range(3):
        agreement = sum(math.log(float(np.dot(p[i, m], q[i, m]))) for i in range(6)) / 6
        mean = np.concatenate([p[:, m], q[:, m]]).mean(0)
        total += -agreement - 2.0 * -sum(float(v) * math.log(float(v)) for v in mean)
    assert cluster_loss(own, near, 2.0).item() == pytest.approx(total / 3, rel=1e-5)


def test_heads_find_the_kinds_and_differ_by_their_start() -> None:
    features, near, kind = blobs()
    config = ClusterConfig(clusters=4, head_steps=200, head_batch=64)
    layer = fit_heads(features, near, 5, config, generator())
    assigned = layer(features[:, 0]).view(-1, 5, 4).argmax(2)  # (N, heads)
    purity = [sum(int(torch.bincount(kind[h == k]).max()) for k in h.unique()) / len(kind) for h in assigned.T]
    assert np.mean(purity) > 0.8  # 0.25 by chance; single heads may mix two kinds
    assert len({tuple(head.tolist()) for head in assigned.T}) > 1
    again = fit_heads(features, near, 5, config, generator())
    torch.testing.assert_close(layer.weight, again.weight, rtol=0, atol=0)


def test_the_selected_heads_agree_with_the_others() -> None:
    kind = torch.arange(4).repeat_interleave(50)
    noise = torch.randint(4, (200,), generator=generator())
    heads = [noise]
    for seed in range(6):  # right for two thirds of the pictures, each for others, with clusters in another order
        wrong = torch.rand(200, generator=generator(seed)) < 1 / 3
        heads.append((torch.where(wrong, torch.randint(4, (200,), generator=generator(seed + 9)), kind) + seed) % 4)
    assigned = F.one_hot(torch.stack(heads, 1), 4).float()
    assert 0 not in choose_heads(assigned, 4)
    assert choose_heads(assigned, 4)[:2] == choose_heads(assigned, 2)
    assert sorted(choose_heads(assigned, 7)) == list(range(7))


def test_targets_mix_own_and_neighbours_and_raise_rare_clusters() -> None:
    own, around = torch.tensor([[[0.6, 0.4]]]), torch.tensor([[[0.2, 0.8]]])
    even = torch.tensor([[0.5, 0.5]])
    torch.testing.assert_close(targets(own, around, even, 0.5), torch.tensor([[[0.4, 0.6]]]))
    torch.testing.assert_close(targets(own, around, even, 1.0), own)
    rare = targets(own, around, torch.tensor([[0.2, 0.8]]), 0.5)
    torch.testing.assert_close(rare, torch.tensor([[[2.0, 0.75]]]) / 2.75)


def test_only_confident_targets_teach_and_clusters_weigh_the_same() -> None:
    logits = torch.randn(6, 1, 2, generator=generator(), requires_grad=True)
    first = torch.tensor([0.95, 0.99, 0.97, 0.96, 0.05, 0.7])
    target = torch.stack([first, 1 - first], 1)[:, None]
    loss, sure = confident_cross_entropy(logits, target, 0.9)
    assert sure[:, 0].tolist() == [True] * 5 + [False]
    each = F.cross_entropy(logits[:, 0], target[:, 0].argmax(1), reduction="none")
    torch.testing.assert_close(loss, (each[:4].mean() + each[4]) / 2)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert logits.grad[5].abs().sum() == 0
    assert (
        confident_cross_entropy(logits, target, 1.0)[0].item() == 0
    )  # nobody teaches: no loss, and no division by zero


def test_soft_targets_are_sharpened() -> None:
    logits = torch.randn(3, 2, 4, generator=generator())
    target = torch.randn(3, 2, 4, generator=generator(1)).softmax(2)
    sharp = target**3 / (target**3).sum(2, keepdim=True)
    expected = -(sharp * logits.log_softmax(2)).sum(2).mean()
    torch.testing.assert_close(soft_cross_entropy(logits, target, 3.0)[0], expected)


def test_a_square_is_cut_out_of_each_view() -> None:
    views = torch.ones(50, 3, 8, 8)
    cut = cut_out(views, 0.5, generator())
    holes = (cut == 0).sum((2, 3))
    assert (holes[:, 0] == holes[:, 1]).all()
    assert int(holes.max()) == 16
    assert 0 < int(holes.min()) < 16  # over the border
    torch.testing.assert_close(cut_out(views, 0.0, generator()), views)


def test_nearest_rows_are_those_of_a_plain_sort() -> None:
    x = torch.randn(30, 5, generator=generator()) + 3
    centred = F.normalize(x - x.mean(0), dim=1)
    similar = centred @ centred.T
    similar.fill_diagonal_(-2)
    assert nearest(x, 4, chunk=7).tolist() == similar.argsort(1, descending=True)[:, :4].tolist()


def test_statistics_are_those_of_whole_pictures_and_momentum_stays() -> None:
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator())
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
    norm = network[0]
    assert isinstance(norm, nn.BatchNorm2d)
    config = InputConfig(size=8)
    recompute_statistics(network, pixels, config, False, batch=20)
    x = (pixels.float() / 255 - torch.tensor(config.mean)[:, None, None]) / torch.tensor(config.std)[:, None, None]
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
    assert (norm.momentum, network.training) == (0.1, False)


def test_whole_pictures_may_be_averaged_with_their_mirror_images() -> None:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=generator())
    config, network = InputConfig(size=8, mean=(0, 0, 0), std=(1, 1, 1)), nn.Flatten()
    plain = describe_whole(network, pixels, config, False, mirror=False, batch=2)
    torch.testing.assert_close(plain, pixels.float().flatten(1) / 255)
    both = describe_whole(network, pixels, config, False)
    torch.testing.assert_close(both, (plain + pixels.flip(3).float().flatten(1) / 255) / 2)


def test_the_teacher_follows_the_network_and_keeps_what_it_assigned(tiny_recipe: Recipe) -> None:
    recipe = replace(
        tiny_recipe,
        head=replace(tiny_recipe.head, hidden=0, softmax=3.0),
        quantizer=replace(tiny_recipe.quantizer, num_codebooks=2, codeword_dim=4),
    )
    torch.manual_seed(0)
    network, bank = Network(recipe), torch.full((6, 2, 4), 0.25)
    teacher = Teacher(network, bank, torch.zeros(6, 1, dtype=torch.int64), ClusterConfig(teacher_momentum=0.75))
    before = teacher.network.head[-1].weight.clone()
    with torch.no_grad():
        network.head[-1].weight.add_(1.0)
    teacher.follow(network)
    torch.testing.assert_close(teacher.network.head[-1].weight, before + 0.25)
    assert not any(p.requires_grad for p in teacher.network.parameters())

    weak = torch.randn(2, 3, 28, 28, generator=generator())
    target, own = teacher.targets(torch.tensor([1, 2]), weak)
    assert target.shape == own.shape == (2, 2, 4)
    torch.testing.assert_close(teacher.assignments[1:3], own)
    torch.testing.assert_close(teacher.assignments[3:], bank[3:])
    torch.testing.assert_close(target.sum(2), torch.ones(2, 2))


def test_views_are_mixed_with_the_next_ones() -> None:
    views = torch.rand(6, 3, 4, 4, generator=generator())
    mixed, own = mix_up(views, 1.0, generator(1))
    assert 0.5 <= own.min() < own.max() <= 1
    for i in range(6):
        torch.testing.assert_close(mixed[i], own[i] * views[i] + (1 - own[i]) * views[(i + 1) % 6])
    assert mix_up(views, 0.2, generator(1))[1].min() >= 0.9


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_mixed_views_learn_both_targets_by_their_weights(confidence: float) -> None:
    config = ClusterConfig(confidence=confidence)
    logits, target = torch.randn(5, 2, 4, generator=generator()), torch.rand(5, 2, 4, generator=generator(1))
    target = target / target.sum(2, keepdim=True)
    whole, sure = assignment_loss(logits, target, config)
    pure, _ = assignment_loss(logits, target, config, torch.ones(5))
    torch.testing.assert_close(pure, whole)  # the next view has no weight
    assert sure.shape == (5, 2)
    next_one, _ = assignment_loss(logits, target, config, torch.zeros(5))
    torch.testing.assert_close(next_one, assignment_loss(logits, target.roll(-1, 0), config)[0])
