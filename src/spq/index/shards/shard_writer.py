"""Write a shard: items with codes, by id, as files that never change.

`items.parquet` has the items, and `codes.npy` their packed codes in the same order. The other files are derived from these two:
`ids.npy` where ids have gaps, the paths for single look-ups, and the rows in the order of a hash of the path, and of the hash of
the bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spq.common.files import sync_folder
from spq.common.json_file import parse_json
from spq.errors import StoreError
from spq.index.arrow_columns import tables as cut
from spq.index.shards.shard_facts import FOLDER, FileFacts, ShardFacts
from spq.pq.distinct import count_distinct
from spq.pq.sums import pack

if TYPE_CHECKING:
    import pyarrow as pa

NEW = ".new-"  # a shard that is still being written begins with this
LEFT_OUT = ("code", "reason")  # columns of items that a shard has not in Parquet
ROWS_AT_ONCE = 65_536  # of a row group in Parquet
CHUNK = 2**22  # bytes that are hashed at a time
Keys = NDArray[np.uint64]


class Kind(NamedTuple):
    """What kind of codes an index has: M sub-codes below K."""

    M: int
    K: int


class _Columns:
    """What is kept of the items while a shard is written: some 60 bytes of each, and more while they are sorted."""

    def __init__(self) -> None:
        self.codes: list[NDArray[np.uint8]] = []
        self.ids: list[NDArray[np.int64]] = []
        self.path_keys: list[Keys] = []
        self.hash_keys: list[Keys] = []
        self.path_ends: list[NDArray[np.int64]] = []
        self.names: set[str] = set()


def write_shard(index: Path, number: int, kind: Kind, tables: Iterable[pa.Table]) -> ShardFacts:
    """Write a shard below an index folder. It is part of the index as soon as the manifest names it.

    Args:
        tables: encoded items, see `item_table`, by ascending id.
    Raises:
        StoreError: the ids are not in order, a code does not fit, or there are no items.
    """
    place = index / FOLDER
    place.mkdir(exist_ok=True)
    remove_unfinished(index)
    folder = place / f"{NEW}{number:05d}"
    folder.mkdir()
    try:
        columns = _write_items(folder, kind, tables)
        facts = _write_arrays(folder, number, columns)
        folder.replace(place / facts.name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_folder(place)
    return facts


def remove_unfinished(index: Path) -> None:
    """Remove shards that an interrupted writer left. The caller holds the lock of the index."""
    for folder in (index / FOLDER).glob(f"{NEW}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _write_items(folder: Path, kind: Kind, tables: Iterable[pa.Table]) -> _Columns:
    import pyarrow.parquet as pq

    columns, end, last, writer = _Columns(), 0, 0, None
    with (folder / "paths.bin").open("wb") as paths:
        row_groups = cut((batch for table in tables for batch in table.to_batches()), ROWS_AT_ONCE)
        for table in (group.combine_chunks() for group in row_groups):
            ids = table["id"].to_numpy()
            if len(ids) and (ids[0] <= last or (np.diff(ids) <= 0).any()):
                raise StoreError("the ids of items for a shard are not in ascending order, or below 1")
            last = int(ids[-1]) if len(ids) else last
            columns.ids.append(ids)
            columns.codes.append(_packed(table["code"].combine_chunks(), kind))
            names = table["path"].to_pylist()
            paths.write(b"".join(names))
            ends = end + np.cumsum([len(name) for name in names], dtype=np.int64)
            columns.path_ends.append(ends)
            end = int(ends[-1]) if len(ends) else end
            columns.path_keys.append(keys_of(names))
            columns.hash_keys.append(_first_words(table["hash"].combine_chunks()))
            columns.names |= _metadata_names(table["metadata"].drop_null())
            kept = table.drop_columns(LEFT_OUT)
            writer = writer or pq.ParquetWriter(
                folder / "items.parquet", kept.schema, compression="zstd", use_dictionary=False
            )
            writer.write_table(kept, row_group_size=ROWS_AT_ONCE)
    if writer is None or not sum(map(len, columns.ids)):
        raise StoreError("a shard needs at least one item with a code")
    writer.close()
    return columns


def _packed(codes: Any, kind: Kind) -> NDArray[np.uint8]:
    """Packed codes (n, P) of an Arrow array of M bytes each."""
    if codes.null_count or codes.type.byte_width != kind.M:
        raise StoreError(f"an item for a shard has no code of {kind.M} bytes")
    _, data = codes.buffers()
    bytes_ = np.frombuffer(data, np.uint8)[codes.offset * kind.M : (codes.offset + len(codes)) * kind.M]
    if bytes_.max(initial=0) >= kind.K:
        raise StoreError(f"an item for a shard has a code with numbers above {kind.K - 1}")
    return pack(bytes_.reshape(-1, kind.M), kind.K)


def keys_of(names: Iterable[bytes]) -> Keys:
    """A 64-bit hash of each name. Two names may share one; who looks up compares the names."""
    digests = b"".join([hashlib.blake2b(name, digest_size=8).digest() for name in names])
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def first_words(hashes: Iterable[bytes]) -> Keys:
    """The first 8 bytes of each hash, as numbers."""
    return np.frombuffer(b"".join([digest[:8].ljust(8, b"\0") for digest in hashes]), "<u8").astype(np.uint64)


def _first_words(hashes: Any) -> Keys:
    """`first_words` of an Arrow array, which are mostly of one length."""
    import pyarrow.compute as pc

    firsts = pc.binary_slice(hashes, 0, 8)
    if len(hashes) and pc.all(pc.equal(pc.binary_length(firsts), 8)).as_py():
        data = np.frombuffer(firsts.buffers()[2], np.uint8)[: 8 * len(hashes)]
        return data.view("<u8").astype(np.uint64)
    return first_words(hashes.to_pylist())


def _metadata_names(cells: Any) -> set[str]:
    """The names of the columns in different cells of metadata, each a JSON object."""
    found: set[str] = set()
    for text in cells.unique().to_pylist():
        found.update(parse_json(text))
    return found


def _write_arrays(folder: Path, number: int, columns: _Columns) -> ShardFacts:
    ids, codes = np.concatenate(columns.ids), np.concatenate(columns.codes)
    arrays: dict[str, NDArray[Any]] = {"codes": codes, "path_ends": np.concatenate(columns.path_ends)}
    first, last = int(ids[0]), int(ids[-1])
    if last - first + 1 != len(ids):
        arrays["ids"] = ids
    for name, parts in (("path", columns.path_keys), ("hash", columns.hash_keys)):
        keys = np.concatenate(parts)
        order = keys.argsort(kind="stable").astype(np.uint32)
        arrays |= {f"{name}_keys": keys[order], f"{name}_rows": order}
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    files = tuple(_facts_of(file) for file in sorted(folder.iterdir()))
    digest = hashlib.sha256("".join(file.check for file in files).encode()).hexdigest()[:16]
    names = tuple(sorted(columns.names))
    return ShardFacts(number, f"{number:05d}-{digest}", len(ids), first, last, count_distinct(codes), names, files)


def _facts_of(path: Path) -> FileFacts:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return FileFacts(path.name, path.stat().st_size, check_of(path))


def check_of(path: Path) -> str:
    """The checksum of a file, as `FileFacts` has it."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            state.update(chunk)
    return state.hexdigest()[:16]
