"""Export descriptors as Parquet files, for any vector database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.errors import StoreError
from spq.index.arrow_columns import list_column, path_column, tables
from spq.index.codebooks import read_codebooks
from spq.index.described import Described, FromPictures, Progress, decoded
from spq.index.export import index_facts
from spq.index.store import Store
from spq.index.workplace import new_folder

if TYPE_CHECKING:
    import pyarrow as pa

METRICS = {
    "sqeuclidean": "Euclidean distance",
    "l2": "Euclidean distance",
    "dot": "inner product",
}  # names in databases
ROWS_OF_GROUP, GROUPS_OF_FILE = 16_384, 61  # just under a million rows in a file


def export_vectors(
    store: Store, out: Path, pictures: FromPictures | None = None, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Write `part-00000.parquet` and so on into a new folder, with the columns id, path and vector.

    Facts such as the model's hash are JSON under the key `spq` of each file's metadata.

    Args:
        pictures: compute the descriptors from the pictures, in full precision; by default they are decoded from the codes.
    Raises:
        ConfigError: `out` exists. StoreError: the index is empty or damaged. DataError: no picture is as it was.
    """
    if not len(store):
        raise StoreError(f"index {store.folder} has no pictures, so nothing is exported")
    codebooks = read_codebooks(store.folder, store.manifest)
    facts = {
        **index_facts(store.manifest, codebooks),
        "descriptors": "pictures" if pictures else "codes",
        "dim": codebooks.dim,
        "metric": METRICS[store.manifest.distance],
    }
    parts = pictures(progress) if pictures else decoded(store, codebooks, progress)
    with new_folder(out) as folder:
        count, files = _write_files(folder, map(_batch, parts), facts)
    left_out = {"left_out": sorted(store.damaged)} if store.damaged else {}
    without = {"without": pictures.without} if pictures and pictures.without else {}
    return {"images": count, "files": files, **facts, **left_out, **without}


def _batch(part: Described) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.record_batch({"id": part.ids, "path": path_column(part.paths), "vector": list_column(part.descriptors)})


def _write_files(folder: Path, batches: Iterable[pa.RecordBatch], facts: dict[str, Any]) -> tuple[int, int]:
    """Write batches to files, and return the number of rows and of files."""
    import pyarrow.parquet as pq

    count, files, groups = 0, 0, tables(batches, ROWS_OF_GROUP)
    while (first := next(groups, None)) is not None:
        schema = first.schema.with_metadata({"spq": json.dumps(facts)})
        with pq.ParquetWriter(folder / f"part-{files:05d}.parquet", schema, use_dictionary=False) as writer:
            for group in chain([first], islice(groups, GROUPS_OF_FILE - 1)):
                writer.write_table(group.replace_schema_metadata(schema.metadata))
                count += len(group)
        files += 1
    return count, files
