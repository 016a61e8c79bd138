"""`Scan`: tables (M, K) + codes (N, M) -> the nearest rows, sorted by distance and in the order of `ties`, by the fastest of
four methods.

All distances are added up by `sums`, in one order. `exact`, `bucket` and `fast` give the same list, whatever the tables, the
number of queries at a time and the number of threads. `ivf` gives the same list for the part of the gallery that it searches.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Protocol, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from spq.errors import ConfigError, StoreError
from spq.pq import fastscan, pairscan, sums
from spq.pq.coarse import SAMPLE, Coarse, TablesOf, default_nlist
from spq.pq.distinct import Distinct
from spq.pq.fastscan import FastScan, nearest
from spq.pq.ivf import NPROBE, Lists, near_lists
from spq.pq.mapped import mapping, release
from spq.pq.pairscan import PairScan
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
    packed_width,
    places,
    rank,
    unpack,
)
from spq.pq.ties import Ids, ids_at, tie_keys

__all__ = ["How", "Method", "Scan", "memory_bytes", "rank"]

Method = Literal["auto", "exact", "bucket", "fast", "ivf"]

EXACT_BELOW = 20_000  # codes: up to here, summing all is as fast as FAISS, which also takes time to load
BUCKET_BITS = 16  # up to here, the sums of all possible codes are made at once
TUNED_ON, TUNED_AT = 256, 100  # queries, and answers to each, that `nprobe` is tuned on
IVF_FROM = 5_000_000  # codes: below, searching all of them is faster


Unsigned = NDArray[np.unsignedinteger]
_NO_DISTANCES, _NO_ROWS = np.empty(0, np.float32), np.empty(0, np.int64)


class How(TypedDict, total=False):
    """Options of a search, all of them optional.

    method: "auto" takes the fastest exact one, or "ivf" if `nprobe` or `recall_target` is given and the gallery has at least
        IVF_FROM distinct codes. "exact" sums all codes. "bucket" sums all possible codes of up to 16 bits. "fast" lets FAISS
        propose codes. "ivf" searches only the nearest lists of codes (with 16 codewords per codebook only).
    threads: for several queries at a time, and for making the lists of "ivf"; by default the number of cores.
    nprobe: lists that "ivf" searches.
    recall_target: share of the exact 100 nearest that "ivf" should find on average; it sets `nprobe`. It is measured with codes
        of the gallery as queries. New pictures find a bit less (0.92 for 0.95, docs/log.md).
    """

    method: Method
    threads: int | None
    nprobe: int | None
    recall_target: float | None


class Scan:
    """A gallery of codes, ready to be searched. The structures of a method are made at its first use, and kept.

    Args:
        codes: (N, M) uint8, each below K.
        K: codewords per codebook.
        tables_of: codes (n, M) -> tables (n, M, K) of the decoded codes; `recall_target` needs it.
        seed: of the lists of `ivf`.
        ids: (N,) of the rows, ascending. Of rows at the same distance, a hash of their ids decides (`ties`); without ids, the
            lower row comes first.
    """

    def __init__(
        self, codes: Codes, K: int, tables_of: TablesOf | None = None, seed: int = 0, ids: Ids | None = None
    ) -> None:
        if codes.ndim != 2 or (codes.size and int(codes.max()) >= K):
            raise StoreError(f"codes of shape {codes.shape} with values up to {codes.max(initial=0)} do not fit K={K}")
        self._take(Distinct(pack(codes, K), ids=ids), len(codes), int(codes.shape[1]), K)
        self.tables_of, self._seed = tables_of, seed

    @classmethod
    def of_packed(cls, packed: Codes, M: int, K: int, distinct: int | None = None, ids: Ids | None = None) -> Scan:
        """A scan of codes that are packed already, as `sums.pack` does.

        Args:
            packed: (N, P) uint8. It may be a memory map, of which nothing is copied but what FAISS needs.
            distinct: how many different codes there are, if that is known. Then nothing is sorted in vain.
        """
        if packed.ndim != 2 or packed.shape[1] != packed_width(M, K):
            raise StoreError(f"packed codes of shape {packed.shape} do not fit {M} sub-codes below {K}")
        scan = cls.__new__(cls)
        scan._take(Distinct(packed, distinct, ids), len(packed), M, K)
        scan.tables_of, scan._seed = None, 0
        return scan

    def _take(self, gallery: Distinct, N: int, M: int, K: int) -> None:
        self._gallery, self._N, self.M, self.K = gallery, N, M, K
        self._coarse: Coarse | None = None
        self._lists: Lists | None = None

    def __len__(self) -> int:
        return self._N

    @property
    def ids(self) -> Ids:
        """The ids (N,) of the rows, by default their numbers."""
        return range(self._N) if self._gallery.ids is None else self._gallery.ids

    @property
    def distinct(self) -> int:
        """The number of codes that are searched: equal codes count once, if grouping them saves memory."""
        return len(self._gallery)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes and the structures made so far hold."""
        made = [vars(self).get("_fast"), self._lists, self._coarse]
        return self._gallery.nbytes + sum(structure.nbytes for structure in made if structure)

    @property
    def codes(self) -> Codes:
        """All codes (N, M), unpacked at each access."""
        return unpack(self._gallery.packed.take(self._gallery.numbers(), 0), self.M, self.K)

    def code(self, row: int) -> Codes:
        """The code (M,) of one row."""
        number = np.array([self._gallery.number(row)])
        code: Codes = unpack(self._gallery.take(number), self.M, self.K)[0]
        return code

    def check(
        self,
        method: Method = "auto",
        threads: int | None = None,
        nprobe: int | None = None,
        recall_target: float | None = None,
    ) -> None:
        """Check the options of a search.

        Raises:
            ConfigError: a method that does not suit these codes, or options that contradict each other.
        """
        bits = f"{self.M} sub-codes below {self.K}"
        if method not in get_args(Method):
            raise ConfigError(f"unknown `method` {method!r}; use {', '.join(get_args(Method))}")
        if method == "bucket" and not self._are_short:
            raise ConfigError(f"`method` bucket is for codes of up to {BUCKET_BITS} bits, not for {bits}; use auto")
        if method == "ivf" and self.K != fastscan.K:
            raise ConfigError(f"`method` ivf is for 16 codewords per codebook, not for {bits}; use fast")
        if (nprobe is not None or recall_target is not None) and method not in ("auto", "ivf"):
            raise ConfigError(f"`method` {method} searches all codes and has no `nprobe` or `recall_target`; use ivf")
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
            distances (Q, top) float32 and rows (Q, top) int64, sorted by distance, ties by a hash of the ids; top is cut to N.
        Raises:
            StoreError: tables of another shape, or with NaN or infinity, for which FAISS would give wrong answers.
            ConfigError: as `check`.
        """
        self.check(method, threads, nprobe, recall_target)
        check_tables(tables, self.M, self.K)
        top = min(top, len(self))
        method = self.choose(top, method, nprobe, recall_target)
        if method == "ivf":
            self._make_lists(threads)
            nprobe = nprobe or (NPROBE if recall_target is None else self.nprobe_for(recall_target, threads))
            return for_each(lambda table: self._in_lists(table, top, nprobe or 1), tables, top, threads)
        self.prepare(top, method)  # before threads start, which would each make them
        return for_each(lambda table: self.nearest(table, top, method), tables, top, threads)

    def is_ready(self, top: int, method: Method = "auto") -> bool:
        """Whether the structures that a search for `top` rows needs are made."""
        needed = {"fast": "_fast", "bucket": "_places"}.get(self.choose(top, method))
        return needed is None or needed in vars(self)

    def prepare(self, top: int, method: Method = "auto") -> None:
        """Make the structures that a search for `top` rows needs."""
        if not self.is_ready(top, method):
            getattr(self, "_fast" if self.choose(top, method) == "fast" else "_places")

    def nearest(self, table: Floats, top: int, method: Method = "auto", limit: float = np.inf) -> tuple[Floats, Rows]:
        """The exact `top` nearest rows of one query, in the order of `search`.

        Args:
            table: (M, K), finite. top: at most N. method: any but "ivf".
            limit: rows that are farther may be left out; if one is, all farther ones are.
        """
        method = self.choose(top, method)
        if method == "fast":
            finder = self._fast
            if isinstance(finder, PairScan):
                return pairscan.nearest(finder, self._gallery, table, top, limit)
            return nearest(finder, self._gallery, table, top, limit)
        d = self._sums_of_all(table) if method == "bucket" else add_up(lookup(table), self._gallery.packed)
        return self._gallery.nearest(d, top)

    def nearest_in_lists(
        self, table: Floats, top: int, products: Floats, lists: Rows, limit: float = np.inf
    ) -> tuple[Floats, Rows]:
        """`nearest` among the codes of some lists, as `near_lists` gives them; fewer rows if these have fewer."""
        assert self._lists is not None
        probe = self._lists.probe(products, lists)
        return nearest(probe, self._gallery, table, top, limit) if probe.size else (_NO_DISTANCES, _NO_ROWS)

    def order(self, coarse: Coarse, threads: int | None = None) -> tuple[Unsigned, Unsigned]:
        """The codes by their lists, as `Coarse.order`, numbered as `distinct` counts them: by row, if none are grouped."""
        return coarse.order(self._gallery.packed, threads)

    def add_lists(self, coarse: Coarse, order: Unsigned, sizes: Unsigned) -> None:
        """Put the codes into the lists that `order` returned, for `nearest_in_lists`.

        Raises:
            StoreError: other codes or other lists.
        """
        if len(order) != len(self._gallery) or len(sizes) != len(coarse) or int(sizes.sum()) != len(order):
            raise StoreError(
                f"lists of {len(order)} codes in {len(sizes)} lists do not fit {len(self._gallery)} codes in {len(coarse)} "
                "lists; make the lists again"
            )
        self._lists = Lists(self._gallery.packed, coarse, order, sizes)
        release(self._gallery.packed, order)

    @property
    def list_sizes(self) -> Rows | None:
        """The number of codes of each list (nlist,), if `add_lists` was called."""
        return self._lists.sizes if self._lists else None

    def search_rows(self, tables: Floats, rows: Rows, top: int, threads: int | None = None) -> Ranking:
        """`search` among some rows only (ascending). Each of them is summed, so the answers are always exact."""
        check_tables(tables, self.M, self.K)
        ids, packed = self._gallery.ids, self._gallery.packed_of(rows)
        keys_of = None if ids is None else lambda places: tie_keys(ids_at(ids, rows[places]))
        distances, found = sums.nearest(tables, packed, min(top, len(rows)), threads, keys_of)
        return distances, rows[found]

    def codes_of(self, rows: Rows) -> Codes:
        """The codes (n, M) of some rows."""
        return unpack(self._gallery.packed_of(rows), self.M, self.K)

    def choose(
        self, top: int, method: Method = "auto", nprobe: int | None = None, recall_target: float | None = None
    ) -> Method:
        """The method that `search` uses."""
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
        suits = fastscan.suits if self.K == fastscan.K else pairscan.suits
        return "fast" if suits(codes, top) else "exact"

    def nprobe_for(self, recall_target: float, threads: int | None = None) -> int:
        """The smallest number of lists that reaches a recall, on average over a sample of the gallery's own codes.

        Raises:
            ConfigError: this scan has no `tables_of`.
        """
        coarse = self._make_lists(threads)
        if not len(coarse.ranks):
            coarse = self._coarse = tuned(self, coarse, self.tables_of, np.random.default_rng(self._seed), threads)
        return coarse.nprobe_for(recall_target)

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """At most `count` different packed codes, by chance."""
        codes = len(self._gallery)
        return self._gallery.packed.take(np.sort(rng.choice(codes, min(count, codes), replace=False)), 0)

    @property
    def _are_short(self) -> bool:
        return bool(self.K**self.M <= 2**BUCKET_BITS)

    def _sums_of_all(self, table: Floats) -> Floats:
        return add_up_all(lookup(table), self.M, self.K).take(self._places)

    @cached_property
    def _places(self) -> Rows:
        return places(self._gallery.packed, self.K)

    @cached_property
    def _fast(self) -> FastScan | PairScan:
        packed = self._gallery.packed
        if self.K != fastscan.K:
            return PairScan(packed)
        finder = FastScan(packed, self.M)
        if mapping(packed):  # from now on, no page of the map is needed
            self._gallery.read = finder.packed_of
            release(packed)
        return finder

    def _in_lists(self, table: Floats, top: int, nprobe: int) -> tuple[Floats, Rows]:
        assert self._lists is not None
        assert self._coarse is not None
        near = near_lists(self._coarse, self._lists.sizes, table, nprobe, top)
        return self.nearest_in_lists(table, top, *near)

    def _make_lists(self, threads: int | None = None) -> Coarse:
        if self._coarse is None:
            nlist = default_nlist(len(self._gallery))
            sample = self.sample(SAMPLE * nlist, np.random.default_rng(self._seed))
            coarse = Coarse.train(sample, self.M, nlist, self.tables_of, self._seed, threads)
            self.add_lists(coarse, *self.order(coarse, threads))
            self._coarse = coarse
        return self._coarse


class Searched(Protocol):
    """A gallery on which lists can be tuned."""

    M: int
    K: int

    def __len__(self) -> int: ...

    def sample(self, count: int, rng: np.random.Generator) -> Codes: ...

    def search(self, tables: Floats, top: int, method: Method = "auto", threads: int | None = None) -> Ranking: ...

    def codes_of(self, rows: Rows) -> Codes: ...


def tuned(
    scan: Searched, coarse: Coarse, tables_of: TablesOf | None, rng: np.random.Generator, threads: int | None
) -> Coarse:
    """The same lists, with the ranks of those that hold the exact nearest codes of a sample of a gallery's own codes.

    Raises:
        ConfigError: without `tables_of`.
    """
    if tables_of is None:
        raise ConfigError(
            "`recall_target` needs a Scan with `tables_of`, which turns codes into queries; give `nprobe` instead"
        )
    tables = tables_of(unpack(scan.sample(TUNED_ON, rng), scan.M, scan.K))
    rows = scan.search(tables, min(TUNED_AT, len(scan)), threads=threads)[1]
    packed = pack(scan.codes_of(rows.ravel()), scan.K)
    return coarse.tuned(coarse.ranks_of(tables, packed.reshape(*rows.shape, -1)))


def _check_numbers(threads: int | None, nprobe: int | None, recall_target: float | None) -> None:
    if nprobe is not None and recall_target is not None:
        raise ConfigError("`nprobe` and `recall_target` set the same thing; give one of them")
    if nprobe is not None and nprobe < 1:
        raise ConfigError(f"`nprobe` must be 1 or more, got {nprobe}")
    if recall_target is not None and not 0 < recall_target <= 1:
        raise ConfigError(f"`recall_target` must be above 0 and at most 1, got {recall_target}")
    if threads is not None and threads < 1:
        raise ConfigError(f"`threads` must be 1 or more, got {threads}")


def memory_bytes(N: int, M: int, ivf: bool = False) -> int:
    """The most bytes that a `Scan` of N distinct codes of M sub-codes below 16 holds after a search.

    Codes are packed for the exact sums, and again in FAISS's order. Lists add an 8-byte number for each code, their shares twice,
    and FAISS's space for twice the codes. While lists are made, they need about three times as much.

    >>> memory_bytes(1_000_000, 16), memory_bytes(10_000_000, 16, ivf=True)
    (16000000, 323237888)
    """
    packed = -(-M // 2)
    if not ivf:
        return N * 2 * packed
    return N * (3 * packed + 8) + default_nlist(N) * M * fastscan.K * 8
