"""Lists of similar codes for the shards of an index, on disk. They are made of the codes, and can be made again at any time.

One coarse quantizer is shared by all shards. For each shard there is the order of its rows by list, and the size of each list.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spq.common.files import Replacing
from spq.errors import ConfigError, StoreError
from spq.index.shards.shard_facts import FOLDER
from spq.index.shards.sharded_store import ShardedStore
from spq.pq.coarse import SAMPLE, Coarse, default_nlist
from spq.pq.parts import Part, PartedScan

GROWN = 2  # times as many lists as there are: above, all lists are made again, as there are four times the codes
CODEWORDS = 16  # in a codebook, which lists need
COARSE = "coarse.npz"
Progress = Callable[[int, int], None]  # shards done, of all


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of an index: their coarse quantizer, and a hash of it, which the files of its shards have too."""

    coarse: Coarse
    hash: str


def make_lists(store: ShardedStore, scan: PartedScan, progress: Progress = lambda *_: None) -> int:
    """Make the lists of all shards that have none; returns for how many shards.

    Args:
        scan: of the index; its first parts are the shards of the store.
    Raises:
        ConfigError: the codes do not have 16 codewords in each codebook.
    """
    if store.manifest.codebook_size != CODEWORDS:
        raise ConfigError(f"lists are for 16 codewords in a codebook, not for {store.manifest.codebook_size}")
    with store.writing():
        folder = _folder(store.folder)
        folder.mkdir(exist_ok=True)
        names = [part.shard.facts.name for part in store.live()]
        lists = read_lists(store.folder)
        if lists is None or default_nlist(scan.rows) > GROWN * len(lists.coarse):
            lists = _train(scan)
            _clear(folder)
            _save(folder / COARSE, lists.coarse.to_arrays())
        _clear(folder, {COARSE, *map(_file, names)})
        missing = [number for number, name in enumerate(names) if _order_of(folder, name, lists) is None]
        for done, number in enumerate(missing, 1):
            order, sizes = scan.parts[number].scan.order(lists.coarse)
            _save(folder / _file(names[number]), {"order": order, "sizes": sizes, "coarse": _text(lists.hash)})
            progress(done, len(missing))
        return len(missing)


def read_lists(index: Path) -> Lists | None:
    """The lists of an index; None if there are none that can be used."""
    arrays = _load(_folder(index) / COARSE)
    try:
        coarse = Coarse.from_arrays(arrays) if arrays else None
    except (StoreError, KeyError, IndexError):
        return None
    return None if coarse is None else Lists(coarse, _hash(coarse))


def add_lists(lists: Lists, index: Path, parts: Sequence[Part], names: Sequence[str]) -> None:
    """Give the parts of shards their lists, where they have none yet. Files that do not fit are passed over.

    Args:
        names: of the shards.
    """
    for part, name in zip(parts, names, strict=True):
        if part.scan.list_sizes is None and (found := _order_of(_folder(index), name, lists)):
            order, sizes = found
            if _is_order(order, part.scan.distinct):
                part.scan.add_lists(lists.coarse, order, sizes)


def _train(scan: PartedScan) -> Lists:
    nlist = default_nlist(scan.rows)
    coarse = Coarse.train(scan.sample(SAMPLE * nlist, np.random.default_rng(0)), scan.M, nlist, scan.tables_of)
    if scan.tables_of:
        coarse = scan.with_coarse(coarse).tuned()
    return Lists(coarse, _hash(coarse))


def _folder(index: Path) -> Path:
    return index / FOLDER / "lists"


def _file(name: str) -> str:
    return f"{name}.npz"


def _hash(coarse: Coarse) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(coarse.to_arrays().items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _order_of(folder: Path, name: str, lists: Lists) -> tuple[NDArray[np.uint32], NDArray[np.uint32]] | None:
    """The order of the rows of a shard, and the sizes of its lists; None if its file is missing or of other lists."""
    arrays = _load(folder / _file(name))
    if not {"order", "sizes", "coarse"} <= arrays.keys() or not np.array_equal(arrays["coarse"], _text(lists.hash)):
        return None
    order, sizes = arrays["order"], arrays["sizes"]
    fits = sizes.shape == (len(lists.coarse),) and int(sizes.sum(dtype=np.int64)) == len(order)
    return (order, sizes) if fits else None


def _is_order(order: NDArray[Any], count: int) -> bool:
    """Whether an array has each number below `count` once. Others would make FAISS read where there is nothing."""
    if order.dtype != np.uint32 or order.shape != (count,) or int(order.max(initial=0)) >= max(count, 1):
        return False
    return bool((np.bincount(order, minlength=count) == 1).all())


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), np.uint8)


def _save(file: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with Replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _load(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, compared with the checksums of its zip; none if it is missing or damaged."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):
        return {}


def _clear(folder: Path, keep: Collection[str] = ()) -> None:
    for file in folder.iterdir():
        if file.name not in keep:
            file.unlink()
