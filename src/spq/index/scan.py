"""Exact search over codes: tables (M, K) + codes (N, M) -> the nearest rows, sorted by (distance, row).

A code's distance is sum_m T[m, code_m], whatever T holds, so one scan serves every additive distance. FAISS finds
candidates at SIMD speed: its codebooks are identity matrices and its query is the negated table, so that its inner
product is minus our distance. What is returned is always summed by us, in one fixed order, so that two runs, batch
sizes and machines give the same list.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.errors import StoreError

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Ranking = tuple[Floats, NDArray[np.int64]]

EXACT_BELOW = 50_000  # rows: up to here a numpy scan is as quick as FAISS and its set-up
K_FACTOR = 4  # candidates per result that the 8-bit FastScan hands to the exact sums


class Scan:
    """A gallery of codes, ready to be searched.

    Args:
        codes: (N, M) uint8, each below K.
        K: codewords per codebook.
    """

    def __init__(self, codes: Codes, K: int) -> None:
        if codes.ndim != 2 or (codes.size and int(codes.max()) >= K):
            raise StoreError(f"codes of shape {codes.shape} with values up to {codes.max(initial=0)} do not fit K={K}")
        self.codes, self.K = np.ascontiguousarray(codes), K
        self.pairs = pair_codes(self.codes, K)
        self._fast = _fast_scan(self.codes) if K == 16 and len(codes) > EXACT_BELOW else None

    def __len__(self) -> int:
        return len(self.codes)

    def search(self, tables: Floats, top: int) -> Ranking:
        """The `top` nearest rows of each query.

        Args:
            tables: (Q, M, K) float32.
        Returns:
            distances (Q, top) float32 and rows (Q, top) int64, sorted by (distance, row); top is cut to N.
        Raises:
            StoreError: tables of another shape, or with NaN or infinity (FAISS would answer wrongly without a word).
        """
        check_tables(tables, self.codes.shape[1], self.K)
        top = min(top, len(self))
        if self._fast is None or K_FACTOR * top > len(self) // 4:
            return rank_pairs(pair_tables(tables), self.pairs, top)
        return self._search_fast(tables, top)

    def _search_fast(self, tables: Floats, top: int) -> Ranking:
        wanted = K_FACTOR * top
        assert self._fast is not None
        _, candidates = self._fast.search(-tables.reshape(len(tables), -1), wanted)
        distances, rows = np.empty((len(tables), top), np.float32), np.empty((len(tables), top), np.int64)
        combined = pair_tables(tables)
        for query, found in enumerate(candidates):
            ordered = np.sort(found[found >= 0])
            d = _sum(combined[query], self.pairs[ordered])
            best = _smallest(d, top)
            # 8-bit tables round: a row outside the candidates can be nearer only by less than the rounding error
            if not len(ordered) >= top or d[best[-1]] + _rounding(tables[query]) >= d.max():
                distances[query : query + 1], rows[query : query + 1] = rank_pairs(
                    combined[query : query + 1], self.pairs, top
                )
            else:
                distances[query], rows[query] = d[best], ordered[best]
        return distances, rows


def rank(tables: Floats, codes: Codes, top: int, threads: int | None = None) -> Ranking:
    """As `Scan(codes, K).search(tables, top)`, by exact sums alone: for whole rankings, and as the truth of the tests."""
    check_tables(tables, codes.shape[1], tables.shape[2])
    return rank_pairs(pair_tables(tables), pair_codes(codes, tables.shape[2]), min(top, len(codes)), threads)


def check_tables(tables: Floats, M: int, K: int) -> None:
    """Refuse tables that no code can be looked up in."""
    if tables.ndim != 3 or tables.shape[1:] != (M, K):
        raise StoreError(
            f"tables have shape {tables.shape}, the index wants (queries, {M}, {K}); is it the same model?"
        )
    if not np.isfinite(tables).all():
        raise StoreError("a query's distances are not finite; its descriptor holds NaN or infinity")


def pair_codes(codes: Codes, K: int) -> NDArray[Any]:
    """(N, ceil(M/2)) with two sub-codes in each entry: half as many look-ups. Low part first; K <= 16 fits a byte."""
    if codes.shape[1] % 2:
        codes = np.concatenate([codes, np.zeros((len(codes), 1), np.uint8)], 1)
    wide: NDArray[Any] = codes.astype(np.uint8 if K <= 16 else np.uint16)
    return np.ascontiguousarray(wide[:, 0::2] + wide[:, 1::2] * K)


def pair_tables(tables: Floats) -> Floats:
    """(Q, M, K) -> (Q, ceil(M/2), K*K): the sum of two sub-distances for each pair of sub-codes."""
    Q, M, K = tables.shape
    if M % 2:
        tables = np.concatenate([tables, np.zeros((Q, 1, K), np.float32)], 1)
    return (tables[:, 1::2, :, None] + tables[:, 0::2, None, :]).reshape(Q, -1, K * K)


def rank_pairs(tables: Floats, pairs: NDArray[Any], top: int, threads: int | None = None) -> Ranking:
    """Exact ranking of pair codes (N, P) under pair tables (Q, P, K*K), in threads."""
    Q = len(tables)
    distances, rows = np.empty((Q, top), np.float32), np.empty((Q, top), np.int64)
    columns = np.ascontiguousarray(pairs.T)

    def one(query: int) -> None:
        d = tables[query, 0].take(columns[0])
        for p in range(1, len(columns)):
            d += tables[query, p].take(columns[p])
        best = _smallest(d, top)
        distances[query], rows[query] = d[best], best

    if Q == 1:
        one(0)
    else:
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            list(pool.map(one, range(Q)))
    return distances, rows


def _sum(table: Floats, pairs: NDArray[Any]) -> Floats:
    """Distances (n,) of pair codes (n, P), added in the order of the codebooks, as `rank_pairs` does."""
    d: Floats = table[0].take(pairs[:, 0])
    for p in range(1, pairs.shape[1]):
        d += table[p].take(pairs[:, p])
    return d


def _smallest(d: Floats, top: int) -> NDArray[np.int64]:
    """Positions of the `top` smallest, sorted by (value, position); ties at the border go to the lower position."""
    if top < len(d):
        near = np.flatnonzero(d <= np.partition(d, top - 1)[top - 1]) if top else np.empty(0, np.int64)
    else:
        near = np.arange(len(d))
    return near[np.argsort(d[near], kind="stable")[:top]]


def _rounding(table: Floats) -> float:
    """The most that FastScan's 8-bit tables can misjudge a distance by: half a step per codebook, up and down."""
    span = (table.max(1) - table.min(1)).max()
    return float(span / 255 * len(table)) + 1e-6


def _fast_scan(codes: Codes) -> Any:
    """IndexPQFastScan over identity codebooks. It takes no ready codes, so an IndexPQ is filled and converted."""
    import faiss

    N, M = codes.shape
    index = faiss.IndexPQ(M * 16, M, 4, faiss.METRIC_INNER_PRODUCT)
    identity = np.tile(np.eye(16, dtype=np.float32), (M, 1, 1))
    faiss.copy_array_to_vector(identity.ravel(), index.pq.centroids)
    index.is_trained = True
    even = codes if M % 2 == 0 else np.concatenate([codes, np.zeros((N, 1), np.uint8)], 1)
    packed = np.ascontiguousarray(even[:, 0::2] | (even[:, 1::2] << 4))  # low nibble first
    index.add_sa_codes(packed)
    converted: Any = faiss.IndexPQFastScan
    return converted(index)
