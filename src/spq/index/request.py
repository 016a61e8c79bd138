"""One search request: the queries, their options, and the checks of both.

The Python API, the command line and the server all make a `SearchRequest`. Their wire forms are translated, and checked here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from spq.data.decode import ImageInput
from spq.errors import ConfigError
from spq.index.filter import parse
from spq.pq.scan import How, Method

Query: TypeAlias = "ImageInput | NDArray[np.float32] | int"  # a picture, a descriptor (D,), or the id of an item
Box: TypeAlias = tuple[int, int, int, int]  # x, y, width, height
NEGATIVE_WEIGHT = 0.3  # default weight of a negative picture; docs/log.md explains the choice
MAX_WEIGHT = 1e6  # with a larger weight, the other pictures disappear in rounding errors


@dataclass(frozen=True, eq=False)
class SearchRequest:
    """One query or several, and the options that they share. `ImageIndex.search` explains each option.

    Args:
        queries: each a picture, a descriptor, an id, or a list of these that together form one query.
        method, threads, nprobe, recall_target: options of the scan, see `How`. The scan checks their values.
        partial: accept answers without the shards that do not answer in time, where other processes hold them.
    Raises:
        ConfigError: a value out of range, or values that do not fit together.
    """

    queries: Sequence[Query | Sequence[Query]]
    top: int = 20
    negative: Sequence[Query] = ()
    weights: Sequence[float] | None = None
    box: Box | None = None
    where: str | None = None
    max_distance: float | None = None
    fold: bool = False
    offset: int = 0
    exclude: Collection[int] = ()
    method: Method = "auto"
    threads: int | None = None
    nprobe: int | None = None
    recall_target: float | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ConfigError(f"`top` must be 1 or more, got {self.top}")
        if self.offset < 0:
            raise ConfigError(f"`offset` must be 0 or more, got {self.offset}")
        if self.max_distance is not None and np.isnan(self.max_distance):
            raise ConfigError("`max_distance` must be a number, got nan; give a distance, such as that of a hit")
        for group in self.groups:
            if not group:
                raise ConfigError("the search has no query; give a picture or an id")
            self._check_box(group)
            self.weights_of(group)
        if self.where is not None:
            parse(self.where)
            self._check_exact()

    @property
    def groups(self) -> list[list[Query]]:
        """The pictures of each query as a list."""
        return [list(query) if isinstance(query, list | tuple) else [cast(Query, query)] for query in self.queries]

    @property
    def how(self) -> How:
        """The options of the scan."""
        return How(method=self.method, threads=self.threads, nprobe=self.nprobe, recall_target=self.recall_target)

    def weights_of(self, group: Sequence[Query]) -> NDArray[np.float64]:
        """The weight of each picture of one query, then of each negative picture: (P + J,)."""
        P, J = len(group), len(self.negative)
        if self.weights is None:
            return np.array([1.0] * P + [NEGATIVE_WEIGHT] * J)
        try:
            weights = np.array(self.weights, np.float64)
        except (TypeError, ValueError):
            raise ConfigError(f"`weights` must be numbers, such as 1, 0.5, got {self.weights!r}") from None
        if weights.shape != (P + J,):
            raise ConfigError(
                f"`weights` must hold {P + J} numbers, one for each of {P} query and {J} negative pictures, "
                f"got {weights.size}"
            )
        bad = weights[~((weights >= 0) & (weights <= MAX_WEIGHT))]  # NaN is bad too
        if bad.size:
            raise ConfigError(
                f"`weights` must lie between 0 and {MAX_WEIGHT:,.0f}, got {bad[0]:g}; "
                "make a picture negative to move away from it"
            )
        if not weights[:P].any():
            raise ConfigError("`weights` of all query pictures are 0; give one of them a larger weight")
        return weights

    def _check_box(self, group: Sequence[Query]) -> None:
        if self.box is None:
            return
        check_box_count(len(group))
        if not is_picture(group[0]):
            raise ConfigError("`box` belongs to one picture, got an id or a descriptor; give the picture itself")

    def _check_exact(self) -> None:
        """A filtered search is always exact. Refuse options that ask for an approximate one."""
        approximate: dict[str, object] = {
            "method": self.method if self.method == "ivf" else None,
            "nprobe": self.nprobe,
            "recall_target": self.recall_target,
        }
        for name, value in approximate.items():
            if value is not None:
                raise ConfigError(
                    f"`{name}` {value} does not work with `where`: a filtered search is always exact; omit one of the two"
                )


def is_picture(query: Query) -> TypeGuard[ImageInput]:
    """Whether a query is a picture: neither an id nor a descriptor."""
    return not isinstance(query, int | np.integer) and not (isinstance(query, np.ndarray) and query.ndim == 1)


def check_box_count(count: int) -> None:
    """Refuse a box for other than one picture.

    Raises:
        ConfigError: names the number of pictures.
    """
    if count != 1:
        raise ConfigError(f"`box` belongs to one picture, got {count}; crop the pictures before the search")
