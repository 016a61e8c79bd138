"""Export an index for other tools: a plain FAISS file, or codes and codebooks as NumPy or Parquet.

docs/guides/exporting.md shows how to read them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import Replacing
from spq.errors import ConfigError
from spq.index.arrow_columns import list_column, path_column
from spq.index.codebooks import read_codebooks
from spq.index.manifest import Manifest
from spq.index.store import Store
from spq.pq.tables import Codebooks


@dataclass(frozen=True)
class _Content:
    """Everything in an index: ids (N,) ascending, paths, codes (N, M), codebooks.

    left_out: ids of items that are not exported, because their rows are damaged.
    """

    manifest: Manifest
    ids: NDArray[np.int64]
    paths: list[str]
    codes: NDArray[np.uint8]
    codebooks: Codebooks
    left_out: list[int]


def export_faiss(store: Store, out: Path) -> dict[str, Any]:
    """Write an `IndexIDMap` of a plain `IndexPQ`, with our ids, for `faiss.read_index`. `out`.json has the path of each id.

    FAISS's METRIC_L2 sums squared distances, so it ranks like `sqeuclidean`, also if the index itself uses `l2`. For `dot` the
    metric is METRIC_INNER_PRODUCT. It gives inner products, the largest first: our distances without their minus sign.
    """
    import faiss

    content = _read(store)
    own = content.manifest.distance
    distance, metric = (own, "METRIC_INNER_PRODUCT") if own == "dot" else ("sqeuclidean", "METRIC_L2")
    inner = _faiss_index(content.codebooks, getattr(faiss, metric))
    index = faiss.IndexIDMap(inner)
    index.add_sa_codes(packed(content.codes, content.codebooks.codebook_size.bit_length() - 1), content.ids)
    facts = {**_facts(content), "distance": distance, "index_distance": own, "metric": metric}
    named = facts | {"paths": {str(i): path for i, path in zip(content.ids.tolist(), content.paths, strict=True)}}
    out.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(out.with_name(f"{out.name}.json")) as temporary:
        temporary.write_text(json.dumps(named, indent=0) + "\n", "utf-8")
    with Replacing(out) as temporary:  # Python says why a file cannot be written, FAISS does not
        temporary.write_bytes(faiss.serialize_index(index).tobytes())
    return facts | {"paths": f"{out}.json"}


def _faiss_index(codebooks: Codebooks, metric: int) -> Any:
    """An empty index with our codebooks: `IndexPQ`, or `IndexProductResidualQuantizer` for those of a residual quantizer."""
    faiss: Any = import_module("faiss")  # its annotations lack what we call
    M, K, d = codebooks.words.shape
    bits = K.bit_length() - 1
    if codebooks.sharing == 1:
        index: Any = faiss.IndexPQ(M * d, M, bits, metric)
        faiss.copy_array_to_vector(codebooks.words.ravel(), index.pq.centroids)
        index.is_trained = True
        return index
    index = faiss.IndexProductResidualQuantizer(codebooks.dim, codebooks.parts, codebooks.sharing, bits, metric)
    for part, words in enumerate(codebooks.words.reshape(codebooks.parts, -1, d)):
        inner = faiss.downcast_AdditiveQuantizer(index.prq.subquantizer(part))
        faiss.copy_array_to_vector(words.ravel(), inner.codebooks)
        inner.is_trained = True
    faiss.copy_array_to_vector(codebooks.words.ravel(), index.prq.codebooks)
    index.prq.is_trained = index.is_trained = True
    return index


def export_codes(store: Store, out: Path) -> dict[str, Any]:
    """Write ids, paths, codes, codebooks, distance and model hash as `.npz` (without pickle) or `.parquet`.

    Raises:
        ConfigError: another suffix.
    """
    writers = {".npz": _write_npz, ".parquet": _write_parquet}
    if out.suffix not in writers:
        raise ConfigError(f"`out` {out} has no known format; end it in .npz or .parquet")
    content = _read(store)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Replacing(out) as temporary:
        writers[out.suffix](temporary, content)
    return _facts(content)


def packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes (N, M) as FAISS stores them: one string of bits, the first sub-code and its lowest bit first.

    >>> packed(np.uint8([[1, 2, 3]]), bits=4).tolist()
    [[33, 3]]
    """
    stream = np.unpackbits(codes[:, :, None], axis=2, count=bits, bitorder="little")
    return np.packbits(stream.reshape(len(codes), codes.shape[1] * bits), axis=1, bitorder="little")


def _read(store: Store) -> _Content:
    with store.snapshot():
        ids, codes = store.codes()
        rows = store.encoded_paths()
    is_sound = np.array([sound for _, _, sound in rows], bool)
    paths = [path for _, path, sound in rows if sound]
    codebooks = read_codebooks(store.folder, store.manifest)
    return _Content(store.manifest, ids[is_sound], paths, codes[is_sound], codebooks, ids[~is_sound].tolist())


def _facts(content: _Content) -> dict[str, Any]:
    left_out = {"left_out": content.left_out} if content.left_out else {}
    return {"images": len(content.ids), **index_facts(content.manifest, content.codebooks), **left_out}


def index_facts(manifest: Manifest, codebooks: Codebooks) -> dict[str, Any]:
    """What an export says about the codes of an index."""
    stages = {"stages": codebooks.sharing} if codebooks.sharing > 1 else {}  # codebooks that share a sub-vector
    return {
        "bits": manifest.bits,
        "distance": manifest.distance,
        "model": manifest.model,
        "num_codebooks": manifest.num_codebooks,
        "codebook_size": manifest.codebook_size,
        "codeword_dim": codebooks.words.shape[2],
        **stages,
    }


def _write_npz(path: Path, content: _Content) -> None:
    """Write paths as one block of bytes with offsets: fixed-width text would give each path the room of the longest."""
    names = [name.encode("utf-8", "surrogateescape") for name in content.paths]
    offsets = np.cumsum([0, *map(len, names)], dtype=np.int64)
    text = np.frombuffer(b"".join(names), np.uint8)
    stages: dict[str, Any] = {"stages": content.codebooks.sharing} if content.codebooks.sharing > 1 else {}
    with path.open("wb") as file:  # NumPy would add a suffix to a name
        np.savez_compressed(
            file, ids=content.ids, paths=text, path_offsets=offsets, codes=content.codes, codebooks=content.codebooks.words,
            distance=np.array(content.manifest.distance), model=np.array(content.manifest.model),
            **stages,
        )  # fmt: skip


def _write_parquet(path: Path, content: _Content) -> None:
    """Write columns id, path and code (a list of M numbers); the rest is JSON under the key `spq` of the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet

    columns = {"id": pa.array(content.ids), "path": path_column(content.paths), "code": list_column(content.codes)}
    facts = json.dumps({**_facts(content), "codebooks": content.codebooks.words.tolist()})
    with path.open("wb") as file:  # Arrow takes names in UTF-8 alone
        pa.parquet.write_table(pa.table(columns).replace_schema_metadata({"spq": facts}), file)
