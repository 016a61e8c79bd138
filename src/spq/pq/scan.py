"""`Scan`: tables (M, K) + codes (N, M) -> the nearest rows, sorted by (distance, row), by the quickest of four ways.

All answers are sums that we make ourselves, in one order. `exact`, `bucket` and `fast` give the same list, whatever the
tables, the number of queries at a time and the threads; `ivf` gives the same for the part of the gallery that it looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import ceil
from typing import Literal, TypedDict, get_args

import numpy as np

from spq.errors import ConfigError, StoreError
from spq.pq import fastscan, sums
from spq.pq.distinct import Distinct
from spq.pq.fastscan import FastScan, nearest
from spq.pq.ivf import NPROBE, Lists, default_nlist
from spq.pq.sums import (
    Codes,
    Floats,
    Ranking,
    Rows,
    add_up,
    add_up_all,
    check_tables,
    for_each,
    lookup,
    pack,
    places,
    rank,
    unpack,
)

__all__ = ["How", "Method", "Scan", "memory_bytes", "rank"]

Method = Literal["auto", "exact", "bucket", "fast", "ivf"]

EXACT_BELOW = 20_000  # codes: up to here to sum all of them is as quick as FAISS, which takes a while to be loaded, too
BUCKET_BITS = 16  # up to here all codes that can exist are summed at once
TUNED_ON, TUNED_AT = 256, 100  # queries, and results of each, that `nprobe` is tuned on
IVF_FROM = 5_000_000  # codes: below, all of them are searched before a part of them pays


class How(TypedDict, total=False):
    """Options of a search, all of them optional.

    method: "auto" takes the quickest exact one, or "ivf" where `nprobe` or `recall_target` is given and the gallery has
        IVF_FROM distinct codes. "exact" sums all codes; "bucket" sums all codes of up to 16 bits that can exist; "fast" lets
        FAISS propose codes (16 codewords per codebook only); "ivf" looks at the nearest lists of codes alone.
    threads: for several queries at a time, and for making the lists of "ivf"; as many as there are cores, if not given.
    nprobe: lists that "ivf" looks at.
    recall_target: share of the exact 100 nearest that "ivf" shall find on average, which sets `nprobe`. Measured with codes of
        the gallery as queries; new pictures find a bit less (0.92 for 0.95, docs/log.md).
    """

    method: Method
    threads: int | None
    nprobe: int | None
    recall_target: float | None


class Scan:
    """A gallery of codes, ready to be searched. What a method needs is made when it is first used, and kept.

    Args:
        codes: (N, M) uint8, each below K.
        K: codewords per codebook.
        tables_of: codes (n, M) -> tables (n, M, K) of the descriptors that the codes stand for; `recall_target` needs it.
        seed: of the lists of `ivf`.
    """

    def __init__(self, codes: Codes, K: int, tables_of: Callable[[Codes], Floats] | None = None, seed: int = 0) -> None:
        if codes.ndim != 2 or (codes.size and int(codes.max()) >= K):
            raise StoreError(f"codes of shape {codes.shape} with values up to {codes.max(initial=0)} do not fit K={K}")
        self._N, self.M = len(codes), int(codes.shape[1])
        self.K, self._tables_of, self._seed = K, tables_of, seed
        self._gallery = Distinct(pack(codes, K))
        self._lists: Lists | None = None
        self._nprobes: dict[float, int] = {}  # recall target -> lists

    def __len__(self) -> int:
        return self._N

    @property
    def distinct(self) -> int:
        """How many different codes there are, as far as it pays to know: the number that is searched."""
        return len(self._gallery)

    @property
    def codes(self) -> Codes:
        """(N, M), put together anew at each access."""
        return unpack(self._gallery.packed.take(self._gallery.numbers(), 0), self.M, self.K)

    def code(self, row: int) -> Codes:
        """(M,) of one row."""
        number = self._gallery.number(row)
        code: Codes = unpack(self._gallery.packed[number : number + 1], self.M, self.K)[0]
        return code

    def check(
        self,
        method: Method = "auto",
        threads: int | None = None,
        nprobe: int | None = None,
        recall_target: float | None = None,
    ) -> None:
        """Refuse options that cannot be meant, before a query is made.

        Raises:
            ConfigError: a method that these codes do not allow, or options that contradict each other.
        """
        bits = f"{self.M} sub-codes below {self.K}"
        if method not in get_args(Method):
            raise ConfigError(f"unknown method {method!r}; use {', '.join(get_args(Method))}")
        if method == "bucket" and not self._are_short:
            raise ConfigError(f"method bucket is for codes of up to {BUCKET_BITS} bits, not for {bits}; use auto")
        if method in ("fast", "ivf") and self.K != fastscan.K:
            raise ConfigError(f"method {method} is for 16 codewords per codebook, not for {bits}; use exact")
        if (nprobe is not None or recall_target is not None) and method not in ("auto", "ivf"):
            raise ConfigError(f"method {method} looks at all codes and has no nprobe or recall_target; use ivf")
        _check_numbers(threads, nprobe, recall_target)

    def search(
        self,
        tables: Floats,
        top: int,
        method: Method = "auto",
        threads: int | None = None,
        nprobe: int | None = None,
        recall_target: float | None = None,
    ) -> Ranking:
        """The `top` nearest rows of each query. `How` explains the options.

        Args:
            tables: (Q, M, K) float32.
        Returns:
            distances (Q, top) float32 and rows (Q, top) int64, sorted by (distance, row); top is cut to N.
        Raises:
            StoreError: tables of another shape, or with NaN or infinity (FAISS would answer wrongly without a word).
            ConfigError: a method that these codes do not allow, or options that contradict each other.
        """
        self.check(method, threads, nprobe, recall_target)
        check_tables(tables, self.M, self.K)
        top = min(top, len(self))
        chosen = self.choose(top, method, nprobe, recall_target)
        if chosen == "ivf":
            self._make_lists(threads)
            nprobe = nprobe or (NPROBE if recall_target is None else self.nprobe_for(recall_target, threads))
        ways: dict[str, Callable[[Floats], tuple[Floats, Rows]]] = {
            "exact": lambda table: self._gallery.nearest(add_up(lookup(table), self._gallery.packed), top),
            "bucket": lambda table: self._gallery.nearest(self._sums_of_all(table), top),
            "fast": lambda table: nearest(self._fast, self._gallery, table, top),
            "ivf": lambda table: nearest(self._make_lists().probe(table, nprobe or 1, top), self._gallery, table, top),
        }
        return for_each(ways[chosen], tables, top, threads)

    def search_rows(self, tables: Floats, rows: Rows, top: int, threads: int | None = None) -> Ranking:
        """`search` among some rows alone (ascending). Only their sums are made; a filter that keeps all costs no more."""
        check_tables(tables, self.M, self.K)
        distances, found = sums.nearest(tables, self._gallery.packed_of(rows), min(top, len(rows)), threads)
        return distances, rows[found]

    def codes_of(self, rows: Rows) -> Codes:
        """(n, M) of some rows."""
        return unpack(self._gallery.packed_of(rows), self.M, self.K)

    def choose(
        self, top: int, method: Method = "auto", nprobe: int | None = None, recall_target: float | None = None
    ) -> Method:
        """The method that `search` takes."""
        codes = len(self._gallery)
        if top == 0:
            return "exact"
        if method != "auto":
            return method
        if (nprobe or recall_target) and codes >= IVF_FROM and self.K == fastscan.K:
            return "ivf"
        if codes <= EXACT_BELOW:
            return "exact"
        if self._are_short:
            return "bucket"
        return "fast" if self.K == fastscan.K and fastscan.suits(codes, top) else "exact"

    def nprobe_for(self, recall_target: float, threads: int | None = None) -> int:
        """The fewest lists that hold so large a share of the exact nearest, on average over a sample of the gallery's own codes.

        Raises:
            ConfigError: this scan does not know what its codes stand for.
        """
        if recall_target not in self._nprobes:
            ranks = self._ranks_of_truth(threads)
            self._nprobes[recall_target] = int(ranks[ceil(recall_target * len(ranks)) - 1]) + 1
        return self._nprobes[recall_target]

    def _ranks_of_truth(self, threads: int | None) -> Rows:
        """Ascending: how many lists come before the one that holds a result, for the exact results of a sample of codes."""
        if self._tables_of is None:
            raise ConfigError("recall_target needs Scan(..., tables_of=...) to make queries from codes; give nprobe")
        gallery, top = self._gallery, min(TUNED_AT, len(self))
        sample = np.random.default_rng(self._seed).choice(len(gallery), min(TUNED_ON, len(gallery)), replace=False)
        tables = self._tables_of(unpack(gallery.packed[sample], self.M, self.K))
        finder = vars(self).get("_fast") or FastScan(gallery.packed, self.M)  # not kept: lists do without it
        rows = for_each(lambda table: nearest(finder, gallery, table, top), tables, top, threads)[1]
        codes = gallery.numbers()[rows].astype(np.int64)
        return np.sort(self._make_lists(threads).ranks(tables, codes).ravel())

    @property
    def _are_short(self) -> bool:
        return bool(self.K**self.M <= 2**BUCKET_BITS)

    def _sums_of_all(self, table: Floats) -> Floats:
        return add_up_all(lookup(table), self.M, self.K).take(self._places)

    @cached_property
    def _places(self) -> Rows:
        return places(self._gallery.packed, self.K)

    @cached_property
    def _fast(self) -> FastScan:
        return FastScan(self._gallery.packed, self.M)

    def _make_lists(self, threads: int | None = None) -> Lists:
        if self._lists is None:
            self._lists = Lists(self._gallery.packed, self.M, seed=self._seed, threads=threads)
        return self._lists


def _check_numbers(threads: int | None, nprobe: int | None, recall_target: float | None) -> None:
    if nprobe is not None and recall_target is not None:
        raise ConfigError("nprobe and recall_target say the same; give one of them")
    if nprobe is not None and nprobe < 1:
        raise ConfigError(f"nprobe {nprobe} looks into no list; give 1 or more")
    if recall_target is not None and not 0 < recall_target <= 1:
        raise ConfigError(f"recall_target {recall_target} is not a share; give a number above 0 and up to 1")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads {threads} computes nothing; give 1 or more")


def memory_bytes(N: int, M: int, ivf: bool = False) -> int:
    """Bytes that a `Scan` of N distinct codes of M sub-codes below 16 holds at most, once it has searched: what to expect.

    Codes are packed for the exact sums, and again in FAISS's order. Lists add an 8-byte number for each code, their shares, and
    FAISS's room for twice the codes; on the way, about three times all that.

    >>> memory_bytes(1_000_000, 16), memory_bytes(10_000_000, 16, ivf=True)
    (16000000, 324209664)
    """
    packed = -(-M // 2)
    if not ivf:
        return N * 2 * packed
    return N * (3 * packed + 8) + default_nlist(N) * M * fastscan.K * 4
