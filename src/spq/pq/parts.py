"""`PartedScan`: several scans searched as one, in the order of distance and `ties`.

A large collection is kept in parts that do not change (shards), and a small one that does. Removed items stay in their part as
dead rows: they take a place, but are never found. A new `PartedScan` of the same parts costs nothing, since the structures for
searching belong to the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import cores
from spq.pq import sums
from spq.pq.coarse import Coarse, TablesOf
from spq.pq.ivf import NPROBE
from spq.pq.scan import IVF_FROM, Method, Scan, tuned
from spq.pq.sums import Codes, Floats, Ranking, Rows, check_tables, for_each
from spq.pq.ties import Ids, ids_at, tie_keys

SPREAD_FROM = 2_000_000  # codes: below, starting threads for one query takes longer than they save
SPARE = 8  # rows that a part with dead ones is asked for beyond the answers
Near = tuple[Floats, Rows]  # mean distances and numbers of the lists that are near to a query, see `Coarse.nearest`
Found = tuple[Floats, Rows, Rows]  # distances, ids and rows of the answers to one query
Run = Callable[..., Iterable[Found]]
NONE: Rows = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """A scan whose rows have ids. It does not change, and one part may belong to several `PartedScan`s.

    A part in whose scan lists were made (`Scan.add_lists`) is searched in them, if the coarse quantizer is that of the
    `PartedScan`; any other part is searched as a whole.
    """

    scan: Scan

    @property
    def ids(self) -> Ids:
        """The ids (N,) of the rows, ascending; a `range` takes no memory."""
        return self.scan.ids

    def ids_of(self, rows: Rows) -> Rows:
        """The ids (n,) of some rows."""
        return ids_at(self.ids, rows)

    def rows_of(self, ids: Rows) -> Rows:
        """The rows of those ids that this part has, in the order of `ids`."""
        if isinstance(self.ids, range):
            rows, rest = np.divmod(ids - self.ids.start, self.ids.step)
            found: Rows = rows[(rest == 0) & (rows >= 0) & (rows < len(self.ids))]
            return found
        places = np.minimum(self.ids.searchsorted(ids), max(len(self.ids) - 1, 0))
        return places[self.ids[places] == ids].astype(np.int64) if len(self.ids) else NONE


@dataclass(eq=False)
class _Best:
    """The best rows of the parts that were searched so far: distances, ids and rows, in the order of `PartedScan.search`."""

    top: int
    distances: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    ids: Rows = field(default_factory=lambda: NONE)
    rows: Rows = field(default_factory=lambda: NONE)

    @property
    def limit(self) -> float:
        """Farther rows are no answers."""
        return float(self.distances[-1]) if len(self.distances) == self.top else np.inf

    def add(self, distances: Floats, ids: Rows, rows: Rows) -> None:
        distances = np.concatenate([self.distances, distances])
        ids, rows = np.concatenate([self.ids, ids]), np.concatenate([self.rows, rows])
        order = np.lexsort((tie_keys(ids), distances))[: self.top]
        self.distances, self.ids, self.rows = distances[order], ids[order], rows[order]


class PartedScan:
    """Parts, ready to be searched. A row is a number over all parts, and counts dead rows too.

    Args:
        parts: one or more, of codes of the same shape.
        dead: for each part, its rows (ascending) that are never found; by default none.
        coarse: of the lists of the parts. Without it, or for parts without lists, all codes are searched.
        tables_of: codes (n, M) -> tables (n, M, K) of the decoded codes; `recall_target` needs it, unless `coarse` is tuned.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        dead: Sequence[Rows] | None = None,
        coarse: Coarse | None = None,
        tables_of: TablesOf | None = None,
    ) -> None:
        self.parts, self.dead = tuple(parts), tuple(dead) if dead is not None else (NONE,) * len(parts)
        self.M, self.K = self.parts[0].scan.M, self.parts[0].scan.K
        self.coarse, self.tables_of = coarse, tables_of
        self.starts = np.cumsum([0, *(len(part.ids) for part in self.parts)])

    def with_coarse(self, coarse: Coarse) -> PartedScan:
        """The same parts, searched by their lists of this coarse quantizer where that is asked for."""
        return PartedScan(self.parts, self.dead, coarse, self.tables_of)

    def __len__(self) -> int:
        return self.rows - sum(len(rows) for rows in self.dead)

    @property
    def rows(self) -> int:
        """The number of rows, dead ones included."""
        return int(self.starts[-1])

    @property
    def distinct(self) -> int:
        """The number of codes that are searched: the sum over the parts."""
        return sum(part.scan.distinct for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes, ids and the structures made so far hold."""
        ids = sum(part.ids.nbytes for part in self.parts if not isinstance(part.ids, range))
        return ids + sum(part.scan.nbytes for part in self.parts) + sum(rows.nbytes for rows in self.dead)

    @property
    def codes(self) -> Codes:
        """The codes of all rows, dead ones included (rows, M), unpacked at each access."""
        return np.concatenate([part.scan.codes for part in self.parts])

    def code(self, row: int) -> Codes:
        """The code (M,) of one row."""
        number = int(self.starts.searchsorted(row, "right")) - 1
        return self.parts[number].scan.code(row - int(self.starts[number]))

    def codes_of(self, rows: Rows) -> Codes:
        """The codes (n, M) of some rows."""
        codes = np.empty((len(rows), self.M), np.uint8)
        for part, _, places, local in self._split(rows):
            codes[places] = part.scan.codes_of(local)
        return codes

    def ids_of(self, rows: Rows) -> Rows:
        """The ids (n,) of some rows."""
        ids = np.empty(len(rows), np.int64)
        for part, _, places, local in self._split(rows):
            ids[places] = part.ids_of(local)
        return ids

    def rows_of(self, ids: Rows) -> Rows:
        """The rows, ascending, of those ids that have one. Dead rows do not count."""
        ids = np.asarray(ids, np.int64)
        found = []
        for part, dead, start in zip(self.parts, self.dead, self.starts[:-1], strict=True):
            rows = np.sort(part.rows_of(ids))
            found.append(rows[_are_live(rows, dead)] + start)
        return np.concatenate(found)

    def row_of(self, item: int) -> int | None:
        """The row of an id; None if there is none, or only a dead one."""
        rows = self.rows_of(np.array([item]))
        return int(rows[0]) if len(rows) else None

    def live_rows(self) -> Rows:
        """All rows that are not dead, ascending."""
        return np.delete(
            np.arange(self.rows), np.concatenate([d + s for d, s in zip(self.dead, self.starts, strict=False)])
        )

    def check(
        self,
        method: Method = "auto",
        threads: int | None = None,
        nprobe: int | None = None,
        recall_target: float | None = None,
    ) -> None:
        """Check the options of a search, as `Scan.check`."""
        self.parts[0].scan.check(method, threads, nprobe, recall_target)

    def search(
        self,
        tables: Floats,
        top: int,
        method: Method = "auto",
        threads: int | None = None,
        nprobe: int | None = None,
        recall_target: float | None = None,
    ) -> Ranking:
        """The `top` nearest live rows of each query, as `Scan.search`: sorted by distance, ties by a hash of the ids.

        The answers do not depend on the number of parts. Several threads share the queries, or the parts if there are more
        threads than queries.
        """
        self.check(method, threads, nprobe, recall_target)
        check_tables(tables, self.M, self.K)
        top, workers = min(top, len(self)), threads or cores()
        nprobe = self.lists_to_read(method, nprobe, recall_target, threads)
        exact: Method = "auto" if method == "ivf" else method  # of parts that are searched as a whole
        self.prepare(top, exact, bool(nprobe), workers)
        if 1 < len(tables) >= workers or workers == 1 or self.distinct < SPREAD_FROM:
            return for_each(lambda table: self._one(table, top, exact, nprobe, map), tables, top, threads)
        with ThreadPoolExecutor(min(workers, len(self.parts))) as pool:
            return for_each(lambda table: self._one(table, top, exact, nprobe, pool.map), tables, top, 1)

    def search_rows(self, tables: Floats, rows: Rows, top: int, threads: int | None = None) -> Ranking:
        """`search` among some live rows only (ascending). Each of them is summed, so the answers are always exact."""
        check_tables(tables, self.M, self.K)
        ids, packed = self.ids_of(rows), sums.pack(self.codes_of(rows), self.K)
        keys_of: sums.KeysOf = lambda places: tie_keys(ids[places])  # noqa: E731
        distances, found = sums.nearest(tables, packed, min(top, len(rows)), threads, keys_of)
        return distances, rows[found]

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """About `count` packed codes, by chance, from each part by its size."""
        shares = [-(-count * part.scan.distinct // max(self.distinct, 1)) for part in self.parts]
        return np.concatenate([part.scan.sample(share, rng) for part, share in zip(self.parts, shares, strict=True)])

    def tuned(self, threads: int | None = None) -> Coarse:
        """The coarse quantizer, which knows how many lists a recall needs.

        It is measured with codes of the gallery as queries, so each of these is searched exactly.

        Raises:
            ConfigError: without `tables_of`.
        """
        assert self.coarse is not None
        return tuned(self, self.coarse, self.tables_of, np.random.default_rng(0), threads)

    def lists_to_read(
        self, method: Method, nprobe: int | None, recall_target: float | None, threads: int | None
    ) -> int:
        """The number of lists to read; 0 if all codes are searched."""
        is_asked = method == "ivf" or (method == "auto" and (nprobe or recall_target) and self.distinct >= IVF_FROM)
        if not is_asked or self.coarse is None:
            return 0
        if recall_target is None:
            return nprobe or NPROBE
        if not len(self.coarse.ranks):
            self.coarse = self.tuned(threads)
        return self.coarse.nprobe_for(recall_target)

    def prepare(self, top: int, method: Method = "auto", in_lists: bool = False, workers: int = 1) -> None:
        """Make the structures of all parts, each by one thread: several threads would each make one."""
        scans = [
            part.scan for part in self.parts if len(part.ids) and not (in_lists and part.scan.list_sizes is not None)
        ]
        missing = [scan for scan in scans if not scan.is_ready(top, method)]
        if len(missing) <= 1 or workers == 1:
            for scan in missing:
                scan.prepare(top, method)
            return
        with ThreadPoolExecutor(min(workers, len(missing))) as pool:
            list(pool.map(lambda scan: scan.prepare(top, method), missing))

    def nearest(
        self, table: Floats, top: int, method: Method = "auto", near: Near | None = None, run: Run = map
    ) -> Found:
        """The `top` nearest live rows of one query, in the order of `search`, of structures that `prepare` made.

        Args:
            near: the lists to search in parts that have some; fewer rows if these have fewer. By default all codes are searched.
            run: `map`, or that of a pool of threads.
        """
        best = _Best(top)
        for found in run(partial(self._nearest_in, table, best, method, near), range(len(self.parts))):
            best.add(*found)
        return best.distances, best.ids, best.rows

    def _one(self, table: Floats, top: int, method: Method, nprobe: int, run: Run) -> tuple[Floats, Rows]:
        """The answers to one query. If the `nprobe` nearest lists have too few live rows, further lists are read."""
        while True:
            near = self.coarse.nearest(table, nprobe) if self.coarse and nprobe else None
            distances, _, rows = self.nearest(table, top, method, near, run)
            if near is None or len(rows) == top:
                return distances, rows
            nprobe *= 2

    def _nearest_in(self, table: Floats, best: _Best, method: Method, near: Near | None, number: int) -> Found:
        """Distances, ids and rows of one part: its nearest live ones, at least those that are answers."""
        part, dead, start = self.parts[number], self.dead[number], int(self.starts[number])
        size, wanted = len(part.ids), min(best.top, len(part.ids) - len(dead))
        count = wanted + min(len(dead), SPARE)
        if not wanted:
            return np.empty(0, np.float32), NONE, NONE
        while True:
            if near and part.scan.list_sizes is not None:
                distances, rows = part.scan.nearest_in_lists(table, count, *near, best.limit)
            else:
                distances, rows = part.scan.nearest(table, count, method, best.limit)
            is_all = len(rows) < count or count == size
            if len(dead):
                is_live = _are_live(rows, dead)
                distances, rows = distances[is_live], rows[is_live]
            if is_all or len(rows) >= wanted:
                return distances[:wanted], part.ids_of(rows[:wanted]), rows[:wanted] + start
            count = min(2 * count, size)

    def _split(self, rows: Rows) -> list[tuple[Part, Rows, Rows, Rows]]:
        """The parts that have some of the rows: part, dead rows, places in `rows`, and rows inside the part."""
        numbers = self.starts.searchsorted(rows, "right") - 1
        found = []
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            found.append((self.parts[number], self.dead[number], places, rows[places] - self.starts[number]))
        return found


def _are_live(rows: Rows, dead: Rows) -> NDArray[np.bool_]:
    """Whether each row is not among the dead ones, which are ascending."""
    if not len(dead):
        return np.ones(len(rows), bool)
    is_live: NDArray[np.bool_] = dead[np.minimum(dead.searchsorted(rows), len(dead) - 1)] != rows
    return is_live
