"""Items as columns of Arrow, for the exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def path_column(paths: Sequence[str]) -> pa.Array:
    """Paths as text. Arrow takes UTF-8 alone, so other bytes of a file name are spelled out."""
    import pyarrow as pa

    names = [path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for path in paths]
    return pa.array(names, pa.string())


def list_column(rows: NDArray[Any]) -> pa.FixedSizeListArray:
    """Rows (n, m) as lists of m numbers."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Join and cut batches to tables of so many rows; the last may be shorter."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        while count >= rows:
            joined = pa.Table.from_batches(waiting)
            yield joined.slice(0, rows)
            waiting, count = joined.slice(rows).to_batches(), count - rows
    if count:
        yield pa.Table.from_batches(waiting)
