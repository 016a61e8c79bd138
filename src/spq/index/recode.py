"""Give an index the codes of another model. The old index answers until the new one is complete, and then it is replaced.

The new index starts as a copy: ids, metadata and facts of the pictures stay. Where the features of the pictures are cached,
only head and quantizer have to run. All other pictures are read again by the sync that follows.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spq.common.parallel import batches
from spq.errors import StoreError
from spq.index.encode import open_features, to_be_retried
from spq.index.format import (
    CHECKED_SINCE,
    SQLITE_ERRORS,
    format_of,
    has_index,
    open_reader,
    why_full,
)
from spq.index.items import Item
from spq.index.manifest import Manifest, read_manifest, write_manifest
from spq.index.replacing import place_of_new
from spq.index.store import Store
from spq.model.feature_store import FeatureStore

if TYPE_CHECKING:
    from spq.model.model import Model

BATCH = 1000  # items that are encoded and written together
WAITS = "not encoded with the new model yet"


def prepare_recoding(folder: Path, model: Model, manifest: Manifest) -> Path:
    """Make the new index beside the old one, with the codes that cached features give; or find what an earlier try has made.

    Args:
        manifest: of the new index.
    Returns:
        the folder of the new index.
    """
    fresh = place_of_new(folder)
    if fresh.exists() and (not has_index(fresh) or read_manifest(fresh).model != manifest.model):
        shutil.rmtree(fresh)
    if not fresh.exists():
        part = folder.with_name(f".{folder.name}.copied")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            _copy_items(folder, part, manifest)
            _encode_known(part, model)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)  # it may have filled the disk
            raise
        part.rename(fresh)
    return fresh


def _copy_items(folder: Path, part: Path, manifest: Manifest) -> None:
    try:
        with (
            closing(open_reader(folder)) as old,
            closing(sqlite3.connect(part / "items.sqlite", isolation_level=None)) as new,
        ):
            old.backup(new)
            if format_of(new) >= CHECKED_SINCE:
                new.execute("UPDATE contents SET model = ?", (manifest.model,))
    except SQLITE_ERRORS as error:
        reason = why_full(part, error) or f"check it with `verify` ({error})"
        raise StoreError(f"index {folder} cannot be copied; {reason}") from None
    write_manifest(part, replace(manifest, key=read_manifest(folder).key))


def _encode_known(part: Path, model: Model) -> None:
    """Give each item the code of its cached feature; an item without one waits for the sync."""
    features = open_features(model, "fp32")
    with Store.open(part) as store, store.writing():
        for items in batches(_all_items(store), BATCH):
            store.put(_encoded(items, model, features))


def _all_items(store: Store) -> Iterator[Item]:
    """All items that have a code. They are listed before any of them changes."""
    rows = store.select("SELECT id FROM items WHERE status = 0 ORDER BY id")
    for some in batches((row[0] for row in rows), BATCH):
        yield from store.items_by_id(some).values()


def _encoded(items: Sequence[Item], model: Model, features: FeatureStore | None) -> list[Item]:
    known = [features.get(item.hash) if features else None for item in items]
    found = [feature.feature for feature in known if feature]
    codes = iter(model.encode_descriptors(model.project(np.array(found))) if found else ())
    return [
        replace(item, code=next(codes)) if feature else replace(to_be_retried(item), code=None, reason=WAITS)
        for item, feature in zip(items, known, strict=True)
    ]
