"""Codebooks that are clusterings: heads of 16 clusters on the network's features, and a teacher that the network learns from.

Each codebook is a clustering of all pictures. A picture and its neighbours should be in the same cluster, and clusters should
be used evenly (Van Gansbeke et al., SCAN, 2020). This fits collections whose classes have similar sizes. Each head starts from
its own random numbers. So heads disagree on hard pictures, and the sum over codebooks is a vote.

The teacher is a moving average of the network. It assigns whole pictures to clusters, and averages in the assignments of their
neighbours. Where the result is confident, the network learns to assign strongly changed views to the same clusters. No labels
are used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spq.config import ClusterConfig, InputConfig, ViewsConfig
from spq.model.model import normalise
from spq.model.network import Network
from spq.training.optimizers import lr_factor

STATISTICS_OF = 20_000  # pictures
WEAK = ViewsConfig(crop_scale=(0.8, 1.0), jitter=0.0, grayscale=0.0, blur=0.0)  # views of the teacher


def cluster_loss(logits: Tensor, neighbour_logits: Tensor, balance: float) -> Tensor:
    """Compute how far pictures and neighbours are from sharing evenly used clusters (SCAN, equation 2), averaged over heads.

    Args:
        logits, neighbour_logits: (B, M, K) of pictures and of a neighbour of each.
        balance: weight of the entropy of the mean assignment.
    """
    p, q = torch.softmax(logits, 2), torch.softmax(neighbour_logits, 2)
    agreement = (p * q).sum(2).clamp(min=1e-8).log().mean()
    mean = torch.cat([p, q]).mean(0)  # (M, K)
    entropy = -(mean * mean.clamp(min=1e-8).log()).sum(1).mean()
    return -agreement - balance * entropy


def fit_heads(
    features: Tensor, neighbour_ids: Tensor, heads: int, config: ClusterConfig, generator: torch.Generator
) -> nn.Linear:
    """Fit clustering heads to frozen features; all of them are one layer, F -> heads * clusters.

    Args:
        features: (N, 1 + V, F), first of the whole pictures, then of views of them. neighbour_ids: (N, n).
    """
    N, V, width = features.shape
    device, batch = features.device, min(config.head_batch, N)
    mean, scale = features[:, 0].mean(0), features[:, 0].std(0).mean()
    layer = nn.Linear(width, heads * config.clusters).to(device)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator, device=device) / width**0.5)
        layer.bias.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.head_lr)

    def draw(count: int) -> Tensor:
        return torch.randint(count, (batch,), generator=generator, device=device)

    for step in range(config.head_steps):
        optimizer.param_groups[0]["lr"] = config.head_lr * lr_factor(step / config.head_steps, 0.05, "cosine")
        rows = draw(N)
        shown = [
            (features[of, draw(V)] - mean) / scale for of in (rows, neighbour_ids[rows, draw(neighbour_ids.shape[1])])
        ]
        own, neighbour = (layer(x).view(batch, heads, config.clusters) for x in shown)
        optimizer.zero_grad()
        torch.autograd.backward(cluster_loss(own, neighbour, config.balance))
        optimizer.step()
    with torch.no_grad():  # the layer takes features as they are
        layer.bias.sub_(layer.weight @ mean / scale)
        layer.weight.div_(scale)
    return layer


@torch.no_grad()
def choose_heads(assigned: Tensor, count: int) -> list[int]:
    """Choose the heads whose sum agrees best with all heads; each prefix of the list is such a choice too.

    Single heads differ by their random start. Heads are chosen one after the other. Each next head makes the co-association of
    the chosen heads (how likely two pictures share a cluster) correlate best with that of all heads.

    Args:
        assigned: (N, H, K) assignments of a few thousand pictures.
    """
    together = torch.einsum("ihk,jhk->hij", assigned, assigned)  # (H, N, N)
    together = together - together.mean((1, 2), keepdim=True)
    gram = (together.flatten(1) @ together.flatten(1).T).cpu()  # (H, H)
    with_all, selected = gram.sum(1), list[int]()
    while len(selected) < count:
        rest = [h for h in range(len(gram)) if h not in selected]
        sums = [[*selected, h] for h in rest]
        fit = [float(with_all[s].sum() / gram[s][:, s].sum().clamp(min=1e-12).sqrt()) for s in sums]
        selected.append(rest[max(range(len(rest)), key=fit.__getitem__)])
    return selected


def targets(own: Tensor, around: Tensor, prior: Tensor, own_share: float) -> Tensor:
    """Mix the teacher's own assignment with that of the neighbours, and give rare clusters more weight: (B, M, K).

    Args:
        own: (B, M, K) assignments. around: (B, M, K) mean assignment of the neighbours. prior: (M, K) mean of all.
    """
    mixed = (own_share * own + (1 - own_share) * around) / prior.clamp(min=1e-4)
    return mixed / mixed.sum(2, keepdim=True)


def confident_cross_entropy(
    logits: Tensor, target: Tensor, confidence: float, share: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropy where the target is confident; the clusters of a head have equal weight.

    Args:
        logits, target: (B, M, K). share: (B,) weights of the rows.
    Returns:
        the loss, and (B, M) where the target was confident.
    """
    value, label = target.max(2)
    sure = value > confidence
    M, K = target.shape[1:]
    slot = (label + K * torch.arange(M, device=label.device)).flatten()
    count = torch.zeros(M * K, device=logits.device).index_add_(0, slot, sure.flatten().float())
    even = len(target) / K
    weight = sure / count[slot].view_as(sure).clamp(min=even / 10)  # limits the weight of very rare clusters
    if share is not None:
        weight = weight * share[:, None]
    loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view_as(sure)
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6), sure


def soft_cross_entropy(
    logits: Tensor, target: Tensor, sharpness: float, share: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropy of all pictures, with targets raised to the power `sharpness`; otherwise as above."""
    sharp = target**sharpness
    sharp = sharp / sharp.sum(2, keepdim=True)
    loss = -(sharp * logits.log_softmax(2)).sum(2).mean(1)
    loss = loss.mean() if share is None else (loss * share).sum() / share.sum()
    return loss, torch.ones(target.shape[:2], dtype=torch.bool, device=target.device)


def assignment_loss(
    logits: Tensor, target: Tensor, config: ClusterConfig, own: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the loss of self-training, and (B, M) where the target was used.

    Args:
        own: (B,) weight of each row's own target, where `mix_up` mixed the next view into it; None: nothing was mixed.
    """
    B, share = len(logits), None
    if own is not None:
        logits, target = torch.cat([logits, logits]), torch.cat([target, target.roll(-1, 0)])
        share = torch.cat([own, 1 - own])
    if config.confidence:
        loss, sure = confident_cross_entropy(logits, target, config.confidence, share)
    else:
        loss, sure = soft_cross_entropy(logits, target, config.sharpness, share)
    return loss, sure[:B]


def cut_out(views: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """Cover a random square of side `side` * S in each view (B, 3, S, S) with grey; it may extend beyond the view."""
    B, _, S, _ = views.shape
    half = side * S / 2
    centre = torch.rand(2, B, 1, generator=generator, device=views.device) * S
    at = torch.arange(S, device=views.device) + 0.5
    rows, columns = (at - centre[0]).abs() < half, (at - centre[1]).abs() < half
    return views.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def mix_up(views: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix the next view into each view (B, 3, S, S), by up to half of `share`; also return the weight (B,) of its own.

    A network that learns mixed pictures with mixed assignments remembers wrong assignments less (Zhang et al., mixup, 2018).
    """
    own = 1 - share / 2 * torch.rand(len(views), generator=generator, device=views.device)
    weight = own[:, None, None, None]
    return weight * views + (1 - weight) * views.roll(-1, 0), own


@torch.no_grad()
def describe_whole(
    network: Callable[[Tensor], Tensor],
    pixels: Tensor,
    config: InputConfig,
    bf16: bool,
    mirror: bool = True,
    batch: int = 1000,
) -> Tensor:
    """Apply a network in evaluation mode to whole pictures, (N, 3, S, S) uint8 -> (N, F).

    Args:
        mirror: return the mean of each picture and its mirror image.
    """
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
    """Replace batch statistics, which training takes from crops, by those of up to 20,000 whole pictures, in place.

    Args:
        pixels: (N, 3, S, S) uint8 in random order.
    """
    layers = collect_statistics(network)
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
    shown = pixels[:STATISTICS_OF]
    for part in shown.tensor_split(-(-len(shown) // batch)):  # of even sizes, because they have equal weight
        x = normalise(part, config).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            network(x)
    network.eval()
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum


def collect_statistics(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Set batch normalisation to training mode and all else, such as dropout, to evaluation mode; return those layers."""
    network.eval()
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.train()
    return layers


def nearest(features: Tensor, count: int, chunk: int = 2048) -> Tensor:
    """Find (N, count) rows of the nearest other pictures, by cosine of centred features (N, F)."""
    x = F.normalize(features - features.mean(0), dim=1)
    x = x.to(torch.bfloat16) if x.is_cuda else x
    found = []
    for start in range(0, len(x), chunk):
        similar = x[start : start + chunk] @ x.T
        similar.diagonal(start).fill_(-2.0)
        found.append(similar.topk(count, dim=1).indices)
    return torch.cat(found)


class Teacher:
    """A moving average of the network, with the latest assignment of each picture.

    Args:
        network: backbone and clustering heads. assignments: (N, M, K) first assignments of all pictures.
        neighbour_ids: (N, n).
    """

    def __init__(self, network: Network, assignments: Tensor, neighbour_ids: Tensor, config: ClusterConfig) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.assignments, self.neighbour_ids, self.config = assignments, neighbour_ids, config
        self.prior = assignments.mean(0)  # (M, K)

    @torch.no_grad()
    def targets(self, rows: Tensor, weak: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to learn for the pictures in these rows, and the teacher's own assignments, both (B, M, K).

        Args:
            weak: (B, 3, S, S) weakly changed views of the pictures.
        """
        own = torch.softmax(self.network.head(self.network.backbone(weak)).float().view(-1, *self.prior.shape), 2)
        around = self.assignments[self.neighbour_ids[rows]].mean(1)
        self.assignments[rows] = own
        self.prior.lerp_(own.mean(0), 0.02)
        return targets(own, around, self.prior, self.config.own_share), own

    @torch.no_grad()
    def follow(self, network: Network) -> None:
        """Move a step towards the network."""
        weight = 1 - self.config.teacher_momentum
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
