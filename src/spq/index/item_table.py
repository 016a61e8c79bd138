"""Items as Arrow tables, which are written as Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from spq.common.parallel import batches
from spq.index.items import Item, as_json, read_metadata, text_bytes

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 65_536  # items that are Python objects at a time


def schema(M: int) -> pa.Schema:
    """The columns of items whose codes have M sub-codes, one byte each; an item without a code is unreadable.

    Paths and reasons are UTF-8, and may hold the other bytes of file names. Metadata are a JSON object.
    """
    import pyarrow as pa

    fields = [
        pa.field("id", pa.int64(), nullable=False),  # 0 if none is given yet
        pa.field("path", pa.binary(), nullable=False),
        pa.field("hash", pa.binary(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("ctime_ns", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("code", pa.binary(M)),
        pa.field("reason", pa.binary()),
        pa.field("metadata", pa.string()),
    ]
    return pa.schema(fields)


def to_table(items: Iterable[Item], M: int) -> pa.Table:
    """Return the table of items, in their order.

    Raises:
        pyarrow.ArrowInvalid: a code has not M sub-codes.
    """
    import pyarrow as pa

    columns = schema(M)
    parts = map(partial(_record_batch, columns), batches(items, AT_ONCE))
    return pa.Table.from_batches(parts, columns)


def _record_batch(columns: pa.Schema, items: list[Item]) -> pa.RecordBatch:
    import pyarrow as pa

    values: dict[str, list[Any]] = {
        name: [getattr(item, name) for item in items]
        for name in ("id", "hash", "size", "mtime_ns", "ctime_ns", "width", "height")
    }
    values["path"] = [text_bytes(item.path) for item in items]
    values["code"] = [None if item.code is None else item.code.tobytes() for item in items]
    values["reason"] = [text_bytes(item.reason) if item.reason else None for item in items]
    values["metadata"] = [as_json(item.metadata) for item in items]
    return pa.record_batch([pa.array(values[field.name], field.type) for field in columns], schema=columns)


def items_of(table: pa.Table) -> Iterator[Item]:
    """Yield the items of a table.

    Raises:
        DamagedRowError: the metadata of an item are no JSON object.
    """
    for batch in table.to_batches(max_chunksize=AT_ONCE):
        rows = zip(*(batch.column(field.name).to_pylist() for field in schema(1)), strict=True)
        for id_, path, digest, size, mtime_ns, ctime_ns, width, height, code, reason, metadata in rows:
            numbers = None if code is None else np.frombuffer(code, np.uint8)
            columns = read_metadata(metadata)
            yield Item(
                _text(path), size, mtime_ns, digest, width, height, numbers, _text(reason or b""), id_, columns, ctime_ns
            )  # fmt: skip


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
