"""Rank whole galleries on a GPU, many queries at a time, with exactly the result of `spq.pq.sums.rank`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spq.pq.sums import Codes, Floats, Ranking, check_tables, pack

CELLS = 2**25  # distances in memory at once: 0.13 GB, and a few times as much for sorting them


def rank(tables: Floats, codes: Codes, top: int, device: torch.device) -> Ranking:
    """The `top` nearest rows by exact sums, sorted by (distance, row).

    Args:
        tables: (Q, M, K) float32. codes: (N, M) uint8, each below K.
    Raises:
        StoreError: tables of another shape, or not finite.
    """
    Q, K, N = len(tables), tables.shape[-1], len(codes)
    check_tables(tables, codes.shape[1], K)
    top = min(top, N)
    packed = torch.from_numpy(pack(codes, K)).to(device).long()  # (N, P)
    distances, rows = np.empty((Q, top), np.float32), np.empty((Q, top), np.int64)
    for start in range(0, Q, step := max(1, CELLS // max(N, 1))):
        part = torch.from_numpy(np.ascontiguousarray(tables[start : start + step])).to(device)
        nearest, order = sums(lookup(part), packed).sort(dim=1, stable=True)  # stable: ties go to the lower row
        distances[start : start + step], rows[start : start + step] = _numpy(nearest[:, :top]), _numpy(order[:, :top])
    return distances, rows


def lookup(tables: Tensor) -> Tensor:
    """The tables (Q, P, entries) that packed codes index, from tables (Q, M, K); see `spq.pq.sums.lookup`."""
    Q, M, K = tables.shape
    if K > 16:
        return tables
    if M % 2:
        tables = torch.cat([tables, tables.new_zeros(Q, 1, K)], 1)
    return (tables[:, 1::2, :, None] + tables[:, 0::2, None, :]).flatten(2)


def sums(entries: Tensor, packed: Tensor) -> Tensor:
    """Distances (Q, N) from look-up tables (Q, P, entries) and packed codes (N, P), added in the order of the codebooks."""
    d = entries[:, 0].index_select(1, packed[:, 0])
    for p in range(1, entries.shape[1]):
        d += entries[:, p].index_select(1, packed[:, p])
    return d


def _numpy(tensor: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = tensor.cpu().numpy()
    return array
