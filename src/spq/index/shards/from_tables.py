"""Make an index with shards from tables of encoded items, such as those of an encoding job. The pictures are not read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spq.data.source import Source
from spq.errors import DataError, StoreError
from spq.index.build import manifest_of
from spq.index.codebooks import check_model
from spq.index.format import has_index
from spq.index.item_table import items_of
from spq.index.items import Item
from spq.index.manifest import SHARDED, read_manifest
from spq.index.model_copy import ModelCopy
from spq.index.shards.shard import Shard
from spq.index.shards.shard_facts import FOLDER, ShardFacts
from spq.index.shards.shard_writer import write_shard
from spq.index.shards.sharded_store import ShardedStore
from spq.index.shards.sharding import SHARD_ITEMS, add_shard, become_sharded, check_items, kind_of, next_number
from spq.index.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from spq.model.model import Model

Progress = Callable[[int], None]  # called with the number of items that are in shards


def build_from_tables(
    folder: Path,
    model: Model,
    origin: Source,
    tables: Iterable[pa.Table],
    items: int = SHARD_ITEMS,
    progress: Progress | None = None,
) -> ShardedStore:
    """Make a new index of tables of items, see `item_table`; returns its open store.

    Items get the ids 1, 2, ... in their order. A build that was interrupted goes on when it is repeated with the same tables.

    Args:
        model: that made the codes. origin: where the pictures are, for a later update.
        items: of a shard, at most.
    Raises:
        StoreError: the folder is something else, or two items have the same path.
        ModelMismatchError: the folder is an index of another model. DataError: no item has a code.
    """
    check_items(items)
    _prepare(folder, model, origin)
    store = ShardedStore.open(folder)
    try:
        with store.writing():
            become_sharded(store)  # if that was interrupted
            _append(store, _Intake(tables, _last_id(store)), items, progress)
        if not len(store):
            raise DataError(f"no item for index {folder} has a code; nothing can be searched")
    except BaseException:
        store.close()
        raise
    return store


def _prepare(folder: Path, model: Model, origin: Source) -> None:
    """Make an empty index with shards, or check that the folder is one that was begun with the same model and origin."""
    if has_index(folder):
        manifest = read_manifest(folder)
        check_model(folder, manifest.model, model.hash)
        if manifest.origin != origin:
            raise StoreError(
                f"{folder} is an index of {manifest.source}, not of {origin.names[0]}; give another folder"
            )
        if manifest.format >= SHARDED:
            return
    with Store.create(folder, manifest_of(model, origin)) as store, store.writing():
        if store.count():
            raise StoreError(f"{folder} is an index without shards already; give another folder")
        ModelCopy(folder, store.manifest, model).keep(store)
        become_sharded(store)


def _append(store: ShardedStore, intake: _Intake, items: int, progress: Progress | None) -> None:
    """Write shard after shard. An item without a code goes into the database."""
    while intake.has_more():
        encoded = intake.encoded(items)
        first, facts = next(encoded, None), None
        if first is not None:
            facts = write_shard(store.folder, next_number(store.manifest), kind_of(store), chain([first], encoded))
            _check_paths(store, facts)
        add_shard(store, facts, intake.take_unreadable(), intake.last_id)
        if progress:
            progress(len(store))


class _Intake:
    """Tables of items, with ids.

    Attributes:
        last_id: of what was given out, or of the items that the index has already, which are passed over.
    """

    def __init__(self, tables: Iterable[pa.Table], last_id: int) -> None:
        self._tables, self._known, self._count = iter(tables), last_id, 0
        self._held: pa.Table | None = None
        self._unreadable: list[Item] = []
        self.last_id = last_id

    def has_more(self) -> bool:
        """Whether there is a further item."""
        while self._held is None:
            if (table := next(self._tables, None)) is None:
                return False
            skipped = min(len(table), max(0, self._known - self._count))
            first, self._count = self._count + 1, self._count + len(table)
            if skipped < len(table):
                self._held = _with_ids(table, first).slice(skipped)
        return True

    def encoded(self, items: int) -> Iterator[pa.Table]:
        """Tables of the next encoded items, so many or fewer."""
        left = items
        while left and self.has_more():
            assert self._held is not None
            table, self._held = self._held, None
            has_code = np.asarray(table["code"].is_valid())
            if has_code.sum() > left:
                end = int(np.flatnonzero(has_code)[left - 1]) + 1
                table, self._held = table.slice(0, end), table.slice(end)
                has_code = has_code[:end]
            self.last_id = table["id"][-1].as_py()
            self._unreadable += items_of(table.filter(_mask(~has_code)))
            if has_code.any():
                left -= int(has_code.sum())
                yield table.filter(_mask(has_code))

    def take_unreadable(self) -> list[Item]:
        """The items without a code among those that were given out."""
        taken, self._unreadable = self._unreadable, []
        return taken


def _mask(is_kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> pa.Array:
    import pyarrow as pa

    return pa.array(is_kept)


def _with_ids(table: pa.Table, first: int) -> pa.Table:
    import pyarrow as pa

    ids = pa.array(np.arange(first, first + len(table)))
    return table.set_column(table.schema.get_field_index("id"), pa.field("id", pa.int64(), nullable=False), ids)


def _last_id(store: Store) -> int:
    rows = store.select_newer("SELECT seq FROM sqlite_sequence WHERE name = 'items'")
    return int(rows[0][0]) if rows else 0


def _check_paths(store: ShardedStore, facts: ShardFacts) -> None:
    """Refuse a shard with a path that is in the index already, or in the shard twice; it is removed.

    Raises:
        StoreError: names the path.
    """
    shard = Shard(store.folder, facts, kind_of(store))
    for path in chain([shard.repeated_path()], (part.shard.shared_path(shard) for part in store.live())):
        if path is not None:
            shutil.rmtree(store.folder / FOLDER / facts.name, ignore_errors=True)
            raise StoreError(f"two items have the path {path}; a picture can be in an index once")
