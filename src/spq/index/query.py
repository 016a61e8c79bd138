"""What a search asks for: pictures for and against as one distance table, and which rows of its ranking are answers.

With positives q_i of weights w_i, J negatives n_j of weights v_j, and D the index's distance, a picture x gets

    P(x) = sum_i w_i D(q_i, x) / sum_i w_i               the mean distance to what is looked for
    d(x) = P(x) + 1/J sum_j v_j (P(x) - D(n_j, x))       plus how much nearer it is to what is not

A weighted sum of distance tables is again one, so the exact scan serves it. One positive alone has its own distance. Where x
is as far from the negatives as from the positives it keeps P(x), so a threshold means the same with and without them; where
it is farther from them d(x) is smaller, and may be below 0. All D are in the unit of the gallery's descriptors, normalised or
not: nothing is rescaled. For `sqeuclidean` this ranks by the distance to the point p + v (p - n), as Rocchio (1971) moves a
query, and for `dot` d(x) is the very distance to that point; for `l2` no sub-code comes nearer to the query than that of the
positive itself. docs/log.md has the choice of v.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spq.data.decode import ImageInput, load_image
from spq.errors import ConfigError, StoreError
from spq.index.gallery import Gallery
from spq.pq.scan import How, Scan

Floats = NDArray[np.float32]
Ids = NDArray[np.int64] | NDArray[np.uint32]
Rows = NDArray[np.int64]
Query: TypeAlias = "ImageInput | Floats | int"  # a picture, a descriptor (D,), or the id of an item
Box: TypeAlias = tuple[int, int, int, int]
NEGATIVE = 0.3  # weight v of a negative, if none is given
HEAVIEST = 1e6  # a weight; beyond, the others are rounding errors
Answer: TypeAlias = tuple[float, list[int]]  # distance, id, and the ids folded into it


@dataclass(frozen=True)
class Hit:
    """One answer. distance: in the index's own distance, smaller is more similar; `dot` may be below 0, and is not 0 for the
    query itself. folded: paths of the same code."""

    rank: int
    id: int
    path: str
    distance: float
    folded: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Found:
    """Answers to each query, and the codes that they were found among. available: pictures that could have been answers."""

    gallery: Gallery
    available: int
    answers: list[list[Answer]]


@dataclass(frozen=True)
class Search:
    """All that `ImageIndex.search` is told beside the positives; what each means is said there.

    Raises:
        StoreError, ConfigError: a value that cannot be meant.
    """

    top: int = 20
    negative: Sequence[Query] = ()
    weights: Sequence[float] | None = None
    box: Box | None = None
    where: str | None = None
    max_distance: float | None = None
    fold: bool = False
    offset: int = 0
    exclude: Collection[int] = ()
    how: How = field(default_factory=How)

    def __post_init__(self) -> None:
        if self.top < 1:
            raise StoreError(f"top {self.top} asks for nothing; give 1 or more")
        if self.offset < 0:
            raise ConfigError(f"offset {self.offset} is before the first answer; give 0 or more")
        if self.max_distance is not None and np.isnan(self.max_distance):
            raise ConfigError("max distance nan keeps nothing; give a number, such as a distance of `spq search`")

    def pictures(self, queries: Sequence[Query | Sequence[Query]]) -> tuple[list[Query], list[int]]:
        """All pictures that are asked with: of each query those to be like, then the negatives; and how many of each."""
        several = [list(query) if isinstance(query, list | tuple) else [cast(Query, query)] for query in queries]
        for group in several:
            if not group:
                raise ConfigError("nothing to be like; give a picture or an id")
            if self.box is not None:
                if len(group) > 1:
                    raise ConfigError(
                        f"a box belongs to one picture, not to {len(group)}; give one, or cut them before"
                    )
                group[0] = cut(group[0], self.box)
        return [picture for group in (*several, self.negative) for picture in group], list(map(len, several))

    def tables(self, tables: Floats, sizes: Sequence[int]) -> Floats:
        """The tables of `pictures` -> one for each query (Q, M, K)."""
        if len(tables) == len(sizes) and self.weights is None:
            return tables  # one picture each
        *positive, negative = np.split(tables, np.cumsum(sizes))
        return np.stack([combined(part, negative, self.weights) for part in positive])


def descriptors(
    queries: Sequence[Query],
    codebooks: Floats,
    embed: Callable[[list[ImageInput]], Floats],
    decoded: Callable[[int], Floats],
) -> Floats:
    """(Q, D): what was given, embedded, or put together from the codewords of an item.

    Raises:
        StoreError: a descriptor of another length.
    """
    M, _, d = codebooks.shape
    out = np.empty((len(queries), M * d), np.float32)
    pictures: dict[int, ImageInput] = {}
    for position, query in enumerate(queries):
        if isinstance(query, int | np.integer):
            out[position] = decoded(int(query))
        elif isinstance(query, np.ndarray) and query.ndim == 1:
            if query.shape != (M * d,):
                raise StoreError(f"a descriptor of {len(query)} numbers cannot be searched; this index wants {M * d}")
            out[position] = query
        else:
            pictures[position] = query
    if pictures:
        out[list(pictures)] = embed(list(pictures.values()))
    return out


def cut(picture: Query, box: Box) -> Image.Image:
    """The region (x, y, width, height) of a picture, in pixels as it is seen: upright, from its upper left corner.

    Raises:
        ConfigError: the region is not inside, or there is no picture. ImageError: it cannot be read.
    """
    if isinstance(picture, int | np.integer) or (isinstance(picture, np.ndarray) and picture.ndim == 1):
        raise ConfigError("a box cuts a picture, not an id or a descriptor; give the picture itself")
    image = load_image(picture)
    x, y, width, height = box
    inside = 0 <= x < x + width <= image.width and 0 <= y < y + height <= image.height
    if not inside:
        size = f"{image.width} x {image.height}"
        raise ConfigError(f"box {','.join(map(str, box))} is not inside the picture of {size} pixels; give x,y,w,h")
    return image.crop((x, y, x + width, y + height))


def combined(positive: Floats, negative: Floats, weights: Sequence[float] | None = None) -> Floats:
    """One table (M, K) of those of the positives (P, M, K) and the negatives (J, M, K), by the formula above.

    Args:
        weights: P + J numbers of 0 or more; by default 1 for each positive, NEGATIVE for each negative.
    Raises:
        ConfigError: weights of another number, or that cannot be meant.
    """
    P, J = len(positive), len(negative)
    try:
        w = np.array([1.0] * P + [NEGATIVE] * J if weights is None else weights, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"weights {weights!r} are not numbers; give one for each picture, such as 1, 0.5") from None
    if w.shape != (P + J,):
        raise ConfigError(f"{w.size} weights for {P} positive and {J} negative pictures; give one for each")
    bad = w[~((w >= 0) & (w <= HEAVIEST))]
    if bad.size:
        raise ConfigError(f"weight {bad[0]:g} is not in 0..{HEAVIEST:,.0f}; what is not wanted goes to the negatives")
    if not w[:P].any():
        raise ConfigError("the pictures to be like all have weight 0; give one of them more")
    toward = np.einsum("p,pmk->mk", w[:P] / w[:P].sum(), positive.astype(np.float64))
    if J:
        away = w[P:] / J
        toward = (1 + away.sum()) * toward - np.einsum("j,jmk->mk", away, negative.astype(np.float64))
    table: Floats = toward.astype(np.float32)
    return table


def ranked(asked: Search, tables: Floats, scan: Scan, ids: Ids, rows: Rows | None) -> list[list[Answer]]:
    """The answers to each table, nearest first, ties by row.

    The scan is asked for more until thresholds, folding and exclusion leave enough.

    Args:
        ids: (N,) of the scan's rows.
        rows: ascending, those that may be answers; None for all.
    """
    available = len(scan) if rows is None else len(rows)
    count = (asked.offset + asked.top + len(asked.exclude)) * (2 if asked.fold else 1)
    while True:
        if rows is None:
            found = scan.search(tables, count, **asked.how)
        else:
            found = scan.search_rows(tables, rows, count, asked.how.get("threads"))
        picked = [_picked(asked, d, near, ids, scan) for d, near in zip(*found, strict=True)]
        if count >= available or all(complete for _, complete in picked):
            return [answers for answers, _ in picked]
        count *= 4


def _picked(asked: Search, distances: Floats, rows: Rows, ids: Ids, scan: Scan) -> tuple[list[Answer], bool]:
    """The answers in one ranking, and whether what comes after it cannot change them."""
    beyond = asked.max_distance is not None and bool((distances > asked.max_distance).any())
    keep = np.ones(len(rows), bool) if asked.max_distance is None else distances <= asked.max_distance
    if asked.exclude:
        keep &= ~np.isin(ids[rows], list(asked.exclude))
    near, rows = distances[keep], rows[keep]
    end = asked.offset + asked.top
    if not asked.fold:
        page = slice(asked.offset, end)  # of what may be 100,000 answers, only these become Python's numbers
        found = zip(near[page].tolist(), ids[rows[page]].tolist(), strict=True)
        return [(d, [i]) for d, i in found], beyond or len(near) >= end
    alone = [(d, [i]) for d, i in zip(near.tolist(), ids[rows].tolist(), strict=True)]
    answers = _folded(alone, scan.codes_of(rows))
    # the same code has the same distance: what is folded into the last answer ends where a larger distance begins
    complete = len(answers) >= end and distances[-1] > answers[end - 1][0]
    return answers[asked.offset : end], beyond or complete


def _folded(alone: list[Answer], codes: NDArray[np.uint8]) -> list[Answer]:
    first: dict[bytes, Answer] = {}
    for (distance, ids), code in zip(alone, codes, strict=True):
        first.setdefault(code.tobytes(), (distance, []))[1].extend(ids)
    return list(first.values())


def hits(answers: Sequence[Answer], offset: int, paths: dict[int, str]) -> list[Hit]:
    """Answers as the user gets them."""
    return [
        Hit(rank, first, paths[first], distance, tuple(paths[i] for i in others))
        for rank, (distance, (first, *others)) in enumerate(answers, offset + 1)
    ]
