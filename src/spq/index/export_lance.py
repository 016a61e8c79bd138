"""Export an index as a Lance dataset, with an index of our own codes: Lance's answers have our distances.

Lance encodes the decoded descriptors again, with our codebooks, and so finds our codes. docs/guides/exporting.md has an example.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spq.common.parallel import cores
from spq.data.decode import first_line
from spq.errors import ConfigError, StoreError
from spq.index.arrow_columns import list_column, path_column, tables
from spq.index.codebooks import read_codebooks
from spq.index.described import Described, Floats, Progress, decoded
from spq.index.export import index_facts
from spq.index.store import Store
from spq.index.workplace import new_folder

if TYPE_CHECKING:
    import pyarrow as pa

METRICS = {"sqeuclidean": "l2", "dot": "dot"}  # Lance's l2 is squared; its dot is 1 more than ours
PIECE = 1 << 26  # bytes of descriptors in a file of the dataset: they are in memory together


def export_lance(store: Store, out: Path, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Write a dataset with the columns id, path, code and descriptor (the codewords), and an IVF_PQ index with our codebooks.

    The index has one partition with centroid zero, so that Lance searches all codes, as we do. With more than 16 codewords
    in a codebook, or an odd number of codebooks, it takes a byte for each sub-code instead of 4 bits.

    Raises:
        ConfigError: Lance is not installed or has no such distance, or `out` exists. StoreError: the index is empty or damaged.
    """
    own = store.manifest.distance
    if own not in METRICS:
        raise ConfigError(
            f"index {store.folder} ranks by {own}, which Lance does not have; export vectors instead, "
            f"or use a model with distance {' or '.join(METRICS)}"
        )
    if find_spec("lance") is None:
        raise ConfigError("the export to Lance needs pylance; run pip install 'spq-retrieval[lance]'")
    if not len(store):
        raise StoreError(f"index {store.folder} has no pictures, so nothing is exported")
    codebooks = read_codebooks(store.folder, store.manifest)
    if codebooks.sharing > 1:
        raise ConfigError(
            f"index {store.folder} has codes of a residual quantizer, and Lance knows product quantizers only; "
            "export vectors instead"
        )
    facts = {**index_facts(store.manifest, codebooks), "metric": METRICS[own]}
    with new_folder(out) as folder, _lance_errors(out):
        count = _write_table(folder, decoded(store, codebooks, progress), facts)
        _write_index(folder, codebooks.words, METRICS[own])
    left_out = {"left_out": sorted(store.damaged)} if store.damaged else {}
    return {"images": count, **facts, **left_out}


def _write_table(folder: Path, parts: Iterator[Described], facts: dict[str, Any]) -> int:
    """Write the files of the dataset, and then its first version.

    Lance could take the iterator. But it would run it in a thread of its own, where errors lose their kind and Ctrl-C ends badly.
    """
    os.environ.setdefault("LANCE_CPU_THREADS", str(cores()))
    import lance
    from lance.fragment import write_fragments

    D = int(facts["num_codebooks"]) * int(facts["codeword_dim"])
    count, fragments, schema = 0, [], None
    for table in tables(map(_batch, parts), max(1, PIECE // (4 * D))):
        schema = table.schema.with_metadata({"spq": json.dumps(facts)})
        fragments += write_fragments(table, folder, schema=schema, mode="create")
        count += len(table)
    lance.LanceDataset.commit(folder, lance.LanceOperation.Overwrite(schema, fragments))
    return count


def _batch(part: Described) -> pa.RecordBatch:
    import pyarrow as pa

    columns = {"id": part.ids, "path": path_column(part.paths), "code": list_column(part.codes)}
    return pa.record_batch({**columns, "descriptor": list_column(part.descriptors)})


def _write_index(folder: Path, codebooks: Floats, metric: str) -> None:
    import lance

    M, K, d = codebooks.shape
    bits = 4 if K <= 16 and M % 2 == 0 else 8  # what Lance knows
    unused = np.repeat(codebooks[:, :1], 2**bits - K, axis=1)
    lance.dataset(folder).create_index(
        "descriptor",
        "IVF_PQ",
        metric=metric,
        num_partitions=1,
        ivf_centroids=np.zeros((1, M * d), np.float32),
        num_sub_vectors=M,
        num_bits=bits,
        pq_codebook=np.concatenate([codebooks, unused], axis=1),
    )


@contextmanager
def _lance_errors(out: Path) -> Iterator[None]:
    """Give errors of Lance the number that the system gave them, or make them one line."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if "LanceError" not in str(error):
            raise
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(out)) from None
        raise StoreError(f"Lance could not write {out}: {first_line(error)}") from None
