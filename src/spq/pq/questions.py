"""What searches ask the holders of parts, and what these answer: a pure function, wherever it runs.

A holder is a process, often on another machine, that has the codes of some parts in memory. A question names its parts and
their dead rows, so the answer does not depend on when it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spq.common.parallel import cores
from spq.pq.distinct import MOST_DISTINCT
from spq.pq.parts import Found, Near, Part, PartedScan
from spq.pq.scan import Method
from spq.pq.sums import Floats, Ranking, Rows, check_tables

Packed = NDArray[np.uint8] | NDArray[np.uint32]
BITS_OF_A_ROW = 32  # as a number; more rows than one of 32 are sent as one bit for each row of the part


class Key(NamedTuple):
    """A part as a holder knows it: its name, which stands for its codes, and a digest of its dead rows."""

    name: str
    dead: str


@dataclass(frozen=True, eq=False)
class HeldPart(Part):
    """A part whose codes are in the memory of a holder. Here they are a memory map, of which a few are read at a time.

    Attributes:
        distinct: different codes of it.
    """

    name: str = ""
    distinct: int = 0

    @property
    def searched(self) -> int:
        """The number of codes that the holder searches, see `Scan.distinct`."""
        rows = len(self.ids)
        return self.distinct if self.distinct < MOST_DISTINCT * rows else rows


@dataclass(frozen=True, eq=False)
class Question:
    """A search of some parts of one holder. The options are those of `PartedScan.search`.

    Attributes:
        tables: (Q, M, K).
        near: the lists to read, for each query; none to search all codes. lists: hash of the lists that are meant.
        rows: of each part, packed by `pack_rows`: search among these only. None for all.
    """

    keys: tuple[Key, ...]
    tables: Floats
    top: int
    method: Method = "auto"
    threads: int | None = None
    near: tuple[Near, ...] = ()
    lists: str = ""
    rows: tuple[Packed, ...] | None = None


@dataclass(frozen=True, eq=False)
class Reply:
    """The answer of a holder.

    Attributes:
        found: for each query, its nearest rows, counted over the parts that were asked for.
        unready: parts that the holder does not have, or not with these dead rows. Nothing was searched if there are any.
    """

    found: tuple[Found, ...] = ()
    unready: tuple[Key, ...] = ()


class Source(Protocol):
    """A holder, as searches see it."""

    def ask(self, question: Question) -> Future[Reply]:
        """Send a question."""

    def note(self, question: Question, seconds: float, failure: str = "") -> None:
        """Record that a question was answered, or why it was not."""

    def look(self, seconds: float) -> None:
        """Find out again, within a time, what the holder has."""


class Places(Protocol):
    """Where parts are held.

    Attributes:
        seconds: that a search may take.
    """

    seconds: float

    def sources(self, keys: Sequence[Key]) -> list[tuple[Source, list[int]]]:
        """Holders that answer now, and the numbers of the parts that each has ready. A part is listed once at most."""

    def miss(self, keys: Sequence[Key]) -> None:
        """Record that nobody could be asked about parts."""


def digest_of(dead: Rows) -> str:
    """A digest of the dead rows of a part; empty if there are none."""
    return hashlib.blake2b(dead.astype("<u4").tobytes(), digest_size=8).hexdigest() if len(dead) else ""


def pack_rows(rows: Rows, size: int) -> Packed:
    """Ascending rows of a part of `size` rows in few bytes."""
    if len(rows) * BITS_OF_A_ROW < size:
        return rows.astype(np.uint32)
    is_in = np.zeros(size, bool)
    is_in[rows] = True
    return np.packbits(is_in)


def unpack_rows(packed: Packed) -> Rows:
    """Undo `pack_rows`."""
    return (
        packed.astype(np.int64) if packed.dtype == np.uint32 else np.flatnonzero(np.unpackbits(packed.view(np.uint8)))
    )


def answer(question: Question, parts: Sequence[Part], dead: Sequence[Rows], has_lists: bool) -> Reply:
    """What a holder does: search parts, given in the order of the question.

    Args:
        has_lists: whether the lists of the parts are those of the question. Without them, all codes are searched.
    """
    scan = PartedScan(parts, dead)
    tables, top, threads = question.tables, question.top, question.threads
    if question.rows is not None:
        pieces = [unpack_rows(rows) + start for rows, start in zip(question.rows, scan.starts, strict=False)]
        ranking = scan.search_rows(tables, np.concatenate(pieces), top, threads)
    elif question.near and has_lists:
        check_tables(tables, scan.M, scan.K)
        workers, top = min(threads or cores(), len(tables)), min(top, len(scan))
        scan.prepare(top, question.method, True, workers)
        with ThreadPoolExecutor(max(workers, 1)) as pool:
            found = pool.map(lambda table, near: scan.nearest(table, top, question.method, near), tables, question.near)
            return Reply(tuple(found))
    else:
        ranking = scan.search(tables, top, question.method, threads)
    return Reply(found_of(scan, ranking))


def found_of(scan: PartedScan, ranking: Ranking) -> tuple[Found, ...]:
    """A ranking with ids."""
    return tuple((distances, scan.ids_of(rows), rows) for distances, rows in zip(*ranking, strict=True))
