"""Codebooks that cluster: heads of 16 clusters on the network's features, then the network learns from its own clusters.

Each codebook is a clustering of all pictures: a picture and its neighbours are to fall into the same cluster (Van Gansbeke et
al., SCAN, 2020), and clusters are to be used evenly, which is right where kinds of pictures are similarly many. Heads start from
numbers of their own, so they disagree on hard pictures, and the sum over codebooks is a vote of several clusterings. Then a teacher, a
moving average of the network, assigns whole pictures; its neighbours' assignments are averaged in; and where it is confident, the
network learns to assign strongly changed views alike. No label takes part.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spq.config import ClusterConfig, InputConfig, ViewsConfig
from spq.model.artifact import normalise
from spq.model.network import Network

WEAK = ViewsConfig(crop_scale=(0.8, 1.0), jitter=0.0, grayscale=0.0, blur=0.0)  # what the teacher sees


def cluster_loss(logits: Tensor, near: Tensor, balance: float) -> Tensor:
    """How far pictures and neighbours are from sharing clusters that are used evenly (SCAN, equation 2), averaged over heads.

    Args:
        logits, near: (B, M, K) of pictures and of a neighbour of each. balance: weight of the entropy of the mean assignment.
    """
    p, q = torch.softmax(logits, 2), torch.softmax(near, 2)
    agreement = (p * q).sum(2).clamp(min=1e-8).log().mean()
    mean = torch.cat([p, q]).mean(0)  # (M, K)
    entropy = -(mean * mean.clamp(min=1e-8).log()).sum(1).mean()
    return -agreement - balance * entropy


def fit_heads(
    features: Tensor, near: Tensor, heads: int, config: ClusterConfig, generator: torch.Generator
) -> nn.Linear:
    """Clustering heads on frozen features, all in one layer: F -> (heads * clusters).

    Args:
        features: (N, 1 + V, F), first of the whole pictures, then of views of them. near: (N, n) rows of neighbours.
    """
    N, V, F_ = features.shape
    mean, scale = features[:, 0].mean(0), features[:, 0].std(0).mean()
    layer = nn.Linear(F_, heads * config.clusters).to(features.device)
    weight = torch.randn(heads * config.clusters, F_, generator=generator, device=features.device) / F_**0.5
    layer.weight.data.copy_(weight)
    layer.bias.data.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.head_lr)
    batch = min(config.head_batch, N)
    for step in range(config.head_steps):
        rate = config.head_lr * min(1.0, 2 * (1 - step / config.head_steps))
        optimizer.param_groups[0]["lr"] = rate
        rows = torch.randint(N, (batch,), generator=generator, device=features.device)
        other = near[rows, torch.randint(near.shape[1], (batch,), generator=generator, device=features.device)]
        shown = [
            (features[of, torch.randint(V, (batch,), generator=generator, device=features.device)].float() - mean)
            / scale
            for of in (rows, other)
        ]
        logits = [layer(x).view(batch, heads, config.clusters) for x in shown]
        loss = cluster_loss(logits[0], logits[1], config.balance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # of features as they are
        layer.bias.sub_(layer.weight @ mean / scale)
        layer.weight.div_(scale)
    return layer


@torch.no_grad()
def choose_heads(assigned: Tensor, count: int) -> list[int]:
    """The heads that stand best for all of them, in an order whose beginnings do as well: without the bad luck of single starts.

    Greedy: the next head is the one with which the summed co-association of the chosen (how likely two pictures share a cluster)
    correlates best with that of all heads.

    Args:
        assigned: (N, H, K) assignments of a few thousand pictures.
    """
    together = torch.einsum("ihk,jhk->hij", assigned, assigned)  # (H, N, N)
    together = together - together.mean((1, 2), keepdim=True)
    gram = (together.flatten(1) @ together.flatten(1).T).cpu()  # (H, H)
    with_all, chosen = gram.sum(1), list[int]()
    while len(chosen) < count:
        rest = [h for h in range(len(gram)) if h not in chosen]
        sums = [[*chosen, h] for h in rest]
        fit = [float(with_all[s].sum() / gram[s][:, s].sum().clamp(min=1e-12).sqrt()) for s in sums]
        chosen.append(rest[max(range(len(rest)), key=fit.__getitem__)])
    return chosen


def targets(own: Tensor, around: Tensor, prior: Tensor, own_share: float) -> Tensor:
    """(B, M, K) what to learn: the teacher's own assignment and that of the neighbours, with rare clusters raised.

    Args:
        own: (B, M, K) assignments. around: (B, M, K) mean assignment of the neighbours. prior: (M, K) mean of all.
    """
    mixed = (own_share * own + (1 - own_share) * around) / prior.clamp(min=1e-4)
    return mixed / mixed.sum(2, keepdim=True)


def confident_cross_entropy(logits: Tensor, target: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the clusters of which the target is confident, each cluster with the same weight in its head.

    Returns:
        the loss, and which (B, M) were confident.
    """
    value, label = target.max(2)
    sure = value > confidence
    M, K = target.shape[1:]
    slot = (label + K * torch.arange(M, device=label.device)).flatten()
    count = torch.zeros(M * K, device=logits.device).index_add_(0, slot, sure.flatten().float())
    weight = (sure.flatten() / count.clamp(min=1)[slot].clamp(min=len(target) / K / 10)).view_as(
        sure
    )  # rare ones are not made loud
    loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view_as(sure)
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6), sure


def soft_cross_entropy(logits: Tensor, target: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy with assignments to the power of `sharpness`, of all pictures; arguments and answer as above."""
    sharp = target**sharpness
    sharp = sharp / sharp.sum(2, keepdim=True)
    loss = -(sharp * logits.log_softmax(2)).sum(2).mean()
    return loss, torch.ones(target.shape[:2], dtype=torch.bool, device=target.device)


def cut_out(views: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """Views (B, 3, S, S) with a grey square of `side` times S somewhere in each, partly outside where it falls so."""
    B, _, S, _ = views.shape
    half = side * S / 2
    centre = torch.rand(2, B, 1, generator=generator, device=views.device) * S
    at = torch.arange(S, device=views.device) + 0.5
    rows, columns = (at - centre[0]).abs() < half, (at - centre[1]).abs() < half
    return views.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


@torch.no_grad()
def describe_whole(
    network: nn.Module, pixels: Tensor, config: InputConfig, bf16: bool, mirror: bool = True, batch: int = 1000
) -> Tensor:
    """(N, F) what a network in evaluation mode gives for whole pictures (N, 3, S, S) uint8; with `mirror` the mean of each and its
    mirror image."""
    parts = []
    for chunk in torch.split(pixels, batch):
        x = normalise(chunk, config).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            parts.append((network(x).float() + network(x.flip(3)).float()) / 2 if mirror else network(x).float())
    return torch.cat(parts)


@torch.no_grad()
def recompute_statistics(
    network: nn.Module, pixels: Tensor, config: InputConfig, bf16: bool, batch: int = 1000
) -> None:
    """Batch statistics of whole pictures, in place: those of training are of crops. At most 20,000 pictures are looked at."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
    network.train()
    for start in range(0, min(len(pixels), 20_000) - 1, batch):
        x = normalise(pixels[start : start + batch], config).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            network(x)
    network.eval()
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum


def nearest(features: Tensor, count: int, chunk: int = 2048) -> Tensor:
    """(N, count) rows of the nearest others by cosine of centred features (N, F)."""
    x = F.normalize(features - features.mean(0), dim=1)
    x = x.to(torch.bfloat16) if x.is_cuda else x
    found = []
    for start in range(0, len(x), chunk):
        similar = x[start : start + chunk] @ x.T
        similar.diagonal(start).fill_(-2.0)
        found.append(similar.topk(count, dim=1).indices)
    return torch.cat(found)


class Teacher:
    """A moving average of the network, what it assigned last to each picture, and what it teaches.

    Args:
        network: backbone and clustering heads. bank: (N, M, K) first assignments of all pictures. near: (N, n) neighbours.
    """

    def __init__(self, network: Network, bank: Tensor, near: Tensor, config: ClusterConfig) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).train()  # batch statistics of whole pictures
        self.bank, self.near, self.config = bank, near, config
        self.prior = bank.mean(0)  # (M, K)
        self.steps = 0

    @torch.no_grad()
    def targets(self, rows: Tensor, weak: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, K) what to learn of the pictures in these rows, and the assignments of weak views (B, 3, S, S) of them."""
        own = torch.softmax(self.network.head(self.network.backbone(weak)).float().view(-1, *self.prior.shape), 2)
        around = self.bank[self.near[rows]].mean(1)
        self.bank[rows] = own
        self.prior.lerp_(own.mean(0), 0.02)
        return targets(own, around, self.prior, self.config.own_share), own

    @torch.no_grad()
    def follow(self, network: Network) -> None:
        """A step towards the network, larger ones at the start."""
        self.steps += 1
        momentum = min(self.config.teacher_momentum, 1 - 1 / (self.steps + 1))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - momentum)
