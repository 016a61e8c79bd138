"""Exact distances of codes: tables (M, K) + codes (N, M) -> sums, always added in one fixed order.

A code's distance is sum_m T[m, code_m], for any T. Codes are packed: for K <= 16 two sub-codes share a byte, the low one first
(FAISS's own layout for K = 16), so half as many look-ups are needed. Whichever method found a row, its distance is summed here.
So all runs, batch sizes and methods give the same list.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import cores
from spq.errors import StoreError

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]
Ranking = tuple[Floats, Rows]  # distances and rows, each (Q, top), sorted by distance; ties by row, or as `ties` says
KeysOf = Callable[
    [Rows], NDArray[np.integer]
]  # positions (n,) -> keys (n,); of equal values, the lower key comes first

FEW = 1000  # rows: up to here, the number of calls to NumPy decides the time
BLOCK = 16_384  # rows that are summed at a time, so that they stay in the cache


def rank(tables: Floats, codes: Codes, top: int, threads: int | None = None) -> Ranking:
    """The `top` nearest rows by exact sums, for whole rankings and as the reference of tests.

    Args:
        tables: (Q, M, K) float32. codes: (N, M) uint8, each below K.
    """
    check_tables(tables, codes.shape[1], tables.shape[-1])
    return nearest(tables, pack(codes, tables.shape[2]), min(top, len(codes)), threads)


def check_tables(tables: Floats, M: int, K: int) -> None:
    """Check that codes can be looked up in tables.

    Raises:
        StoreError: another shape; or NaN, infinity or sums that overflow, for which FAISS would give wrong answers.
    """
    if tables.ndim != 3 or tables.shape[1:] != (M, K):
        raise StoreError(
            f"tables must have shape (queries, {M}, {K}) for these codes, got {tables.shape}; use the same model"
        )
    if tables.size and not np.abs(tables).max() < np.finfo(np.float32).max / M:  # also false for NaN
        raise StoreError("the distances of a query are not finite; its descriptor holds NaN, infinity or huge numbers")


def pack(codes: Codes, K: int) -> Codes:
    """Pack codes (N, M) into one byte for each look-up: (N, P). P is ceil(M/2) for K <= 16, else M."""
    if K > 16:
        return np.ascontiguousarray(codes)
    N, M = codes.shape
    packed = np.zeros((N, packed_width(M, K)), np.uint8)
    np.multiply(codes[:, 1::2], np.uint8(K), out=packed[:, : M // 2])
    packed += codes[:, 0::2]
    return packed


def packed_width(M: int, K: int) -> int:
    """Bytes P of a packed code."""
    return -(-M // 2) if K <= 16 else M


def unpack(packed: Codes, M: int, K: int) -> Codes:
    """Undo `pack`: (n, P) -> (n, M)."""
    if K > 16:
        return packed
    codes = np.empty((len(packed), 2 * packed.shape[1]), np.uint8)
    codes[:, 0::2], codes[:, 1::2] = packed % np.uint8(K), packed // np.uint8(K)
    return codes[:, :M]


def lookup(table: Floats) -> Floats:
    """The table (P, entries) that packed codes index, from a table (M, K).

    For K <= 16 its entries are the sums of all pairs of two codebooks. An odd last codebook is paired with zeros.
    """
    M, K = table.shape
    if K > 16:
        return table
    if M % 2:
        table = np.concatenate([table, np.zeros((1, K), np.float32)])
    pairs: Floats = table[1::2, :, None] + table[0::2, None, :]
    return pairs.reshape(-1, K * K)


def add_up(entries: Floats, packed: Codes) -> Floats:
    """Distances (n,) from a look-up table (P, entries) and packed codes (n, P)."""
    if len(packed) > BLOCK:
        sums = np.empty(len(packed), np.float32)
        for start in range(0, len(packed), BLOCK):
            sums[start : start + BLOCK] = add_up(entries, packed[start : start + BLOCK])
        return sums
    if (
        1 < len(packed) <= FEW
    ):  # fewer calls, and the same additions in the same order; NumPy would add a single column by pairs
        parts = entries.ravel().take(packed.T + np.arange(len(entries))[:, None] * entries.shape[1])  # (P, n)
        few: Floats = np.add.reduce(parts, 0)
        return few
    d: Floats = entries[0].take(packed[:, 0])
    for p in range(1, len(entries)):
        d += entries[p].take(packed[:, p])
    return d


def add_up_all(entries: Floats, M: int, K: int) -> Floats:
    """Distances (K**M,) of all possible codes, at the positions that `places` gives."""
    d: Floats = entries[0]
    last = len(entries) - 1
    for p in range(1, len(entries)):
        is_single = p == last and K <= 16 and M % 2  # an odd last sub-code has K values, not K * K
        d = (entries[p, : K if is_single else None, None] + d).ravel()
    return d[: K**M]


def places(packed: Codes, K: int) -> Rows:
    """The position of each packed code (n, P) in `add_up_all`."""
    base = K * K if K <= 16 else K
    positions: Rows = packed.astype(np.int64) @ base ** np.arange(packed.shape[1])
    return positions


def smallest(d: Floats, top: int, keys_of: KeysOf | None = None) -> Rows:
    """Positions of the `top` smallest values, sorted by (value, key), by default by (value, position)."""
    if not top:
        return np.empty(0, np.int64)
    best = np.arange(len(d))
    if FEW < len(d) > top:
        last = np.partition(d, top - 1)[top - 1]
        best = np.flatnonzero(d <= last)
        if keys_of and len(best) > FEW + top:  # few keys are made and sorted, however many values equal the last one
            tied = np.flatnonzero(d == last)
            missing = top - int((d[best] < last).sum())
            tied = tied[keys_of(tied).argpartition(missing - 1)[:missing]]
            best = np.concatenate([best[d[best] < last], tied])
    elif not keys_of:
        return in_order(d)[:top]
    order = np.lexsort((keys_of(best), d[best])) if keys_of else d[best].argsort(kind="stable")
    return best[order[:top]]


def in_order(d: Floats) -> Rows:
    """All positions sorted by (value, position): `d.argsort(kind="stable")` of finite values, several times as fast.

    Value and position become one whole number each, and NumPy sorts those with vector instructions.
    """
    bits = (d + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    rising = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)  # negative values fall where others rise
    keys = (rising << 32) + np.arange(len(d))
    keys.sort()
    rows: Rows = keys & 0xFFFFFFFF
    return rows


def nearest(
    tables: Floats, packed: Codes, top: int, threads: int | None = None, keys_of: KeysOf | None = None
) -> Ranking:
    """`rank` for packed codes (N, P). `top` is at most N."""

    def one(table: Floats) -> tuple[Floats, Rows]:
        d = add_up(lookup(table), packed)
        best = smallest(d, top, keys_of)
        return d[best], best

    return for_each(one, tables, top, threads)


def for_each(one: Callable[[Floats], tuple[Floats, Rows]], tables: Floats, top: int, threads: int | None) -> Ranking:
    """The ranking of each table by `one`, in threads: NumPy and FAISS release the interpreter lock."""
    Q = len(tables)
    distances, rows = np.empty((Q, top), np.float32), np.empty((Q, top), np.int64)

    def run(first: int, step: int) -> None:
        for query in range(first, Q, step):
            distances[query], rows[query] = one(tables[query])

    if Q < 2 or threads == 1:
        run(0, 1)
    else:
        workers = min(Q, threads or cores())
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda first: run(first, workers), range(workers)))
    return distances, rows
