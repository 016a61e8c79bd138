"""The neighbours of each picture: those that a random walk over the graph of nearest features visits most often, and their mean.

A picture that many short paths lead to shows the same kind of thing more often than the tenth neighbour by cosine does. The
walk follows the shape of the data (as diffusion does for retrieval, Donoser and Bischof 2013; Iscen et al. 2017). It uses no
labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LINKS = 10  # from each picture to its nearest; paths of several links reach more
CONTINUE = 0.9  # probability that a walk takes another step
STEPS = 20  # a walk has ended by then with probability 0.88
LONG, LONG_STEPS = 0.95, 30  # the same for the mean: wider, since the own feature is added to it
POOL = 20_000  # most pictures in the graph; the cost of the walks grows with its square
FEW = 10
CHUNK = 1024  # pictures compared with all at a time
WALKS = 64  # walks at a time; their (n, WALKS) numbers fit the caches of a CPU
GPU_WALKS = 2048


def neighbours(
    features: NDArray[np.float32],
    count: int,
    seed: int,
    device: torch.device,
    pool_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor | None:
    """Find (N, count) neighbours of each picture, the most visited first; None for a count of 0.

    A small collection gets fewer, one for FEW pictures: half of its pictures cannot all be neighbours.

    With more than `pool_size` pictures (POOL by default), the graph is made of that many drawn at random. Another picture gets
    the neighbours of the nearest picture in the graph.

    Args:
        features: (N, F). device: to compute on. progress: called with the number of pictures whose walks are done.
    """
    if not count:
        return None
    N, pool_size = len(features), pool_size or POOL
    place, device = device, torch.device("cpu") if device.type == "mps" else device  # MPS has no sparse products
    pool = torch.arange(N)
    if pool_size < N:
        pool = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:pool_size].sort().values
    graph = _unit(features[pool.numpy()], device)
    mean = graph.mean(0)  # what all features have in common tells no pictures apart
    graph = F.normalize(graph - mean, dim=1)
    lists = _walks(graph, min(count, max(1, (len(pool) - 1) // FEW)), progress)
    if len(pool) == N:
        return lists.to(place)
    nearest = []
    for start in range(0, N, CHUNK):
        similar = F.normalize(_unit(features[start : start + CHUNK], device) - mean, dim=1) @ graph.T
        nearest.append(similar.argmax(1))
    return _through_pool(torch.cat(nearest), pool.to(device), lists).to(place)


def visited_mean(z: Tensor, go_on: float = LONG) -> Tensor:
    """Compute the mean direction (n, A) of the pictures that a walk from each of them visits, itself included.

    Args:
        z: (n, A) centred features. go_on: probability that a walk takes another step.
    """
    graph = F.normalize(z, dim=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        moves = _moves(graph).t().to_sparse_csr()  # row i: where a walk goes from picture i
    mean, at = torch.zeros_like(graph), graph
    for _ in range(LONG_STEPS):
        mean += at
        at = go_on * torch.sparse.mm(moves, at)
    return F.normalize(mean, dim=1)


def _unit(rows: NDArray[np.float32], device: torch.device) -> Tensor:
    return F.normalize(torch.from_numpy(np.array(rows)).to(device), dim=1)


def _through_pool(anchor: Tensor, pool: Tensor, lists: Tensor) -> Tensor:
    """Give each picture the neighbours of its anchor.

    Args:
        anchor: (N,) the nearest picture in the pool, as a position in it. pool: (n,) row numbers.
        lists: (n, count) neighbours of the pictures in the pool, as positions in it.
    """
    anchor[pool] = torch.arange(len(pool), device=pool.device)  # itself, not a copy of it
    found = torch.cat([anchor[:, None], lists[anchor]], 1)  # the anchor first, except for itself
    outside = torch.ones(len(anchor), dtype=torch.bool, device=pool.device)
    outside[pool] = False
    return pool[torch.where(outside[:, None], found[:, :-1], found[:, 1:])]


def positive_rows(
    rows: Tensor, neighbour_ids: Tensor | None, num_views: int, generator: torch.Generator
) -> list[Tensor]:
    """Choose which pictures the views of a step show: the picture itself, and in the last view one of its neighbours.

    Args:
        rows: (B,) the pictures of the batch. neighbour_ids: (N, n); None: all views show the picture itself.
    """
    if neighbour_ids is None:
        return [rows] * num_views
    column = torch.randint(neighbour_ids.shape[1], rows.shape, generator=generator, device=rows.device)
    return [rows] * (num_views - 1) + [neighbour_ids[rows, column]]


def _walks(graph: Tensor, count: int, progress: Callable[[int], None] | None) -> Tensor:
    """Find (n, count) pictures that walks from each row of unit vectors (n, F) visit most often, without itself."""
    n, found = len(graph), []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        moves = _moves(graph).to_sparse_csr()  # 3.5 times as fast to multiply with
    walks = WALKS if graph.device.type == "cpu" else GPU_WALKS
    for start in range(0, n, walks):
        own = torch.arange(start, min(start + walks, n), device=graph.device)
        at = torch.zeros(n, len(own), device=graph.device)
        at[own, own - start] = 1.0
        visits = torch.zeros_like(at)
        for _ in range(STEPS):
            at = CONTINUE * torch.sparse.mm(moves, at)
            visits += at
        visits[own, own - start] = -1.0
        best = visits.topk(count, dim=0)
        # a small group without links to the others has too few: repeat its most visited
        found.append(torch.where(best.values > 0, best.indices, best.indices[:1]).T)
        if progress:
            progress(start + len(own))
    return torch.cat(found)


def _moves(graph: Tensor) -> Tensor:
    """Make the (n, n) sparse matrix of one step; its columns sum to one.

    A step leads from a picture to its links, and to the pictures that link to it, with weights of cosine cubed.
    """
    n, links = len(graph), min(LINKS, len(graph) - 1)
    weights, targets = [], []
    for start in range(0, n, CHUNK):
        similar = graph[start : start + CHUNK] @ graph.T
        similar.diagonal(start).fill_(-1.0)
        best = similar.topk(links, dim=1)
        weights.append(best.values.clamp(min=1e-3) ** 3)  # never zero, so that a walk can always continue
        targets.append(best.indices)
    w, to = torch.cat(weights).flatten(), torch.cat(targets).flatten()
    origin = torch.arange(n, device=graph.device).repeat_interleave(links)
    both = torch.stack([torch.cat([to, origin]), torch.cat([origin, to])])
    links_ = torch.sparse_coo_tensor(both, torch.cat([w, w]), (n, n), check_invariants=False).coalesce()
    out = torch.zeros(n, device=graph.device).index_add_(0, links_.indices()[1], links_.values())
    values = links_.values() / out[links_.indices()[1]]
    return torch.sparse_coo_tensor(links_.indices(), values, (n, n), check_invariants=False).coalesce()
