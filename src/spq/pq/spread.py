"""`SpreadScan`: parts whose codes other processes hold, searched as one in the order of distance and `ties`.

All holders are asked at once. Those that have not answered at the deadline are missing, which is an error unless the caller
accepts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from spq.errors import ShardsMissingError
from spq.pq.coarse import Coarse, TablesOf
from spq.pq.parts import Found, Part, PartedScan
from spq.pq.questions import HeldPart, Key, Places, Question, Reply, Source, digest_of, found_of, pack_rows
from spq.pq.scan import Method
from spq.pq.sums import Floats, Ranking, Rows, check_tables
from spq.pq.ties import tie_keys


class SpreadScan(PartedScan):
    """Parts that holders have, and a last one that is searched here. It gives the same answers as a `PartedScan`.

    Args:
        parts, dead, coarse, tables_of: as those of `PartedScan`. All parts but the last are `HeldPart`s.
        lists: hash of the lists of `coarse`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        dead: Sequence[Rows],
        places: Places,
        coarse: Coarse | None = None,
        lists: str = "",
        tables_of: TablesOf | None = None,
    ) -> None:
        super().__init__(parts, dead, coarse, tables_of)
        self.places, self.lists = places, lists
        self.held = tuple(part for part in self.parts if isinstance(part, HeldPart))
        self.keys = tuple(Key(part.name, digest_of(rows)) for part, rows in zip(self.held, self.dead, strict=False))
        self.here = PartedScan(self.parts[-1:], self.dead[-1:])
        assert len(self.held) == len(self.parts) - 1

    @property
    def distinct(self) -> int:
        return sum(part.searched for part in self.held) + self.here.distinct

    def begin(self, is_partial: bool = False) -> SpreadSearch:
        """Begin the searches of one request. The time that they may take together begins too."""
        return SpreadSearch(self, is_partial)

    def search(self, tables: Floats, top: int, *positional: Any, **how: Any) -> Ranking:
        """As `PartedScan.search`, with the same options.

        Raises:
            ShardsMissingError: a holder did not answer in time.
        """
        return self.begin().search(tables, top, *positional, **how)

    def search_rows(self, tables: Floats, rows: Rows, top: int, threads: int | None = None) -> Ranking:
        return self.begin().search_rows(tables, rows, top, threads)


@dataclass(eq=False)
class _Round:
    """One question to all holders.

    Attributes:
        make: the question for some parts. here: searches what is not held.
        live: for each held part, the number of its rows that are searched. A part without any is not asked for.
    """

    make: Callable[[list[int]], Question]
    here: Callable[[], Sequence[Found]]
    live: Sequence[int]


class _Sent:
    """A question that a holder was asked."""

    def __init__(self, source: Source, numbers: list[int], question: Question, is_again: bool) -> None:
        self.source, self.numbers, self.question, self.is_again = source, numbers, question, is_again
        self._since = time.monotonic()
        self.future = source.ask(question)

    def reply(self, late: str) -> Reply | None:
        """The answer; None if there is none, which is noted.

        Args:
            late: the reason, if it did not come in time.
        """
        reply, failure = None, late
        if self.future.done():
            error = self.future.exception()
            reply = None if error else self.future.result()
            failure = _reason(error) if error else "it has not all shards ready" if reply and reply.unready else ""
        self.source.note(self.question, time.monotonic() - self._since, failure)
        return reply


@dataclass(eq=False)
class SpreadSearch:
    """The searches of one request, with one deadline. A part that is missing in one of them is missing in all later ones.

    Attributes:
        missing: rows that the last search would have searched, and did not.
    """

    scan: SpreadScan
    is_partial: bool
    missing: int = 0
    _lost: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.scan.places.seconds

    def search(
        self,
        tables: Floats,
        top: int,
        method: Method = "auto",
        threads: int | None = None,
        nprobe: int | None = None,
        recall_target: float | None = None,
    ) -> Ranking:
        """As `PartedScan.search`, among the parts that answer.

        Raises:
            ShardsMissingError: a part is missing, and that is not accepted.
        """
        scan = self.scan
        scan.check(method, threads, nprobe, recall_target)
        check_tables(tables, scan.M, scan.K)
        lists = scan.lists_to_read(method, nprobe, recall_target, threads)
        exact: Method = "auto" if method == "ivf" else method
        live = [len(part.ids) - len(dead) for part, dead in zip(scan.held, scan.dead, strict=False)]
        top = min(top, len(scan))
        found: list[Found] = [(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))] * len(tables)
        left, before = np.arange(len(tables)), 0
        while len(left):
            near = tuple(scan.coarse.nearest(table, lists) for table in tables[left]) if lists and scan.coarse else ()
            asked = Question((), tables[left], top, exact, threads, near, scan.lists)
            for query, answers in zip(left.tolist(), self._search(asked, live), strict=True):
                found[query] = answers
            if self.missing != before and len(left) < len(tables):
                left = np.arange(len(tables))  # the others have answers of a part that is missing by now
            elif near:
                full = min(top, len(scan) - self.missing)
                left = np.array([query for query in left.tolist() if len(found[query][0]) < full], np.int64)
                lists *= 2
            else:
                break
            before = self.missing
        return _stacked(found, min(top, len(scan) - self.missing))

    def search_rows(self, tables: Floats, rows: Rows, top: int, threads: int | None = None) -> Ranking:
        """`search` among some live rows only (ascending)."""
        scan = self.scan
        check_tables(tables, scan.M, scan.K)
        bounds = rows.searchsorted(scan.starts)
        local = [rows[a:b] - start for a, b, start in zip(bounds[:-1], bounds[1:], scan.starts, strict=False)]
        top = min(top, len(rows))

        def make(numbers: list[int]) -> Question:
            packed = tuple(pack_rows(local[number], len(scan.parts[number].ids)) for number in numbers)
            return Question(self._keys(numbers), tables, top, threads=threads, rows=packed)

        def here() -> Sequence[Found]:
            return found_of(scan.here, scan.here.search_rows(tables, local[-1], top, threads))

        found = self._answers(_Round(make, here, [len(some) for some in local[:-1]]), len(tables), top)
        return _stacked(found, min(top, len(rows) - self.missing))

    def _search(self, asked: Question, live: list[int]) -> list[Found]:
        scan = self.scan

        def here() -> Sequence[Found]:
            return found_of(scan.here, scan.here.search(asked.tables, asked.top, asked.method, asked.threads))

        make = lambda numbers: replace(asked, keys=self._keys(numbers))  # noqa: E731
        return self._answers(_Round(make, here, live), len(asked.tables), asked.top)

    def _keys(self, numbers: Sequence[int]) -> tuple[Key, ...]:
        return tuple(self.scan.keys[number] for number in numbers)

    def _answers(self, round_: _Round, queries: int, top: int) -> list[Found]:
        """The merged answers to each query. It also counts what is missing.

        Raises:
            ShardsMissingError: a part is missing, and that is not accepted.
        """
        needed = [number for number, count in enumerate(round_.live) if count]
        sent = self._send([number for number in needed if number not in self._lost], round_)
        self._lose((), round_)
        pieces = [[self._in_all_rows([len(self.scan.held)], found) for found in round_.here()]]
        for numbers, reply in self._replies(sent, round_):
            pieces.append([self._in_all_rows(numbers, found) for found in reply.found])
        return [_merged([piece[query] for piece in pieces], top) for query in range(queries)]

    def _send(self, numbers: list[int], round_: _Round, is_again: bool = False) -> list[_Sent]:
        """Ask all holders that have some of the parts; parts that none has are lost."""
        sent = []
        for source, places in self.scan.places.sources(self._keys(numbers)):
            some = [numbers[place] for place in places]
            sent.append(_Sent(source, some, round_.make(some), is_again))
        lost = set(numbers).difference(*(each.numbers for each in sent))
        self.scan.places.miss(self._keys(sorted(lost)))
        self._lost |= lost
        return sent

    def _replies(self, sent: list[_Sent], round_: _Round) -> Iterator[tuple[list[int], Reply]]:
        """Numbers of parts, and the answer of their holder, as they come."""
        waiting = {each.future: each for each in sent}
        while waiting:
            done, _ = wait(waiting, self._left(), FIRST_COMPLETED)
            for future in done or list(waiting):
                each = waiting.pop(future)
                reply = each.reply(f"no answer within {self.scan.places.seconds:g} s")
                if reply and not reply.unready:
                    yield each.numbers, reply
                elif reply and not each.is_again:
                    each.source.look(self._left())
                    waiting |= {again.future: again for again in self._send(each.numbers, round_, True)}
                    self._lose((), round_)
                else:
                    self._lose(each.numbers, round_)

    def _lose(self, numbers: Sequence[int], round_: _Round) -> None:
        self._lost.update(numbers)
        self.missing = sum(round_.live[number] for number in self._lost)
        if self.missing and not self.is_partial:
            raise ShardsMissingError(self.missing)

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def _in_all_rows(self, numbers: Sequence[int], found: Found) -> Found:
        """Answers whose rows are counted over some parts, with rows that are counted over all of them."""
        distances, ids, rows = found
        sizes = [len(self.scan.parts[number].ids) for number in numbers]
        first = np.cumsum([0, *sizes[:-1]])
        shifts = self.scan.starts[list(numbers)] - first
        return distances, ids, rows + shifts[first.searchsorted(rows, "right") - 1]


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"


def _merged(pieces: Sequence[Found], top: int) -> Found:
    distances, ids, rows = (np.concatenate(each) for each in zip(*pieces, strict=True))
    order = np.lexsort((tie_keys(ids), distances))[:top]
    return distances[order], ids[order], rows[order]


def _stacked(found: Sequence[Found], top: int) -> Ranking:
    distances, rows = np.empty((len(found), top), np.float32), np.empty((len(found), top), np.int64)
    for query, answers in enumerate(found):
        distances[query], _, rows[query] = answers
    return distances, rows
