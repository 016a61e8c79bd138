"""From distance tables to answers: rank, then apply threshold, exclusion, folding and offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spq.index.gallery import Gallery, Rows
from spq.index.request import SearchRequest
from spq.pq.spread import SpreadScan, SpreadSearch

TRIES = 20  # of a search during which a writer removes answers again and again
EXACT_TRIES = 3  # of them, of a search with a filter during which a writer writes anything; each reads codes again
Floats = NDArray[np.float32]
Answer: TypeAlias = tuple[float, list[int]]  # distance, then the id and the ids folded into it


@dataclass(frozen=True)
class Hit:
    """One answer.

    Attributes:
        distance: in the index's distance; smaller is more similar. `dot` may be below 0, and is not 0 for the query itself.
        folded: paths of further pictures with the same code.
    """

    rank: int
    id: int
    path: str
    distance: float
    folded: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """Answers to each query, and the gallery that was searched.

    Attributes:
        available: pictures that could have been answers. missing: those of them that were not searched.
        is_exact: whether the filter, if there was one, read the items of the same moment as the gallery.
    """

    gallery: Gallery
    available: int
    answers: list[list[Answer]]
    missing: int = 0
    is_exact: bool = True


def rank_answers(request: SearchRequest, tables: Floats, gallery: Gallery, rows: Rows | None) -> Found:
    """The answers to each table, nearest first, ties by a hash of the id (`spq.pq.ties`).

    The scan gives more and more rows, until enough are left after threshold, folding and exclusion.

    Args:
        tables: (Q, M, K).
        rows: ascending, those that may be answers; None for all.
    Raises:
        ShardsMissingError: a shard was not searched in time, and the request does not accept a partial answer.
    """
    available = len(gallery) if rows is None else len(rows)
    scan = gallery.scan.begin(request.partial) if isinstance(gallery.scan, SpreadScan) else gallery.scan
    count = (request.offset + request.top + len(request.exclude)) * (2 if request.fold else 1)
    while True:
        if rows is None:
            ranking = scan.search(tables, count, **request.how)
        else:
            ranking = scan.search_rows(tables, rows, count, request.threads)
        pages = [_page(request, distances, found, gallery) for distances, found in zip(*ranking, strict=True)]
        missing = scan.missing if isinstance(scan, SpreadSearch) else 0
        if count >= available - missing or all(is_complete for _, is_complete in pages):
            return Found(gallery, available, [answers for answers, _ in pages], missing)
        count *= 4


def _page(request: SearchRequest, distances: Floats, rows: Rows, gallery: Gallery) -> tuple[list[Answer], bool]:
    """The answers in one ranking, and whether further rows cannot change them."""
    limit = request.max_distance
    is_past_limit = limit is not None and bool((distances > limit).any())
    keep = np.ones(len(rows), bool) if limit is None else distances <= limit
    if request.exclude:
        keep &= ~np.isin(gallery.ids_of(rows), list(request.exclude))
    kept, rows = distances[keep], rows[keep]
    end = request.offset + request.top
    if not request.fold:
        page = slice(request.offset, end)  # cut first: there may be 100,000 answers to turn into Python numbers
        pairs = zip(kept[page].tolist(), gallery.ids_of(rows[page]).tolist(), strict=True)
        return [(distance, [i]) for distance, i in pairs], is_past_limit or len(kept) >= end
    single = [(distance, [i]) for distance, i in zip(kept.tolist(), gallery.ids_of(rows).tolist(), strict=True)]
    answers = _folded(single, gallery.scan.codes_of(rows))
    # equal codes have equal distances, so the last answer is complete when a larger distance follows
    is_complete = len(answers) >= end and distances[-1] > answers[end - 1][0]
    return answers[request.offset : end], is_past_limit or is_complete


def _folded(single: list[Answer], codes: NDArray[np.uint8]) -> list[Answer]:
    first: dict[bytes, Answer] = {}
    for (distance, ids), code in zip(single, codes, strict=True):
        first.setdefault(code.tobytes(), (distance, []))[1].extend(ids)
    return list(first.values())


def to_hits(answers: Sequence[Answer], offset: int, paths: dict[int, str]) -> list[Hit]:
    """Answers with ranks and paths."""
    return [
        Hit(rank, first, paths[first], distance, tuple(paths[i] for i in others))
        for rank, (distance, (first, *others)) in enumerate(answers, offset + 1)
    ]
