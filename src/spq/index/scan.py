"""Exact search over codes: tables (M, K) + codes (N, M) -> the nearest rows, sorted by (distance, row).

A code's distance is sum_m T[m, code_m], whatever T holds, so one scan serves every additive distance. FAISS finds
candidates at SIMD speed: its codebooks are identity matrices and its query is the negated table, so that its inner
product is minus our distance. What is returned is always summed by us, in one fixed order, so that two runs, batch
sizes and machines give the same list.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

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
        self.columns = columns(self.codes, K)
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
        if self._fast is None or K_FACTOR * top > len(self) // 4:  # FastScan is slow for very many results
            return _rank(tables, self.columns, top)
        return self._search_fast(tables, top)

    def search_rows(self, tables: Floats, rows: NDArray[np.int64], top: int) -> Ranking:
        """`search` among some rows alone (ascending). Only their sums are made; a filter that keeps all costs no more."""
        check_tables(tables, self.codes.shape[1], self.K)
        distances, found = _rank(tables, self.columns[:, rows], min(top, len(rows)))
        return distances, rows[found]

    def codes_of(self, rows: NDArray[np.int64]) -> Codes:
        """(n, M) of some rows."""
        return self.codes[rows]

    def _search_fast(self, tables: Floats, top: int) -> Ranking:
        """FastScan's candidates, summed exactly; a list that these cannot prove to be the nearest is made by `_rank`."""
        assert self._fast is not None
        _, candidates = self._fast.search(-tables.reshape(len(tables), -1), K_FACTOR * top)
        distances, rows = np.empty((len(tables), top), np.float32), np.empty((len(tables), top), np.int64)
        for query, found in enumerate(candidates):
            near = np.sort(found[found >= 0])
            d = _sum(lookup(tables[query]), self.columns[:, near])
            best = _smallest(d, top)
            if len(best) == top and d[best[-1]] + _rounding(tables[query]) < d.max():
                distances[query], rows[query] = d[best], near[best]
            else:
                exact = _rank(tables[query : query + 1], self.columns, top)
                distances[query], rows[query] = exact[0][0], exact[1][0]
        return distances, rows


def rank(tables: Floats, codes: Codes, top: int, threads: int | None = None) -> Ranking:
    """As `Scan(codes, K).search(tables, top)`, by exact sums alone: for whole rankings, and as the truth of the tests."""
    check_tables(tables, codes.shape[1], tables.shape[-1])
    return _rank(tables, columns(codes, tables.shape[2]), min(top, len(codes)), threads)


def check_tables(tables: Floats, M: int, K: int) -> None:
    """Refuse tables that no code can be looked up in."""
    if tables.ndim != 3 or tables.shape[1:] != (M, K):
        raise StoreError(f"tables have shape {tables.shape}, the codes want (queries, {M}, {K}); is it the same model?")
    if not np.isfinite(tables).all():
        raise StoreError("a query's distances are not finite; its descriptor holds NaN or infinity")


def columns(codes: Codes, K: int) -> NDArray[np.uint8]:
    """(P, N): one row for each look-up that a code takes.

    For K <= 16 two sub-codes share a byte, low one first, and half as many look-ups are made; P is ceil(M/2). A table of
    pairs of larger K would be larger than the cache; P is M.
    """
    if K > 16:
        return np.ascontiguousarray(codes.T)
    if codes.shape[1] % 2:
        codes = np.concatenate([codes, np.zeros((len(codes), 1), np.uint8)], 1)
    return np.ascontiguousarray((codes[:, 0::2] + codes[:, 1::2] * np.uint8(K)).T)


def lookup(table: Floats) -> Floats:
    """(M, K) -> (P, entries), what `columns` index: for K <= 16 the sums of all pairs, an odd last codebook plus zero."""
    M, K = table.shape
    if K > 16:
        return table
    if M % 2:
        table = np.concatenate([table, np.zeros((1, K), np.float32)])
    pairs: Floats = table[1::2, :, None] + table[0::2, None, :]
    return pairs.reshape(-1, K * K)


def _rank(tables: Floats, columns: NDArray[np.uint8], top: int, threads: int | None = None) -> Ranking:
    """Exact ranking, the queries in threads (NumPy gathers without holding the interpreter)."""
    Q = len(tables)
    distances, rows = np.empty((Q, top), np.float32), np.empty((Q, top), np.int64)

    def one(query: int) -> None:
        d = _sum(lookup(tables[query]), columns)
        best = _smallest(d, top)
        distances[query], rows[query] = d[best], best

    if Q == 1:
        one(0)
    else:
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            list(pool.map(one, range(Q)))
    return distances, rows


def _sum(table: Floats, columns: NDArray[np.uint8]) -> Floats:
    """Distances (n,) from a look-up table (P, entries) and columns (P, n), always added in this order."""
    d: Floats = table[0].take(columns[0])
    for values, column in zip(table[1:], columns[1:], strict=True):
        d += values.take(column)
    return d


def _smallest(d: Floats, top: int) -> NDArray[np.int64]:
    """Positions of the `top` smallest, sorted by (value, position); ties at the border go to the lower position."""
    if top < len(d):
        near = np.flatnonzero(d <= np.partition(d, top - 1)[top - 1]) if top else np.empty(0, np.int64)
    else:
        near = np.arange(len(d))
    return near[np.argsort(d[near], kind="stable")[:top]]


def _rounding(table: Floats) -> float:
    """How much nearer than its farthest candidate a row can be that FastScan left out.

    FastScan rounds each entry to 1/255 of the widest codebook's span, by half a step up or down: a whole step for each
    codebook between two rows. The rest is for float32 sums, and for spans that are too small to be divided by.
    """
    step = float((table.max(1) - table.min(1)).max()) / 255
    return len(table) * (step * 1.001 + float(np.abs(table).max()) * len(table) * 2e-7) + 1e-30


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
    return cast(Any, faiss).IndexPQFastScan(index)  # its annotations know one of the two constructors
