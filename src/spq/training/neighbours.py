"""Which other pictures a picture is to agree with: the nearest by random walk over the graph of nearest features.

A picture's tenth neighbour by cosine is less often of its kind than one that many short paths lead to: the walk follows the
shape of the data (as diffusion does for retrieval, Donoser and Bischof 2013; Iscen et al. 2017). No label takes part.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LINKS = 10  # of each picture to its nearest; paths make more of them
CONTINUE = 0.9  # chance of a further step of the walk
STEPS = 20  # after which a walk has ended with a chance of 0.88
POOL = 20_000  # pictures of the graph at most: the walks take its square
FEW = 10
CHUNK = 1024  # pictures compared with all at a time
WALKS = 64  # walks at a time: their places, (n, WALKS), stay in a CPU's caches
GPU_WALKS = 2048


def neighbours(
    features: NDArray[np.float32], count: int, seed: int, device: torch.device, pool_size: int | None = None
) -> Tensor | None:
    """(N, count) rows of other pictures, those first where random walks from each are most often; None for a count of 0.

    In a small collection there are fewer, one for FEW pictures: 50 of 100 would be anything.

    Beyond `pool_size` pictures (POOL by default), the graph is of as many drawn at random. Another picture has the neighbours
    of its nearest in it.

    Args:
        features: (N, F). device: to compute on.
    """
    N = len(features)
    if not count:
        return None
    pool_size = pool_size or POOL
    place, device = device, torch.device("cpu") if device.type == "mps" else device  # which has no sparse products
    pool = torch.arange(N)
    if pool_size < N:
        pool = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:pool_size].sort().values

    def unit(rows: NDArray[np.float32]) -> Tensor:
        return F.normalize(torch.from_numpy(np.array(rows)).to(device), dim=1)

    graph = unit(features[pool.numpy()])
    mean = graph.mean(0)  # what all features have in common tells no pictures apart
    graph = F.normalize(graph - mean, dim=1)
    lists = _walks(graph, min(count, max(1, (len(pool) - 1) // FEW)))
    if len(pool) == N:
        return lists.to(place)
    nearest = []
    for start in range(0, N, CHUNK):
        similar = F.normalize(unit(features[start : start + CHUNK]) - mean, dim=1) @ graph.T
        nearest.append(similar.argmax(1))
    anchor = torch.cat(nearest)
    anchor[pool.to(device)] = torch.arange(len(pool), device=device)  # itself, not a copy of it
    found = torch.cat([anchor[:, None], lists[anchor]], 1)  # the anchor first, but not for itself
    pool = pool.to(device)
    outside = torch.ones(N, dtype=torch.bool, device=device)
    outside[pool] = False
    return pool[torch.where(outside[:, None], found[:, :-1], found[:, 1:])].to(place)


def whose(rows: Tensor, near: Tensor | None, num_views: int, generator: torch.Generator) -> list[Tensor]:
    """The pictures that the views of a step show: each itself, and in the last view a neighbour of it, where there are some."""
    if near is None:
        return [rows] * num_views
    column = torch.randint(near.shape[1], rows.shape, generator=generator, device=rows.device)
    return [rows] * (num_views - 1) + [near[rows, column]]


def _walks(graph: Tensor, count: int) -> Tensor:
    """(n, count) most visited others of the walks from each row of unit vectors (n, F)."""
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
        # where the walks never came (a group of fewer that nothing else is linked to), the most visited once more
        found.append(torch.where(best.values > 0, best.indices, best.indices[:1]).T)
    return torch.cat(found)


def _moves(graph: Tensor) -> Tensor:
    """(n, n) sparse, columns that sum to one: from a picture to its links and to those whose link it is, by cosine cubed."""
    n, links = len(graph), min(LINKS, len(graph) - 1)
    weights, targets = [], []
    for start in range(0, n, CHUNK):
        similar = graph[start : start + CHUNK] @ graph.T
        similar.diagonal(start).fill_(-1.0)
        best = similar.topk(links, dim=1)
        weights.append(best.values.clamp(min=1e-3) ** 3)  # never zero: no picture is without a way on
        targets.append(best.indices)
    w, to = torch.cat(weights).flatten(), torch.cat(targets).flatten()
    origin = torch.arange(n, device=graph.device).repeat_interleave(links)
    both = torch.stack([torch.cat([to, origin]), torch.cat([origin, to])])
    links_ = torch.sparse_coo_tensor(both, torch.cat([w, w]), (n, n), check_invariants=False).coalesce()
    out = torch.zeros(n, device=graph.device).index_add_(0, links_.indices()[1], links_.values())
    values = links_.values() / out[links_.indices()[1]]
    return torch.sparse_coo_tensor(links_.indices(), values, (n, n), check_invariants=False).coalesce()
